import asyncio
import threading
from contextlib import ExitStack

import pytest

import opero as o
from opero import events
from opero.signals import Event

PING = Event("opero.test.ping", "info", "A test speaks.")


def test_a_subscriber_hears_what_matches_its_patterns_until_closed():
    heard = []
    with events.subscribe(heard.append, "opero.test.*", "other"):
        events.say(PING, "op", {"n": 1})
    events.say(PING, "op", {"n": 2})
    assert [(e.name, e.operation, e.fields, e.severity) for e in heard] == [("opero.test.ping", "op", {"n": 1}, "info")]


@pytest.mark.parametrize(
    ("given", "field"),
    [(("opero.test.*",), "handler"), ((None,), "handler"), ((print, 3), "patterns"), ((print, ""), "patterns")],
)
def test_who_hears_nothing_is_refused_and_stops_nobody(given, field):
    with pytest.raises(o.ConfigurationError, match=f"{field} takes"):
        events.subscribe(*given)
    events.say(PING, "op", {})


def test_an_event_nobody_wants_is_never_built(monkeypatch):
    monkeypatch.setattr(events, "Event", None)
    with events.subscribe(print, "opero.other"):
        events.say(PING, "op", {})


def test_a_failing_handler_reaches_neither_call_nor_other_handlers_and_is_counted():
    heard, failed = [], []

    def broken(event):
        raise KeyError("broken")

    before = events.failures.get("op", 0)
    with (
        events.subscribe(broken, "opero.test.*"),
        events.subscribe(heard.append, "opero.test.*"),
        events.subscribe(failed.append, events.HANDLER_FAILED),
    ):
        events.say(PING, "op", {})
    assert len(heard) == 1
    assert events.failures["op"] == before + 1
    assert failed[0].fields["error"] == "KeyError"
    assert "broken" in failed[0].fields["handler"]


def test_a_handler_that_fails_on_failures_does_not_recurse():
    def broken(event):
        raise KeyError

    with events.subscribe(broken):
        events.say(PING, "op", {})


def test_a_handler_that_fails_is_not_asked_to_hear_of_it():
    asked, others = [], []

    def broken(event):
        asked.append(event.name)
        raise KeyError

    before = events.failures.get("op", 0)
    with events.subscribe(broken), events.subscribe(others.append, events.HANDLER_FAILED):
        events.say(PING, "op", {})
    assert asked == [PING.name]
    assert len(others) == 1
    assert events.failures["op"] == before + 1


def test_who_subscribes_while_another_thread_looks_is_heard_by_the_next_event(monkeypatch):
    heard, late = [], ExitStack()
    matches = events._matches

    def meanwhile(name, patterns):
        monkeypatch.setattr(events, "_matches", matches)
        late.enter_context(events.subscribe(heard.append, PING.name))
        return matches(name, patterns)

    with late, events.subscribe(bool, "nothing"):
        monkeypatch.setattr(events, "_matches", meanwhile)
        events.say(PING, "op", {})  # looks, and must not keep an answer that is out of date
        events.say(PING, "op", {})
    assert len(heard) == 1


def test_a_correlation_id_is_on_every_event_said_inside_and_not_outside():
    heard = []
    with events.subscribe(heard.append, "opero.test.*"), o.correlation_id("req-42"):
        events.say(PING, "op", {})
        with o.correlation_id("inner"):
            events.say(PING, "op", {})
        events.say(PING, "op", {})
        thread = threading.Thread(target=events.say, args=(PING, "op", {}))
        thread.start()
        thread.join()
    assert [e.correlation_id for e in heard] == ["req-42", "inner", "req-42", ""]


def test_a_correlation_id_crosses_into_the_thread_of_a_timed_call():
    @o.opero(retries=0, timeout=5)
    def f():
        return events.current_correlation_id()

    with o.correlation_id("req-1"):
        assert f() == "req-1"


def test_an_active_trace_gives_the_id_where_none_was_given(monkeypatch):
    monkeypatch.setattr(events, "trace_id", lambda: "trace")
    assert events.current_correlation_id() == "trace"
    with o.correlation_id("mine"):
        assert events.current_correlation_id() == "mine"


@pytest.mark.parametrize("fails", [False, True])
def test_events_of_a_call_are_heard_in_order(fails):
    heard = []

    @o.opero(retries=0, name="f")
    def f():
        if fails:
            raise OSError

    with events.subscribe(heard.append, "opero.call.*", "opero.attempt.*"):
        try:
            f()
        except OSError:
            assert fails
    assert [e.name for e in heard] == [
        "opero.call.started",
        "opero.attempt.started",
        "opero.attempt.finished",
        "opero.call.finished",
    ]
    assert len({e.call for e in heard}) == 1
    assert heard[-1].fields["outcome"] == ("error" if fails else "ok")


def test_a_correlation_id_is_a_text_or_none():
    with o.correlation_id("request-7"):
        assert o.events.current_correlation_id() == "request-7"
        with o.correlation_id(None):
            assert o.events.current_correlation_id() == ""
    with pytest.raises(o.ConfigurationError, match=r"correlation_id=3: .*str\(\.\.\.\)"):
        o.correlation_id(3)


def test_who_hears_hears_nothing_of_its_own_work():
    heard, others = [], []

    @o.opero(o.Retry(2, wait=0), name="tell")
    def tell(event):
        heard.append(event.operation)
        raise OSError

    @o.opero(o.Retry(2, wait=0), name="shop")
    def f():
        raise OSError

    with events.subscribe(tell, "opero.retry.scheduled"), events.subscribe(others.append, "opero.retry.scheduled"):
        with pytest.raises(OSError):
            f()
        with pytest.raises(OSError):
            tell(events.Event("by.hand", "me", {}))
    assert heard == ["shop"] * 6 + ["me", *["tell"] * 3] * 2 + ["me"]
    assert sorted(event.operation for event in others) == ["shop"] * 2 + ["tell"] * 2 * 5


def test_what_goes_on_after_it_has_returned_it_hears():
    tasks, heard = [], []

    async def work():
        await o.opero(retries=0, name="work")(asyncio.sleep)(0)

    def hear(event):
        heard.append(event.operation)
        if event.operation == "shop":
            tasks.append(asyncio.ensure_future(work()))

    async def main():
        await o.opero(retries=0, name="shop")(asyncio.sleep)(0)
        await asyncio.wait(tasks)

    with events.subscribe(hear, "opero.call.finished"):
        asyncio.run(main())
    assert heard == ["shop", "work"]


class Equal:
    """Handlers that are equal, and not one."""

    def __init__(self, hear):
        self.hear = hear

    __hash__ = None

    def __eq__(self, other):
        return True

    def __call__(self, event):
        self.hear(event)


def test_another_handler_that_is_equal_hears_of_its_work():
    inner, heard = o.opero(retries=0, name="inner")(lambda: 1), []
    first, second = Equal(lambda event: inner()), Equal(lambda event: heard.append(event.operation))
    with events.subscribe(first, "opero.call.finished"), events.subscribe(second, "opero.call.finished"):
        o.opero(retries=0, name="outer")(lambda: 1)()
    assert heard == ["inner", "outer"]
