"""What an address of a store may say: all of it is read, nonsense is refused at once, and no password told."""

import asyncio
import subprocess
from datetime import timedelta
from math import inf, nan

import pytest

import opero as o
from opero.stores import Address
from opero.stores.addresses import Place
from opero.stores.guard import guard
from opero.stores.redis import RedisStore
from services import process
from services.redis_servers import RedisServer

SENTINELS = "redis+sentinel://us%40er:p%2Fw%3A%25@[::1]:26380,b,10.0.0.1:5/main/3"


def test_an_address_of_sentinels_is_read_as_that_of_one_server():
    place = Place(f"{SENTINELS}?sentinel_username=guard&sentinel_password=s%26c&health_check_interval=9")
    assert place.hosts == [("::1", 26380), ("b", 26379), ("10.0.0.1", 5)]
    assert (place.service, place.kind, place.tls) == ("main", "sentinel", False)
    login = {"username": "us@er", "password": "p/w:%"}
    assert place.options == {**login, "db": 3, "health_check_interval": 9}
    assert place.sentinel_options == {"username": "guard", "password": "s&c"}


def test_over_tls_its_options_hold_for_the_sentinels_too():
    place = Place("rediss+sentinel://a/main?ssl_ca_certs=/ca.pem&ssl_check_hostname=no&client_name=x")
    tls = {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    assert place.tls
    assert place.options == {**tls, "client_name": "x"}
    assert place.sentinel_options == tls


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://:secret@h/x", "database"),
        ("redis://:secret@h/-1", "database"),
        ("redis://:secret@h/0/1", "database"),
        ("redis://:secret@h?db=x", "database"),
        ("redis://:secret@h?db=-1", "database"),
        ("redis://:secret@h?foo=bar", "no option 'foo'"),
        ("redis://h?password=secret&foo=bar", "no option 'foo'"),
        ("redis://h?sentinel_password=secret", "no option 'sentinel_password'"),
        ("redis://:secret@h?ssl_ca_certs=/x", "rediss"),
        ("redis://:secret@h?socket_timeout=3", "timeout="),
        ("redis://:secret@h?retry_on_timeout=yes", "no option 'retry_on_timeout'"),
        ("redis://:secret@h?health_check_interval=often", "health_check_interval"),
        ("redis://:secret@h?db=", "database"),
        ("redis://:secret@h?password", "name=value"),
        ("redis://:secret@h:port/0", "host"),
        ("redis://:secret@h:99999/0", "host"),
        ("redis://:secret@[::1/0", "host"),
        ("redis://:sec/ret@h/0", "%2F"),
        ("redis://:sec?ret@h/0", "%3F"),
        ("redis://:sec#ret@h/0", "%23"),
        ("redis+cluster://:secret@h/1", "database"),
        ("redis+cluster://:secret@h?db=1", "database"),
        ("rediss+cluster://:secret@h?ssl_ca_path=/x", "takes no ssl_ca_path"),
        ("redis+sentinel://:secret@a,b", "service"),
        ("redis+sentinel://:secret@a,,b/main", "host"),
        ("redis+sentinel://:secret@a:x/main", "host"),
        ("redis+sentinel://:secret@a/main/x", "database"),
        ("redis+sentinel://:secret@a/main/0/1", "database"),
        ("redis+sentinel://:secret@a/main?foo=bar", "no option 'foo'"),
        ("redis+sentinel://a/main?sentinel_password=secret&foo=ab", "no option 'foo'"),
    ],
)
def test_nonsense_is_refused_and_no_password_told(url, why):
    with pytest.raises(o.ConfigurationError) as caught:
        RedisStore(url)
    told = str(caught.value)
    assert why in told.rpartition("or a store; ")[2]
    assert not any(part in told for part in ("secret", "sec/", "sec?", "sec#", "ret@"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/0?password=secret",
        "redis+sentinel://u:secret@a/x?sentinel_password=secr@et&client_name=y",
        "redis+sentinel://a/x?sentinel_password=secr@et",
        "redis://u:my_password=secret@h/0",
    ],
)
def test_an_address_is_shown_without_any_password(url):
    told = repr(Address(url))
    assert told.startswith(f"'{url.partition('://')[0]}://")
    assert not any(part in told for part in ("secr", "et'", "et&"))
    assert told in repr(RedisStore(url))


@pytest.mark.parametrize("timeout", [0, -1, "x", None, inf, nan, True])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(o.ConfigurationError, match="timeout takes a number"):
        RedisStore("redis://h", timeout=timeout)


def test_a_timeout_may_be_a_timedelta():
    assert repr(RedisStore("redis://h/0", timeout=timedelta(seconds=2))) == "RedisStore('redis://h/0', timeout=2)"


class Guarded:
    """A primary whose users are known by password, and a Sentinel that asks for another, on IPv6."""

    def __init__(self, folder):
        user = "us@er on >p/w:% ~* &* +@all"
        self.primary = RedisServer(folder, *f"--user {user} --user default off".split())
        port, config = process.free_port(), folder / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1 -::1\ndir {folder}\nsentinel monitor main 127.0.0.1 {self.primary.port} 1\n"
            "sentinel auth-user main us@er\nsentinel auth-pass main p/w:%\n"
            'user default off\nuser guard on ">s&c" ~* &* +@all\n'
        )
        self.sentinel = process.start(["redis-server", str(config), "--sentinel", "--loglevel", "warning"], port=port)
        self.url = f"redis+sentinel://us%40er:p%2Fw%3A%25@[::1]:{port},127.0.0.1:{port}/main/3"

    def stop(self):
        process.stop(self.sentinel)
        self.primary.stop()


@pytest.fixture
def guarded(tmp_path):
    servers = Guarded(tmp_path)
    yield servers
    servers.stop()


@pytest.mark.service("redis")
def test_sentinels_and_primary_ask_for_passwords_of_their_own(guarded):
    store = RedisStore(f"{guarded.url}?sentinel_username=guard&sentinel_password=s%26c", timeout=5)
    policy = o.RateLimit(2, per=600, wait=False, store=store, name="f")

    @o.opero(policy)
    async def g():
        return 1

    assert o.opero(policy)(lambda: 1)() == 1
    assert asyncio.run(g()) == 1
    assert not guard(store).away
    login = ["redis-cli", "-p", str(guarded.primary.port), "--user", "us@er", "--pass", "p/w:%", "--no-auth-warning"]
    kept = subprocess.run([*login, "-n", "3", "dbsize"], capture_output=True, text=True, timeout=30, check=True)
    assert kept.stdout.strip() == "1"
    with pytest.raises(Exception, match=r"(?i)auth|user"):
        RedisStore(guarded.url, timeout=5).ping()
