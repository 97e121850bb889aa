"""A name server that does not answer is an outage of the store like any other: bounded, told, none of the function."""

import asyncio
import socket
import subprocess
import sys
import threading
import time

import pytest

import opero as o
from opero import events
from opero.stores.connecting import Attempt
from opero.stores.redis import RedisStore
from services.namespaces import apart
from services.process import free_port


@pytest.fixture
def silent_name_server(monkeypatch):
    """Let every look-up of a name hang until the end of the test."""
    ask, end = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host, *args, **kwargs):
        if str(host).endswith(".test"):
            end.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return ask(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    end.set()


def timed(work):
    began = time.monotonic()
    return work(), time.monotonic() - began


def test_a_cache_does_not_wait_for_a_silent_name_server(silent_name_server):
    heard = []

    @o.opero(o.Cache(60, backend="redis", url="redis://cache.test:6379/0"))
    def f(x):
        return x

    with events.subscribe(heard.append, "opero.cache.backend_failed"):
        answers, took = timed(lambda: [f(n) for n in range(50)])
    assert answers == list(range(50))
    assert took < 3  # three times 50 ms, then the store is left alone
    assert [event.fields["reason"] for event in heard] == ["timeout"] * 3


def test_tasks_do_not_wait_for_a_silent_name_server_either(silent_name_server):
    @o.opero(o.Cache(60, backend="redis", url="redis://cache.test:6379/0"))
    async def f(x):
        return x

    async def main():
        return [await f(n) for n in range(50)]

    loop = asyncio.new_event_loop()  # asyncio.run would wait for the look-up in its executor
    answers, took = timed(lambda: loop.run_until_complete(main()))
    loop.close()
    assert answers == list(range(50))
    assert took < 3


@pytest.mark.parametrize(
    "url",
    ["redis://state.test/0", "rediss://state.test/0", "redis+cluster://state.test", "redis+sentinel://s.test:1/x/0"],
)
def test_a_shared_limit_does_not_wait_for_a_silent_name_server(url, silent_name_server):
    heard = []

    @o.opero(o.RateLimit(1000, wait=False, store=RedisStore(url), name="silent"))
    def f(x):
        return x

    with events.subscribe(heard.append, "opero.store.lost"):
        answers, took = timed(lambda: [f(n) for n in range(50)])
    assert answers == list(range(50))
    assert took < 3
    assert len(heard) == 1


def test_what_is_connected_too_late_is_closed():
    here, there = socket.socketpair()
    go, end = threading.Event(), threading.Event()

    class Late:
        def close(self):
            here.close()
            end.set()

    with pytest.raises(TimeoutError):
        Attempt(lambda: go.wait() and Late()).within(0.01)
    go.set()
    assert end.wait(10)
    assert there.recv(1) == b""
    there.close()


BLACKHOLE = """
import fcntl, socket, struct, subprocess, sys, time
from pathlib import Path

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:  # the loopback interface, up
    fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 0x41))
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
Path(sys.argv[1]).write_text("nameserver 127.0.0.1\\noptions timeout:2 attempts:1\\n")
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)

from opero import Cache, events, opero
heard = []
events.subscribe(heard.append, "opero.cache.backend_failed")

@opero(Cache(60, backend="redis", url="redis://cache.example:6379/0"))
def f(x):
    return x

began = time.monotonic()
assert [f(n) for n in range(50)] == list(range(50))
assert time.monotonic() - began < 1.5, time.monotonic() - began
assert [event.fields["reason"] for event in heard] == ["timeout"] * 3, heard
server.settimeout(5)
assert b"cache" in server.recv(512)  # it was asked, and is silent
"""


def test_the_same_holds_for_a_real_name_server_that_is_silent(tmp_path):
    command = [*apart("mount", "net"), sys.executable, "-c", BLACKHOLE, str(tmp_path / "resolv.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_store_that_is_away_from_the_beginning_is_no_outage_either(scheme):
    heard = []

    @o.opero(o.RateLimit(1000, wait=False, store=f"{scheme}://127.0.0.1:{free_port()}", name=f"away-{scheme}"))
    def f(x):
        return x

    with events.subscribe(heard.append, "opero.store.lost"):
        assert [f(n) for n in range(3)] == [0, 1, 2]
    assert len(heard) == 1
