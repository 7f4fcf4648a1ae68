"""Ask a running service from another Ray job, over a Serve handle: no HTTP port, no key, the same client.

    python -m simshard.examples.second_job 42 7

The service runs on this machine; `--address` names the Ray cluster of one that runs elsewhere.
"""

from __future__ import annotations

import argparse

import ray

from simshard import Client


@ray.remote(num_cpus=0)
def next_to_see(liked: list[str], app: str) -> list[str]:
    """Titles, or ids, that go with what was liked; runs as a task, anywhere in the cluster."""
    client = Client.from_app(app)
    hits = client.recommend(liked, limit=5).hits
    return [str((hit.payload or {}).get("title", hit.id)) for hit in hits]


def main() -> None:
    """Connect, ask from the driver and from a task, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("liked", nargs="+", help="ids of items")
    parser.add_argument("--address", help="Ray cluster of the service (default: the one of --app here)")
    parser.add_argument("--app", default="simshard", help="name of the Serve application")
    options = parser.parse_args()

    client = Client.from_app(options.app, address=options.address)
    for id_ in options.liked:
        best = client.similar(id_, limit=1).hits[0]
        print(f"{id_}: most like {best.id} ({best.score:.4f})")
    for title in ray.get(next_to_see.remote(options.liked, options.app)):
        print(f"next: {title}")
    ray.shutdown()


if __name__ == "__main__":
    main()
