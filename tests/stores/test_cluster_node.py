"""A cluster's node under the address of a single server: nothing fails, and who reads of it hears what is meant."""

import asyncio

import pytest

import opero as o
from opero import events
from opero.stores.redis import RedisStore

pytestmark = pytest.mark.service("redis")


@pytest.mark.parametrize("is_async", [False, True])
def test_the_event_names_the_address_that_is_meant(is_async, redis_cluster):
    heard = []
    with events.subscribe(heard.append, "opero.store.lost"):
        for n in range(100):  # a third of the names lies on this node
            limit = o.RateLimit(5, store=RedisStore(redis_cluster.url, timeout=5), name=f"n{n}")
            if is_async:
                asyncio.run(o.opero(limit)(asyncio.sleep)(0))
            else:
                o.opero(limit)(lambda: 1)()
            if heard:
                break
    assert [(event.fields["error"], event.fields["reason"]) for event in heard] == [
        ("MovedError", "the server is a node of a cluster, whose address begins with redis+cluster://")
    ]
