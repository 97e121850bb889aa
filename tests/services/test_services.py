"""The servers other tests rely on are real, and go away when asked."""

import pytest
import redis

pytestmark = pytest.mark.service("redis")


def test_a_redis_server_can_be_killed_and_comes_back_empty_at_the_same_address(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("a", 1)
        redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        redis_server.start()
        assert client.get("a") is None


def test_a_redis_server_can_hang(redis_server):
    with redis.Redis.from_url(redis_server.url, socket_timeout=0.1) as client:
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.get("a")
        redis_server.resume()
        assert client.get("a") is None


def test_a_redis_cluster_spreads_keys_over_its_nodes(redis_cluster):
    with redis.RedisCluster.from_url(redis_cluster.url) as client:
        for n in range(30):
            client.set(f"k{n}", n)
        assert [client.get(f"k{n}") for n in range(30)] == [str(n).encode() for n in range(30)]
        sizes = [int(node.cli("dbsize")) for node in redis_cluster.nodes]
        assert sum(size > 0 for size in sizes) >= 3
