"""Who is cancelled waits for no server, and what it had, or was just given, goes back."""

import asyncio
import signal
import subprocess
import sys
import time

import pytest

import opero as o
from opero.stores import key_of
from opero.stores.errands import Errands
from opero.stores.guard import guard
from opero.stores.redis import RedisStore

pytestmark = pytest.mark.service("redis")
CIRCUIT, POOL, QUOTA = (key_of(kind, "f", None) for kind in ("circuit", "bulkhead", "rate_limit"))


@pytest.fixture
def store(redis_server):
    return RedisStore(redis_server.url, timeout=5)


def wait_for(holds, seconds=15):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def half_open(store):
    """Return a breaker with one probe to give."""
    breaker = o.CircuitBreaker(consecutive=1, reset_after=0.05, half_open_probes=1, store=store, name="f")
    with pytest.raises(OSError), breaker:
        raise OSError
    time.sleep(0.1)
    return breaker


async def cancelled(task):
    """Cancel a task, and return how long it took to end."""
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - began


def test_a_task_that_is_cancelled_while_it_asks_for_a_probe_leaves_none_taken(redis_server, store):
    breaker = half_open(store)

    async def main():
        f = o.opero(breaker)(asyncio.sleep)
        redis_server.pause()
        task = asyncio.create_task(f(0))
        await asyncio.sleep(0.1)
        assert await cancelled(task) < 1
        redis_server.resume()

    asyncio.run(main())
    wait_for(lambda: redis_server.cli("exists", CIRCUIT) == "1" and redis_server.cli("hget", CIRCUIT, "out") == "0")
    with breaker:
        pass
    assert breaker.state == "closed"


def test_so_does_a_thread_that_is_interrupted(redis_server, store):
    breaker = half_open(store)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    redis_server.pause()
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt), breaker:
            pass
    finally:
        signal.signal(signal.SIGALRM, before)
        redis_server.resume()
    wait_for(lambda: redis_server.cli("hget", CIRCUIT, "out") == "0")
    with breaker:
        pass


def test_a_question_taken_back_before_it_comes_is_given_nothing(redis_server, store):
    half_open(store)
    keys = [CIRCUIT, f"{CIRCUIT}:asked:x"]
    assert store._evaluate(store._script("withdraw"), keys, []) == 0
    passes, *_ = store._evaluate(store._script("admit"), keys, ["", 1, 1e9, 60_000])
    assert passes == 0
    assert redis_server.cli("hget", CIRCUIT, "out") == "0"


def held(store, kind):
    """Return a policy of which a call has something while it runs, or waits."""
    return {
        "probe": lambda: half_open(store),
        "slot": lambda: o.Bulkhead(1, store=store, name="f"),
        "place": lambda: o.Bulkhead(1, max_queue=5, store=store, name="f"),
        "booking": lambda: o.RateLimit(1, per=60, burst=1, store=store, name="f"),
    }[kind]()


BACK = {
    "probe": lambda server: server.cli("hget", CIRCUIT, "out") == "0",
    "slot": lambda server: server.cli("zcard", POOL) == "0",
    "place": lambda server: server.cli("zcard", f"{POOL}:queue") == "0",
    "booking": lambda server: server.cli("hgetall", QUOTA) == server.before,
}


@pytest.mark.parametrize("kind", BACK)
def test_a_server_that_hangs_holds_up_nobody_who_is_cancelled_and_gets_all_back(kind, redis_server, store):
    policy = held(store, kind)
    first = kind in {"place", "booking"}

    async def main():
        f = o.opero(policy)(asyncio.sleep)
        if first:
            before = asyncio.create_task(f(60 if kind == "place" else 0))
            await asyncio.sleep(0.1)
            redis_server.before = redis_server.cli("hgetall", QUOTA) if kind == "booking" else ""
        task = asyncio.create_task(f(60))
        await asyncio.sleep(0.1)
        assert not BACK[kind](redis_server)
        redis_server.pause()
        await asyncio.sleep(0.06)
        assert await cancelled(task) < 1
        redis_server.resume()
        if first:
            before.cancel()

    asyncio.run(main())
    wait_for(lambda: BACK[kind](redis_server))
    assert not guard(store).away


def test_a_generator_left_in_the_middle_gives_its_slot_back_at_once(redis_server, store):
    @o.opero(o.Bulkhead(1, store=store, name="f"))
    def numbers():
        yield from range(3)

    for _ in range(3):
        wait_for(lambda: redis_server.cli("zcard", POOL) == "0")
        for number in numbers():
            assert redis_server.cli("zcard", POOL) == "1"
            assert number == 0
            break
    wait_for(lambda: redis_server.cli("zcard", POOL) == "0")


PROGRAM = """
import asyncio, sys
import opero as o

f = o.opero(o.Bulkhead(1, store=sys.argv[1], name="f"))(asyncio.sleep)

async def main():
    task = asyncio.create_task(f(60))
    await asyncio.sleep(0.3)
    print("inside", flush=True)
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.gather(task, return_exceptions=True)

@o.opero(o.Bulkhead(5, store=sys.argv[1], name="f"))
def numbers():
    yield 1

asyncio.run(main(), debug=False)  # or a slow machine is told of
left = numbers()
next(left)
del left
"""


def test_a_program_ends_when_all_is_given_back(redis_server):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, redis_server.url],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("inside\n", "")
    assert redis_server.cli("zcard", POOL) == "0"


def test_an_errand_that_fails_is_the_last_of_those_that_wait_and_no_thread_goes_on():
    errands, done = Errands(), []

    def fail():
        errands.add(lambda: done.append("behind it"))
        raise ConnectionError

    errands.add(fail)
    wait_for(lambda: not errands._running.locked())
    errands.add(lambda: done.append("next"))
    wait_for(lambda: not errands._running.locked())
    assert done == ["next"]


def test_where_no_thread_can_be_started_the_next_errand_takes_them_along(monkeypatch):
    errands, done = Errands(), []
    with monkeypatch.context() as patched:
        patched.setattr("opero.stores.errands.in_background", lambda *_, **__: False)
        errands.add(lambda: done.append(1))
    errands.add(lambda: done.append(2))
    wait_for(lambda: sorted(done) == [1, 2])
