"""`simshard similar` and `simshard recommend`: ask a store directly, or a server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from simshard.cli.output import copied, print_json, print_table, reported_errors
from simshard.shards.strategy_names import DEFAULT_STRATEGY, StrategyName

StoreOrNone = Annotated[
    str | None, typer.Option("--store", envvar="SIMSHARD_STORE", help="Folder of the store to read directly.")
]
UrlOption = Annotated[str | None, typer.Option("--url", envvar="SIMSHARD_URL", help="A running server instead.")]
LimitOption = Annotated[int, typer.Option(min=1, max=1000, help="Most hits.")]
OffsetOption = Annotated[int, typer.Option(min=0, help="Hits to skip.")]
ThresholdOption = Annotated[float | None, typer.Option("--score-threshold", help="Least score of a hit.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the body that the HTTP call answers.")]
ExcludeOption = Annotated[list[str] | None, typer.Option(help="Item never to answer (repeatable).")]
FilterOption = Annotated[
    str | None, typer.Option(help="Which items can be hits: JSON, @FILE, or the name of a filter of the server.")
]
BoostOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Factor on the scores of what a filter (JSON, @FILE or name) selects (repeatable).", metavar="FILTER=F"
    ),
]
DiversityOption = Annotated[float, typer.Option(min=0, max=1, help="0: by score alone; 1: by difference alone.")]
GroupByOption = Annotated[str | None, typer.Option(help="Attribute of which each value is hit --group-size times.")]
GroupSizeOption = Annotated[int, typer.Option(min=1, help="Hits for each value of --group-by.")]
FallbackOption = Annotated[
    str | None, typer.Option(help="Number attribute to fill up by where hits run out; -NAME: least first.")
]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Name what adds up to each score.")]
_TIMEOUT = 60.0
SnapshotOption = Annotated[str | None, typer.Option(help="Snapshot to ask (default: the active one).")]


def _options(
    limit: LimitOption = 10,
    offset: OffsetOption = 0,
    score_threshold: ThresholdOption = None,
    exclude: ExcludeOption = None,
    filter: FilterOption = None,
    boost: BoostOption = None,
    diversity: DiversityOption = 0.0,
    group_by: GroupByOption = None,
    group_size: GroupSizeOption = 1,
    fallback: FallbackOption = None,
    explain: ExplainOption = False,
    snapshot: SnapshotOption = None,
) -> dict[str, Any]:
    """What the flags that all queries of hits have say, as a request says it."""
    options: dict[str, Any] = {
        "limit": limit,
        "offset": offset,
        "score_threshold": score_threshold,
        "exclude_ids": exclude or [],
        "filter": None if filter is None else _filter(filter, "--filter"),
        "boost": [_boost(text) for text in boost or []],
        "diversity": diversity,
        "group_by": group_by,
        "group_size": group_size,
        "explain": explain,
        "snapshot": snapshot,
        "timeout_ms": 60_000,
    }
    if fallback is not None:
        options["fallback"] = {
            "order_by": fallback.removeprefix("-"),
            "direction": "asc" if fallback[:1] == "-" else "desc",
        }
    return options


def _filter(text: str, flag: str) -> Any:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{text[1:]}: cannot be read ({error})", param_hint=flag) from error
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"not JSON ({error})", param_hint=flag) from error


def _boost(text: str) -> dict[str, Any]:
    filter_, _, factor = text.rpartition("=")
    try:
        return {"filter": _filter(filter_, "--boost"), "factor": float(factor)}
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not FILTER=FACTOR", param_hint="--boost") from error


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with all flags of `_options`, which come to it as `options`."""
    shared = inspect.signature(_options, eval_str=True).parameters
    own = {
        name: each for name, each in inspect.signature(command, eval_str=True).parameters.items() if name != "options"
    }

    def wrapped(**given: Any) -> None:
        options = _options(**{name: given.pop(name) for name in shared})
        command(**given, options=options)

    parameters = [*own.values(), *shared.values()]
    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    wrapped.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in keyword}
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


