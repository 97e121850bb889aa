"""Bytes from a store are data: they never run code, never cross keys, never exceed a size."""

import contextlib
import json
import pickle
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from opero.errors import ConfigurationError
from opero.stores.cache import codecs
from opero.stores.cache.codecs import PICKLE, Codecs
from opero.stores.cache.envelope import COMPRESSED, HEAD, TAG, Envelope, Sheet
from opero.stores.cache.keyring import KeyRing
from opero.stores.cache.trouble import Refused

ADDRESS = b"shop:price:a"
ONE, TWO = KeyRing(b"1" * 32), KeyRing(b"2" * 32, field="encryption_key", least=32)
EVERY = {
    "plain": Envelope(),
    "signed": Envelope(signing=ONE),
    "encrypted": Envelope(encryption=TWO),
    "both": Envelope(signing=ONE, encryption=TWO),
    "compressed": Envelope(signing=ONE, compress_above=0),
    "all": Envelope(signing=ONE, encryption=TWO, compress_above=0),
}
names = pytest.mark.parametrize("name", EVERY)


def sheet(**more):
    return Sheet(created=1.0, soft=2.0, hard=3.0, gone=4.0, **more)


def refused(envelope, data, address=ADDRESS):
    with pytest.raises(Refused) as caught:
        envelope.open(address, data)
    return caught.value.reason


@names
def test_what_was_sealed_is_opened(name):
    marks = frozenset({b"m" * 8, b"n" * 8})
    data = EVERY[name].seal(ADDRESS, sheet(load=0.5, failed=True, codec=3, marks=marks), b"body" * 100)
    found, body = EVERY[name].open(ADDRESS, data)
    assert (body, found.load, found.failed, found.codec, found.marks) == (b"body" * 100, 0.5, True, 3, marks)
    assert (found.created, found.soft, found.hard, found.gone) == (1.0, 2.0, 3.0, 4.0)


@names
def test_every_flipped_bit_and_every_cut_is_refused(name):
    data = EVERY[name].seal(ADDRESS, sheet(marks=frozenset({b"m" * 8})), b"body" * 5)
    for at in range(len(data)):
        for bit in (0, 7):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            assert refused(EVERY[name], bytes(damaged))
        assert refused(EVERY[name], data[:at])
    assert refused(EVERY[name], data + b"x")


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_noise_is_refused(noise):
    for envelope in EVERY.values():
        assert refused(envelope, noise)
        assert refused(envelope, b"OPR\x01" + noise)


@names
def test_an_entry_of_another_key_or_namespace_is_refused(name):
    data = EVERY[name].seal(ADDRESS, sheet(), b"body")
    assert refused(EVERY[name], data, b"shop:price:b") in {"signature", "corrupt"}


@pytest.mark.parametrize(
    ("written", "read", "reason"),
    [
        ("plain", "signed", "unsigned"),
        ("plain", "encrypted", "unencrypted"),
        ("signed", "both", "unencrypted"),
        ("encrypted", "both", "unsigned"),
        ("signed", "plain", "unknown_key"),
        ("encrypted", "plain", "unknown_key"),
    ],
    ids=range(6),
)
def test_the_reader_decides_what_an_entry_must_offer(written, read, reason):
    data = EVERY[written].seal(ADDRESS, sheet(), b"body")
    assert refused(EVERY[read], data) == reason


def test_an_entry_signed_with_a_key_the_reader_does_not_have_is_refused():
    data = Envelope(signing=KeyRing(b"x" * 32)).seal(ADDRESS, sheet(), b"body")
    assert refused(EVERY["signed"], data) == "unknown_key"
    forged = data.replace(data[6:14], ONE.first()[0])
    assert refused(EVERY["signed"], forged) == "signature"


def test_the_first_key_writes_and_all_read():
    ring = KeyRing([b"n" * 32, b"o" * 32])
    old = Envelope(signing=KeyRing(b"o" * 32)).seal(ADDRESS, sheet(), b"body")
    assert Envelope(signing=ring).open(ADDRESS, old)[1] == b"body"
    new = Envelope(signing=ring).seal(ADDRESS, sheet(), b"body")
    assert refused(Envelope(signing=KeyRing(b"o" * 32)), new) == "unknown_key"
    ring.rotate(b"n" * 32, keep=3)  # it has that one
    assert len(ring) == 2
    ring.rotate(b"r" * 32)
    assert Envelope(signing=ring).open(ADDRESS, new)[1] == b"body"
    assert refused(Envelope(signing=ring), old) == "unknown_key"


