"""Pairs that `simshard ingest` must refuse."""

from typer.testing import CliRunner

from simshard.cli.main import app

GOOD = [{"a": i, "b": i + 1, "score": 0.5} for i in range(40)]
RUNNER = CliRunner()


def refuse(tmp_path, text, *options, name="pairs.json"):
    """Run ingest on a file with this content; the message, after checking that nothing was published."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    store = tmp_path / "store"
    result = RUNNER.invoke(app, ["ingest", str(path), "--store", str(store), "--workers", "1", *options])
    assert result.exit_code == 1, result.output
    assert list((store / "snapshots").iterdir()) == [] if store.exists() else True
    assert list((store / "staging").iterdir()) == [] if store.exists() else True
    assert not (store / "current.json").exists()
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("simshard: ")
    assert str(path) in message
    assert "Traceback" not in result.stderr
    return message
