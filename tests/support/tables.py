"""Tables whose shards are asked as Ray actors are, without Ray."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from simshard.shards import search
from simshard.shards.errors import ShardUnavailable
from simshard.shards.format import ShardReader
from simshard.shards.transport import ActorTransport

POOL = ThreadPoolExecutor(2)


class FakeActor:
    """What a Ray actor handle does for ActorTransport: arguments and results travel pickled."""

    def __init__(self, reader, failures=0):
        self.reader, self.failures, self.calls = reader, failures, 0
        self.ask = self

    async def remote(self, _name, calls):
        self.calls += 1
        if self.calls <= self.failures:
            raise ShardUnavailable("away")
        calls = pickle.loads(pickle.dumps(calls))
        return pickle.loads(pickle.dumps([getattr(search, name)(self.reader, *args) for name, args in calls]))


def actor_table(table, failures=()):
    """The same table, asked by calls; failures: shard -> how many calls to it fail at first."""
    snapshot = table.snapshot
    ways = []
    for shard in range(len(snapshot.manifest.shards)):
        reader = ShardReader(snapshot.folder, snapshot.manifest, shard)
        actor = FakeActor(reader, dict(failures).get(shard, 0))
        ways.append(ActorTransport(actor, snapshot.name, shard, 5.0))
    return replace(table, transports=tuple(ways))
