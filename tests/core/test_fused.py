"""The fast path: its shape, its exactness, and that it leaves nothing behind."""

import ast
import asyncio
import contextlib
import inspect
import keyword
import pickle
import re
import sys
import threading

import pytest

import opero as o
from garbage import ROUNDS, uncollected
from opero import Cache, CircuitOpenError, Timeout, clock, events, opero
from together import together

STACK = {"retries": 3, "circuit_breaker": True, "rate_limit": 1e9, "bulkhead": 1000}


def positional(a, b, /, c):
    return a, b, c


def named(a, *, b=2, **others):
    return a, b, others


def many(a, b=1, *rest, c=3):
    return a, b, rest, c


def clashing(now, heard, function=None, /, **bounds):
    return now, heard, function, bounds


SHAPES = [
    (positional, (1, 2, 3), {}),
    (positional, (1, 2), {"c": 3}),
    (named, (1,), {}),
    (named, (), {"a": 1, "b": 5, "z": 6}),
    (many, (1,), {}),
    (many, (1, 2, 3, 4), {"c": 0}),
    (clashing, (1, 2), {"counts": 1}),
    (divmod, (7, 2), {}),
]


@pytest.mark.parametrize(
    ("function", "args", "kwargs"), SHAPES, ids=[f"{n}-{s[0].__name__}" for n, s in enumerate(SHAPES)]
)
def test_arguments_arrive_as_they_were_given(function, args, kwargs):
    decorated = opero(**STACK)(function)
    for _ in range(3):
        assert decorated(*args, **kwargs) == function(*args, **kwargs)
    assert decorated.opero.stats()["ok"] == 3
    assert inspect.signature(decorated) == inspect.signature(function)


STACKS = {
    "plain": {},
    "stack": STACK,
    "timeout": {"timeout": 10, "fallback": None},
    "cooperative": {
        "policies": [o.Timeout(10, how="cooperative"), o.Timeout(attempt=5, how="cooperative"), o.Chaos(error=OSError)]
    },
    "by key": {"policies": [o.RateLimit(10**9, key=str), o.CircuitBreaker(slow_call=1.0)]},
    "budget": {"retries": 1, "retry_budget": 0.1},
    "cached": {"cache_ttl": 60},
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("stack", STACKS)
def test_no_name_of_ours_is_taken_for_a_parameter(stack, is_async):
    settings = dict(STACKS[stack])
    policies, how = settings.pop("policies", ()), "async def" if is_async else "def"
    if is_async:
        policies = [policy for policy in policies if getattr(policy, "how", "") != "cooperative"]

    def made(parameter):
        made_here = {}
        exec(f"{how} echo({parameter}=None, /): return {parameter}", made_here)
        return opero(*policies, **settings)(made_here["echo"])

    def called(function, value):
        return asyncio.run(function(value)) if is_async else function(value)

    plain = made("x")
    called(plain, 1)
    words = {word for word in re.findall(r"[A-Za-z_]\w*", plain.opero.source()) if not keyword.iskeyword(word)}
    assert words >= {"call", "general", "operation"}
    for word in words:
        function, value = made(word), f"what {word} is"
        assert [called(function, value) for _ in range(3)] == [value] * 3, function.opero.source()


def test_a_call_with_wrong_arguments_is_no_attempt():
    decorated = opero(**STACK)(positional)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"positional\(\) missing 1 required positional argument: 'c'"):
            decorated(1, 2)
    assert decorated.opero.stats()["attempts"] == 0


def test_a_fallback_gets_the_arguments_in_their_original_shape():
    @opero(retries=0, fallback=lambda url, **options: (url, options))
    def fetch(url, timeout=5, retries=1):
        raise OSError

    assert fetch("a") == ("a", {})
    assert fetch("a", retries=2) == ("a", {"retries": 2})


def test_the_source_is_shown_and_calls_nothing_between_a_read_and_its_write():
    text = opero(**STACK)(many).opero.source()
    assert text.startswith("def call(a, b, *rest, c):\n")
    assert "taken[0] += 1" in text
    assert "good[0] += 1" in text
    assert opero(retries=0, timeout=5)(many).opero.source().count("\n") == 2


def test_counts_are_exact_under_eight_threads():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    decorated = opero(**{**STACK, "bulkhead": 8})(positional)

    def work():
        for _ in range(4000):
            decorated(1, 2, 3)

    try:
        together(*[work] * 8)
    finally:
        sys.setswitchinterval(interval)
    operation = decorated.opero.operation
    assert decorated.opero.stats()["ok"] == 32000
    assert decorated.opero.stats()["active"] == 0
    assert operation.places["circuit_breaker"].circuit.good[0] == 32000
    assert operation.places["bulkhead"].slots.used == 0


@pytest.mark.parametrize("outcome", ["returns", "raises"])
def test_a_call_leaves_no_cyclic_garbage(outcome):
    @opero(**{**STACK, "retries": 0})
    def f():
        if outcome == "raises":
            raise KeyError

    def call():
        with contextlib.suppress(KeyError):
            f()

    call()
    with uncollected() as circles:
        left = []
        for _ in ROUNDS:
            for _ in range(4):  # fewer in all than open the circuit
                call()
            left.append(circles())
        assert 0 in left


def test_a_function_that_raises_stop_iteration_is_heard():
    decorated = opero(retries=0)(lambda: next(iter(())))
    with pytest.raises(StopIteration):
        decorated()
    assert decorated.opero.stats()["errors"] == 1


