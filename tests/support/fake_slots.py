"""Slot actors that are fakes: what they have open, what is late, what fails."""

from simshard.shards.actor import Held


class Ref:
    """A reference whose answer is there once `slot` is not late with that method."""

    def __init__(self, slot, method, call):
        self.slot, self.method, self.call, self.answer = slot, method, call, None

    @property
    def ready(self):
        if self.answer is None and not self.slot.late & {self.method, "all"}:
            try:
                self.answer = self.call(), None
            except Exception as error:
                self.answer = None, error
        return self.answer is not None


class Slot:
    """A slot actor: what it has open, what is late, what fails, and what was asked of it."""

    def __init__(self, shard):
        self.node, self.shard = "node", shard
        self.there, self.late, self.faults, self.asked, self.pending = {}, set(), {}, [], []

    def call(self, method, *arguments):
        self.asked.append((method, *arguments))
        ref = Ref(self, method, lambda: getattr(self, f"do_{method}")(*arguments))
        if method == "open":
            assert not any(not ref.ready for ref in self.pending), "two opens at once"
            self.pending = [ref]
        elif method == "close":  # whose answer nobody waits for
            assert ref.ready
        return ref

    def do_held(self):
        if "held" in self.faults:
            raise self.faults["held"]
        return self.there

    def do_open(self, name):
        if name in self.faults:
            raise self.faults[name]
        return self.there.setdefault(name, Held(self.node, f"{name}/{self.shard}", self.shard, 1, 1))

    def do_close(self, name):
        self.there.pop(name, None)

    def opens(self):
        return [name for method, *names in self.asked if method == "open" for name in names]


class FakeSlotActors:
    """What `SlotActors` asks of Ray, asked of fakes; `prepare`: slot -> what is done to it as it starts."""

    def __init__(self, prepare):
        self.slots, self.cancelled, self.prepare = [], [], prepare

    def start(self, slot):
        assert slot == len(self.slots)
        self.slots.append(Slot(slot))
        self.prepare.get(slot, lambda _: None)(self.slots[-1])
        return self.slots[-1]

    def call(self, actor, method, *arguments):
        return actor.call(method, *arguments)

    def ready(self, refs, timeout):
        assert 0 < timeout <= 5
        return [ref for ref in refs if ref.ready]

    def get(self, ref):
        value, error = ref.answer
        if error is not None:
            raise error
        return value

    def cancel(self, ref):
        self.cancelled.append(ref)
