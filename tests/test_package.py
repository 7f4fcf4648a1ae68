"""A wheel built from the repository works in an empty environment."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def sources():
    """Python files of the package by their names in a wheel: of every folder of code, and of those in them."""
    found = {"simshard/__init__.py", "simshard/__main__.py"}
    for link in (ROOT / "simshard").iterdir():
        if link.is_symlink():
            assert link.readlink() == Path("..") / link.name
            found |= {f"simshard/{path.relative_to(ROOT)}" for path in (ROOT / link.name).rglob("*.py")}
    return {name for name in found if "/node_modules/" not in name}


def test_every_folder_of_code_is_in_the_package():
    ignored = {"build", "tests", "benchmarks"}
    folders = {path.parent.name for path in ROOT.glob("[!.]*/__init__.py")} - ignored
    assert folders == {link.name for link in (ROOT / "simshard").iterdir() if link.is_symlink()} | {"simshard"}
    for name in sources():  # each folder on the way is a package, or setuptools would leave it out
        assert (ROOT / name).with_name("__init__.py").exists(), name


def test_simshard_is_imported_as_one_name():
    program = """
import sys
import simshard
assert not [name for name in sys.modules if name.startswith("simshard.")]
assert {"Client", "AsyncClient", "__version__"} <= set(dir(simshard))
from simshard import AsyncClient, Client
from simshard.serve import client
assert (Client, AsyncClient) == (client.Client, client.AsyncClient)
print(simshard.__version__, "ray" in sys.modules)
try:
    simshard.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == f"{version('simshard')} False\nmodule 'simshard' has no attribute 'nothing'\n"


def test_python_m_simshard_is_the_command():
    run = [sys.executable, "-m", "simshard", "--version"]
    done = subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT / "docs")
    assert done.stdout == f"simshard {version('simshard')}\n"


@pytest.mark.slow
def test_static_tools_find_the_packages_and_their_types(tmp_path):
    """mypy stands for an editor: it follows no import hook, and reads what is on the path of the environment."""
    program = tmp_path / "program.py"
    lines = ("import simshard", "reveal_type(simshard.Client('').score(1, 2))", "reveal_type(simshard.__version__)")
    program.write_text("\n".join(lines))
    run = [sys.executable, "-m", "mypy", "--follow-imports", "silent", "--cache-dir", tmp_path / "cache", program]
    done = subprocess.run(run, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert [line.split("Revealed type is ")[1] for line in done.stdout.splitlines() if "Revealed" in line] == [
        '"float | None"',
        '"str"',
    ], done.stdout


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_venv(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        symlinks=True,
        ignore=shutil.ignore_patterns(
            ".*", "build", "demo-store", "wheelhouse", "*.egg-info", "__pycache__", "node_modules"
        ),
    )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.endswith(".py")} == sources()
    assert "simshard/py.typed" in names
    assert "simshard/examples/anime.json" in names
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "serve/static").rglob("*") if path.is_file()}
    assert page and {f"simshard/{path}" for path in page} <= set(names)
    assert not [name for name in names if "serve/web" in name]
    assert not [name for name in names if "test" in name or "benchmark" in name]
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(ROOT / "deploy/requirements.lock")], check=True)
    subprocess.run([*pip, str(wheel)], check=True)
    told = subprocess.run(
        [str(venv / "bin/simshard"), "--help"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert "similarity" in told.stdout
    listed = subprocess.run([str(venv / "bin/simshard"), "snapshots", "list", "--store", "x"], check=True, cwd=tmp_path)
    assert listed.returncode == 0
