"""The page's source: its own tests and checks, and that the committed build is what it builds."""

import subprocess

from tests.support.browser import WEB, npm_packages


def npm(*words):
    npm_packages()
    done = subprocess.run(["npm", *words], cwd=WEB, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_source_passes_its_checks_and_tests():
    npm("run", "check")
    npm("test")


def test_the_committed_build_is_that_of_the_source(tmp_path):
    npm("run", "build", "--", "--outDir", str(tmp_path / "static"))

    def files(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    built, committed = files(tmp_path / "static"), files(WEB.parent / "static")
    assert set(built) == set(committed), "`make web` rebuilds it"
    assert [name for name in built if built[name] != committed[name]] == [], "`make web` rebuilds it"


def test_the_lock_names_no_registry():
    text = (WEB / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert text.count('"integrity"') > 50
