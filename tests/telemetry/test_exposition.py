"""What we write ourselves reads as what prometheus_client would have written."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from opero import catalogue, opero
from opero_telemetry.collector import OperoCollector
from opero_telemetry.exposition import text


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
