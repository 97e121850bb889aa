"""What a call inside gave up on is at its end also where the answer in its place fails: the replica is down, too."""

import asyncio

import pytest

import opero as o
from opero import fused


class Down(ConnectionError):
    pass


class ReplicaDown(TimeoutError):
    pass


def replica_down(*_):
    raise ReplicaDown


async def async_replica_down(*_):
    await asyncio.sleep(0)
    raise ReplicaDown


@pytest.fixture(params=[True, False], ids=["fast", "general"], autouse=True)
def _speed(request, monkeypatch):
    monkeypatch.setattr(fused, "enabled", request.param)


def three(leaf, **keywords):
    """Return three calls, one within the other, each with the same keywords."""
    policy = {"retries": 2, "min_delay": 0, **keywords}
    if asyncio.iscoroutinefunction(leaf):

        async def within():
            return await inner()

        async def around():
            return await middle()
    else:

        def within():
            return inner()

        def around():
            return middle()

    inner = o.opero(**policy, name="inner")(leaf)
    middle = o.opero(**policy, name="middle")(within)
    return o.opero(**policy, name="outer")(around)


@pytest.mark.parametrize(
    "fallback",
    [
        replica_down,
        o.Fallback(replica_down, replica_down),
        o.Fallback(by={Down: replica_down, ReplicaDown: replica_down}),
        o.opero(retries=0, name="replica")(replica_down),
    ],
    ids=["function", "chain", "by", "decorated"],
)
def test_three_functions_make_three_calls(fallback):
    made = []

    def leaf():
        made.append(1)
        raise Down

    with pytest.raises(ReplicaDown):
        three(leaf, fallback=fallback)()
    assert len(made) == 3


def test_so_do_three_coroutine_functions():
    made = []

    async def leaf():
        made.append(1)
        raise Down

    with pytest.raises(ReplicaDown):
        asyncio.run(three(leaf, fallback=async_replica_down)())
    assert len(made) == 3


def test_and_three_generators():
    made = []

    @o.opero(retries=2, min_delay=0, fallback=replica_down)
    def leaf():
        made.append(1)
        raise Down
        yield

    @o.opero(retries=2, min_delay=0, fallback=replica_down)
    def outer():
        yield from leaf()

    with pytest.raises(ReplicaDown):
        list(outer())
    assert len(made) == 3


def test_an_unwanted_result_is_at_its_end_too():
    made = []

    def leaf():
        made.append(1)

    policy = {"fallback": o.Fallback(replica_down, on_result=lambda r: r is None)}
    with pytest.raises(ReplicaDown):
        three(leaf, **policy, retry_on_result=lambda r: r is None)()
    assert len(made) == 3


@pytest.mark.parametrize("policy", [o.Retry(2, wait=0, on=KeyError), o.Timeout(30)], ids=["unwanted", "no retry"])
def test_the_answer_to_what_nobody_retried_is_retried_further_out(policy):
    made = []

    @o.opero(policy, fallback=replica_down)
    def inner():
        made.append(1)
        raise Down

    @o.opero(retries=2, min_delay=0)
    def outer():
        inner()

    with pytest.raises(ReplicaDown):
        outer()
    assert len(made) == 3