@pytest.mark.parametrize("field", ["signing_key", "encryption_key"])
def test_no_byte_of_a_key_is_shown_or_pickled(field):
    from opero import Cache

    secret = b"secret-secret-secret-secret-secret"
    policy = Cache(5, backend="redis", url="redis://127.0.0.1/0", **{field: secret})
    assert "secret" not in repr(policy).replace("signing_key", "")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(policy)
    with pytest.raises(ConfigurationError) as caught:
        Cache(5, backend="redis", url="redis://127.0.0.1/0", **{field: b"short"})
    assert "pass" not in repr(Cache(5, backend="redis://user:pass@127.0.0.1/0"))
    assert "short" not in str(caught.value)


def bomb(envelope, size, *, claim=None):
    """A frame of zeros that says it is `claim` bytes, signed as an own entry."""
    body = zstandard.ZstdCompressor(write_content_size=claim is None).compress(bytes(size))
    data = Envelope(signing=envelope.signing).seal(ADDRESS, sheet(codec=2), body)
    flags = data[4] | COMPRESSED
    honest = Envelope(signing=envelope.signing)
    head = HEAD.pack(b"OPR\x01", flags, 2, *HEAD.unpack_from(data)[3:])
    from opero.stores.cache.envelope import _tag

    key = None if honest.signing is None else honest.signing.first()[1]
    return head + _tag(key, head, ADDRESS, body) + body


@pytest.mark.parametrize("name", ["plain", "signed"])
def test_a_bomb_is_refused_before_it_grows(name):
    import tracemalloc

    envelope = Envelope(signing=EVERY[name].signing, inflated=1_000_000)
    data, hidden = bomb(envelope, 50_000_000), bomb(envelope, 50_000_000, claim=0)
    tracemalloc.start()
    try:
        assert refused(envelope, data) == "bomb"
        assert refused(envelope, hidden) == "bomb"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    fine = bomb(envelope, 999_999)
    assert len(envelope.open(ADDRESS, fine)[1]) == 999_999


def test_a_frame_that_holds_more_than_it_says_is_refused():
    envelope = Envelope(signing=ONE, inflated=1_000_000)
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(100_000)))
    at = bytes(frame).index(struct.pack("<I", 100_000))
    frame[at : at + 4] = struct.pack("<I", 10)
    data = bytearray(Envelope(signing=ONE).seal(ADDRESS, sheet(), bytes(frame)))
    data[4] |= COMPRESSED
    head = bytes(data[: HEAD.size])
    from opero.stores.cache.envelope import _tag

    forged = head + _tag(ONE.first()[1], head, ADDRESS, bytes(frame)) + bytes(frame)
    assert refused(envelope, forged) == "corrupt"


# ---- codecs


class Evil:
    ran = False

    def __reduce__(self):
        return setattr, (Evil, "ran", True)


def test_nothing_is_unpickled_that_was_not_signed():
    data = pickle.dumps(Evil())
    for codec in (PICKLE, codecs.ERROR):
        with pytest.raises(Refused, match="unsigned"):
            Codecs(len, authentic=False).load(codec, data)
    assert not Evil.ran


def test_arrays_travel_beside_the_pickle():
    array = np.arange(100_000.0)
    codec, data = Codecs(len, authentic=True).dump({"a": array})
    assert codec == PICKLE
    assert len(data) < array.nbytes + 1000
    back = Codecs(len, authentic=True).load(codec, data)["a"]
    assert np.array_equal(back, array)
    assert back.flags.writeable


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4, 9])
@given(noise=st.binary(max_size=60).filter(lambda noise: b"\xff" not in noise))  # MessagePack's time: a datetime
@settings(max_examples=50)
def test_noise_under_a_signature_is_refused_or_a_plain_value(codec, noise):
    with contextlib.suppress(Refused):
        value = Codecs(len, authentic=True).load(codec, noise)
        assert isinstance(value, codecs.Frozen) or codecs.exact(value, codecs.KEYS) or codec == PICKLE


@pytest.mark.parametrize("noise", [b"\xd5\x00\x00\x00", b"\x91\xd4\x05a", b"\xc7\x03\x01abc"])
def test_an_extension_of_messagepack_is_refused(noise):
    with pytest.raises(Refused, match="codec"):
        Codecs(len, authentic=False).load(codecs.PLAIN, noise)


def test_json_takes_over_where_msgspec_is_missing(monkeypatch):
    monkeypatch.setattr(codecs, "_msgspec", lambda: None)
    plain = Codecs(len, authentic=False)
    for value in (None, True, 2**70, 1.5, "ü", [1, {"a": []}]):
        codec, data = plain.dump(value)
        assert codec == codecs.JSON
        assert json.loads(data) == plain.load(codec, data) == value
    for value in (b"b", {1: 2}, (1,)):
        with pytest.raises(Refused, match="codec"):
            plain.dump(value)


def test_the_tag_is_where_it_is_said_to_be():
    data = EVERY["signed"].seal(ADDRESS, sheet(), b"body")
    assert len(data) == HEAD.size + TAG + len(b"body")
