"""Settings of a running service, frozen; read in `app.py` and the CLI only, and passed down as plain arguments."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from simshard.serve.schema.filters import Filter
from simshard.serve.schema.keys import API_KEY_VARIABLE, is_loopback
from simshard.serve.schema.validation import expand, fault_of, parse
from simshard.serve.schema.values import FILTER_NAME
from simshard.shards.errors import InvalidQuery, SimshardError
from simshard.shards.local_copies import Location

TransportChoice = Literal["auto", "actor"]
CACHE_CLASSES = ("similar", "recommend")


class InvalidSetting(SimshardError):
    """A setting that cannot be meant; names it and says what fits."""


@dataclass(frozen=True)
class Settings:
    """store: path as seen from the cluster's nodes, or a URI; redis: URL or None; cache_bytes: of each replica's cache.

    cache_dir, cache_size: where copies of a URI's snapshots lie, and the most bytes that they take; None: see Location.

    filters: named ones, as JSON; one may name those before it. default_filter: the name of the one that every answer
    passes. keep_open: how long a snapshot can still be asked for after another took its place. image: the text
    attribute that holds the address of each item's picture; a snapshot may lack it.

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
    admin_key: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    default_filter: str | None = None
    keep_open: float = 60.0
    shard_timeout: float = 2.0
    image: str | None = None
    cache_dir: str | None = None
    cache_size: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", self.name):
            raise InvalidSetting(f"name {self.name!r}: letters, digits, - and _ only, at most 40")
        if self.transport not in ("auto", "actor"):
            raise InvalidSetting(f"transport {self.transport!r}: auto or actor")
        unknown = set(self.redis_classes) - set(CACHE_CLASSES)
        if unknown:
            raise InvalidSetting(f"redis_classes: {sorted(unknown)} unknown; there are {', '.join(CACHE_CLASSES)}")
        for name, least in {"replicas": 1, "threads": 1, "redis_ttl": 1, "cache_bytes": 0, "keep_open": 0}.items():
            if not getattr(self, name) >= least:
                raise InvalidSetting(f"{name}: at least {least}")
        named = self.named_filters()
        if self.default_filter is not None and self.default_filter not in named:
            raise InvalidSetting(f"default_filter {self.default_filter!r}: not one of filters ({', '.join(named)})")
        if self.redis is not None and not re.match(r"(redis|rediss|unix)://", self.redis):
            raise InvalidSetting("redis: a URL that begins with redis://, rediss:// or unix://, or embedded, or off")

    @property
    def location(self) -> Location:
        """Where the store is."""
        return Location(self.store.rstrip("/") or "/", self.cache_dir, self.cache_size)

    def named_filters(self) -> dict[str, Any]:
        """The named filters as plain JSON for `compile_filter`. Raises InvalidSetting."""
        named: dict[str, Any] = {}
        for name, given in self.filters.items():
            if not FILTER_NAME.fullmatch(name):
                raise InvalidSetting(f"filters: the name {name!r} has other letters than A-Z, a-z, 0-9, - and _")
            try:
                named[name] = expand(parse(Filter, given), named, "")
            except InvalidQuery as error:
                raise InvalidSetting(f"filters.{name}.{str(error).lstrip('.')}") from error
        return named


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, by name. Raises InvalidSetting for a file that is none, or a name unknown."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path}: not TOML ({error})") from error
    _check_names(values, f"{path}: ")
    return values


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings of a mapping, such as the args of a Serve config file. Raises InvalidSetting, naming the setting."""
    _check_names(values)
    if "store" not in values:
        raise InvalidSetting("store: missing; the path of the store on the cluster's nodes")
    try:
        return TypeAdapter(Settings).validate_python(dict(values))
    except ValidationError as error:
        raise InvalidSetting(str(fault_of(error.errors()))) from error


def _check_names(values: Mapping[str, Any], where: str = "") -> None:
    known = sorted(each.name for each in fields(Settings))
    unknown = sorted(set(values).difference(known))
    if unknown:
        raise InvalidSetting(f"{where}{', '.join(unknown)}: no such setting; there are {', '.join(known)}")


def check_bind(host: str, api_key: str | None) -> None:
    """Refuse to listen beyond this machine without an API key. Raises InvalidSetting."""
    if not is_loopback(host) and not api_key:
        raise InvalidSetting(f"host {host}: reachable from other machines; set {API_KEY_VARIABLE}, or bind 127.0.0.1")
