"""One computation at a time for each key."""

import asyncio
import gc

import pytest

from simshard.serve.engine.single_flight import SingleFlight


@pytest.fixture
async def told():
    """What the event loop was told of errors that nobody looked at."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    return told


class Computation:
    """Counts how often it was begun, and ends when it is let go: with this result, or this error."""

    def __init__(self, result):
        self.result = result
        self.begun = self.ended = 0
        self.go = asyncio.Event()

    async def __call__(self):
        self.begun += 1
        await self.go.wait()
        self.ended += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def asking(flights, key, compute, count=1):
    """Callers that wait for the computation, which is not let go yet."""
    callers = [asyncio.create_task(flights.run(key, compute)) for _ in range(count)]
    await turns()
    assert not any(caller.done() for caller in callers)
    return callers


async def turns(count=5):
    """Lets everything happen that waits for nothing."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_callers_share_one_computation_of_their_key():
    flights = SingleFlight()
    one, other = Computation("one"), Computation("other")
    callers = await asking(flights, "a", one, 5)
    others = await asking(flights, "b", other, 2)
    assert set(flights._flights) == {"a", "b"}
    other.go.set()
    assert await asyncio.gather(*others) == ["other"] * 2
    one.go.set()
    assert await asyncio.gather(*callers) == ["one"] * 5
    assert (one.begun, other.begun) == (1, 1)
    await turns()
    assert not flights._flights
    assert await flights.run("a", one) == "one"
    assert one.begun == 2  # a result is not kept
    await turns()
    assert not flights._flights


async def test_a_cancelled_caller_does_not_end_it():
    flights = SingleFlight()
    compute = Computation("one")
    first, second = await asking(flights, "a", compute, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    (third,) = await asking(flights, "a", compute)
    compute.go.set()
    assert await asyncio.gather(second, third) == ["one"] * 2
    assert (compute.begun, compute.ended) == (1, 1)


async def test_it_goes_on_to_its_end_where_everybody_has_gone():
    flights = SingleFlight()
    compute = Computation("one")
    callers = await asking(flights, "a", compute, 2)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert set(flights._flights) == {"a"}
    compute.go.set()
    await turns()
    assert compute.ended == 1
    assert not flights._flights


async def test_an_error_is_raised_for_all_and_the_next_computation_begins_anew(told):
    flights = SingleFlight()
    broken = Computation(ZeroDivisionError("broken"))
    callers = await asking(flights, "a", broken, 3)
    broken.go.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(error) for error in found] == ["broken"] * 3
    assert not flights._flights
    whole = Computation("whole")
    whole.go.set()
    assert await flights.run("a", whole) == "whole"
    assert (broken.begun, whole.begun) == (1, 1)
    assert not told


async def test_an_error_that_nobody_waits_for_is_not_complained_about(told):
    flights = SingleFlight()
    compute = Computation(ZeroDivisionError("broken"))
    (caller,) = await asking(flights, "a", compute)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    compute.go.set()
    await turns()
    assert compute.ended == 1
    assert not flights._flights
    del caller  # whose traceback holds the computation's task
    gc.collect()  # an exception that was never retrieved is told when its task goes
    await turns()
    assert not told


async def test_a_computation_that_is_cancelled_leaves_nothing_behind(told):
    flights = SingleFlight()
    (caller,) = await asking(flights, "a", Computation("one"))
    flights._flights["a"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not flights._flights
    assert not told
