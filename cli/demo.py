"""`simshard demo`: the bundled catalogue, scored and served."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from simshard.cli.output import reported_errors, run_build
from simshard.cli.serve import Where, run_server


def demo(
    folder: Annotated[Path, typer.Option(help="Where the store is kept.")] = Path("demo-store"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Score the bundled catalogue of anime titles and serve it."""
    from simshard.ingest.build_catalogue import ComputeOptions, compute
    from simshard.serve.settings import Settings
    from simshard.shards.store import Store

    store = Store(folder.resolve())
    with reported_errors(), resources.as_file(resources.files("simshard.examples") / "anime.json") as path:
        run_build(str(store.root), lambda opened, progress: compute(str(path), opened, ComputeOptions(), progress))
        store.prune(keep=1)
    url = f"http://127.0.0.1:{port}"
    hint = (
        f"Open {url}/ in a browser, or try:\n"
        f"  curl '{url}/v1/items?q=spirited'\n"
        f"  curl '{url}/v1/items/cowboy-bebop/similar?limit=5'\n"
        f"  curl '{url}/v1/recommend' -H 'content-type: application/json' "
        '-d \'{"positive": ["spirited-away", {"id": "princess-mononoke", "weight": 2.0}], "negative": ["naruto"], '
        '"limit": 5, "explain": true}\'\n'
        f"  curl '{url}/v1/score?a=naruto&b=boruto'\n"
        f"API documentation: {url}/docs   End with Ctrl-C."
    )
    run_server(Settings(store=str(store.root)), Where("127.0.0.1", port), hint)
