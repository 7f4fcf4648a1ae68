"""A wheel built from the repository works in an empty environment."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_installs_into_an_empty_venv(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(
            ".*", "build", "demo-store", "wheelhouse", "*.egg-info", "__pycache__", "node_modules"
        ),
    )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[1] for name in names if name.startswith("simshard/")} == {
        "cli",
        "examples",
        "ingest",
        "serve",
        "shards",
    }
    assert "simshard/examples/anime.json" in names
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "serve/static").rglob("*") if path.is_file()}
    assert page and {f"simshard/{path}" for path in page} <= set(names)
    assert not [name for name in names if "serve/web" in name]
    assert not [name for name in names if "test" in name or "benchmark" in name]
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*pip, str(wheel)], check=True)
    told = subprocess.run(
        [str(venv / "bin/simshard"), "--help"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert "similarity" in told.stdout
    listed = subprocess.run([str(venv / "bin/simshard"), "snapshots", "list", "--store", "x"], check=True, cwd=tmp_path)
    assert listed.returncode == 0
