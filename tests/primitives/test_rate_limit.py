"""The rate limit as users meet it: waits, refusals, weights, keys, threads and tasks."""

import asyncio
import ctypes
import pickle
import threading
import time

import pytest
from aiolimiter import AsyncLimiter

import opero as o
from opero import fused, testing
from together import together


def test_it_pickles_with_its_settings():
    policy = o.RateLimit(10, per=60, burst=2, wait=False)
    assert pickle.loads(pickle.dumps(policy)).settings == policy.settings


def test_rates_are_read_as_written():
    read = [o.RateLimit(text) for text in ("100/s", "5/10s", "1.5/min", " 2 / hour ")]
    assert [(p.rate, p.per) for p in read] == [(100, 1), (5, 10), (1.5, 60), (2, 3600)]
    assert o.RateLimit("10/s; 100/min", burst=3).local.rates == [(10, 1, 3), (100, 60, 100)]
    units = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "day": 86400}
    units |= {"ms": 0.001, "milliseconds": 0.001, "d": 86400, "week": 604800, "weeks": 604800}
    assert {unit: o.RateLimit(f"7/{unit}").per for unit in units} == units
    with pytest.raises(o.ConfigurationError, match="the units are ms, s, min, h, day and week"):
        o.RateLimit("7/month")
    assert str(o.RateLimit("7/week").local) == "7 calls a week"
    for wrong in ("fast", "5/fortnight", "-5/s", "0/s", "inf/s", "5/0s", "10/s;", "5"):
        with pytest.raises(o.ConfigurationError, match="rate takes calls per second"):
            o.RateLimit(wrong)


def test_a_refusal_says_the_rate_in_words():
    rates = {"2/s": "2 calls a second", "1/day": "1 call a day", "5/10s; 9/h": "5 calls in 10 s and 9 calls an hour"}
    for rate, words in rates.items():
        limit = o.RateLimit(rate, wait=False, burst=1, name="shop")
        with testing.clock(), limit, pytest.raises(o.RateLimitedError) as refused, limit:
            pass
        left = refused.value.retry_after
        assert str(refused.value) == f"shop may make {words}; the next may go in {left:.3g} s"
    never = o.RateLimit("1/min").local.refusal("shop", float("inf"))
    assert (str(never), never.retry_after) == ("shop may make 1 call a minute", None)


def test_the_slowest_of_several_rates_decides():
    limit = o.RateLimit("2/s; 3/10s", wait=False)
    with testing.clock() as time:
        admitted = [passes(limit) for _ in range(3)]
        time.advance(1)
        admitted += [passes(limit) for _ in range(2)]
    assert admitted == [True, True, False, True, False]


def passes(limit, *args, **kwargs):
    try:
        with limit.block(*args, **kwargs):
            return True
    except o.RateLimitedError:
        return False


def test_each_key_has_a_quota_of_its_own_and_their_number_is_bounded():
    @o.opero(o.RateLimit(1, per=60, wait=False, key="tenant", max_keys=2))
    def f(x, tenant="none"):
        return x

    with testing.clock() as time:
        assert [outcome(f, 1, key) for key in ("a", "b", "a")] == [1, 1, o.RateLimitedError]
        assert [outcome(f, 1, tenant=key) for key in ("c", "d")] == [1, o.RateLimitedError]  # they share what is left
        time.advance(60)
        assert [outcome(f, 1, key) for key in ("c", "d", "e")] == [1, 1, 1]


def test_a_key_may_be_a_function_of_the_arguments_and_must_be_one_of_them_by_name():
    @o.opero(o.RateLimit(1, per=60, wait=False, key=lambda url: url.split("/")[0]))
    def f(url):
        return url

    with testing.clock():
        assert [outcome(f, url) for url in ("a/1", "a/2", "b/1")] == ["a/1", o.RateLimitedError, "b/1"]
    with pytest.raises(o.ConfigurationError, match=r"key='host': .* a parameter of the function: url"):
        o.opero(o.RateLimit(1, key="host"))(lambda url: url)
    with pytest.raises(o.ConfigurationError, match="key takes"):
        o.RateLimit(1, key="no name")


def test_a_weight_is_a_number_or_a_function_of_the_arguments():
    @o.opero(o.RateLimit(10, per=10, wait=False, weight=len))
    def send(items):
        return len(items)

    with testing.clock():
        assert [outcome(send, [0] * n) for n in (6, 5, 4, 0)] == [6, o.RateLimitedError, 4, 0]
        with pytest.raises(o.ConfigurationError, match=r"weight=11.0: .* at most burst \(10\)"):
            send([0] * 11)
    with pytest.raises(o.ConfigurationError, match="weight takes at most burst"):
        o.RateLimit(5, weight=6)


def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except o.OperoError as error:
        return type(error)


