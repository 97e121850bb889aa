"""Redis over TLS only, with an authority of our own: functions and coroutine functions, limits and caches."""

import asyncio
import datetime as dt
import inspect
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import opero as o
from opero import events
from opero.stores.guard import guard
from opero.stores.redis import RedisStore
from services.redis_servers import RedisServer

pytestmark = pytest.mark.service("redis")


def certificate(folder, name, authority=None):
    """Write a key and a certificate for 127.0.0.1, signed by the authority; without one, by itself as an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing = (subject, key) if authority is None else authority
    now, signs = dt.datetime.now(dt.UTC), authority is None
    uses = dict.fromkeys(inspect.signature(x509.KeyUsage).parameters, False) | {"digital_signature": True}
    made = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signs, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**uses | {"key_cert_sign": signs}), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .sign(signing, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, plain[1], plain[0]))
    return subject, key


class TlsServer(RedisServer):
    def __init__(self, folder):
        certificate(folder, "redis", certificate(folder, "ca"))
        certificate(folder, "stranger")
        files = ["--tls-cert-file", "redis.crt", "--tls-key-file", "redis.key", "--tls-ca-cert-file", "ca.crt"]
        self._folder, self._tls = folder, [*files, "--tls-auth-clients", "no"]
        super().__init__(folder)
        self.url = f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={folder / 'ca.crt'}"

    def start(self):
        files = [str(self._folder / each) if "." in each else each for each in self._tls]
        place = self._command.index("--port")
        self._command[place : place + 2] = ["--port", "0", "--tls-port", str(self.port), *files]
        super().start()


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    server = TlsServer(tmp_path_factory.mktemp("tls"))
    yield server
    server.stop()


def test_limits_and_caches_work_over_tls_for_functions_and_coroutine_functions(tls_server):
    store, ran = RedisStore(tls_server.url, timeout=5), []
    limit = o.RateLimit(3, per=60, wait=False, store=store, name="tls")
    cache = o.Cache(60, backend="redis", url=tls_server.url, namespace="tls", patience=5.0)

    @o.opero(cache, limit)
    def f(x: int) -> int:
        ran.append(x)
        return x

    @o.opero(cache, limit)
    async def g(x: int) -> int:
        ran.append(x)
        return x

    async def main():
        return [await g(5), await g(6), await g(5)]

    assert [f(1), f(1)] == [1, 1]
    assert asyncio.run(main()) == [5, 6, 5]
    with pytest.raises(o.RateLimitedError):
        f(2)
    assert ran == [1, 5, 6]
    assert not guard(store).away


def test_a_server_that_no_authority_of_ours_vouches_for_is_not_asked(tls_server):
    heard = []
    url = tls_server.url.replace("ca.crt", "stranger.crt")

    @o.opero(o.RateLimit(5, wait=False, store=url, name="stranger"))
    def f():
        return 1

    @o.opero(o.Cache(60, backend="redis", url=url, namespace="stranger", patience=5.0))
    def g():
        return 1

    with events.subscribe(heard.append, "opero.store.lost", "opero.cache.backend_failed"):
        assert [f(), f(), g()] == [1, 1, 1]
    assert [event.fields.get("error") for event in heard] == ["ConnectionError", None]
    assert heard[1].fields["reason"] == "connection"


@pytest.fixture
def folder(tmp_path):
    """Two certificates, what is none, and a certificate and its encrypted key in one file."""
    _, key = certificate(tmp_path, "one")
    certificate(tmp_path, "other")
    (tmp_path / "text").write_text("none")
    sealed = serialization.BestAvailableEncryption(b"secret")
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    (tmp_path / "sealed").write_bytes((tmp_path / "one.crt").read_bytes() + text)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("ssl_ca_certs=missing", "ssl_ca_certs"),
        ("ssl_ca_certs=text", "ssl_ca_certs"),
        ("ssl_ca_path=missing", "ssl_ca_path"),
        ("ssl_ca_path=text", "ssl_ca_path"),
        ("ssl_certfile=missing&ssl_keyfile=one.key", "ssl_certfile"),
        ("ssl_certfile=one.crt&ssl_keyfile=missing", "ssl_keyfile"),
        ("ssl_certfile=one.crt&ssl_keyfile=other.key", "ssl_keyfile"),
        ("ssl_certfile=one.crt", "ssl_certfile"),
        ("ssl_keyfile=one.key", "ssl_keyfile"),
        ("ssl_certfile=sealed", "ssl_certfile"),
        ("ssl_certfile=sealed&ssl_password=wrong-one", "ssl_certfile"),
    ],
)
def test_files_that_cannot_be_used_are_refused_when_the_store_is_made(given, field, folder, monkeypatch):
    monkeypatch.chdir(folder)
    url = f"rediss://user:hidden@h/0?{given}"
    makers = (
        lambda: o.RateLimit(5, store=url, name="f"),
        lambda: RedisStore(url),
        lambda: o.opero(o.Cache(60, backend="redis", url=url))(lambda: 1),
    )
    value = given.partition(f"{field}=")[2].partition("&")[0]
    for make in makers:
        with pytest.raises(o.ConfigurationError, match=f"^{field}='{value}': {field} takes a ") as caught:
            make()
        assert (caught.value.field, caught.value.value) == (field, value)
        assert not any(secret in str(caught.value) for secret in ("hidden", "wrong-one"))


@pytest.mark.parametrize(
    "given",
    [
        "ssl_ca_certs=one.crt&ssl_ca_path=.",
        "ssl_certfile=one.crt&ssl_keyfile=one.key",
        "ssl_certfile=sealed&ssl_password=secret",
        "ssl_cert_reqs=none",
    ],
)
def test_those_that_can_are_taken(given, folder, monkeypatch):
    monkeypatch.chdir(folder)
    RedisStore(f"rediss://h/0?{given}")
