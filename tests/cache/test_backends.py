"""One suite for every backend: a model of what a cache is, and what every one of them must do."""

import asyncio
import dataclasses
import itertools
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

import opero as o
from opero import events, testing

LOCAL = ["memory", "memory-lru"]
DISK = ["disk", "disk-signed", "disk-both"]
REDIS = [
    pytest.param(name, marks=pytest.mark.service("redis")) for name in ("redis", "redis-signed", "redis-encrypted")
]
DISTANT = [*DISK, *REDIS]
ALL = [*LOCAL, *DISTANT]
serial = itertools.count()

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 3)),
        st.tuples(st.just("call"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 4.0, 9.9, 10.0])),
        st.tuples(st.just("invalidate"), st.integers(0, 3)),
        st.tuples(st.just("tag"), st.sampled_from(["even", "n:0", "n:1", "nobody"])),
        st.tuples(st.just("set"), st.integers(0, 3)),
        st.tuples(st.just("refresh"), st.integers(0, 3)),
        st.tuples(st.just("bypass"), st.integers(0, 3)),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("contains"), st.integers(0, 3)),
    ),
    max_size=25,
)


class Model:
    """A dict with lifetimes: what every backend must be like."""

    def __init__(self, time):
        self.time, self.known, self.calls = time, {}, 0

    def get(self, x):
        value, born = self.known.get(x, (None, None))
        return value if born is not None and self.time.now() < born + 10 else None

    def load(self, x):
        self.calls += 1
        self.known[x] = ([x, self.calls], self.time.now())

    def kill(self, tag):
        self.known = {x: known for x, known in self.known.items() if tag not in tags(x)}


def tags(x):
    return [f"n:{x}", *(["even"] if x % 2 == 0 else [])]


def freeze_servers_clock(function):
    """Let ages follow the virtual clock: the server's own cannot be moved."""
    place = function.opero.cache._around.place
    store = getattr(getattr(place, "shelf", None), "store", None)
    if getattr(store, "name", "") == "redis":
        store._offset, store._synced = 0.0, float("inf")


