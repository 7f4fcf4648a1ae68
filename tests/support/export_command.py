"""`simshard export` as a command, and how to read what it wrote."""

import re
import shlex

from typer.testing import CliRunner

from simshard.cli.main import app

RUNNER = CliRunner()
FORMATS = [".parquet", ".json", ".ndjson", ".json.gz", ".jsonl.bz2", ".ndjson.zst"]


def run(*arguments, code=0):
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def command_of(result, store):
    """The arguments of the printed command, with this store, in this process."""
    command = shlex.split(re.search("read it back with: simshard (.*)", result.stderr)[1])
    command[command.index("STORE")] = str(store)
    return command if "--workers" in command else [*command, "--workers", "1"]
