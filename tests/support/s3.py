"""An S3 server on loopback (moto), and a relay before it that delays, cuts, fails and falsifies answers."""

import os
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import httpx

from simshard.serve.launch.ports import free_port

BUCKET = "data"
_XML = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%b" % (len(_XML), _XML)


class S3:
    """The server, with a bucket; `url` is where it is, `environment` what a client needs."""

    def __init__(self):
        self.port = free_port()
        words = [sys.executable, "-m", "moto.server", "-p", str(self.port), "-H", "127.0.0.1"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                break
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)
        httpx.put(f"{self.url}/{BUCKET}", trust_env=False).raise_for_status()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def environment(self, url=None):
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": url or self.url, **keys}

    def close(self):
        self.process.terminate()
        self.process.wait()


class FaultyRelay:
    """HTTP to a server with `share` of its answers at fault: 500, cut in the middle, or with other bytes."""

    def __init__(self, port, share, faults=("500", "cut", "bytes"), seed=1):
        self._server, self.share, self._faults = port, share, faults
        self._rng = random.Random(seed)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.told = dict.fromkeys(faults, 0)
        self.read_only = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        """One request after the other of a connection, each over a connection of its own to the server."""
        with client, suppress(OSError):
            file = client.makefile("rb")
            while True:
                head, body = _message(file)
                if head is None:
                    return
                if self.read_only and not head.startswith((b"GET", b"HEAD")):
                    client.sendall(_DENIED)
                    continue
                fault = self._rng.choice(self._faults) if self._rng.random() < self.share else None
                if fault == "bytes" and not (head.startswith(b"GET") and b".arrow" in head.split(b"\r\n")[0]):
                    fault = None
                self.told[fault] = self.told.get(fault, 0) + 1
                if fault == "500":
                    client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
                    continue
                with socket.create_connection(("127.0.0.1", self._server)) as server:
                    server.sendall(head + body)
                    answer, content = _message(server.makefile("rb"), b" HEAD " in b" " + head[:5] + b" ")
                if fault == "cut":
                    client.sendall((answer + content)[: len(answer) + len(content) // 2])
                    return
                if fault == "bytes" and content:
                    content = content[:-1] + bytes([content[-1] ^ 1])
                client.sendall(answer + content)

    def close(self):
        self._socket.close()


def _message(file, bare=False):
    """Head and body of a request or an answer; bare: of an answer to HEAD, which has none."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        if not line:
            return None, b""
        head += line
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    return head, b"" if bare else file.read(int(fields.get(b"content-length", 0)))


@contextmanager
def variables(given):
    """The environment with these variables, for a while."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def running_s3(**more):
    """A server, with the environment that its clients need, and more of it."""
    server = S3()
    with variables(server.environment() | more):
        yield server
    server.close()