@pytest.mark.parametrize("backend", ALL)
def test_every_backend_is_like_the_model(backend, settings):
    @how(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(STEPS)
    def run(steps):
        with testing.clock() as time:
            model, made = Model(time), []
            policy = o.Cache(10, tags=tags, namespace=f"model{next(serial)}", **settings(backend))

            @o.opero(policy)
            def f(x: int) -> list[int]:
                made.append(x)
                return [x, len(made)]

            freeze_servers_clock(f)
            for step, value in steps:
                follow(step, value, f, (model, time, made))
                assert len(made) == model.calls

    run()


def follow(step, x, f, world):
    model, time, made = world
    cache = f.opero.cache
    if step == "call":
        if model.get(x) is None:
            model.load(x)
        assert f(x) == model.get(x)
    elif step == "wait":
        time.advance(x)
    elif step == "invalidate":
        cache.invalidate(x)
        model.known.pop(x, None)
    elif step == "tag":
        cache.invalidate_tag(x)
        model.kill(x)
    elif step == "set":
        cache.set(["mine", x], x)
        model.known[x] = (["mine", x], time.now())
    elif step == "refresh":
        with cache.refresh():
            model.load(x)
            assert f(x) == model.get(x)
    elif step == "bypass":
        with cache.bypass():
            model.calls += 1
            assert f(x) == [x, len(made)]
    elif step == "clear":
        cache.clear()
        model.known.clear()
    else:
        assert cache.contains(x) == (model.get(x) is not None)
        assert cache.get(x) == model.get(x)


def counted(policy, answer=None):
    made = []

    @o.opero(policy)
    def f(x=0):
        made.append(x)
        return len(made) if answer is None else answer

    return f, made


def space():
    return f"test{next(serial)}"


@pytest.mark.parametrize("backend", ALL)
def test_a_coroutine_function_is_served_alike(backend, settings):
    made = []

    @o.opero(o.Cache(60, tags="t", namespace=space(), **settings(backend)))
    async def f(x):
        made.append(x)
        await asyncio.sleep(0.01)
        return x

    async def main():
        assert await asyncio.gather(*(f(1) for _ in range(100))) == [1] * 100
        assert made == [1]
        assert await f(1) == 1
        await f.opero.cache.invalidate_tag("t")
        assert await f(1) == 1
        assert await f.opero.cache.get(1) == 1
        assert await f.opero.cache.invalidate(1)
        assert not await f.opero.cache.contains(1)
        await f.opero.cache.clear()

    asyncio.run(main())
    assert made == [1, 1]


@pytest.mark.parametrize("backend", DISTANT)
def test_what_one_stores_another_finds(backend, settings):
    namespace = space()
    f, made = counted(o.Cache(60, namespace=namespace, **settings(backend)))
    assert f(1) == 1
    g = o.opero(o.Cache(60, namespace=namespace, **settings(backend)))(f.__wrapped__)
    assert (g(1), made) == (1, [1])
    assert g.opero.cache.stats()["hits"] == 1
    f.opero.cache.invalidate(1)
    assert (g(1), made) == (2, [1, 1])


@pytest.mark.parametrize("backend", DISTANT)
def test_a_stale_entry_answers_while_one_call_loads_anew(backend, settings):
    with testing.clock() as time:
        f, _ = counted(o.Cache(60, soft_ttl=10, namespace=space(), **settings(backend)))
        freeze_servers_clock(f)
        assert f() == 1
        time.advance(10)
        assert f() == 1
        state = f.opero.policies[0].state
        for _ in range(2000):
            if not state._refreshes:
                break
            time._real_wait(threading.Event(), 0.002)
        assert f() == 2
        assert f.opero.cache.stats()["stale"] == 1


@pytest.mark.parametrize("backend", DISTANT)
def test_an_expired_entry_answers_for_a_failing_function(backend, settings):
    with testing.clock() as time:
        answers = iter([7, OSError()])

        @o.opero(o.Cache(10, stale_if_error=50, namespace=space(), **settings(backend)))
        def f():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        freeze_servers_clock(f)
        f()
        time.advance(20)
        assert f() == 7


@pytest.mark.parametrize("backend", ["disk-signed", pytest.param("redis-signed", marks=pytest.mark.service("redis"))])
def test_an_error_is_kept_in_a_signed_store_where_asked_for(backend, settings):
    made = []

    @o.opero(o.Cache(60, errors=KeyError, error_ttl=60, namespace=space(), **settings(backend)))
    def f():
        made.append(1)
        raise KeyError("no")

    for _ in range(3):
        with pytest.raises(KeyError, match="no"):
            f()
    assert made == [1]


@dataclasses.dataclass
class Point:
    x: int
    y: float


VALUES = [
    None, True, 7, -(2**62), 1.5, "ü", b"bytes", [1, [2, None]], {"a": {"b": [1.0]}}, {1: 2, b"k": "v"}, [], {},
    float("inf"), "x" * 100_000,
]  # fmt: skip
RICH = [2**70, (1, 2), {1, 2}, Point(1, 2.0), np.arange(1000.0).reshape(10, 100), {"a": (1, {2})}, 1 + 2j]


@pytest.mark.parametrize("backend", DISTANT)
def test_plain_values_come_back_the_same(backend, settings):
    policy = o.Cache(60, namespace=space(), **settings(backend))
    for n, value in enumerate(VALUES):

        @o.opero(policy)
        def f(n, value=value):
            f.calls += 1
            return value

        f.calls = 0
        f.opero.cache.clear()
        first, second = f(n), f(n)
        assert (type(second), second, f.calls) == (type(first), first, 1)


@pytest.mark.parametrize("backend", ["disk-signed", "disk-both"])
def test_any_value_comes_back_the_same_where_entries_are_signed(backend, settings):
    for value in RICH:
        f, made = counted(o.Cache(60, namespace=space(), **settings(backend)), value)
        first, second = f(), f()
        assert type(second) is type(first)
        assert np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second
        assert made == [0]
        if isinstance(second, np.ndarray):
            second[0, 0] = 7  # as writable as the function's own
            assert f()[0, 0] == 0


@pytest.mark.parametrize("backend", ["disk"])
def test_a_value_that_would_not_come_back_the_same_is_not_stored_and_told(backend, settings):
    for value in RICH:
        heard = []
        f, made = counted(o.Cache(60, namespace=space(), **settings(backend)), value)
        with events.subscribe(heard.append, "opero.cache.backend_failed"):
            f()
            f()
        assert made == [0, 0]
        assert [e.fields["reason"] for e in heard] == ["codec"] * 2


def test_declared_types_need_no_signature(settings):
    policy = o.Cache(60, namespace=space(), **settings("disk"))

    @o.opero(policy)
    def f(x: int) -> Point:
        f.calls += 1
        return Point(x, 0.5)

    f.calls = 0
    assert f(1) == f(1) == Point(1, 0.5)
    assert f.calls == 1


@pytest.mark.service("redis")
def test_a_thousand_tasks_with_keys_of_their_own_need_few_connections(redis_server):
    import redis

    policy = o.Cache(60, backend="redis", url=redis_server.url, namespace="many", patience=5.0)
    made = []

    @o.opero(policy)
    async def f(x):
        made.append(x)
        return x

    async def main():
        for _ in range(2):
            assert await asyncio.gather(*(f(n) for n in range(1000))) == list(range(1000))
        with redis.Redis.from_url(redis_server.url) as client:
            return len(client.client_list())

    assert asyncio.run(main()) <= 5
    assert len(made) == 1000


class Plain:
    """A store as a user would write one."""

    def __init__(self):
        self.held = {}

    def get(self, name):
        return self.held.get(name)

    def set(self, name, data, seconds):
        assert isinstance(data, bytes)
        assert seconds > 0
        self.held[name] = data

    def delete(self, name):
        self.held.pop(name, None)


class Async:
    def __init__(self):
        self.inner = Plain()

    async def get(self, name):
        await asyncio.sleep(0)
        return self.inner.get(name)

    async def set(self, name, data, seconds):
        self.inner.set(name, data, seconds)

    async def delete(self, name):
        self.inner.delete(name)


def test_a_store_of_ones_own_needs_three_methods():
    f, made = counted(o.Cache(60, tags="t", backend=Plain(), signing_key=b"k" * 32))
    assert (f(1), f(1), made) == (1, 1, [1])
    assert f.opero.cache.invalidate(1)
    assert (f(1), f(1)) == (2, 2)
    f.opero.cache.invalidate_tag("t")
    assert f(1) == 3
    with pytest.raises(o.CacheError, match=r"no clear\(prefix\)"):
        f.opero.cache.clear()


@pytest.mark.parametrize("kind", [Plain, Async])
def test_a_coroutine_function_takes_plain_and_async_stores(kind):
    made = []

    @o.opero(o.Cache(60, backend=kind()))
    async def f(x):
        made.append(x)
        return x

    async def main():
        return await asyncio.gather(*(f(1) for _ in range(10))), await f(1)

    assert asyncio.run(main()) == ([1] * 10, 1)
    assert made == [1]


def test_a_store_of_ones_own_that_fails_is_told_and_the_function_runs():
    class Broken(Plain):
        def get(self, name):
            raise ZeroDivisionError

    heard = []
    f, made = counted(o.Cache(60, backend=Broken()))
    with events.subscribe(heard.append, "opero.cache.backend_failed"):
        assert [f(1), f(1)] == [1, 2]
    assert [(e.fields["backend"], e.fields["reason"]) for e in heard] == [("Broken", "ZeroDivisionError")] * 2
    assert made == [1, 1]
    with pytest.raises(o.ConfigurationError, match="get, set and delete"):
        o.Cache(60, backend=object())


@pytest.mark.service("redis")
def test_the_address_of_redis_is_given_by_keyword_or_by_the_environment(redis_server, monkeypatch):
    made = []
    monkeypatch.setenv("OPERO_REDIS_URL", redis_server.url)
    for backend in ("redis", redis_server.url):

        @o.opero(cache_ttl=60, cache_backend=backend, cache_namespace="short", retries=0)
        def f(x):
            made.append(x)
            return x

        assert f(1) == 1
    assert made == [1]
    assert redis_server.cli("dbsize") == "1"


@pytest.mark.service("redis")
def test_redis_is_spoken_to_over_tls(tmp_path):
    from services.process import free_port
    from services.redis_servers import RedisServer

    certificate, key = self_signed(tmp_path)
    port = free_port()
    secure = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    secure += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    server = RedisServer(tmp_path, *secure)
    try:
        for trusted, hits in ((f"?ssl_ca_certs={certificate}", 1), ("", 0)):
            url = f"rediss://127.0.0.1:{port}/0{trusted}"
            f, _ = counted(o.Cache(60, backend="redis", url=url, namespace=f"tls{hits}", patience=5.0))
            f(1)
            f(1)
            assert f.opero.cache.stats()["hits"] == hits  # an unknown certificate is an outage, not a shrug
    finally:
        server.stop()


def self_signed(folder):
    """Write a certificate for 127.0.0.1 and its key."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = made.add_extension(address, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = made.sign(key, hashes.SHA256())
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return pem, secret
