"""Settings of a running service, frozen; read in `app.py` and the CLI only, and passed down as plain arguments."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from simshard.shards.errors import SimshardError

API_KEY_VARIABLE = "SIMSHARD_API_KEY"
TransportChoice = Literal["auto", "actor"]
CACHE_CLASSES = ("similar", "recommend")


class InvalidSetting(SimshardError):
    """A setting that cannot be meant; names it and says what fits."""


@dataclass(frozen=True)
class Settings:
    """store: path as seen from the cluster's nodes; redis: URL or None; cache_bytes: of each replica's own cache.

    redis_classes: queries that use Redis where the shards are local (see docs/caching.md); those that need a remote
    shard always do. transport `actor` forces calls where local reads would do. Times in seconds.
    """

    store: str
    name: str = "simshard"
    redis: str | None = None
    redis_classes: tuple[str, ...] = ("recommend",)
    redis_ttl: int = 3600
    cache_bytes: int = 64 << 20
    transport: TransportChoice = "auto"
    replicas: int = 1
    threads: int = 4
    api_key: str | None = None
    shard_timeout: float = 2.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", self.name):
            raise InvalidSetting(f"name {self.name!r}: letters, digits, - and _ only, at most 40")
        if self.transport not in ("auto", "actor"):
            raise InvalidSetting(f"transport {self.transport!r}: auto or actor")
        unknown = set(self.redis_classes) - set(CACHE_CLASSES)
        if unknown:
            raise InvalidSetting(f"redis_classes: {sorted(unknown)} unknown; there are {', '.join(CACHE_CLASSES)}")
        for name in ("replicas", "threads", "redis_ttl"):
            if getattr(self, name) < 1:
                raise InvalidSetting(f"{name}: at least 1")
        if self.redis is not None and not re.match(r"(redis|rediss|unix)://", self.redis):
            raise InvalidSetting("redis: a URL that begins with redis://, rediss:// or unix://, or embedded, or off")


def settings_from(values: dict[str, Any]) -> Settings:
    """Settings of a mapping, such as the args of a Serve config file. Raises InvalidSetting for a name unknown."""
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InvalidSetting(f"{', '.join(unknown)}: no such setting; there are {', '.join(sorted(known))}")
    if "store" not in values:
        raise InvalidSetting("store: missing; the path of the store on the cluster's nodes")
    return Settings(**{**values, "redis_classes": tuple(values.get("redis_classes", Settings.redis_classes))})


def bearer(api_key: str | None) -> dict[str, str]:
    """The headers that a request to a server with this API key needs."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def check_bind(host: str, api_key: str | None) -> None:
    """Refuse to listen beyond this machine without an API key. Raises InvalidSetting."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not api_key:
        raise InvalidSetting(f"host {host}: reachable from other machines; set {API_KEY_VARIABLE}, or bind 127.0.0.1")
