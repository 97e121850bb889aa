"""Who is answered, by whom, and what a page may not do to the server."""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

import opero as o
import opero_telemetry
from opero_telemetry.health import Readiness
from opero_telemetry.routes import Answer
from opero_telemetry.server import Server

TOKEN = "0123456789abcdef"


@pytest.fixture
def server():
    server = Server("127.0.0.1", 0, token=TOKEN)
    yield server
    server.stop()


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode()


def test_a_page_of_ones_own(server):
    server.routes["/mine"] = lambda request: Answer(f"{request.method} {request.query['a']} {request.trusted}")
    assert get(f"{server.url}/mine?a=1&a=2") == "GET 2 False"
    assert get(f"{server.url}/mine?a=1", Authorization=f"Bearer {TOKEN}") == "GET 1 True"
    assert get(f"{server.url}/mine?a=1", Authorization="Bearer guess") == "GET 1 False"


def test_a_page_that_fails_is_one_500(server, capsys):
    server.routes["/bad"] = lambda request: 1 / 0
    with pytest.raises(urllib.error.HTTPError, match="500"):
        get(f"{server.url}/bad")
    assert "ZeroDivisionError" in capsys.readouterr().err
    server.routes["/good"] = lambda request: Answer("good")
    assert get(f"{server.url}/good") == "good"


def test_a_stream_ends_with_the_server(server):
    def endless(request):
        while not request.closing.wait(0.01):
            yield b"."

    server.routes["/dots"] = lambda request: Answer(endless(request))
    answer = urllib.request.urlopen(f"{server.url}/dots", timeout=10)
    assert answer.read(3) == b"..."
    reader = threading.Thread(target=answer.read)
    reader.start()
    server.stop()
    reader.join(10)
    assert not reader.is_alive()
    answer.close()


def test_a_body_too_long_is_refused(server):
    server.routes["/post"] = lambda request: Answer("read")
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(f"{server.url}/post", data=b"x" * 20_000, timeout=10)


@pytest.mark.parametrize("settings", [{}, {"token": TOKEN}, {"tls": ("a", "b")}])
def test_another_address_wants_a_token_and_tls(settings):
    with pytest.raises(o.ConfigurationError, match=r"host='0\.0\.0\.0'"):
        Server("0.0.0.0", 0, **settings)


@pytest.mark.parametrize("token", ["short", "ümläute-ümläute-ümläute", 5])
def test_a_poor_token_is_refused_and_not_repeated(token):
    with pytest.raises(o.ConfigurationError) as caught:
        Server("127.0.0.1", 0, token=token)
    assert str(token) not in str(caught.value).split("token takes")[0]


def test_off_loopback_only_health_is_told_without_the_token():
    server = Server("0.0.0.0", 0, token=TOKEN, insecure=True)
    try:
        server.routes.update({"/numbers": lambda _: Answer("1"), "/healthz": lambda _: Answer("ok")})
        url = f"http://127.0.0.1:{server.port}"
        assert get(f"{url}/healthz") == "ok"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(f"{url}/numbers")
        assert get(f"{url}/numbers", Authorization=f"Bearer {TOKEN}") == "1"
    finally:
        server.stop()


def test_readiness_follows_breakers_and_pools_of_critical_operations():
    @o.opero(circuit_breaker=True, bulkhead=1, name="critical.one")
    def f(): ...

    @o.opero(circuit_breaker=True, name="harmless")
    def g(): ...

    handle = opero_telemetry.start(metrics_port=0, logs=None, critical=["critical.one"])
    try:
        url = f"{handle.url}/readyz"
        g.opero.breaker.force_open()
        assert '"ready":true' in get(url)
        f.opero.breaker.force_open()
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            get(url)
        assert "open: critical.one" in caught.value.read().decode()
        f.opero.breaker.force_close()
        handle.readiness.checks["database"] = lambda: 1 / 0
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            get(url)
        assert "ZeroDivisionError in the check" in caught.value.read().decode()
        del handle.readiness.checks["database"]
        assert '"ready":true' in get(url)
    finally:
        handle.stop()


def refused(url, host):
    with pytest.raises(urllib.error.HTTPError, match="403") as caught:
        get(url, Host=host)
    return caught.value.read().decode()


def test_a_name_is_answered_where_it_is_named_and_the_refusal_says_how():
    server = Server("127.0.0.1", 0, hosts=["shop", "*.Shop.svc"])
    try:
        server.routes["/here"] = lambda _: Answer("here")
        url = f"{server.url}/here"
        for host in ("shop", "SHOP:9464", "a.b.shop.svc", "a.shop.svc.", "[::1]:80", "10.0.0.7:1", "localhost", ""):
            assert get(url, Host=host) == "here"
        assert "hosts=['evil.example']), or OPERO_ALLOWED_HOSTS=evil.example" in refused(url, "evil.example:80")
        refused(url, "shop.evil.example")
        assert "\x1b" not in refused(url, "a\x1b[31mb")
    finally:
        server.stop()


def test_the_environment_names_hosts(monkeypatch):
    from opero_telemetry import environment

    monkeypatch.setenv("OPERO_METRICS_PORT", "0")
    monkeypatch.setenv("OPERO_ALLOWED_HOSTS", "shop, stock")
    environment.start()
    handle = opero_telemetry.start()
    try:
        assert get(f"{handle.url}/healthz", Host="stock")
        refused(f"{handle.url}/healthz", "else")
    finally:
        handle.stop()


def test_a_second_start_says_what_it_did_not_do():
    handle = opero_telemetry.start(0, logs=None, token=TOKEN)
    try:
        assert opero_telemetry.start() is handle
        assert opero_telemetry.start(0, logs=None, token=TOKEN) is handle
        with pytest.warns(RuntimeWarning, match="with another token=, statsd= which stays") as warned:
            assert opero_telemetry.start(0, token="another-secret-token", statsd="127.0.0.1:8125") is handle
        assert "another-secret" not in str(warned[0].message)
    finally:
        handle.stop()


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"opentelemetry", "prometheus_client", "structlog", "rich", "httpx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import opero_telemetry
try:
    opero_telemetry.start(0)
except ModuleNotFoundError as error:
    print(error)
"""


def test_without_the_extra_it_is_one_sentence_with_the_way_out():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.endswith(": pip install 'opero[telemetry]'\n")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_a_critical_name_that_nothing_has_is_told():
    @o.opero(name="server.there", retries=0)
    def there():
        return 7

    there()
    page = Readiness(["server.there", "server.typo"]).page(None)
    assert json.loads(page.body)["checks"]["critical"] == "not decorated: server.typo"
    assert json.loads(Readiness(["server.there"]).page(None).body)["checks"]["critical"] == "ok"
