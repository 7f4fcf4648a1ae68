"""Requests from several threads while things break, every answer checked against the oracle."""

import random
import threading

import httpx
import numpy as np

from tests.support import oracle
from tests.support.session_store import ITEMS


def printed(body):
    return [(hit["id"], np.float32(hit["score"])) for hit in body["hits"]]


def ask_similar(client, url, rng):
    row, limit = rng.randrange(ITEMS), rng.choice([1, 10, 50])
    answer = client.get(f"{url}/v1/items/{row}/similar", params={"limit": limit, "offset": rng.choice([0, 0, 30])})
    offset = int(answer.request.url.params["offset"])
    return answer, [oracle.Seed(row)], {"limit": limit, "offset": offset}


def ask_recommend(client, url, rng):
    rows = rng.sample(range(ITEMS), 5)
    weights = [rng.choice([1.0, 0.1, 3.5]) for _ in rows]
    seeds = [oracle.Seed(row, weight, i > 2) for i, (row, weight) in enumerate(zip(rows, weights, strict=True))]
    body = {
        "positive": [{"id": seed.row, "weight": seed.weight} for seed in seeds if not seed.negative],
        "negative": [{"id": seed.row, "weight": seed.weight} for seed in seeds if seed.negative],
        "strategy": rng.choice(["sum_scores", "best_score"]),
        "timeout_ms": 20_000,
    }
    return client.post(f"{url}/v1/recommend", json=body), seeds, {"strategy": body["strategy"]}


class Load:
    """Requests from two threads until stopped; every answer is kept with what was asked."""

    def __init__(self, url, seed=0):
        self.url, self.seed = url, seed
        self.answers, self.faults = [], []
        self.stopped = threading.Event()

    def __enter__(self):
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(2)]
        for thread in self.threads:
            thread.start()
        return self

    def _run(self, index):
        rng = random.Random(self.seed * 10 + index)
        with httpx.Client(timeout=30) as client:
            while not self.stopped.is_set():
                try:
                    self.answers.append(rng.choice([ask_similar, ask_recommend])(client, self.url, rng))
                except httpx.HTTPError as error:
                    self.faults.append(error)

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def check(self, matrix_of):
        """No failed request, and every answer right for the snapshot that it names; how many of each."""
        assert self.faults == []
        counts = {}
        for answer, seeds, options in self.answers:
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert not body["partial"]
            counts[body["snapshot"]] = counts.get(body["snapshot"], 0) + 1
            assert printed(body) == oracle.hits(matrix_of[body["snapshot"]], seeds, **options)
        return counts