@pytest.mark.parametrize("listening", [False, True])
def test_a_stop_iteration_keeps_what_it_was_raised_in(listening):
    def fail():
        try:
            {}["nothing"]
        except KeyError:
            raise StopIteration(5)  # noqa: B904 - its context is what this is about

    decorated = opero(retries=1, min_delay=0)(fail)
    heard = events.subscribe(print, "opero.call.*") if listening else contextlib.nullcontext()
    with heard, pytest.raises(StopIteration) as caught:
        decorated()
    assert isinstance(caught.value.__context__, KeyError)
    assert (caught.value.value, caught.value.__suppress_context__) == (5, False)


def test_who_wants_every_call_gets_every_call_also_when_the_function_is_warm():
    decorated, heard = opero(**STACK)(positional), []
    decorated(1, 2, 3)
    with events.subscribe(heard.append, "opero.call.*"):
        decorated(1, 2, 3)
    decorated(1, 2, 3)
    assert [event.name for event in heard] == ["opero.call.started", "opero.call.finished"]
    assert decorated.opero.stats()["calls"] == 3


def test_a_coroutine_function_stays_one():
    @opero(**STACK)
    async def f(x):
        await asyncio.sleep(0)
        return x

    assert inspect.iscoroutinefunction(f)

    async def both():
        return await asyncio.gather(f(1), f(2))

    assert asyncio.run(both()) == [1, 2]
    assert inspect.iscoroutinefunction(f)
    assert f.opero.stats()["ok"] == 2


class Interrupt(BaseException):
    pass


def test_an_interrupt_right_after_the_function_leaves_no_slot_taken(monkeypatch):
    decorated = opero(**STACK)(positional)
    decorated(1, 2, 3)
    decorated(1, 2, 3)
    first = iter([clock.now()])

    def interrupted():
        for at in first:
            return at
        monkeypatch.undo()
        raise Interrupt

    monkeypatch.setattr(clock, "now", interrupted)
    with pytest.raises(Interrupt):
        decorated(1, 2, 3)
    stats = decorated.opero.stats()
    assert (stats["active"], stats["ok"], stats["cancelled"]) == (0, 2, 1)
    assert decorated.opero.operation.places["bulkhead"].slots.used == 0


def test_an_open_circuit_refuses_on_the_fast_path_as_on_the_general_one():
    f = opero(Timeout(5, how="cooperative"), **STACK)(lambda: 1)

    f()
    f.opero.breaker.force_open()
    with events.subscribe(lambda _: None, "opero.call.rejected"), pytest.raises(CircuitOpenError) as general:
        f()
    with pytest.raises(CircuitOpenError) as fast:
        f()
    assert str(fast.value) == str(general.value) == f"the circuit of {f.opero.name} is open"
    told = ("primitive", "operation", "reason", "retry_after", "circuit")
    assert [getattr(fast.value, name) for name in told] == [getattr(general.value, name) for name in told]
    assert "refused[0] += 1" in f.opero.source()
    assert str(pickle.loads(pickle.dumps(fast.value))) == str(fast.value)
    stats = f.opero.stats()
    assert (stats["calls"], stats["ok"], stats["errors"], stats["rejected"], stats["attempts"]) == (3, 1, 2, 2, 1)
    sums = f.opero.operation.book.read()[0]
    assert sums["opero.events", ("opero.call.rejected", "call")] == 2
    assert sums["opero.events", ("opero.call.finished", "call")] == 3


@pytest.mark.parametrize("settings", [{"fallback": 5}, {"retry_on": lambda error: True, "retries": 0}])
def test_a_refusal_goes_to_whoever_minds_it(settings):
    f = opero(**{**STACK, **settings})(lambda: 1)
    f()
    assert "REFUSE" not in f.opero.source()
    assert ("raise refusal" in f.opero.source()) == ("fallback" not in settings)


def test_hits_are_counted_exactly_under_threads():
    decorated = opero(cache_ttl=60, retries=2)(lambda x, y=1: x + y)
    assert "entries" in decorated.opero.source()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=lambda: [decorated(n % 7) for n in range(5000)]) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
    finally:
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    stats = decorated.opero.cache.stats()
    assert stats["hits"] + stats["misses"] + stats["coalesced"] == decorated.opero.stats()["calls"] == 20_000
    assert decorated.opero.stats()["cached"] == 20_000 - stats["misses"]
    assert decorated(3) == decorated(3, 1) == decorated(x=3) == decorated(y=1, x=3) == 4
    assert decorated.opero.cache.stats()["hits"] == stats["hits"] + 4


@pytest.mark.parametrize("settings", [{"key": "{x}"}, {"backend": "disk"}, {"eviction": "lru"}, {"early": 1.0}])
def test_what_must_look_further_takes_no_shortcut(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "entries" not in opero(Cache(60, **settings))(lambda x: x).opero.source()


def stored(text):
    """Return the names that a text assigns."""
    return {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def test_no_policy_keeps_anything_by_a_name_that_the_fast_path_uses_itself():
    shared = stored(opero(fallback=lambda: 1, retries=0)(lambda: 1).opero.source())
    policies = [o.Bulkhead(1), o.RateLimit(5), o.CircuitBreaker(slow_call=1), Timeout(5), Timeout(5, how="cooperative")]
    fragments = [f for policy in policies for f in (policy.fragment(), policy.fragment_async()) if f]
    parts = ("admit", "check", "settle", "fail", "undo", "owed")
    kept = set().union(*(stored(getattr(fragment, part)) for fragment in fragments for part in parts))
    assert {"took", "record", "result"} <= shared
    assert {"taken", "good", "due"} <= kept
    assert not shared & kept
