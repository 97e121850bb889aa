import pytest

from services.redis_servers import RedisServer


@pytest.fixture(scope="module")
def redis_of_module(tmp_path_factory):
    """One server for the tests of a module that only read and write."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()
