"""What a server says of itself, and servers that are started and refused."""

import os
import subprocess
from contextlib import contextmanager

import httpx

from tests.support.command import command
from tests.support.server import Server, stop_all


def serving(url):
    return httpx.get(f"{url}/healthz", timeout=10).json()


@contextmanager
def started(*arguments, **options):
    server = Server(*arguments, **options)
    try:
        yield server
    finally:
        stop_all(server)


def run_serve(store, *options):
    env = {name: value for name, value in os.environ.items() if name != "SIMSHARD_API_KEY"}
    return subprocess.run(
        command("serve", "--store", store, *options), capture_output=True, text=True, check=False, timeout=120, env=env
    )
