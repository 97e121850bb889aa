"""What we write ourselves reads as what prometheus_client would have written."""

import urllib.request

import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

import opero_telemetry
from opero import SLO, catalogue, opero
from opero_telemetry.collector import OperoCollector
from opero_telemetry.exposition import text
from opero_telemetry.spans import Spans


@opero(circuit_breaker=True, rate_limit="5/day", bulkhead=3, timeout=5, name='odd "name"\\ of\ntwo lines')
def odd(x):
    return x


def samples(families):
    found = {}
    for family in families:
        assert family.documentation
        for sample in family.samples:
            found[sample.name, family.type, tuple(sorted(sample.labels.items()))] = sample.value
    return found


@pytest.fixture
def registry(monkeypatch):
    odd(1)
    families = catalogue.snapshot()
    for family in families:  # what other tests left behind changes meanwhile
        family.samples = {key: value for key, value in family.samples.items() if key[0] == odd.opero.name}
    monkeypatch.setattr(catalogue, "snapshot", lambda: [family for family in families if family.samples])
    found = CollectorRegistry()
    found.register(OperoCollector())
    return found


def test_the_text_format_says_the_same(registry):
    theirs = samples(text_string_to_metric_families(generate_latest(registry).decode()))
    ours = samples(text_string_to_metric_families(text(catalogue.snapshot(), openmetrics=False)))
    assert ours == theirs
    assert any('odd "name"' in value for _, _, labels in ours for _, value in labels)


def test_openmetrics_says_the_same(registry):
    parse = openmetrics_parser.text_string_to_metric_families
    theirs = samples(parse(openmetrics.generate_latest(registry).decode()))
    ours = samples(parse(text(catalogue.snapshot(), openmetrics=True) + "# EOF\n"))
    assert ours == theirs


def test_a_scrape_holds_what_others_registered_and_ours_once_with_the_same_exemplars():
    @opero(retries=0, slo=SLO(0.9, latency=0.042), name="scraped.odd")
    def f():
        return 1

    mine = Counter("mine", "Of the application.", ["kind"])
    subscription = Spans(TracerProvider()).subscribe()
    handle = opero_telemetry.start(0, logs=None)
    try:
        f()
        mine.labels("a").inc(3)
        for accept, parser, generate in (
            ("application/openmetrics-text", openmetrics_parser, openmetrics.generate_latest),
            ("text/plain", text_parser, generate_latest),
        ):
            request = urllib.request.Request(f"{handle.url}/metrics", headers={"Accept": accept})
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.headers["Content-Type"].startswith(accept)
                page = answer.read().decode()
            theirs, ours = (told(parser, each) for each in (generate(REGISTRY).decode(), page))
            assert ours == theirs
            assert page.count('mine_total{kind="a"} 3.0\n') == 1
            assert page.count("# TYPE opero_call_duration_seconds histogram\n") == 1
            assert page.count("trace_id=") == ("openmetrics" in accept)
            assert 'opero_call_name="scraped.odd",opero_outcome="ok",error_type="",le="0.042"' in page
    finally:
        handle.stop()
        subscription.close()
        REGISTRY.unregister(mine)


def told(parser, page):
    """Every sample of our own and of the application: those of the process move by themselves."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): (family.type, sample.value, sample.exemplar)
        for family in parser.text_string_to_metric_families(page)
        for sample in family.samples
        if family.name.startswith(("opero_", "mine"))
    }
