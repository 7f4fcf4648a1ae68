"""`simshard serve`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from simshard.cli.ingest import StoreOption
from simshard.cli.output import BuildProgress, fail, size_option
from simshard.shards.bucket import is_uri

if TYPE_CHECKING:
    from simshard.serve.settings import Settings

_END_TIMEOUT = 7.0
_FLAGS = {"cache_bytes": "cache"}  # settings whose flag has another name


def serve(
    context: typer.Context,
    store: StoreOption,
    host: Annotated[str, typer.Option(envvar="SIMSHARD_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="SIMSHARD_PORT", min=1, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[str, typer.Option(envvar="SIMSHARD_NAME", help="Name of the Serve application.")] = "simshard",
    route_prefix: Annotated[str, typer.Option(help="Path under which the application answers.")] = "/",
    address: Annotated[str | None, typer.Option(help="Ray cluster to join (default: start one here).")] = None,
    trust_network: Annotated[
        bool,
        typer.Option(
            "--trust-network",
            help="Join a cluster without token authentication: only where no other machine can reach it.",
        ),
    ] = False,
    redis: Annotated[
        str, typer.Option(envvar="SIMSHARD_REDIS", help="Shared cache: embedded, off, or a URL.")
    ] = "embedded",
    redis_classes: Annotated[str, typer.Option(help="Local queries that use Redis: similar, recommend.")] = "recommend",
    cache: Annotated[str, typer.Option(help="Memory of each replica's own cache.")] = "64MB",
    transport: Annotated[
        Literal["auto", "actor"], typer.Option(help="actor: ask shard actors even where local reads would do.")
    ] = "auto",
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="SIMSHARD_CACHE_DIR",
            help="Where copies of a bucket's snapshots are kept (default: ~/.cache/simshard).",
            metavar="FOLDER",
        ),
    ] = None,
    cache_size: Annotated[
        str | None, typer.Option(help="Most bytes of these copies (default: what the disk has).", metavar="SIZE")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=256, help="Ingress replicas.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of a replica that read rows.")] = 4,
    keep_open: Annotated[
        float, typer.Option(min=0, help="Seconds that a replaced snapshot can still be asked (`snapshot`).")
    ] = 60.0,
    image: Annotated[
        str | None,
        typer.Option(
            help="Attribute that holds the address of each item's picture. The page names the hosts to anyone, "
            "with a key or without.",
            metavar="COLUMN",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="Named filters, and any of these settings; flags and variables come first.", metavar="FILE.toml"
        ),
    ] = None,
) -> None:
    """Serve a store over HTTP until Ctrl-C.

    SIMSHARD_API_KEY, if set, must come with every request but those for the page, /livez and /readyz.
    SIMSHARD_ADMIN_KEY is what changes over HTTP need.
    """
    from simshard.serve.schema.keys import ADMIN_KEY_VARIABLE, API_KEY_VARIABLE
    from simshard.serve.settings import InvalidSetting, check_bind, read_settings, settings_from

    flags = {
        "store": store if is_uri(store) else str(Path(store).resolve()),
        "cache_dir": None if cache_dir is None else str(cache_dir.absolute()),
        "cache_size": None if cache_size is None else size_option(cache_size),
        "name": name,
        "redis": redis,
        "redis_classes": [part for part in redis_classes.split(",") if part],
        "cache_bytes": size_option(cache),
        "transport": transport,
        "replicas": replicas,
        "threads": threads,
        "keep_open": keep_open,
        "image": image,
        "api_key": os.environ.get(API_KEY_VARIABLE),
        "admin_key": os.environ.get(ADMIN_KEY_VARIABLE),
    }
    try:
        values = {**flags, **(read_settings(settings) if settings else {})}
        for name_, value in flags.items():
            source = context.get_parameter_source(_FLAGS.get(name_, name_))
            if value is not None and (source is None or source.name != "DEFAULT"):
                values[name_] = value
        embedded = values["redis"] == "embedded"
        if values["redis"] in ("embedded", "off"):
            values["redis"] = None
        check_bind(host, values["api_key"])
        if not route_prefix.startswith("/"):
            raise InvalidSetting(f"route-prefix {route_prefix!r}: must begin with /")
        checked = settings_from(values)
    except InvalidSetting as error:
        fail(str(error), code=2)
    run_server(checked, Where(host, port, route_prefix, address, trust_network, embedded))


@dataclass(frozen=True)
class Where:
    """Where a server runs and answers. address: of a Ray cluster to join; embedded: with a shared cache of its own."""

    host: str
    port: int
    route_prefix: str = "/"
    address: str | None = None
    trusted: bool = False
    embedded: bool = True


def run_server(settings: Settings, where: Where, hint: str = "") -> None:
    """Start everything, print the line that tells of it and the hint, wait for a signal, end everything."""
    import psutil

    from simshard.serve.launch.ports import check_port
    from simshard.serve.launch.run_folder import RunFolder, clean_leftovers
    from simshard.shards.attributes import check_image
    from simshard.shards.errors import SimshardError
    from simshard.shards.items import Items
    from simshard.shards.readahead import read_ahead
    from simshard.shards.store import Store

    try:
        copies = settings.location.copies()
        if copies is not None:
            with BuildProgress() as progress:
                copies.follow(progress)
        store = Store(settings.location.folder)
        manifest = store.manifest()  # a store with nothing to serve is told before anything starts
        if settings.image is not None:
            check_image(Items(store.snapshots / manifest.name), settings.image)
        if where.address is None:
            ended = clean_leftovers()
            if ended:
                typer.echo(f"ended what an earlier run left: processes {', '.join(map(str, ended))}", err=True)
            check_port(where.host, where.port)
            files = [store.snapshots / manifest.name / info.file for info in manifest.files]
            most = psutil.virtual_memory().available // 2
            threading.Thread(target=read_ahead, args=(files, most), daemon=True).start()  # while Ray starts
        folder = RunFolder()
    except SimshardError as error:
        fail(str(error))
    _Run(settings, folder, where).run(hint)


class _Run:
    def __init__(self, settings: Any, folder: Any, where: Where) -> None:
        self.settings, self.folder, self.where = settings, folder, where
        self.closers: list[Any] = []
        self.stop = threading.Event()

    def run(self, hint: str) -> None:
        """Start everything, tell, wait for a signal, end everything in reverse."""
        from simshard.shards.errors import SimshardError

        self._catch(self._interrupt)
        fault: str | None = None
        try:
            typer.echo("\n".join(line for line in (self._start(), hint) if line))
            sys.stdout.flush()
            self.stop.wait()
        except KeyboardInterrupt:
            pass
        except SimshardError as error:
            fault = str(error)
        except Exception as error:  # Ray's own, whatever it is: one sentence after the clean-up
            lines = [line for line in str(error).splitlines() if line.strip()]
            fault = f"the service did not start: {type(error).__name__}: {lines[-1] if lines else ''}"
        finally:
            self._catch(signal.SIG_IGN)
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # Ray tells that what it ended is gone
                ended = self._end()
                self.folder.close()
        if not ended:  # Ray still waits for what is gone, and would go on at the interpreter's end
            if fault is not None:
                typer.echo(f"simshard: {fault}", err=True)
            os._exit(0 if fault is None else 1)
        if fault is not None:
            fail(fault)

    def _end(self) -> bool:
        """Run the closers, newest first, within their time; whether all came back.

        They do not where the signal went to Ray's processes as well, as systemd's do; the folder's end kills the rest.
        """
        deadline = time.monotonic() + _END_TIMEOUT
        threads = []
        for close in reversed(self.closers):
            threads.append(threading.Thread(target=close, daemon=True))
            threads[-1].start()
            threads[-1].join(max(deadline - time.monotonic(), 0.3))
        return not any(thread.is_alive() for thread in threads)

    def _catch(self, handler: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last where the terminal is closed
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                signal.signal(number, handler)

    def _interrupt(self, *_: Any) -> None:
        self._catch(signal.SIG_IGN)  # ending takes seconds; a second signal must not cut it short
        raise KeyboardInterrupt

    def _start(self) -> str:
        """Start what is needed; the line that tells of it."""
        from simshard.serve.launch.ray_serve import App
        from simshard.serve.launch.ray_start import address
        from simshard.shards.ray_cluster import Connection

        cluster = self._cluster()
        self.closers.append(cluster.close)
        cache = self._redis(cluster.nodes) if self.where.embedded else self.settings.redis and "redis"
        self._catch(self._interrupt)  # Ray put its own in place
        app = App(self.settings, self.where.host, self.where.port, self.where.route_prefix, cluster)
        self.closers.append(app.close)
        Connection(self.settings.name, app.url, address(), cluster.variables).write(self.folder.path)
        health = app.health()
        return (
            f"{app.url}  snapshot {health['snapshot']}  {health['items']:,} items  {health['pairs']:,} pairs  "
            f"{len(health['shards'])} shards  cache memory{f' + {cache}' if cache else ''}  ray {address()}"
        )

    def _redis(self, nodes: int) -> str | None:
        """Start a shared cache of our own; what it is, or None where there is none, which one line tells."""
        from dataclasses import replace

        from simshard.serve.launch.redis_server import RedisServer, find_server

        if nodes > 1:
            typer.echo(
                "simshard: each replica has a cache of its own alone: --redis URL names one for a cluster", err=True
            )
            return None
        found = find_server()
        for line in found.passed_over:
            typer.echo(f"simshard: {line}", err=True)
        if found.binary is None:
            typer.echo("simshard: no valkey-server or redis-server here: the in-process cache serves alone", err=True)
            return None
        try:
            server = RedisServer(found.binary.path, self.folder.path)
        except OSError as error:
            typer.echo(f"simshard: the in-process cache serves alone: {error}", err=True)
            return None
        self.closers.append(server.stop)
        self.settings = replace(self.settings, redis=server.url)
        return f"embedded {found.binary.name} {found.binary.version}"

    def _cluster(self) -> Any:
        """Ray, started here or joined; what is odd about it is told."""
        from simshard.serve.launch.ray_start import JoinedCluster, OwnCluster
        from simshard.shards.store import Store

        where, store = self.where, Store(self.settings.location.folder)
        if where.address is not None:
            key = self.settings.api_key
            joined = JoinedCluster(where.address, store, where.host, where.port, key, where.trusted)
            for line in joined.lacking:
                typer.echo(f"simshard: {line}", err=True)
            return joined
        own = OwnCluster(self.folder.path, where.host)
        if own.ignored:
            typer.echo(f"simshard: for another Ray cluster, so not used here: {', '.join(own.ignored)}", err=True)
        return own
