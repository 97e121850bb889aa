"""Real clients, a real server, real faults: what a retry, a timeout, a hedge and a breaker are for."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

import opero as o
from opero import conditions, waits
from services import faults
from services.process import free_port, start, stop

BUSY = """
calls = {}

def app(environ, answer):
    path = environ["PATH_INFO"]
    calls[path] = calls.get(path, 0) + 1
    if calls[path] == 1:
        answer("429 Too Many Requests", [("Retry-After", "1"), ("Content-Length", "0")])
        return [b""]
    answer("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def gunicorn(app, folder):
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "--threads", "16", app]
    command += ["--graceful-timeout", "1"]
    return start([*command, "--worker-tmp-dir", str(folder)], port=port, cwd=folder), port


@pytest.fixture(scope="module")
def httpbin(tmp_path_factory):
    process, port = gunicorn("httpbin:app", tmp_path_factory.mktemp("httpbin"))
    yield port
    stop(process)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("busy")
    Path(folder, "busy.py").write_text(BUSY)
    process, port = gunicorn("busy:app", folder)
    yield port
    stop(process)


@pytest.fixture
def proxy(httpbin):
    proxy = faults.Proxy(httpbin)
    yield proxy
    proxy.close()


class Httpx:
    """Each client: `get` returns the response or raises what the client raises."""

    repeats = 0

    def decorate(self, *policies, **settings):
        import httpx

        @o.opero(*policies, name="httpx", **settings)
        def get(url):
            return httpx.get(url, trust_env=False, timeout=30).raise_for_status()

        return get

    call = staticmethod(lambda function, url: function(url))


class AsyncHttpx(Httpx):
    def decorate(self, *policies, **settings):
        import httpx

        @o.opero(*policies, name="httpx", **settings)
        async def get(url):
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                return (await client.get(url)).raise_for_status()

        return get

    call = staticmethod(lambda function, url: asyncio.run(function(url)))


class Requests(Httpx):
    def decorate(self, *policies, **settings):
        import requests

        @o.opero(*policies, name="requests", **settings)
        def get(url):
            with requests.Session() as session:
                session.trust_env = False
                response = session.get(url, timeout=30)
            response.raise_for_status()
            return response

        return get


class Aiohttp(AsyncHttpx):
    repeats = 1  # it sends a GET again by itself when its connection was reset

    def decorate(self, *policies, **settings):
        import aiohttp

        @o.opero(*policies, name="aiohttp", **settings)
        async def get(url):
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                response.raise_for_status()
                await response.read()
                return response

        return get


@pytest.fixture(params=[Httpx, AsyncHttpx, Requests, Aiohttp], ids=lambda client: client.__name__.lower())
def client(request):
    return request.param()


def test_a_reset_and_a_black_hole_cost_two_attempts(client, proxy):
    proxy.script += [faults.RESET, faults.BLACKHOLE]
    get = client.decorate(retries=3, min_delay=0.01, attempt_timeout=2.0)
    answer = client.call(get, f"http://127.0.0.1:{proxy.port}/status/200")
    assert conditions.status(200).on_result(answer)
    assert proxy.connections == 3
    stats = get.opero.stats()
    made = 3 - client.repeats
    assert (stats["attempts"], stats["retries"], stats["timeouts"], stats["ok"]) == (made, made - 1, 1, 1)


def test_a_slow_connection_is_hedged_around(client, proxy):
    proxy.script += [faults.SLOW]
    get = client.decorate(hedge=0.3)
    started = time.monotonic()
    answer = client.call(get, f"http://127.0.0.1:{proxy.port}/status/200")
    assert time.monotonic() - started < 8  # one byte in 50 ms: some 10 s for the headers alone
    assert conditions.status(200).on_result(answer)
    assert proxy.connections == 2


def test_the_server_says_when_to_come_back(client, busy):
    policy = o.Retry(3, on=conditions.status(429), wait=waits.retry_after(waits.constant(60), high=5))
    get = client.decorate(policy)
    started = time.monotonic()
    answer = client.call(get, f"http://127.0.0.1:{busy}/{type(client).__name__}")
    assert conditions.status(200).on_result(answer)
    assert 1.0 <= time.monotonic() - started < 10
    assert get.opero.stats()["retries"] == 1


def test_a_status_that_does_not_pass_opens_the_circuit_and_spares_the_server(client, proxy):
    get = client.decorate(o.CircuitBreaker(min_calls=3))
    for _ in range(3):
        with pytest.raises(Exception, match="503"):
            client.call(get, f"http://127.0.0.1:{proxy.port}/status/503")
    with pytest.raises(o.CircuitOpenError):
        client.call(get, f"http://127.0.0.1:{proxy.port}/status/503")
    assert proxy.connections == 3


@pytest.mark.parametrize("path", ["delay/10", "drip?duration=10&numbytes=5&delay=0"])
def test_an_answer_that_takes_too_long_is_a_timeout_of_ours(client, httpbin, path):
    get = client.decorate(timeout=1.0, retries=2)
    started = time.monotonic()
    with pytest.raises(o.CallTimeout):
        client.call(get, f"http://127.0.0.1:{httpbin}/{path}")
    assert 1.0 <= time.monotonic() - started < 8


def test_nothing_that_the_client_raised_is_changed(client):
    get = client.decorate(retries=1, min_delay=0)
    with pytest.raises(Exception, match=r".") as caught:
        client.call(get, f"http://127.0.0.1:{free_port()}/")
    assert type(caught.value).__module__.partition(".")[0] in {"httpx", "requests", "aiohttp"}
    assert len(o.attempts(caught.value)) == 2
