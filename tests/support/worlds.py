"""Stores with attributes, what is in them, and services over them."""

import asyncio
import json

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.schema.requests import RecommendRequest
from simshard.serve.schema.validation import parse
from simshard.shards.store import Snapshot
from tests.support.builder import random_matrix, write_store
from tests.support.catalogue import columns_of, items_of
from tests.support.tables import POOL, actor_table

DEFAULT = {"must_not": [{"key": "type", "match": {"value": "OVA"}}]}


def make_service(table, **options):
    service = Service(Cache(Lru(0), None), POOL, **options)
    service.serve(table)
    return service


def answer(service, asked):
    return json.loads(asyncio.run(service.answer(asked)).body)


def recommend(service, body):
    return answer(service, service.recommend(parse(RecommendRequest, body)))


class World:
    """A store, what is in it, and services over it: local, and by calls."""

    def __init__(self, folder, encoding, shards, number):
        count = 23 + shards
        self.directed = number % 5 == 4
        self.matrix = random_matrix(
            number, count, (0.3, 0.9, 1.0)[number % 3], negative=number % 2 == 0, directed=self.directed
        )
        self.items = items_of(count, number)
        batch = (1, 4, 256)[number % 3]
        attributes = columns_of(self.items)
        store = write_store(folder, self.matrix, encoding, shards, batch, attributes=attributes, directed=self.directed)
        table = local_table(Snapshot(store), POOL)
        options = {"filters": {"clean": DEFAULT}, "default_filter": "clean"}
        self.services = {
            (remote, default): make_service(actor_table(table) if remote else table, **(options if default else {}))
            for remote in (False, True)
            for default in (False, True)
        }
