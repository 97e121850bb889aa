"""What errors and responses of real clients say, read from a real server on this machine."""

import asyncio
import threading
import urllib.error
import urllib.request
from datetime import timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from opero import conditions, responses, testing, waits

NOW = 1_800_000_000.0


class _Busy(Exception):
    def __init__(self, header):
        self.response = type("Response", (), {"headers": {"Retry-After": header}})()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7), (7, 7), (" 2.5 ", 2.5), ("-3", 0), ("9999", 60), ("Fri, 99 Jan 2027 99:99:99 GMT", 60),
        (formatdate(NOW + 30, usegmt=True), 30), (formatdate(NOW - 30, usegmt=True), 0),
        ("Fri, 15 Jan 2027 09:00:40 +0100", 40), ("Fri Jan 15 08:00:40 2027", 40),
        ("Friday, 15-Jan-27 08:00:40 GMT", 40),
    ],
    ids=repr,
)  # fmt: skip
def test_retry_after_is_what_the_service_asked_for_within_bounds(header, seconds):
    with testing.clock() as time:
        time._wall = NOW - time.now()
        assert waits.retry_after().delay(1, 0, _Busy(header)) == seconds


@pytest.mark.parametrize("header", ["soon", "", "nan", "inf", "1e999", None, [], "Fri, Jan 2027"], ids=repr)
def test_retry_after_falls_back_where_nothing_sensible_was_asked(header):
    assert 0 <= waits.retry_after(waits.constant(5)).delay(1, 0, _Busy(header)) <= 5


ODD = type("Odd", (), {"headers": 5, "status": "200", "response": 3})()


@pytest.mark.parametrize("outcome", [OSError(), None, 7, "text", ODD], ids=["error", "None", "number", "text", "odd"])
def test_what_is_no_answer_says_nothing(outcome):
    assert responses.status(outcome) is None
    assert responses.retry_after(outcome, NOW) is None


def test_an_error_may_say_it_itself():
    error = OSError()
    error.retry_after = 3
    assert responses.retry_after(error, NOW) == 3
    error.retry_after = "Fri, 15 Jan 2027 08:00:05 GMT"
    assert responses.retry_after(error, NOW) == 5
    error.retry_after = timedelta(minutes=1)
    assert responses.retry_after(error, NOW) == 60


@pytest.mark.parametrize(("code", "found"), [(99, None), (100, 100), (101, 101), (599, 599), (600, None)])
def test_a_status_is_a_number_from_100_to_599(code, found):
    assert responses.status(type("Answer", (), {"status_code": code})()) == found


class _Refuses(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(429)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def busy():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refuses)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def by_httpx(url):
    import httpx

    response = httpx.get(url, trust_env=False)
    yield response
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    yield caught.value


def by_requests(url):
    import requests

    with requests.Session() as session:
        session.trust_env = False
        response = session.get(url)
    yield response
    with pytest.raises(requests.HTTPError) as caught:
        response.raise_for_status()
    yield caught.value


def by_aiohttp(url):
    import aiohttp

    async def ask():
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            with pytest.raises(aiohttp.ClientResponseError) as caught:
                response.raise_for_status()
            return response, caught.value

    yield from asyncio.run(ask())


def by_urllib(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(url)
    yield caught.value
    caught.value.close()


@pytest.mark.parametrize("client", [by_httpx, by_requests, by_aiohttp, by_urllib])
def test_the_answers_of_every_client_are_read(client, busy):
    for outcome in client(busy):
        assert responses.status(outcome) == 429
        assert responses.retry_after(outcome, NOW) == 7
        assert conditions.status(range(400, 500)).on_result(outcome)
        assert not conditions.status(503)(outcome)


JOINED = [("3, 9", 9.0), ("9,3", 9.0), ("3, soon", None), ("3,", None), (",", None), ("9" * 400 + ",3", None)]


@pytest.mark.parametrize(("text", "expected"), JOINED, ids=range(len(JOINED)))
def test_headers_that_a_client_joined_are_the_longest_of_them(text, expected):
    assert responses.seconds(text, 0.0) == expected
