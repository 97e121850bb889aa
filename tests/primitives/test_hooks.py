"""A function of the user's that is asked about an outcome, and raises, never hides that outcome."""

import asyncio

import pytest

import opero as o
from opero import conditions, events, testing, waits


class Broken(Exception):
    pass


def broken(*_):
    raise Broken("in the hook")


async def broken_later(*_):
    await asyncio.sleep(0)
    raise Broken("in the hook")


def forgot_to_await(*_):
    return broken_later()


def heard(*names):
    said = []
    return said, events.subscribe(said.append, *names)


ON_ERROR = {
    "retry.on": lambda hook: o.Retry(3, wait=0, on=hook),
    "retry.on of several": lambda hook: o.Retry(3, wait=0, on=~conditions.cause(hook) | conditions.message("x") & hook),
    "retry.wait": lambda hook: o.Retry(3, wait=hook),
    "retry.wait by error": lambda hook: o.Retry(3, wait=waits.by_error({hook: 1})),
    "retry.stop": lambda hook: o.Retry(3, wait=0, stop=o.stops.attempts(9) | hook),
    "retry.on strategies": lambda hook: o.Retry(3, wait=0, strategies={hook: "retry"}),
    "circuit_breaker.on": lambda hook: o.CircuitBreaker(on=hook),
    "circuit_breaker.ignore": lambda hook: o.CircuitBreaker(ignore=hook),
    "arg_fallback.on": lambda hook: o.ArgFallback("x", alternatives=[1, 2], on=hook),
    "fallback.on": lambda hook: o.Fallback(0, on=hook),
    "fallback.by": lambda hook: o.Fallback(by={hook: 0}, on=KeyError),
}
ON_RESULT = {
    "retry.on_result": lambda hook: o.Retry(3, wait=0, on_result=hook),
    "circuit_breaker.on_result": lambda hook: o.CircuitBreaker(on_result=hook),
    "fallback.on_result": lambda hook: o.Fallback(0, on_result=hook),
}
ASYNC = [name for name in (*ON_ERROR, *ON_RESULT) if name.startswith(("fallback", "retry.on"))]
ASYNC.remove("retry.on strategies")


@pytest.mark.parametrize(
    ("name", "hook"),
    [(name, broken) for name in ON_ERROR]
    + [(name, forgot_to_await) for name in ON_ERROR if not name.startswith("fallback")],  # which awaits what can be
    ids=lambda part: getattr(part, "__name__", part),
)
def test_the_functions_own_error_passes_and_the_hooks_is_noted_on_it(name, hook):
    made, asked = [], name.split(" ")[0]

    @o.opero(ON_ERROR[name](hook))
    def f(x=1):
        made.append(ValueError("its own"))
        raise made[-1]

    said, subscription = heard("opero.call.hook_failed")
    with subscription, testing.clock(), pytest.raises(ValueError, match="its own") as caught:
        f()
    assert caught.value is made[-1]
    assert caught.value.__context__ is None
    told = "Broken: in the hook" if hook is broken else ""
    assert any(note.startswith(f"opero asked {asked}, which raised {told}") for note in caught.value.__notes__)
    assert len(made) == len(o.attempts(caught.value)) == 1
    assert {(event.fields["hook"], event.severity) for event in said} == {(asked, "error")}
    assert f.opero.stats()["errors"] == 1


@pytest.mark.parametrize("name", ON_RESULT)
def test_a_result_passes_where_the_hook_raises(name):
    f = o.opero(ON_RESULT[name](broken))(lambda: 7)
    said, subscription = heard("opero.call.hook_failed", "opero.fallback.used", "opero.retry.scheduled")
    with subscription:
        assert f() == 7
    assert [(event.name, event.fields) for event in said] == [
        ("opero.call.hook_failed", {"hook": name, "error": "Broken"})
    ]
    assert (f.opero.stats()["ok"], f.opero.stats()["attempts"]) == (1, 1)


