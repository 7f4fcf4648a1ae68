"""The direction of imports that docs/architecture.md promises, parsed from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {"shards": set(), "ingest": {"shards"}, "serve": {"shards"}, "cli": {"shards", "ingest", "serve"}}
ORDER = {
    "shards": [
        "errors",
        "progress",
        "query",
        "tops",
        "readahead",
        "manifest",
        "payloads",
        "items",
        "attributes",
        "filters",
        "titles",
        "item_files",
        "format",
        "sums",
        "search",
        "store",
        "hidden",
        "statistics",
        "sinks",
        "export",
        "transport",
        "actor",
    ],
    "ingest": [
        "records",
        "streams",
        "sources",
        "parquet",
        "tables",
        "catalogue",
        "plan",
        "shuffle",
        "tasks",
        "ends",
        "writing",
        "intake",
        "build",
        "similarity",
        "features",
        "columns",
        "selection",
        "scoring",
        "compute",
    ],
    "serve": [
        "requests",
        "parsing",
        "settings",
        "haproxy",
        "answers",
        "cache",
        "memory",
        "router",
        "search",
        "selections",
        "questions",
        "rerank",
        "encode",
        "ranking",
        "bulk",
        "asked",
        "computing",
        "service",
        "batch",
        "snapshots",
        "slots",
        "supervisor",
        "health",
        "responses",
        "gate",
        "direct",
        "asgi",
        "page",
        "openapi",
        "operations",
        "parameters",
        "api",
        "app",
        "redis_server",
        "run_folder",
        "environment",
        "connection",
        "nodes",
        "cluster",
        "local",
        "calls",
        "handle",
        "client",
    ],
    "cli": [
        "output",
        "env",
        "cluster",
        "ingest",
        "compute",
        "export",
        "plot",
        "snapshots",
        "queries",
        "items",
        "serve",
        "demo",
        "main",
    ],
}
FILES = [path for folder in ORDER for path in sorted((ROOT / folder).glob("*.py"))]


def imported(path):
    """Dotted names of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module and node.module.count(".") == 1:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in names if name.startswith("simshard."))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("simshard."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_point_down_the_list(path):
    folder, name = path.parent.name, path.stem
    for module in imported(path):
        _, other, file = module.split(".")[:3]
        if other == folder:
            assert name != "__init__", f"{path} re-exports"
            assert ORDER[folder].index(file) < ORDER[folder].index(name), f"{path} imports {module}"
        else:
            assert other in MAY_IMPORT[folder], f"{path} imports {module}"


def test_every_file_has_its_place_and_none_is_long():
    for folder, names in ORDER.items():
        assert {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"} == set(names)
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 300, path


def test_shards_and_ingest_know_nothing_of_the_ways_they_are_used():
    for path in FILES:
        if path.parent.name in ("shards", "ingest"):
            roots = set()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    roots |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    roots.add((node.module or "").split(".")[0])
            assert not roots & {"fastapi", "starlette", "redis", "httpx", "typer", "rich", "pydantic", "pickle"}, path
