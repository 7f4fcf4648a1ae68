"""The direction of imports that docs/architecture.md promises: its list of files and its table of packages are true."""

import ast
import os
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architecture.md"
TESTS = ROOT / "tests"
TOPS = ("simshard", "shards", "ingest", "serve", "cli")

# What a package may import of ours beside itself, and what of others it must never import, even inside a function.
MAY_IMPORT = {
    "shards": set(),
    "ingest": {"shards"},
    "serve/schema": {"shards"},
    "serve/settings": {"shards", "serve/schema"},
    "serve/engine": {"shards", "serve/schema", "serve/settings"},
    "serve/http": {"shards", "serve/schema", "serve/settings", "serve/engine"},
    "serve/cluster": {"shards", "serve/schema", "serve/settings", "serve/engine"},
    "serve/app": {"shards", "serve/schema", "serve/settings", "serve/engine", "serve/http", "serve/cluster"},
    "serve/launch": {"shards", "serve/schema", "serve/settings", "serve/cluster", "serve/app"},
    "serve/client": {"shards", "serve/schema"},
    "simshard": {"serve/client", "cli"},
    "cli": {"shards", "ingest", "serve/schema", "serve/settings", "serve/engine", "serve/launch", "serve/client"},
}
# What an editable install, which puts the clone on the path, lets be imported by mistake, as second copies.
ELSEWHERE = {"shards", "ingest", "serve", "cli", "examples", "tests", "benchmarks"}
# All of shards that the client brings with it, and what it may bring when it is asked to join a cluster.
OF_CLIENT = {"shards/errors.py", "shards/plain_values.py"}
OF_CLIENT_LATER = {"shards/ray_cluster.py", "ray"}
SERVERS = {"fastapi", "starlette", "ray", "httpx", "typer", "rich", "redis"}
MUST_NOT_IMPORT = {
    "shards": SERVERS - {"ray"} | {"pydantic", "pickle"},
    "ingest": SERVERS - {"ray"} | {"pydantic", "pickle"},
    "serve/schema": SERVERS | {"numpy", "pyarrow"},
    "serve/settings": SERVERS,
    "serve/engine": SERVERS - {"redis"},
    "serve/http": {"ray", "httpx", "typer", "rich", "redis"},
    "serve/cluster": SERVERS - {"ray"},
    "serve/client": SERVERS - {"ray", "httpx"},
}


@cache
def files():
    """Every source file, with the package that it belongs to: a folder, or a file beside the packages of serve."""
    found = {}
    for top in TOPS:
        for folder, folders, names in os.walk(ROOT / top):  # which follows no link
            folders[:] = [each for each in folders if (Path(folder) / each / "__init__.py").exists()]
            for name in names:
                if name.endswith(".py"):
                    path = Path(folder) / name
                    found[path] = package_of(path.relative_to(ROOT).as_posix())
    return found


def package_of(path):
    parts = path.removesuffix(".py").split("/")
    return "/".join(parts[:2]) if parts[0] == "serve" else parts[0]


def imports(path):
    """Modules that a file imports, wherever in it: paths of files of ours, names of others."""
    for node in ast.walk(ast.parse(path.read_text())):
        yield from imports_of(node)


def imports_of(node):
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        for alias in node.names:
            yield from module(f"{node.module}.{alias.name}", node.module)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            yield from module(alias.name)


def module(*names):
    first = names[0].split(".")[0]
    assert first not in ELSEWHERE, (
        f"{names[0]}: import it from simshard"
    )  # as the clone is on the path, that would work
    if not names[0].startswith("simshard."):
        yield names[-1].split(".")[0] if names[0].split(".")[0] != "simshard" else ""
        return
    for name in names:
        place = name.removeprefix("simshard").replace(".", "/").removeprefix("/")
        for path in (f"{place}.py", f"{place}/__init__.py"):
            if (ROOT / path).is_file():
                yield path
                return
    raise AssertionError(f"no such module: {names}")


def listed():
    """Paths in the order of the list in the page."""
    block = re.search(r"```\n(shards/.*?)```", PAGE.read_text(), re.DOTALL)[1]
    folder = ""
    paths = []
    for line in block.splitlines():
        found = re.fullmatch(r"(\S+/)? +([a-z_0-9]+) +\S.*| {20,}\S.*", line)
        assert found, f"{PAGE}: {line}"
        folder = found[1] or folder
        if found[2]:
            paths.append(f"{folder}{found[2]}.py")
    return paths


def test_the_list_names_every_file_and_all_imports_point_up_in_it():
    there = [path.relative_to(ROOT).as_posix() for path in files() if path.name != "__init__.py"]
    order = listed()
    assert sorted(there) == sorted(order)
    place = {path: at for at, path in enumerate(order)}
    for path in there:
        for other in imports(ROOT / path):
            if other in place:
                assert place[other] < place[path], f"{path} imports {other}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_what_it_may(package):
    mine = [path for path, of in files().items() if of == package]
    assert mine
    for path in mine:
        for other in imports(path):
            if other.endswith(".py"):
                assert package_of(other) in {package, "serve/__init__"} | MAY_IMPORT[package], f"{path} imports {other}"
            else:
                assert other not in MUST_NOT_IMPORT.get(package, ()), f"{path} imports {other}"


def test_every_package_has_rules_and_no_file_is_long():
    assert set(files().values()) - {"serve/__init__"} == set(MAY_IMPORT)
    for path in files():
        assert len(path.read_text().splitlines()) <= 300, path


def test_the_table_of_packages_is_that_of_the_code():
    lines = ["| package | files | imports |", "|---|---|---|"]
    for package in MAY_IMPORT:
        mine = [path for path, of in files().items() if of == package]
        others = {package_of(other) for path in mine for other in imports(path) if other.endswith(".py")} - {package}
        named = ", ".join(f"`{other}`" for other in MAY_IMPORT if other in others)
        count = sum(path.name != "__init__.py" for path in mine)
        lines.append(f"| `{package}` | {count} | {named or 'nothing of ours'} |")
    table = "\n".join(lines)
    assert table in PAGE.read_text(), f"put this into {PAGE}:\n\n{table}\n"


def imports_of_tests(path):
    """What a file of tests/ imports of tests/."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tests")
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "tests":
            of_package = node.module in ("tests", "tests.support")
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if of_package else [node.module]


def test_tests_import_from_support_alone_and_none_is_long():
    for path in TESTS.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path
        for name in imports_of_tests(path):
            assert name.startswith("tests.support."), f"{path} imports {name}"


def test_the_room_system_alone_starts_servers_hosts_and_browsers():
    """`make check` leaves it out, and so needs no Ray cluster."""
    starting = {
        f"tests.support.{name}" for name in ("server", "serving", "load", "page", "browser", "hosts", "container")
    }
    for path in TESTS.rglob("test_*.py"):
        if TESTS / "system" not in path.parents:
            assert not starting & set(imports_of_tests(path)), path
            names = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.arg)}
            assert not names & {"cluster", "hosts"}, f"{path} asks for a fixture that starts Ray"


def test_the_client_brings_little_with_it():
    for path in (ROOT / "serve/client").glob("*.py"):
        tree = ast.parse(path.read_text())
        later = {node for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) for node in ast.walk(each)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found = {each for each in imports_of(node) if each.startswith("shards/") or each == "ray"}
                assert found <= OF_CLIENT | (OF_CLIENT_LATER if node in later else set()), f"{path}: {found}"
