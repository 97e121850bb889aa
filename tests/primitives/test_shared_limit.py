"""A rate limit in a store: whose quota it is, and what a lease may be."""

import pytest

import opero as o
from shared_store import opened


@pytest.fixture
def store():
    with opened() as store:
        yield store


def passes(limit):
    try:
        with limit:
            return True
    except o.RateLimitedError:
        return False


def test_limits_of_one_name_are_one_and_of_another_name_another(store):
    mine, too, other = (o.RateLimit(2, per=10, wait=False, store=store, name=name) for name in ("a", "a", "b"))
    assert [passes(limit) for limit in (mine, too, mine, too, other)] == [True, True, False, False, True]


def test_each_key_has_a_quota_of_its_own_in_the_store(store):
    @o.opero(o.RateLimit(1, per=10, wait=False, key="tenant", store=store, name="a"))
    def f(tenant):
        return tenant

    assert f("x") == "x"
    with pytest.raises(o.RateLimitedError) as refused:
        f("x")
    assert refused.value.retry_after == 10
    assert f("y") == "y"
    assert [round(each, 6) for each in o.RateLimit(4, per=10).local.given()[0]] == [2.5, 4]


def test_a_call_waits_for_the_time_that_the_store_says(store):
    @o.opero(o.RateLimit(1, per=10, burst=1, store=store, name="a"))
    def f():
        return o.clock.now()

    first, second = f(), f()
    assert second - first == pytest.approx(10)
    counts = f.opero.operation.book.read()[1]["opero.rate_limiter.wait.duration", ("a",)]
    assert (sum(counts[:-1]), counts[-1]) == (2, pytest.approx(10))


def test_one_that_processes_share_later_keeps_its_rate(store):
    mine, too = o.RateLimit(2, per=10, wait=False), o.RateLimit(2, per=10, wait=False)
    assert (mine.can_share(), too.can_share()) == (True, True)
    for limit in (mine, too):
        limit.share(store, "a")
    assert [passes(limit) for limit in (mine, too, mine)] == [True, True, False]
    assert not mine.can_share()
    assert not o.RateLimit(Mine()).can_share()


class Mine:
    async def acquire(self, call, key, weight, patience):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"lease": 11}, r"at most half the burst \(10\)$"),
        ({"lease": 0}, "lease takes a whole number, 1 or more"),
        ({"lease": 5, "store": None}, "with store= and a rate"),
        ({"lease": 5, "rate": Mine()}, "beside a limiter"),
        ({"lease": 5, "rate": Mine(), "store": None}, "with store= and a rate; at most half the burst$"),
    ],
)
def test_a_lease_is_at_most_half_the_burst_of_a_rate_in_a_store(settings, allowed):
    for lease in (1, 10):
        assert o.RateLimit(20, lease=lease, store="redis://localhost", name="a").lease == lease
    with pytest.raises(o.ConfigurationError, match=allowed):
        o.RateLimit(**{"rate": 20, "store": "redis://localhost", "name": "a"} | settings)
