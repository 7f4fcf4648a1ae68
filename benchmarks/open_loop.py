"""An open loop: requests start at a fixed rate, whether or not earlier ones have been answered.

A latency counts from the moment at which the request was to start, so that a stall delays, and is counted in, every
request that should have started meanwhile ("coordinated omission", G. Tene). One thread, plain sockets: it must take
little of the cores that it shares with what it measures.

`python -m benchmarks.open_loop PORT RATE CONNECTIONS GRACE FILE`; the file holds the requests, parted by NUL bytes.
"""

from __future__ import annotations

import ctypes
import gc
import json
import select
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

_PR_SET_TIMERSLACK = 29


def connect(port: int) -> socket.socket:
    """A connection on which nothing blocks."""
    made = socket.create_connection(("127.0.0.1", port), timeout=5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    return made


def complete(data: bytes) -> bool:
    """Whether this is a whole HTTP answer."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    lower = data[:head].lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        return data.endswith(b"0\r\n\r\n")
    return len(data) - head - 4 >= int(lower[at + 17 :].split(b"\r\n", 1)[0])


def closes(data: bytes) -> bool:
    """Whether the other end closes the connection after this answer."""
    return b"\r\nconnection: close" in data[: data.find(b"\r\n\r\n")].lower()


class Loop:
    """One run: `latencies` of answers of status 200, from the intended start, in the order of the answers."""

    def __init__(self, port: int, requests: list[bytes], rate: float, connections: int) -> None:
        self.port, self.requests, self.rate = port, requests, rate
        # In turn, so that all connections, and what is behind them, get the same share.
        self.free = deque(connect(port) for _ in range(connections))
        self.busy: dict[int, tuple[socket.socket, int]] = {}
        self.data: dict[int, bytes] = {}
        self.latencies: list[float] = []
        self.late: list[float] = []
        self.errors = 0
        self.next = 0
        self.last = 0.0

    def run(self, grace: float) -> None:
        """Send everything, wait for the answers, no longer than `grace` seconds beyond the last intended start."""
        total = len(self.requests)
        self.begun = time.perf_counter() + 0.05
        end = self.begun + total / self.rate + grace
        while self.next < total or self.busy:
            now = time.perf_counter()
            if now > end:
                return
            while self.next < total and self.free and self.begun + self.next / self.rate <= now:
                self._send(now)
            until = end
            if self.next < total and self.free:
                until = self.begun + self.next / self.rate
            wait = until - time.perf_counter()
            readable, _, _ = select.select(list(self.busy), [], [], max(wait, 0.0))
            for number in readable:
                self._receive(number)

    def _send(self, now: float) -> None:
        connection = self.free.popleft()
        self.late.append(now - self.begun - self.next / self.rate)
        number = connection.fileno()
        self.busy[number], self.data[number] = (connection, self.next), b""
        self.next += 1
        try:
            connection.sendall(self.requests[self.next - 1])
        except OSError:
            self._fail(number)

    def _receive(self, number: int) -> None:
        connection, index = self.busy[number]
        try:
            part = connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._fail(number)
            return
        data = self.data[number] = self.data[number] + part
        if not complete(data):
            return
        self.last = time.perf_counter()
        if data.startswith(b"HTTP/1.1 200 "):
            self.latencies.append(self.last - self.begun - index / self.rate)
        else:
            self.errors += 1
        del self.busy[number]
        if closes(data):
            connection.close()
            connection = connect(self.port)
        self.free.append(connection)

    def _fail(self, number: int) -> None:
        connection, _ = self.busy.pop(number)
        connection.close()
        self.errors += 1
        self.free.append(connect(self.port))

    def figures(self) -> dict[str, Any]:
        """Percentiles in ms, rates, and what went wrong.

        A request that was never answered counts with the time for which it waited, so percentiles are no less than
        they would have been.
        """
        ended = time.perf_counter()
        total = len(self.requests)
        waiting = [index for _, index in self.busy.values()] + list(range(self.next, total))
        waited = [ended - self.begun - index / self.rate for index in waiting]
        all_ms = np.array(self.latencies + waited or [0.0]) * 1e3
        return {
            "rate": self.rate,
            "requests": total,
            "achieved_per_s": round(len(self.latencies) / max(self.last - self.begun, total / self.rate), 1),
            **{f"p{q:g}_ms": round(float(np.percentile(all_ms, q)), 3) for q in (50, 99, 99.9)},
            "max_ms": round(float(all_ms.max()), 3),
            "failed": self.errors,
            "unanswered": len(waiting),
            "late_starts_p99_ms": round(float(np.percentile(np.array(self.late or [0.0]) * 1e3, 99)), 3),
        }


def main() -> None:
    """Run once, print the figures as JSON."""
    port, rate, connections, grace, file = sys.argv[1:]
    loop = Loop(int(port), Path(file).read_bytes().split(b"\0"), float(rate), int(connections))
    gc.disable()  # its pauses would be counted as the server's
    with suppress(AttributeError):  # Linux wakes sleepers up to 50 us late otherwise
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    before = time.process_time()
    loop.run(float(grace))
    used = time.process_time() - before
    figures = loop.figures()
    figures["generator_cpu_us_per_request"] = round(used / max(loop.next, 1) * 1e6, 1)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
