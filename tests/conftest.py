"""Servers that tests need: where one is missing the test is skipped, in CI it fails."""

import os
import shutil

import pytest
from hypothesis import settings

from opero import catalogue
from services.otlp import RECEIVER, otlp_receiver, otlp_receiver_process
from services.prometheus import module_prometheus, prometheus
from services.redis_servers import redis_cluster, redis_sentinels, redis_server
from vocabulary import Vocabulary

settings.register_profile("busy machine", deadline=None)  # a bound on one example says more of the machine than of us
settings.load_profile("busy machine")
catalogue.NAMES *= 10  # all tests together have more functions than a program
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
    config.pluginmanager.register(Vocabulary(config), "vocabulary")


@pytest.fixture(autouse=True)
def _services(request):
    marker = request.node.get_closest_marker("service")
    if marker is None:
        return
    missing = [program for program in PROGRAMS[marker.args[0]] if shutil.which(program) is None]
    if missing:
        verdict = pytest.fail if os.environ.get("OPERO_REQUIRE_SERVICES") == "1" else pytest.skip
        verdict(f"needs {' and '.join(missing)}: run tests/services/install.sh")
