"""`simshard serve` as a process, for tests."""

import os
import signal
import subprocess
import time
from contextlib import suppress

import psutil

from simshard.serve.launch.ports import free_port
from simshard.shards.private_folders import _base
from tests.support.command import command


class Server:
    """A `simshard serve` process."""

    def __init__(self, store, *options, env=None):
        self.port = free_port() if "--port" not in options else int(options[options.index("--port") + 1])
        self.process = subprocess.Popen(
            command("serve", "--store", store, "--port", self.port, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        self.line = self.process.stdout.readline()
        while "(raylet)" in self.line:  # Ray warns, on stdout, of the many actors of the session's cluster
            self.line = self.process.stdout.readline()
        if not self.line:
            raise RuntimeError(self.process.stderr.read())
        self.url = self.line.split()[0]

    def stop(self, number=signal.SIGTERM, group=False):
        """End it, or it and what it started, as systemd does; seconds that took, and what it wrote to stderr."""
        started = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, number)
        _, errors = self.process.communicate(timeout=60)
        return time.monotonic() - started, errors


def folders():
    return set(_base().iterdir())


def running(folder, named=""):
    """Processes with this in their name that were started out of a run folder, by command line or files."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended meanwhile
            if named in process.name():
                words = [*process.cmdline(), *(file.path for file in process.open_files())]
                if any(f"{folder}/" in word for word in words):
                    found.append(process)
    return found


def actors_of(folder, title):
    """Processes of a kind of actor: Ray writes its class into the process title."""
    found = []
    for raylet in running(folder, "raylet"):
        for child in raylet.children(recursive=True):
            with suppress(psutil.Error):
                if title in " ".join(child.cmdline()):
                    found.append(child)
    return found


def gcs_address(folder):
    """Where the Ray cluster of a run folder is joined."""
    (raylet,) = running(folder, "raylet")
    (address,) = [word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--gcs-address=")]
    return address


def stop_all(*servers):
    """End those that still run."""
    for server in servers:
        if server.process.poll() is None:
            server.stop()


def wait_for(condition, seconds=60):
    """The first true value of the condition."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value
