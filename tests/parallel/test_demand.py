"""Results told to a subscriber, who asks for as many as it wants."""

import asyncio
import itertools

import pytest
import work

from opero import opmap


class Subscriber:
    def __init__(self, first=0, each=0):
        self.first, self.each, self.said = first, each, []

    def on_subscribe(self, demand):
        self.demand = demand
        if self.first:
            demand.request(self.first)

    def on_next(self, value):
        self.said.append(value)
        if self.each:
            self.demand.request(self.each)

    def on_error(self, error):
        self.said.append(error)

    def on_complete(self):
        self.said.append("complete")


def stream_of(items):
    return opmap(mode="thread", workers=2, max_pending=4)(work.letter).stream(items)


def test_a_subscriber_gets_as_much_as_it_asks_for_and_no_more():
    subscriber = Subscriber(first=2)
    stream_of(range(5)).subscribe(subscriber)
    assert subscriber.said == ["a", "b"]
    subscriber.demand.request(1)
    assert subscriber.said == ["a", "b", "c"]
    subscriber.demand.request(10)
    assert subscriber.said == [*"abcde", "complete"]
    subscriber.demand.request(1)
    assert len(subscriber.said) == 6


def test_a_subscriber_that_asks_for_one_more_each_time_does_not_recurse():
    subscriber = Subscriber(first=1, each=1)
    stream_of([0] * 3000).subscribe(subscriber)
    assert subscriber.said == ["a"] * 3000 + ["complete"]


def test_a_subscriber_hears_one_error_and_nothing_after_it():
    subscriber = Subscriber(first=9)
    stream_of([0, 99, 1]).subscribe(subscriber)
    assert [str(said) for said in subscriber.said] == ["a", "string index out of range"]


def test_cancelling_pulls_no_more():
    pulled = []

    def items():
        for n in itertools.count():
            pulled.append(n)
            yield 0

    subscriber = Subscriber(first=3)
    stream_of(items()).subscribe(subscriber)
    subscriber.demand.cancel()
    before = len(pulled)
    subscriber.demand.request(5)
    assert (subscriber.said, len(pulled)) == (["a"] * 3, before)
    assert before <= 3 + 4


def test_asking_for_nothing_is_an_error():
    subscriber = Subscriber(first=-1)
    stream_of(range(5)).subscribe(subscriber)
    assert [type(said) for said in subscriber.said] == [ValueError]


def test_a_stream_that_nobody_asks_pulls_nothing():
    pulled = []
    stream = stream_of(pulled.append(n) for n in range(5))
    assert pulled == []
    stream.close()
    assert list(stream) == []


@pytest.mark.parametrize("n", [0, -1])
def test_asking_a_stream_for_nothing_says_so(n):
    with pytest.raises(ValueError, match=rf"request\({n}\): ask for 1 or more"):
        stream_of(range(5)).request(n)

    async def main():
        await opmap(work.coroutine).stream([1]).request(n)

    with pytest.raises(ValueError, match=rf"request\({n}\): ask for 1 or more"):
        asyncio.run(main())
