"""An entry that is not what was stored is a miss, and an event says so."""

import sqlite3

import pytest
from caches import KEY, cached, counted, name_in, place, reasons

import opero as o
from opero.stores.cache.envelope import INFLATED, Envelope
from opero.stores.cache.named import key_of, lease_of


def tampered(data, how, f):
    shelf = place(f).shelf
    if how == "truncated":
        return data[: len(data) // 2]
    if how == "empty":
        return b""
    if how == "flipped":
        return data[:-1] + bytes([data[-1] ^ 1])
    if how == "older":
        return b"OPR\x00" + data[4:]
    if how == "foreign":
        return b"\x80\x05\x95 some pickle of another library"
    address = shelf._address(f.opero.cache._around.keys.full(f.opero.cache._key((1,), {})))
    sheet, body = shelf._envelope.open(address, data)
    ring = shelf._envelope.signing
    other = {
        "unsigned": Envelope(),
        "another_key": Envelope(signing=type(ring)(b"x" * 32)),
        "downgraded": Envelope(signing=ring),
        "bomb": Envelope(signing=ring, encryption=shelf._envelope.encryption, compress_above=0, inflated=2 * INFLATED),
    }[how]
    return other.seal(address, sheet, bytes(INFLATED + 1) if how == "bomb" else body)


TAMPERED = {
    "truncated": {"truncated", "signature"},
    "empty": {"foreign"},
    "flipped": {"signature"},
    "foreign": {"foreign"},
    "unsigned": {"unsigned"},
    "another_key": {"unknown_key"},
    "older": {"version"},
    "downgraded": {"unencrypted"},
    "bomb": {"bomb"},
}


def keys_for(how):
    return {"signing_key": KEY} | ({"encryption_key": KEY} if how == "downgraded" else {})


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_entry_on_disk_is_a_miss_and_heals(how, tmp_path, heard):
    f, made = cached(backend="disk", directory=tmp_path / "c", **keys_for(how), patience=5.0)
    f(1)
    db = sqlite3.connect(place(f).shelf.store.path)
    (data,) = db.execute("select data from entries").fetchone()
    db.execute("update entries set data = ?", (tampered(data, how, f),))
    db.commit()
    db.close()
    assert (f(1), f(1), made) == (10, 10, [1, 1])
    (reason,) = reasons(heard, "entry_refused")
    assert reason in TAMPERED[how]
    assert f.opero.cache.stats()["errors"] == 1


@pytest.mark.service("redis")
@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_entry_in_redis_is_a_miss_and_heals(how, server, heard):
    import redis

    f, made = cached(backend="redis", url=server.url, namespace=f"t-{how}", **keys_for(how), patience=5.0)
    f(1)
    with redis.Redis.from_url(server.url) as client:
        key = key_of(name_in(f, 1))
        client.set(key, tampered(client.get(key), how, f))
    assert (f(1), f(1), made) == (10, 10, [1, 1])
    (reason,) = reasons(heard, "entry_refused")
    assert reason in TAMPERED[how]


def test_an_entry_moved_to_another_key_is_not_believed(tmp_path, heard):
    f, made = cached(backend="disk", directory=tmp_path / "c", signing_key=KEY, patience=2.0)
    f(1)
    f(2)
    db = sqlite3.connect(place(f).shelf.store.path)
    (data,) = db.execute("select data from entries where name = ?", (name_in(f, 1),)).fetchone()
    db.execute("update entries set data = ? where name = ?", (data, name_in(f, 2)))
    db.commit()
    db.close()
    assert (f(2), made) == (20, [1, 2, 2])
    assert reasons(heard, "entry_refused") == ["signature"]


def test_names_tell_no_arguments_and_differ_by_key(tmp_path):
    secret = "4000-0000-0000-0002"
    f, _ = cached(backend="disk", directory=tmp_path / "c", signing_key=KEY, encryption_key=KEY)
    g = o.opero(o.Cache(60, backend="disk", directory=tmp_path / "c", signing_key=b"x" * 32))(f.__wrapped__)
    f(secret)
    assert name_in(f, secret) != name_in(g, secret)
    place(f).shelf.store.close()
    assert all(secret.encode() not in path.read_bytes() for path in (tmp_path / "c").iterdir())


@pytest.mark.service("redis")
@pytest.mark.parametrize("near", [None, 1.0])
@pytest.mark.parametrize("kind", ["v1", "lease", "tag"])
def test_a_value_of_another_type_under_our_name_is_foreign_and_goes(kind, near, server, heard):
    import redis

    namespace = f"w-{kind}-{near}"
    policy = o.Cache(60, tags="t", backend="redis", url=server.url, namespace=namespace, near=near, patience=5.0)
    f, made = counted(policy)
    with redis.Redis.from_url(server.url) as client:
        plant = {
            "v1": key_of(name_in(f, 1)),
            "lease": lease_of(name_in(f, 1)),
            "tag": key_of(place(f).shelf.marks("t")[0]),
        }
        for number in (1, 2):
            f.opero.cache.invalidate(1)
            client.delete(plant[kind])
            client.rpush(plant[kind], "somebody", "else's")
            assert (f(1), f(1), made) == (number, number, [1] * number)
            assert client.type(plant[kind]) != b"list"
    assert reasons(heard, "entry_refused") == ["foreign"] * 2
    assert reasons(heard) == []
    assert not place(f).shelf._guard.doubts
    assert f.opero.cache.stats()["errors"] == 2


@pytest.mark.service("redis")
def test_a_value_of_another_type_is_no_obstacle_to_tasks_nor_by_hand(server, heard):
    import asyncio

    import redis

    policy = o.Cache(60, backend="redis", url=server.url, namespace="w-tasks", patience=5.0)

    @o.opero(policy)
    async def f(x):
        return x * 10

    async def main(client):
        names = {x: key_of(name_in(f, x)) for x in range(10)}
        for x in (3, 5, 8):
            client.rpush(names[x], "somebody else's")
        assert await asyncio.gather(*(f(x) for x in range(10))) == [x * 10 for x in range(10)]
        assert sorted(client.type(name) for name in names.values()) == [b"string"] * 10
        for x in (3, 5):
            client.delete(names[x])
            client.rpush(names[x], "somebody else's")
        assert await f.opero.cache.get_many(range(3, 6)) == [None, 40, None]
        await f.opero.cache.set(1, 3)
        assert await f.opero.cache.get(3) == 1

    with redis.Redis.from_url(server.url) as client:
        asyncio.run(main(client))
    assert set(reasons(heard, "entry_refused")) == {"foreign"}
    assert not place(f).shelf._guard.doubts
