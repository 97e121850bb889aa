"""Spans and log lines, as the SDK and a terminal get them."""

import asyncio
import io
import json
import operator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import opero as o
from opero import events
from opero_telemetry.logs import Logs
from opero_telemetry.spans import Spans, configured, trace_id


@pytest.fixture
def provider():
    return TracerProvider()


@pytest.fixture
def exported(provider):
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter.get_finished_spans


def heard(provider, **settings):
    return Spans(provider, **settings).subscribe()


def flaky(times, **settings):
    failures = iter([OSError()] * times)

    @o.opero(min_delay=0, name="shop.pay", **settings)
    def f(inside=None):
        if inside:
            inside()
        for failure in failures:
            raise failure

    return f


def test_attempts_that_run_side_by_side_have_a_span_each(provider, exported):
    numbers = iter([1, 2])

    @o.opero(hedge=1, name="shop.pay")
    async def f():
        await asyncio.sleep(10 if next(numbers) == 1 else 0.5)

    async def main():
        await f()

    with o.testing.clock(), heard(provider, every_attempt=True):
        asyncio.run(main())
    found = {span.attributes["opero.attempt.number"]: span for span in exported() if "attempt" in span.name}
    assert {number: span.attributes["opero.attempt.outcome"] for number, span in found.items()} == {
        1: "cancelled",
        2: "ok",
    }
    (call,) = (span for span in exported() if span.name == "shop.pay")
    assert {span.parent.span_id for span in found.values()} == {call.context.span_id}


def test_a_call_is_one_span_with_the_conventions_attributes(provider, exported):
    with heard(provider):
        flaky(0, retries=2)()
    (span,) = exported()
    assert span.name == "shop.pay"
    assert dict(span.attributes) == {
        "opero.call.name": "shop.pay",
        "code.function.name": "shop.pay",
        "opero.outcome": "ok",
        "opero.attempt.count": 1,
    }
    assert span.status.status_code.name == "UNSET"
    assert span.instrumentation_scope.name == "opero"


def test_attempts_are_children_once_there_is_a_second_and_a_handled_retry_is_no_error(provider, exported):
    with heard(provider):
        flaky(2, retries=2)()
    *attempts, call = exported()
    assert [s.name for s in attempts] == ["shop.pay attempt"] * 3
    assert [s.attributes["opero.attempt.number"] for s in attempts] == [1, 2, 3]
    assert [s.attributes["opero.attempt.outcome"] for s in attempts] == ["retryable", "retryable", "ok"]
    assert {s.parent.span_id for s in attempts} == {call.context.span_id}
    assert attempts[0].end_time <= attempts[1].start_time
    assert call.status.status_code.name == "UNSET"


def test_every_attempt_on_demand(provider, exported):
    with heard(provider, every_attempt=True):
        flaky(1, retries=1)()
    assert [s.name for s in exported()] == ["shop.pay attempt"] * 2 + ["shop.pay"]


def test_a_final_failure_is_an_error(provider, exported):
    f = flaky(9, retries=1)
    with heard(provider), pytest.raises(OSError):
        f()
    call = exported()[-1]
    assert (call.status.status_code.name, call.attributes["error.type"]) == ("ERROR", "OSError")


@pytest.mark.parametrize("settings", [{}, {"timeout": 10}])
def test_what_the_function_traces_is_a_child_also_in_another_thread(provider, exported, settings):
    tracer = provider.get_tracer("mine")

    def inside():
        tracer.start_span("query").end()

    with heard(provider), tracer.start_as_current_span("request"):
        flaky(0, retries=0, **settings)(inside)
    query, call, request = exported()
    assert query.parent.span_id == call.context.span_id
    assert call.parent.span_id == request.context.span_id
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_gathered_calls_do_not_mix(provider, exported):
    tracer = provider.get_tracer("mine")

    @o.opero(retries=0, name="f")
    async def f(n):
        await asyncio.sleep(0)
        with tracer.start_as_current_span(str(n)):
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*map(f, range(20)))

    with heard(provider):
        asyncio.run(main())
    calls = {s.context.span_id for s in exported() if s.name == "f"}
    parents = [s.parent.span_id for s in exported() if s.name != "f"]
    assert len(calls) == 20
    assert sorted(parents) == sorted(calls)


def test_a_cancelled_call_closes_its_span_and_is_no_error(provider, exported):
    @o.opero(retries=0, name="f")
    async def f():
        await asyncio.sleep(100)

    async def main():
        task = asyncio.create_task(f())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with heard(provider):
        asyncio.run(main())
    (span,) = exported()
    assert (span.attributes["opero.outcome"], span.status.status_code.name) == ("cancelled", "UNSET")


def test_a_call_that_timed_out_shows_its_only_attempt(provider, exported):
    @o.opero(retries=0, timeout=1, name="f")
    async def f():
        await asyncio.sleep(100)

    with o.testing.clock(), heard(provider), pytest.raises(o.CallTimeout):
        asyncio.run(f())
    attempt, call = exported()
    assert (attempt.name, attempt.attributes["opero.attempt.outcome"]) == ("f attempt", "timeout")
    assert call.status.status_code.name == "ERROR"
    assert call.end_time - call.start_time == pytest.approx(1e9, rel=0.01)


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_map_is_a_span_and_its_items_are_children_wherever_they_run(provider, exported, mode):
    async def negative(x):
        return -x

    negatives = o.opmap(mode=mode, workers=2, name="negatives")(negative if mode == "async" else operator.neg)
    with heard(provider), provider.get_tracer("mine").start_as_current_span("request"):
        found = asyncio.run(negatives(range(5))) if mode == "async" else negatives(range(5))
    assert found == [0, -1, -2, -3, -4]
    spans = exported()
    (request,) = (span for span in spans if span.name == "request")
    (run,) = (span for span in spans if span.name == "negatives map")
    items = [span for span in spans if span.name == "negatives"]
    assert run.parent.span_id == request.context.span_id
    assert [item.parent.span_id for item in items] == [run.context.span_id] * 5
    assert all(run.start_time <= item.start_time <= item.end_time <= run.end_time for item in items)
    assert (run.attributes["opero.map.items"], run.attributes["opero.map.failures"]) == (5, 0)