@pytest.mark.parametrize("name", ASYNC)
def test_the_same_holds_for_hooks_that_are_awaited(name):
    @o.opero({**ON_ERROR, **ON_RESULT}[name](broken_later))
    async def f():
        if name.endswith("on_result"):
            return 7
        raise ValueError("its own")

    said, subscription = heard("opero.call.hook_failed")
    with subscription:
        if name.endswith("on_result"):
            assert asyncio.run(f()) == 7
        else:
            with pytest.raises(ValueError, match="its own") as caught:
                asyncio.run(f())
            assert caught.value.__context__ is None
    assert {event.fields["error"] for event in said} == {"Broken"}


def test_a_hook_is_never_asked_about_its_own_error():
    asked = []

    def on(error):
        asked.append(error)
        raise Broken

    for policies in (
        [o.Retry(3, wait=0, on=on)],
        [o.Retry(3, wait=0, on=on), o.CircuitBreaker(on=on), o.Fallback(0, on=on)],
    ):
        with pytest.raises(ZeroDivisionError):
            o.opero(*policies)(lambda: 1 / 0)()
    assert {type(error) for error in asked} == {ZeroDivisionError}
    assert len(asked) == 4


def test_a_breaker_whose_predicate_raises_counts_no_failure_and_does_not_open():
    breaker = o.CircuitBreaker(consecutive=1, on=broken, on_result=broken)
    f = o.opero(breaker)(lambda x: 1 / x)
    assert f(1) == 1
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            f(0)
    assert breaker.state == "closed"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_the_program_passes_out_of_a_hook(kind):
    def on(error):
        raise kind

    with pytest.raises(kind):
        o.opero(o.Retry(3, wait=0, on=on))(lambda: 1 / 0)()


def test_a_wait_that_raises_late_leaves_the_attempts_made_in_the_books():
    def wait(n, outcome):
        return 0.5 if n < 3 else 1 / 0

    def f():
        raise OSError("down")

    f = o.opero(o.Retry(5, wait=wait))(f)
    for _ in range(2):  # the failing path is another function the second time
        with testing.clock() as time, pytest.raises(OSError, match="down") as caught:
            f()
        assert time.elapsed() == 1
        assert [a.delay for a in o.attempts(caught.value)] == [0, 0.5, 0.5]
        assert caught.value.__notes__ == [
            "opero asked retry.wait, which raised ZeroDivisionError: division by zero",
            "opero: 3 attempts in 1 s, what says when to go on raised",
        ]
    stats = f.opero.stats()
    assert (stats["calls"], stats["errors"], stats["attempts"], stats["retries"]) == (2, 2, 6, 4)


def test_an_error_that_is_raised_again_and_again_keeps_one_note_a_hook():
    same = OSError("down")

    def f():
        raise same

    f = o.opero(o.Retry(3, wait=0, on=broken))(f)
    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            f()
    assert same.__notes__ == ["opero asked retry.on, which raised Broken: in the hook"]


@pytest.mark.parametrize(
    "make", [lambda key: o.CircuitBreaker(key=key), lambda key: o.RateLimit(1, key=key)], ids=["breaker", "limit"]
)
def test_a_key_that_nobody_awaited_is_no_key(make):
    called = []
    f = o.opero(make(forgot_to_await))(lambda: called.append(1))
    with pytest.raises(o.ConfigurationError, match=r"key=<class 'coroutine'>: .* nobody awaits it here"):
        f()
    assert not called


def test_a_loop_lets_its_own_error_pass_too():
    def loop():
        for attempt in o.Retry(3, wait=0, on=broken):
            with attempt:
                raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        loop()


@pytest.mark.parametrize(
    ("setting", "hook", "takes"),
    [
        ("wait", lambda state: 0, r"a function of \(n, outcome\); this one takes \(state\)"),
        ("stop", lambda state: True, r"a function of \(attempts, elapsed, delay\); this one takes \(state\)"),
        ("on", lambda: True, r"this one takes \(\)"),
        ("on_result", lambda result, more: True, r"this one takes \(result, more\)"),
    ],
)
def test_one_that_can_never_be_asked_is_refused_where_it_is_given(setting, hook, takes):
    with pytest.raises(o.ConfigurationError, match=rf"^{setting}=.*{takes}$"):
        o.Retry(3, **{setting: hook})


def test_one_that_takes_more_or_does_not_tell_may_be_asked():
    for hook in (lambda *args: True, lambda outcome, more=1: True, str.isdigit, len):
        assert o.Retry(3, on_result=hook).on_result is hook
