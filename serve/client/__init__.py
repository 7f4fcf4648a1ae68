"""The Python client: `Client` and `AsyncClient`."""

from simshard.serve.client.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
