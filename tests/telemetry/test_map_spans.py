"""A map is one span; its items' spans are its children, wherever they ran."""

import asyncio
import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opero import events, opmap
from opero_telemetry.spans import Spans, carry

sys.path.append(str(Path(__file__).parents[1] / "parallel"))
import work


@pytest.fixture
def provider():
    return TracerProvider()


@pytest.fixture
def exported(provider):
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter.get_finished_spans


@pytest.mark.parametrize("mode", ["thread", "process", "async", "async_process", "auto"])
def test_item_spans_nest_under_the_map_span(mode, provider, exported, monkeypatch):
    monkeypatch.setattr(events, "carry", carry)
    function = opmap(mode=mode, workers=2, retries=1, min_delay=0, name="shop.map")(
        work.traced_later if "async" in mode else work.traced
    )
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("outer"), Spans(provider).subscribe():
        found = function(range(6))
        if "async" in mode:
            found = asyncio.run(found)
        assert trace.get_current_span().name == "outer"
    spans = exported()
    (outer,) = [span for span in spans if span.name == "outer"]
    (mapped,) = [span for span in spans if span.name == "shop.map map"]
    items = [span for span in spans if span.name == "shop.map"]
    assert mapped.parent.span_id == outer.context.span_id
    assert len(items) == 6
    assert {span.parent.span_id for span in items} == {mapped.context.span_id}
    assert all(mapped.start_time <= span.start_time <= span.end_time <= mapped.end_time for span in items)
    assert set(found) == {format(mapped.context.trace_id, "032x")}


def test_a_stream_leaves_the_consumers_span_alone(provider, exported):
    tracer = provider.get_tracer("test")
    with Spans(provider).subscribe(), tracer.start_as_current_span("outer"):
        stream = opmap(mode="thread", workers=2, name="shop.stream")(work.traced).stream(range(5))
        next(stream)
        assert trace.get_current_span().name == "outer"
        with tracer.start_as_current_span("mine"):
            list(stream)
    spans = {span.name: span for span in exported()}
    assert spans["mine"].parent.span_id == spans["outer"].context.span_id
    assert spans["shop.stream map"].parent.span_id == spans["outer"].context.span_id
