"""`make bench`: every figure that the docs name, as ratios of one run, into results/.

ingest     12.5 M pairs of real titles from one JSON array, beside a bare `ijson.items` loop over the same file
serve      `similar` over HTTP on that store at 1, 8 and 32 connections, by cache
compute    all pairs of the real titles, and of a generated catalogue of 37,030 items, beside the bare matrix product
vectors    the best 200 of each of 50,000, 100,000 and 200,000 items by vectors (`--sizes` for others)
questions  filters, many seeds, diversity, ranking, batches and bulk on the full matrix of the real titles
layers     what an answer takes of our own code in a replica, in process, by what is asked
classes    by class of question: computed, out of memory, out of Redis, with local shards and with remote ones
page       the page in Chromium: bytes of the first load, from a click to painted hits
search     titles by the beginnings of their words, 40,000 and a million of them
reference  a dense store of 37,030 items (`--scale` for a fraction): start, memory, throughput, cold and warm, 20 seeds
memory     private memory of imports, and of 2 shard actors, 2 replicas and Ray, cold and after a million requests
profiles   where a replica's time goes, by layer and function, and CPU a request by process
versions   serving figures of a commit (`--before`) and of this tree, side by side
contest    simshard against an empty Ray Serve deployment and FastAPI over Redis, FAISS and HDF5, on the same scores;
           also a Markdown table and charts (`--seconds` a run, `--contenders` for some of them)

ingest, serve, search, questions, classes and a half of each compute and page need the titles of
../shared/data/anime.csv, which is no part of the project; without it they are skipped, and told. In its place
`--catalogue FILE` takes any catalogue that `simshard compute` reads: 1,000 items or more, with a column of tags and one
of numbers, ids in a column `id` or what `--id` names.
Each result states commit, command, scale, date and the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ijson

from benchmarks import (
    anime,
    classes,
    compute,
    contenders,
    contest,
    layers,
    load,
    machine,
    memory,
    page,
    profiles,
    questions,
    record,
    reference,
    titles,
    versions,
)
from simshard.shards.store import Store

RESULTS = Path(__file__).parent / "results"
TITLES = 5_000
Figures = dict[str, Any]

_RANDOM_SIMILAR = """
local ids = {%s}
math.randomseed(7)
request = function() return wrk.format("GET", "/v1/items/" .. ids[math.random(#ids)] .. "/similar") end
"""
_RANDOM_RECOMMEND = """
math.randomseed(7)
local headers = {["content-type"] = "application/json"}
request = function()
  local seen, seeds = {}, {}
  while #seeds < %d do
    local id = math.random(0, %d)
    if not seen[id] then seen[id] = true; seeds[#seeds + 1] = id end
  end
  return wrk.format("POST", "/v1/recommend", headers, '{"positive":[' .. table.concat(seeds, ",") .. "]}")
end
"""


def ingest(folder: Path, catalogue: anime.Titles) -> record.Result:
    """Ingest, and the loop that it is measured by."""
    ids, titles, matrix = anime.load(TITLES, catalogue)
    path, items = folder / "pairs.json", folder / "items.ndjson"
    pairs = anime.write_json(path, ids, matrix)
    items.write_text("\n".join(json.dumps({"id": i, "title": t}) for i, t in zip(ids, titles, strict=True)))

    loops = {}
    for use_float in (False, True):
        begun = time.perf_counter()
        with open(path, "rb") as file:
            for _ in ijson.items(file, "item", use_float=use_float):
                pass
        loops[use_float] = time.perf_counter() - begun

    run = machine.run("ingest", path, "--store", folder / "store", "--items", items)
    seconds = run.seconds
    print(run.output, end="")
    figures = {
        "pairs": pairs,
        "json_bytes": path.stat().st_size,
        "ijson_loop_pairs_per_s": round(pairs / loops[False]),
        "ijson_loop_with_floats_pairs_per_s": round(pairs / loops[True]),
        "ingest_pairs_per_s": round(pairs / seconds),
        "ratio_to_ijson_loop": round(loops[False] / seconds, 2),
        "ratio_to_ijson_loop_with_floats": round(loops[True] / seconds, 2),
        "seconds": round(seconds, 2),
        "peak_private_mb_all_processes": round(run.peak_mb),
    }
    return record.Result(record.size(Store(folder / "store")), figures)


def serve(root: Path, titles: anime.Titles) -> record.Result:
    """`similar` by random items at 1, 8 and 32 connections, for each kind of cache."""
    script = _RANDOM_SIMILAR % ",".join(map(str, titles.ids[:TITLES]))
    kinds = {
        "no cache": ("--cache", "0", "--redis", "off"),
        "memory": ("--redis", "off"),
        "redis only": ("--cache", "0", "--redis-classes", "similar,recommend"),
        "memory + redis": ("--redis-classes", "similar,recommend"),
        "no cache, actor transport": ("--cache", "0", "--redis", "off", "--transport", "actor"),
    }
    figures: Figures = {}
    for name, options in kinds.items():
        with machine.Server(root, *options) as server:
            machine.wrk(server.url, script, 8, 3)
            figures[name] = {f"{count} connections": machine.wrk(server.url, script, count) for count in (1, 8, 32)}
            print(name, json.dumps(figures[name]))
    return record.Result({**record.size(Store(root)), "replicas": 1, "connections": [1, 8, 32]}, figures)


def reference_size(folder: Path, scale: float) -> record.Result:
    """Two shards, one replica, the full matrix."""
    items = reference.scaled(scale)
    written = (folder / "reference").exists()  # by the contest
    begun = time.perf_counter()
    store = reference.write_store(folder / "reference", items)
    manifest = store.manifest()
    figures: Figures = {
        "items": items,
        "pairs": manifest.pairs,
        "bytes": manifest.total_bytes,
        "write_seconds": None if written else round(time.perf_counter() - begun, 1),
    }
    similar = _RANDOM_SIMILAR % ",".join(map(str, range(items)))
    seeds = {count: _RANDOM_RECOMMEND % (count, items - 1) for count in (2, 20)}
    reference.drop_pages(store)
    with machine.Server(store.root, "--cache", "0", "--redis", "off") as server:
        figures["start_to_first_answer_s"] = server.started_s
        figures["private_mb_at_start"] = server.memory()
        figures["first 10,000 after the start, 1,000/s"] = _first(server.url, folder, items)
        reference.drop_pages(store)
        figures["10,000 of cold pages, 1,000/s"] = _first(server.url, folder, items)
        reference.drop_pages(store)
        figures["20 seeds, 1 connection, cold"] = machine.wrk(server.url, seeds[20], 1)
        reference.drop_pages(store)
        figures["similar, 8 connections, cold"] = machine.wrk(server.url, similar, 8, 4)
        for count in (1, 8, 32):
            figures[f"similar, {count} connections, warm"] = machine.wrk(server.url, similar, count)
        for count in (2, 20):
            for connections in (1, 8):
                name = f"{count} seeds, {connections} connections, warm"
                figures[name] = machine.wrk(server.url, seeds[count], connections)
        figures["private_mb_after"] = server.memory()
    with machine.Server(store.root, "--cache", "0", "--redis", "off", "--transport", "actor") as server:
        figures["similar, 8 connections, actor transport"] = machine.wrk(server.url, similar, 8)
        figures["20 seeds, 1 connection, actor transport"] = machine.wrk(server.url, seeds[20], 1)
    return record.Result({**record.size(store), "replicas": 1}, figures)


def _first(url: str, folder: Path, items: int) -> Figures:
    """Open loop of 10,000 uniform requests for one item at 1,000/s."""
    asked = [load.similar_request(item) for item in load.Choice(items, zipf=False).draw(10_000, 5).tolist()]
    return load.open_loop(url, asked, 1000, folder / "requests")


def _serve(folder: Path, options: argparse.Namespace) -> record.Result:
    if not (folder / "store").exists():
        ingest(folder, options.titles)
    return serve(folder / "store", options.titles)


PARTS: dict[str, Callable[[Path, argparse.Namespace], record.Result]] = {
    "ingest": lambda folder, options: ingest(folder, options.titles),
    "compute": lambda folder, options: compute.compute(folder, options.titles),
    "vectors": lambda folder, options: compute.vectors(folder, tuple(options.sizes)),
    "search": lambda folder, options: titles.search(folder, options.titles),
    "serve": _serve,
    "questions": lambda folder, options: questions.questions(folder, options.titles),
    "layers": lambda folder, _: layers.layers(folder),
    "classes": lambda folder, options: classes.classes(folder, options.titles),
    "page": lambda folder, options: page.page(folder, options.titles),
    "reference": lambda folder, options: reference_size(folder, options.scale),
    "memory": lambda folder, options: memory.memory(folder, options.scale),
    "profiles": lambda folder, options: profiles.profiles(folder, options.scale),
    "versions": lambda folder, options: versions.versions(folder, options.before),
    "contest": lambda folder, options: contest.contest(
        folder, options.scale, options.seconds, options.contenders, RESULTS / "contest.json"
    ),
}
# All of these parts, or a half of them, is measured on titles.
ON_TITLES = ("ingest", "serve", "search", "questions", "classes")
HALF_ON_TITLES = ("compute", "page")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for. Raises SystemExit for what there is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts",
        nargs="*",
        default=[part for part in PARTS if part != "versions"],
        help="all but versions where none is named",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the reference's pairs")
    parser.add_argument("--before", metavar="COMMIT", help="for versions: what this tree is compared with")
    parser.add_argument("--sizes", type=int, nargs="*", default=[50_000, 100_000, 200_000], help="for vectors")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run of the contest")
    names = ", ".join(contenders.contenders())
    parser.add_argument("--contenders", nargs="*", default=[], help=f"for contest: some of {names}")
    parser.add_argument("--catalogue", type=Path, metavar="FILE", help="in place of ../shared/data/anime.csv")
    parser.add_argument("--id", metavar="COLUMN", help="its column of the ids (default: id)")
    options = parser.parse_args(words)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"no part {part!r}")
    if "versions" in options.parts and not options.before:
        parser.error("versions: say with which commit this tree is compared: --before COMMIT")
    return options


def main() -> None:
    """Run what was asked for and write one JSON file each."""
    options = arguments()
    record.commit()  # that of the code that runs, whatever is committed meanwhile
    if "contest" in options.parts:
        contest.check_tools(options.contenders)  # what lacks is told before anything runs
    options.titles = None
    if set(options.parts) & {*ON_TITLES, *HALF_ON_TITLES} and (options.catalogue or anime.DATA.exists()):
        options.titles = anime.read(options.catalogue or anime.DATA, options.id)
    room = 6 + (14 if "contest" in options.parts else 6.5) * options.scale
    with machine.scratch(room) as folder:
        for part in options.parts:
            if options.titles is None and part in (*ON_TITLES, *HALF_ON_TITLES):
                half = part in HALF_ON_TITLES
                print(f"{part}: {'a half of it is ' if half else ''}skipped, it needs {anime.LACKING}", flush=True)
                if not half:
                    continue
            target = RESULTS / f"{part}.json"
            told = record.write(target, PARTS[part](folder, options))
            print(contest.publish(target) if part == "contest" else json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
