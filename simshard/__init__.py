"""Precomputed item-to-item similarity, served: `Client` and `AsyncClient` ask a server, `python -m simshard` runs one.

The folders beside this file are links to those at the top of the repository (docs/decisions/0001-package-folder.md).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simshard.serve.client import AsyncClient, Client

    __version__: str

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    """What is asked for first, brought only then: importing any other part of simshard stays as light as that part."""
    if name == "__version__":
        return version("simshard")
    if name in __all__:
        from simshard.serve import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