@with_options
def similar(
    id: Annotated[str, typer.Argument(help="Id of the item.")],
    options: Any,
    store: StoreOrNone = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """What is similar to an item."""

    def ask(service: Any) -> Any:
        from simshard.serve.schema.requests import SimilarRequest
        from simshard.serve.schema.validation import parse

        return service.similar(parse(SimilarRequest, {"id": id, **options}))

    def call() -> Any:
        from simshard.serve.client import flows

        return next(flows.similar(id, **options))

    _show(answer(store, url, ask, call, options["snapshot"]), json)


@with_options
def recommend(
    positive: Annotated[list[str], typer.Option(help="Liked item, with a weight after = (repeatable).")],
    options: Any,
    negative: Annotated[
        list[str] | None, typer.Option(help="Disliked item, with a weight after = (repeatable).")
    ] = None,
    strategy: Annotated[StrategyName, typer.Option(help="How seeds add up.")] = DEFAULT_STRATEGY,
    store: StoreOrNone = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """What goes with these items."""
    seeds = {"positive": [_seed(text) for text in positive], "negative": [_seed(text) for text in negative or []]}
    request = {**seeds, "strategy": strategy, **options}

    def ask(service: Any) -> Any:
        from simshard.serve.schema.requests import RecommendRequest
        from simshard.serve.schema.validation import parse

        return service.recommend(parse(RecommendRequest, request))

    def call() -> Any:
        from simshard.serve.client.flows import Call

        return Call("POST", "/v1/recommend", body=request)

    _show(answer(store, url, ask, call, options["snapshot"]), json)


def _seed(text: str) -> dict[str, Any]:
    id_, separator, weight = text.rpartition("=")
    if not separator:
        return {"id": text, "weight": 1.0}
    try:
        return {"id": id_, "weight": float(weight)}
    except ValueError:
        return {"id": text, "weight": 1.0}  # an id that has = in it


def answer(
    store: str | None,
    url: str | None,
    ask: Callable[[Any], Any],
    call: Callable[[], Any],
    snapshot: str | None = None,
) -> bytes:
    """The body that a store or a server answers; ends the command with one sentence for an error.

    ask: makes the question of a service over the store's snapshot; call: makes the call to a server.
    """
    check_source(store, url)
    if url is not None:
        return ask_server(url, call)
    with reported_errors():
        return asyncio.run(_ask_store(str(store), ask, snapshot))
    raise AssertionError


def check_source(store: str | None, url: str | None) -> None:
    """Return if one of them is named. Raises BadParameter."""
    if (store is None) == (url is None):
        raise typer.BadParameter("name either a store (--store) or a server (--url)")


def ask_server(url: str, call: Callable[[], Any], key: str | None = None) -> bytes:
    """The body that a server answers, asked with this key; ends the command with one sentence for an error."""
    with reported_errors():
        from simshard.serve.client import Client

        with Client(url, timeout=_TIMEOUT, api_key=key) as client:
            return client.raw(call())
    raise AssertionError


async def _ask_store(path: str, ask: Callable[[Any], Any], snapshot: str | None) -> bytes:
    from simshard.serve.engine.cache import Cache, Lru
    from simshard.serve.engine.service import Service
    from simshard.serve.engine.table import local_table
    from simshard.shards.errors import SimshardError
    from simshard.shards.hidden import read_hidden
    from simshard.shards.store import Snapshot

    store = copied(path, snapshot)
    with ThreadPoolExecutor(2) as pool:
        service = Service(Cache(Lru(0), None), pool)
        service.hide(read_hidden(store))
        service.serve(local_table(Snapshot(store, snapshot), pool))
        try:
            body: bytes = (await service.answer(ask(service))).body
        except SimshardError as error:
            raise service.explained(error) from error
        return body


def _show(body: bytes, json: bool) -> None:
    if json:
        print_json(body)
        return
    answer = orjson.loads(body)
    if not answer["hits"]:
        typer.echo("no hits", err=True)
    titled = any("title" in hit.get("payload", {}) for hit in answer["hits"])
    explained = any("explain" in hit for hit in answer["hits"])
    rows = []
    for rank, hit in enumerate(answer["hits"], 1):
        row = [str(rank), str(hit["id"]), hit.get("source") or f"{hit['score']:.6g}"]
        if titled:
            row.append(hit["payload"].get("title", ""))
        if explained:
            row.append("  ".join(map(_line, hit["explain"])))
        rows.append(row)
    columns = ["", "id", "score"] + ["title"] * titled + ["because of"] * explained
    print_table(columns, rows)
    if answer["missing_ids"]:
        typer.echo(f"unknown ids: {', '.join(map(str, answer['missing_ids']))}", err=True)
    if answer["partial"]:
        typer.echo(f"shards without answer: {', '.join(map(str, answer['failed_shards']))}", err=True)


def _line(line: dict[str, Any]) -> str:
    what = f"boost {line['boost'] + 1} x {line['factor']:g}" if "boost" in line else line["id"]
    return f"{what}: {line['contribution']:+.6g}"
