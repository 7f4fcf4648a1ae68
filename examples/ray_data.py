"""Look neighbors up inside a Ray Data pipeline: each batch of ids is one bulk call, arrays in, an Arrow table out.

    python -m simshard.examples.ray_data items.parquet neighbors

reads a column of ids, asks a running service for the best of each, and writes Parquet. Needs `ray[data]`
(`pip install 'simshard[data]'`). `--address` names the Ray cluster of a service that runs elsewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import ray
import ray.data

from simshard import Client
from simshard.shards.ray_cluster import join


class Neighbors:
    """A stage of a pipeline: a client for each worker, made once."""

    def __init__(self, app: str, column: str, limit: int) -> None:
        self._client = Client.from_app(app)
        self._column, self._limit = column, limit

    def __call__(self, batch: pa.Table) -> pa.Table:
        """id, rank, neighbor, score for a batch of ids."""
        return self._client.similar_many(batch[self._column], limit=self._limit).replace_schema_metadata(None)


def main() -> None:
    """Read ids, look neighbors up, write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=Path, help="Parquet file with a column of ids")
    parser.add_argument("target", type=Path, help="folder for the Parquet files")
    parser.add_argument("--column", default="id", help="name of that column")
    parser.add_argument("--limit", type=int, default=10, help="neighbors of each item")
    parser.add_argument("--address", help="Ray cluster of the service (default: the one of --app here)")
    parser.add_argument("--app", default="simshard", help="name of the Serve application")
    options = parser.parse_args()

    join(options.address, options.app)
    ids = pa.parquet.read_table(options.items, columns=[options.column])
    stage: Any = ray.data.from_arrow(ids).map_batches(
        Neighbors,
        fn_constructor_args=(options.app, options.column, options.limit),
        batch_format="pyarrow",
        batch_size=10_000,
        num_cpus=0.5,
        concurrency=1,
    )
    if options.target.exists():
        parser.error(f"{options.target} is there already; name another folder")
    stage.write_parquet(str(options.target.resolve()))
    print(f"{options.target}: {pa.parquet.read_table(options.target).num_rows:,} rows")
    ray.shutdown()


if __name__ == "__main__":
    main()
