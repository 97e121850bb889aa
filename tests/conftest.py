"""Servers that tests need: where one is missing the test is skipped, in CI it fails."""

import os
import shutil

import pytest
from hypothesis import settings

from opero import catalogue, events
from services.otlp import RECEIVER, otlp_receiver, otlp_receiver_process
from services.prometheus import module_prometheus, prometheus
from services.redis_servers import redis_cluster, redis_sentinels, redis_server

settings.register_profile("busy machine", deadline=None)  # a bound on one example says more of the machine than of us
settings.load_profile("busy machine")
pytest.register_assert_rewrite("scenarios", "world")  # so that a failing scenario shows its values

__all__ = [  # fixtures
    "module_prometheus",
    "otlp_receiver",
    "otlp_receiver_process",
    "prometheus",
    "redis_cluster",
    "redis_sentinels",
    "redis_server",
]
PROGRAMS = {
    "alertmanager": ("prometheus-alertmanager", "amtool", "prometheus"),
    "chromium": ("chromium",),
    "otlp": (RECEIVER,),
    "prometheus": ("prometheus", "promtool"),
    "redis": ("redis-server", "redis-cli", "redis-sentinel"),
    "valgrind": ("valgrind",),
}


def pytest_configure(config):
    """Remember every name that is said or measured, for test_vocabulary."""
    said, measured = config.opero_said, config.opero_measured = set(), set()
    say, publish, snapshot = events.say, events.publish, catalogue.snapshot

    def hear(signal, *more):
        said.add(signal.name)
        say(signal, *more)

    def pass_on(event, handlers):
        said.add(event.name)
        publish(event, handlers)

    def look():
        families = snapshot()
        for family in families:
            if any(any(value) if isinstance(value, list) else value for value in family.samples.values()):
                measured.add(family.metric.name)
        return families

    events.say, events.publish, catalogue.snapshot = hear, pass_on, look


def pytest_collection_modifyitems(config, items):
    """Let what looks at the whole run come last, and know whether it is the whole run."""
    last = [item for item in items if item.path.name == "test_vocabulary.py"]
    items[:] = [item for item in items if item not in last] + last
    chosen = config.option.keyword or config.option.file_or_dir or config.option.lf or hasattr(config, "workerinput")
    config.opero_everything = not chosen


@pytest.fixture(autouse=True)
def _services(request):
    marker = request.node.get_closest_marker("service")
    if marker is None:
        return
    missing = [program for program in PROGRAMS[marker.args[0]] if shutil.which(program) is None]
    if missing:
        verdict = pytest.fail if os.environ.get("OPERO_REQUIRE_SERVICES") == "1" else pytest.skip
        verdict(f"needs {' and '.join(missing)}: run tests/services/install.sh")