def test_a_batch_links_to_the_calls_it_carried(provider, exported):
    @o.opmap(mode="gpu", batch_size=3, batch_wait=30, name="embed")
    async def f(batch):
        return batch

    async def at_once():
        await asyncio.gather(*[f.one(n) for n in range(3)])

    with heard(provider):
        asyncio.run(at_once())
    spans = exported()
    (batch,) = [span for span in spans if span.name == "embed gpu_batch"]
    calls = [span for span in spans if span.name == "embed"]
    assert batch.attributes["opero.gpu_batch.size"] == 3
    assert sorted(link.context.span_id for link in batch.links) == sorted(call.context.span_id for call in calls)
    assert len(calls) == 3


def test_under_an_unsampled_parent_a_call_stays_on_the_fast_path(exported, provider):
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

    spans = Spans(provider)
    heard_conditions = events.watch("opero.call.started")
    with spans.subscribe():
        assert events.asked(heard_conditions)
        unsampled = NonRecordingSpan(SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(0)))
        with use_span(unsampled):
            assert not events.asked(heard_conditions)
            flaky(1, retries=1)()
        sampled = NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1)))
        with use_span(sampled):
            assert events.asked(heard_conditions)
            flaky(0, retries=1)()
    (span,) = exported()
    assert span.parent.span_id == 2


def test_a_sampler_that_never_samples_costs_nothing():
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    assert not Spans(TracerProvider(sampler=ALWAYS_OFF)).wanted()
    assert Spans(TracerProvider(sampler=ALWAYS_ON)).wanted()


def test_nothing_stays_open_after_many_calls_of_every_fate(provider, exported):
    async def main():
        @o.opero(retries=1, min_delay=0, name="f")
        async def f(n):
            await asyncio.sleep(0)
            if n % 3:
                raise OSError

        tasks = [asyncio.create_task(f(n)) for n in range(60)]
        await asyncio.sleep(0)
        for task in tasks[::5]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    spans = Spans(provider)
    with spans.subscribe():
        asyncio.run(main())
    assert spans._calls == {}
    ids = {span.context.span_id for span in exported()}
    assert {span.parent.span_id for span in exported() if span.parent} <= ids


def test_without_an_sdk_there_is_nothing_to_trace_with():
    assert configured() is None or type(configured()).__module__.startswith("opentelemetry.sdk")
    assert trace_id() == ""


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line(monkeypatch):
    stream = io.StringIO()
    with Logs(stream=stream), o.correlation_id("req-42"):
        flaky(1, retries=1)()
    scheduled, succeeded = lines(stream)
    assert scheduled["event"] == "opero.retry.scheduled"
    assert (scheduled["level"], scheduled["operation"], scheduled["correlation_id"]) == ("info", "shop.pay", "req-42")
    assert scheduled["error"] == "OSError"
    assert scheduled["call"] == succeeded["call"]
    assert succeeded["event"] == "opero.retry.succeeded"


def test_lines_carry_the_active_trace(monkeypatch, provider):
    monkeypatch.setattr(events, "trace_id", trace_id)
    stream = io.StringIO()
    with Logs(stream=stream), heard(provider):
        flaky(1, retries=1)()
    assert {len(line["trace_id"]) for line in lines(stream)} == {32}


def test_arguments_results_and_error_texts_are_in_no_line():
    stream = io.StringIO()

    @o.opero(retries=1, min_delay=0, fallback="result-secret", name="f")
    def f(argument):
        raise OSError("text-secret")

    with Logs(stream=stream):
        f("argument-secret")
    assert len(lines(stream)) == 3
    assert "secret" not in stream.getvalue()


def test_a_line_stays_one_line_whatever_a_name_holds():
    stream = io.StringIO()
    with Logs(stream=stream):
        o.opero(retries=0, fallback=1, name="two\nlines\x1b[31m")(lambda: 1 / 0)()
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_arguments_that_are_named_are_on_the_span(provider, exported):
    f = o.opero(retries=0, record="order", tags="payments", name="f")(lambda order, card: None)
    with heard(provider):
        f("A-1", "4111")
    (span,) = exported()
    assert span.attributes["opero.argument.order"] == "A-1"
    assert span.attributes["opero.tags"] == ("payments",)
    assert "4111" not in str(span.attributes)


def test_a_hedge_shows_the_first_attempt_that_still_runs(provider, exported):
    numbers = iter([1, 2])

    @o.opero(hedge=1, name="shop.pay")
    async def f():
        await asyncio.sleep(10 if next(numbers) == 1 else 0.5)

    spans = Spans(provider)
    with o.testing.clock(), spans.subscribe():
        asyncio.run(f())
    found = {span.attributes["opero.attempt.number"] for span in exported() if "attempt" in span.name}
    assert found == {1, 2}
    assert spans._attempts == {}