def test_threads_and_tasks_wait_in_one_line_and_a_cancelled_one_gives_its_place_back():
    limit, gone = o.RateLimit(1, burst=1), []

    @o.opero(limit)
    async def f(name):
        gone.append((name, time.elapsed()))

    async def main():
        tasks = [asyncio.create_task(f(n)) for n in range(5)]
        await asyncio.sleep(0.25)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with testing.clock() as time:
        asyncio.run(main())
    assert gone == [(0, 0), (1, 1), (3, 2), (4, 3)]
    assert f.opero.stats()["cancelled"] == 1


def test_a_thousand_that_leave_together_leave_the_quota_as_it_was():
    limit = o.RateLimit(1, burst=1)

    @o.opero(limit)
    async def f():
        return 1

    async def main():
        await f()
        tasks = [asyncio.create_task(f()) for _ in range(1000)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        started = time.now()
        await f()
        return time.now() - started

    with testing.clock() as time:
        assert asyncio.run(main()) == 1


def test_threads_and_several_loops_share_a_quota_fairly():
    limit, gone = o.RateLimit(200, burst=1), []

    @o.opero(limit)
    def in_thread():
        gone.append(o.opero)

    @o.opero(limit)
    async def in_task():
        gone.append(o.opero)

    async def tasks():
        await asyncio.gather(*(in_task() for _ in range(10)))

    def calls():
        for _ in range(10):
            in_thread()

    import time

    started = time.monotonic()
    together(*[calls, lambda: asyncio.run(tasks())] * 2)
    assert len(gone) == 40
    assert time.monotonic() - started >= 39 / 200


@pytest.mark.parametrize("fast", [True, False])
def test_how_long_calls_waited_is_told(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    f, delays = o.opero(o.RateLimit(2, per=2, name="line"))(lambda: 1), []
    with testing.clock():
        f()
        with o.events.subscribe(lambda event: delays.append(event.fields["delay"]), "opero.rate_limiter.delayed"):
            for _ in range(3):
                f()
    assert delays == pytest.approx([1, 1])  # two at once, and then one a second
    assert waited(f) == (4, pytest.approx(2))


def waited(function):
    """Return how many waits were counted, and their sum."""
    counts = function.opero.operation.book.read()[1]["opero.rate_limiter.wait.duration", ("line",)]
    return sum(counts[:-1]), counts[-1]


def test_a_call_that_was_let_in_and_fails_waited_for_nothing():
    @o.opero(o.RateLimit(10, name="line"))
    def f():
        raise OSError

    for _ in range(2):
        with pytest.raises(OSError):
            f()
    assert waited(f) == (2, 0)


def test_one_that_was_let_in_and_is_refused_further_in_waited_for_nothing():
    @o.opero(o.RateLimit(10, name="line"), o.Bulkhead(1))
    def f(again=True):
        return f(False) if again else 1

    for _ in range(2):
        with pytest.raises(o.BulkheadFullError):
            f()
    assert waited(f) == (4, 0)


def test_who_has_waited_is_in_nobodys_way():
    limit = o.RateLimit(1, burst=1)
    with testing.clock() as time:
        for _ in range(2):
            with limit:
                pass
        assert time.elapsed() == 1
        assert [limit.local.quota.idle(time.now() + after) for after in (0.5, 1)] == [False, True]


def test_a_generator_is_one_call_of_it():
    @o.opero(o.RateLimit(1, per=60, wait=False))
    def numbers():
        yield from range(3)

    with testing.clock():
        assert list(numbers()) == [0, 1, 2]
        with pytest.raises(o.RateLimitedError):
            list(numbers())


def test_what_is_observed_is_the_slowest_rate_and_what_is_left():
    limit = o.RateLimit("10/s; 100/min", wait=False)
    for _ in range(4):
        limit.local.quota.book(0.0, 0.0)
    seen = {metric.name.removeprefix("opero.rate_limiter."): value for metric, _, value in limit.observe(0.0)}
    assert seen == {"limit": pytest.approx(100 / 60), "available": 6}
    assert list(o.RateLimit(AsyncLimiter(2, 10)).observe(0.0)) == []


def test_it_can_be_peeked_at():
    limit = o.RateLimit("10/s; 12/min", wait=False, key="tenant", name="shop")
    with testing.clock() as time:
        assert limit.peek("a") == (10, 0)
        for _ in range(10):
            assert passes(limit, tenant="a")
        assert limit.peek("a") == (0, pytest.approx(0.1))
        assert limit.peek("a", weight=3) == (0, pytest.approx(5))  # two of the minute are left, and one comes in 5 s
        assert limit.peek("b") == (10, 0)
        time.advance(0.1)
        assert limit.peek("a") == (1, 0)
    for ask in ((other := o.RateLimit(AsyncLimiter(1))).peek, other.reset):
        with pytest.raises(o.ConfigurationError, match="another limiter cannot be peeked at, nor reset"):
            ask()


def test_coroutines_await_the_same():
    limit = o.RateLimit("2/s", wait=False, key="tenant")

    async def main():
        assert passes(limit, tenant="a")
        told = await limit.apeek("a"), await limit.apeek("a", weight=2)
        await limit.areset("a")
        return *told, await limit.apeek("a")

    with testing.clock():
        assert asyncio.run(main()) == ((1, 0), (1, pytest.approx(0.5)), (2, 0))
    with pytest.raises(o.ConfigurationError, match="at most burst"):
        limit.peek("a", weight=3)


def test_it_can_be_reset_for_some_keys_or_for_all():
    limit = o.RateLimit("2/s; 3/min", wait=False, key="tenant")
    with testing.clock():
        for tenant in "abc":
            assert [passes(limit, tenant=tenant) for _ in range(3)] == [True, True, False]
        limit.reset("a", "new")
        assert [passes(limit, tenant=tenant) for tenant in "aaabc"] == [True, True, False, False, False]
        limit.reset()
        assert [limit.peek(tenant) for tenant in "abc"] == [(2, 0)] * 3


@pytest.mark.parametrize("rate", ["1/min", "1/min; 60/h"])
def test_who_waits_keeps_its_time_when_it_is_reset(rate):
    limit, passed = o.RateLimit(rate), []

    @o.opero(limit)
    async def f(n):
        passed.append((n, o.clock.now()))

    async def main():
        await f(0)
        tasks = [asyncio.create_task(f(n)) for n in (1, 2, 3)]
        await asyncio.sleep(10)
        limit.reset()
        tasks[1].cancel()  # its place is given back to a quota that knows nothing of it
        await f(4)
        await asyncio.gather(*tasks, f(5), return_exceptions=True)

    with testing.clock(start=0):
        asyncio.run(main())
    assert passed == [(0, 0), (4, 10), (1, 60), (5, 70), (3, 180)]


def test_a_deadline_as_far_as_its_own_patience_is_not_to_blame():
    @o.opero(o.RateLimit(1, per=60, wait=5), o.Timeout(5))
    def f():
        return 1

    with testing.clock():
        f()
        with pytest.raises(o.RateLimitedError) as refused:
            f()
    assert refused.value.reason == "rate_limited"


def test_the_fast_path_is_for_one_rate_of_this_process_and_for_leases():
    shared = {"store": "redis://localhost", "name": "shared"}
    assert "bucket.due" in o.RateLimit(10).fragment().admit
    leased = o.RateLimit(10, lease=5, **shared).fragment()
    assert "lease.left" in leased.admit
    assert [(metric.name, which) for metric, which in leased.passed] == [
        ("opero.rate_limiter.wait.duration", ("shared",))
    ]
    slow = [{"weight": 2}, {"weight": len}, {"key": "host"}]
    for settings in [shared, *slow, *({"lease": 5, **shared, **each} for each in slow)]:
        assert o.RateLimit(10, **settings).fragment() is None
    assert o.RateLimit("10/s; 100/min").fragment() is None
    assert o.RateLimit(AsyncLimiter(2, 10)).fragment() is None


@pytest.mark.parametrize("driver", ["tasks", "threads"])
def test_after_a_stall_nobody_goes_beyond_the_limit(driver):
    went = []

    @o.opero(o.RateLimit("50/s", burst=1), retries=0)
    def f():
        went.append(time.monotonic())

    @o.opero(o.RateLimit("50/s", burst=1), retries=0)
    async def g():
        went.append(time.monotonic())

    async def main():
        tasks = [asyncio.create_task(g()) for _ in range(20)]
        await asyncio.sleep(0.05)
        time.sleep(0.2)  # noqa: ASYNC251 - that is the stall
        await asyncio.gather(*tasks)

    if driver == "tasks":
        asyncio.run(main())
    else:
        threads = [threading.Thread(target=f) for _ in range(20)]
        for thread in threads:
            thread.start()
        ctypes.PyDLL(None).usleep(200_000)  # no thread has a turn
        for thread in threads:
            thread.join()
    went.sort()
    assert len(went) == 20
    for first, began in enumerate(went):
        for number, ended in enumerate(went[first:], 1):
            assert number <= 1 + 1.1 + (ended - began) * 50  # a thread may be held up between its turn and the clock


def test_a_key_that_is_reset_may_take_the_place_of_another():
    with testing.clock() as time:
        limit = o.RateLimit("1/s", key="key", max_keys=1)
        o.opero(limit)(lambda key: key)("a")
        time.advance(5)
        limit.reset("b")
        assert limit.peek("b") == (1, 0)


def test_what_no_number_can_count_is_refused():
    with pytest.raises(o.ConfigurationError, match="a burst that comes back within 1e308 s"):
        o.RateLimit(1e-308, burst=10)
