"""`simshard demo`: a generated catalogue of 2,000 items, built and served."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from simshard.cli.output import reported_errors

ITEMS = 2_000


def write_pairs(path: Path, items: int, seed: int = 1) -> None:
    """Write a JSON array of {"a", "b", "score"} for all pairs of items 1..`items`, scored by closeness of tags."""
    rng = np.random.default_rng(seed)
    tastes = rng.random((items, 12)) ** 4
    tastes /= np.linalg.norm(tastes, axis=1, keepdims=True)
    with open(path, "w", encoding="ascii") as file:
        file.write("[")
        joint = "\n"
        for a in range(items - 1):
            scores = (tastes[a + 1 :] @ tastes[a]).round(4)
            lines = [f'{{"a":{a + 1},"b":{b},"score":{score:.4f}}}' for b, score in enumerate(scores, a + 2)]
            file.write(joint + ",\n".join(lines))
            joint = ",\n"
        file.write("\n]\n")


def demo(
    folder: Annotated[Path, typer.Option(help="Where pairs and store are kept.")] = Path("demo-store"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Build a small generated catalogue and serve it."""
    from simshard.cli.output import BuildProgress
    from simshard.cli.serve import serve
    from simshard.ingest.build import IngestOptions, ingest
    from simshard.shards.store import Store

    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "store")
    with reported_errors():
        if store.pointer().active is None:
            pairs = folder / "pairs.json"
            typer.echo(f"generating pairs of {ITEMS:,} items into {pairs}", err=True)
            write_pairs(pairs, ITEMS)
            started = time.monotonic()
            with BuildProgress() as progress:
                manifest = ingest([str(pairs)], store, IngestOptions(), progress)
            typer.echo(f"built {manifest.pairs:,} pairs in {time.monotonic() - started:.1f} s", err=True)
    url = f"http://127.0.0.1:{port}"
    typer.echo(
        "Try, once the line with the URL stands below:\n"
        f"  curl '{url}/v1/items/42/similar?limit=5'\n"
        f"  curl '{url}/v1/recommend' -H 'content-type: application/json' "
        '-d \'{"positive": [42, {"id": 7, "weight": 2.0}], "negative": [1999], "limit": 5, "explain": true}\'\n'
        f"  curl '{url}/v1/score?a=42&b=7'\n"
        f"API documentation: {url}/docs   End with Ctrl-C."
    )
    sys.stdout.flush()
    serve(store=str(store.root), port=port)
