"""What results state, that the commands of docs/benchmarks.md are there, and which catalogues the parts take."""

import json
import re
import shlex
import sys
from contextlib import nullcontext
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import anime, machine, profiles, record, run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = sorted((ROOT / "benchmarks/results").glob("*.json"))
PAGES = [ROOT / "docs/benchmarks.md", ROOT / "docs/caching.md"]
COMMAND = re.compile(r"`((?:python -m|make)\s[^`]+)`")


def commands(text):
    return [" ".join(found.split()) for found in COMMAND.findall(text)]


def check(command):
    """That a command's module, flags and parts, or its target, are there."""
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        return
    assert words[:2] == ["python", "-m"] and find_spec(words[2]), command
    if words[2] == "benchmarks.run" and words[3:] != ["--help"]:
        run.arguments(words[3:])


def sections():
    """Headings of the page, each with its own text."""
    text = PAGES[0].read_text(encoding="utf-8")
    parts = re.split(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("heading", "text"), sections(), ids=[heading for heading, _ in sections()])
def test_figures_stand_under_the_command_that_made_them(heading, text):
    above = text.split("\n|", 1)[0]  # the first table
    if re.search(r"\d", text):
        assert commands(above), heading


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_page_are_there(page):
    found = commands(page.read_text(encoding="utf-8"))
    assert found
    for command in found:
        check(command)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_results_state_commit_command_scale_and_date(path):
    told = json.loads(path.read_text())
    assert set(told) == {*record.STATED, "figures"}
    assert told["commit"] is None or re.match(r"[0-9a-f]{7,40}\b", told["commit"])
    assert date.fromisoformat(told["date"])
    assert record.has_number(told["scale"])
    assert not re.search(r"(^|[\s='])/", told["command"]), "a path of some machine"
    check(told["command"])
    made = path.with_suffix(".md")
    if made.exists():
        assert told["command"] in made.read_text() and told["date"] in made.read_text()


def test_every_part_has_a_result():
    assert set(run.PARTS) <= {path.stem for path in RESULTS}


def test_a_result_is_written_with_what_it_states(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["/x/bin/python", "-m", "benchmarks.run", "layers", "--scale", "0.1"])
    record.write(tmp_path / "made/layers.json", record.Result({"items": 7}, {"similar": 1.5}))
    told = json.loads((tmp_path / "made/layers.json").read_text())
    assert set(told) == {*record.STATED, "figures"}
    assert told["command"] == "python -m benchmarks.run layers --scale 0.1"
    assert (told["scale"], told["figures"]) == ({"items": 7}, {"similar": 1.5})
    with pytest.raises(ValueError, match="names no number"):
        record.write(tmp_path / "other.json", record.Result({"store": "large"}, {}))
    assert not (tmp_path / "other.json").exists()


def test_samples_tell_our_own_functions_from_others():
    file = folder = Path(find_spec("simshard.serve.engine.encode").origin)
    while (folder.parent / "__init__.py").exists():  # what py-spy leaves out of a path
        folder = folder.parent
    assert profiles._layer(f"_body ({file.relative_to(folder.parent)}:7)") == "simshard"
    assert profiles._layer("Replica._direct_ingress_asgi (ray/serve/_private/replica.py:7)") == "Ray"
    assert profiles._layer("Thread.run (threading.py:7)") is None


def test_only_one_place_writes_what_results_state():
    files = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests/support").glob("*.py")]
    assert [file.name for file in files if "machine.details()" in file.read_text()] == ["record.py"]


def test_outside_of_a_clone_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    record.commit.cache_clear()
    assert record.commit() is None
    record.commit.cache_clear()


def test_a_command_names_no_place_of_this_machine(monkeypatch):
    monkeypatch.setattr(record, "ROOT", Path("/elsewhere/simshard"))
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    monkeypatch.setattr(record.tempfile, "gettempdir", lambda: "/scratch")
    words = [
        "-m",
        "benchmarks.run",
        "/elsewhere/simshard/a/b.csv",
        "--catalogue=/elsewhere/data/c.csv",
        "/home/somebody/d",
    ]
    told = record.command(["/usr/bin/python3", *words, "/scratch/e", "/mnt/deep/f.csv", "g/h.csv", "../i.csv"])
    expected = "a/b.csv --catalogue=../data/c.csv ~/d $TMPDIR/e .../f.csv g/h.csv ../i.csv"
    assert told == f"python -m benchmarks.run {expected}"


def write(path, count, **more):
    names = ("Sun", "Moon", "Sea", "Wind")
    items = [
        {"sku": f"x{i}", "name": f"Thing {i}", "about": f"red, blue, {i}, green", "price": None if i % 5 == 4 else i}
        | {name: value(names, i) for name, value in more.items()}
        for i in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, items)))
    return path


def test_any_catalogue_that_compute_reads_does(tmp_path):
    path = write(tmp_path / "own.ndjson", 1200, labels=lambda names, i: [names[i % 4], names[i % 3]])
    titles = anime.read(path, "sku")
    assert titles.columns == ("labels", "price", "price")
    assert titles.ids[:3] == [1, 2, 3] and titles.titles[1] == "Thing 1"
    assert titles.genres[5] == ["Moon", "Sea"] and titles.scores[3:5] == [3.0, None]
    assert 1100 < titles.high < 1200
    ids, names, matrix = anime.load(50, titles)
    assert (ids, names) == (titles.ids[:50], titles.titles[:50])
    assert matrix.shape == (50, 50) and (matrix == matrix.T).sum() == 50 * 49
    named = write(tmp_path / "named.ndjson", 1200, tags=lambda names, i: f"{names[i % 4]}, {names[i % 3]}")
    assert anime.read(named, "sku").genres[5] == ["Moon", "Sea"]


def test_a_catalogue_that_does_not_do_is_told(tmp_path):
    with pytest.raises(SystemExit, match="no such file"):
        anime.read(tmp_path / "none.csv")
    with pytest.raises(SystemExit, match="no column 'id'"):
        anime.read(write(tmp_path / "own.ndjson", 1200))
    with pytest.raises(SystemExit, match=r"1,000 items or more.*there are 20 items"):
        anime.read(write(tmp_path / "small.ndjson", 20), "sku")


def test_parts_without_their_catalogue_are_skipped_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(anime, "DATA", tmp_path / "anime.csv")
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(machine, "scratch", lambda _: nullcontext(tmp_path))
    monkeypatch.setattr(sys, "argv", ["run", *run.ON_TITLES])
    run.main()
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == list(run.ON_TITLES)
    assert all("../shared/data/anime.csv" in line and "--catalogue FILE" in line for line in told)
    assert list(tmp_path.iterdir()) == []
