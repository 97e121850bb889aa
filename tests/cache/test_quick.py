"""The short way to an entry in Redis: as right as the long one, and one trip for all who ask in one turn of a loop."""

import asyncio
import threading
import time

import pytest
import redis

import opero as o

pytestmark = pytest.mark.service("redis")


def counted(url, *, values=lambda x: x * 10, patience=2.0, **more):
    made = []
    policy = o.Cache(60, backend="redis", url=url, namespace="quick", patience=patience, **more)

    @o.opero(policy)
    def f(x):
        made.append(x)
        return values(x)

    @o.opero(policy)
    async def g(x):
        made.append(x)
        return values(x)

    return f, g, made


def said(server, section, field):
    line = next(line for line in server.cli("info", section).splitlines() if line.startswith(field))
    return int(line.replace("=", ":").split(":")[1 if field[-1] == ":" else 2].split(",")[0])


def gets(server):
    return said(server, "commandstats", "cmdstat_get")


def test_a_hit_is_one_get_and_nothing_else(redis_server):
    f, _, made = counted(redis_server.url)
    assert [f(n) for n in (1, 1)] == [10, 10]
    before, commands = gets(redis_server), said(redis_server, "stats", "total_commands_processed:")
    assert [f(1) for _ in range(20)] == [10] * 20
    assert gets(redis_server) - before == 20
    assert said(redis_server, "stats", "total_commands_processed:") - commands < 20 + 10  # those of redis-cli
    assert made == [1]
    assert f.opero.cache.stats()["hits"] == f.opero.stats()["cached"] == 21
    assert f.opero.stats()["p50"] > 0  # a trip takes time


def test_what_a_hundred_tasks_ask_at_once_goes_out_together(redis_server):
    _, g, made = counted(redis_server.url)

    async def main():
        assert await asyncio.gather(*(g(n) for n in range(100))) == [n * 10 for n in range(100)]
        await g(0)
        before, reads = gets(redis_server), said(redis_server, "stats", "total_reads_processed:")
        assert await asyncio.gather(*(g(n) for n in range(100))) == [n * 10 for n in range(100)]
        assert gets(redis_server) - before == 100
        assert said(redis_server, "stats", "total_reads_processed:") - reads < 20

    asyncio.run(main())
    assert sorted(made) == list(range(100))
    asyncio.run(main())  # another loop, another line
    assert g.opero.stats()["active"] == 0


def test_answers_of_any_size_find_who_asked_for_them(redis_server):
    f, g, _ = counted(redis_server.url, values=lambda x: "é" * x)
    sizes = [0, 1, 70_000, 3, 1_000_000, 5]

    async def main():
        for _ in range(3):
            assert [len(v) for v in await asyncio.gather(*map(g, sizes * 5))] == sizes * 5

    asyncio.run(main())
    assert [len(f(size)) for size in sizes * 2] == sizes * 2


def test_a_cancelled_task_leaves_its_answer_to_nobody(redis_server):
    _, g, _ = counted(redis_server.url)

    async def main():
        await asyncio.gather(*map(g, range(50)))
        await g(0)
        for turn in range(20):
            tasks = [asyncio.create_task(g(n)) for n in range(50)]
            for _ in range(turn % 3):
                await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(answers[n] == n * 10 for n in range(50) if n % 3)
            assert all(isinstance(a, asyncio.CancelledError) or a == n * 10 for n, a in enumerate(answers))

    asyncio.run(main())
    stats = g.opero.stats()
    assert stats["active"] == 0
    assert stats["cancelled"] > 0


def test_a_task_that_is_cut_off_counts_as_cancelled(redis_server):
    _, g, made = counted(redis_server.url)

    async def main():
        await g(1), await g(1)
        redis_server.pause()
        task = asyncio.create_task(g(1))
        await asyncio.sleep(0.05)
        assert g.opero.stats()["active"] == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        redis_server.resume()
        assert await g(1) == 10

    asyncio.run(main())
    assert (g.opero.stats()["cancelled"], made) == (1, [1])


def test_more_threads_than_connections_all_get_their_answers(redis_server):
    f, _, made = counted(redis_server.url)
    f(1), f(1)
    answers = []

    def ask():
        answers.extend(f(1) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers, made) == ([10] * 800, [1])
    assert said(redis_server, "clients", "connected_clients:") <= 60


def test_a_server_that_began_anew_is_asked_anew(redis_server):
    f, g, made = counted(redis_server.url)

    async def main():
        assert [await g(1), await g(1), f(1), f(1)] == [10] * 4
        redis_server.kill()
        redis_server.start()
        until = time.monotonic() + 20
        while f.opero.cache.stats()["hits"] < 10 or g.opero.cache.stats()["hits"] < 10:
            assert [await g(2), f(2)] == [20, 20]
            assert time.monotonic() < until
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert made.count(1) == 2  # one each: two functions


def test_what_is_no_text_is_left_to_the_long_way(redis_server):
    f, _, made = counted(redis_server.url)
    f(1), f(1)
    client = redis.Redis.from_url(redis_server.url)
    (key,) = client.keys("opero:quick:v1:*")
    client.delete(key)
    client.rpush(key, "foreign")
    assert (f(1), made) == (10, [1, 1])
    assert f.opero.cache.stats()["errors"] == 1
    client.delete(key)
    assert (f(1), f(1), made) == (10, 10, [1, 1, 1])


def test_keys_rotated_meanwhile_are_asked_for_by_their_new_names(redis_server):
    ring = o.KeyRing([b"k" * 32])
    f, _, made = counted(redis_server.url, signing_key=ring)
    f(1), f(1)
    ring.rotate(b"n" * 32)
    assert (f(1), f(1), f(2), f(2), made) == (10, 10, 20, 20, [1, 2])
    ring.rotate(b"o" * 32, keep=1)
    assert (f(2), f(2), made) == (20, 20, [1, 2, 2])


def test_an_entry_is_checked_once_while_its_bytes_stay_the_same(redis_server, monkeypatch):
    keys = {"signing_key": b"k" * 32, "encryption_key": o.KeyRing([b"e" * 32], field="encryption_key", least=32)}
    f, _, made = counted(redis_server.url, values=lambda x: [x] * x, **keys)
    envelope = f.opero.cache._around.place.shelf._envelope
    opened, open_ = [], type(envelope).open
    monkeypatch.setattr(type(envelope), "open", lambda *args: opened.append(len(args[2])) or open_(*args))
    for n in (3, 3000):
        f(n), f(n)
        f(n).append("mine")  # everyone gets a list of their own
        assert [f(n), f(n)] == [[n] * n] * 2
    assert len([size for size in opened if size < 1024]) == 1
    assert len([size for size in opened if size > 1024]) >= 4  # too large to be kept
    client = redis.Redis.from_url(redis_server.url)
    names = client.keys("opero:quick:v1:*")
    for name in names:
        data = bytearray(client.get(name))
        data[-1] ^= 1
        client.set(name, bytes(data))
    assert (f(3), made) == ([3] * 3, [3, 3000, 3])
    assert f.opero.cache.stats()["errors"] == 1
    before = len(opened)
    keys["encryption_key"].rotate(b"f" * 32, keep=1)
    assert (f(3), made) == ([3] * 3, [3, 3000, 3, 3])  # what it was sealed with is gone
    assert len(opened) > before


def test_bytes_that_stay_the_same_expire_all_the_same(redis_server):
    f, _, made = counted(redis_server.url)
    f(1), f(1)
    f.opero.cache._around.place.shelf.store._offset += 61
    assert (f(1), made) == (10, [1, 1])


def test_an_entry_and_its_tags_are_asked_for_at_once(redis_server):
    policy = o.Cache(60, tags=["all", "n:{x}", "k:{k}"], backend="redis", url=redis_server.url, patience=2.0)
    made = []

    @o.opero(policy)
    def f(x, *, k=0):
        made.append((x, k))
        return x

    @o.opero(policy)
    async def g(x, /, k=0):
        made.append((x, k))
        return x

    async def main():
        assert await asyncio.gather(*(g(n) for n in range(50))) == list(range(50))
        await g(0)
        before = said(redis_server, "stats", "total_reads_processed:"), gets(redis_server)
        assert await asyncio.gather(*(g(n) for n in range(50))) == list(range(50))
        assert gets(redis_server) - before[1] == 200
        assert said(redis_server, "stats", "total_reads_processed:") - before[0] < 20
        await g.opero.cache.invalidate_tag("n:3")
        assert [await g(n) for n in (2, 3, 3)] == [2, 3, 3]

    assert [f(1), f(1, k=5), f(1, k=0), f([7]), f([7])] == [1, 1, 1, [7], [7]]
    before, commands = gets(redis_server), said(redis_server, "stats", "total_commands_processed:")
    assert [f(1) for _ in range(10)] == [1] * 10
    assert gets(redis_server) - before == 40
    assert said(redis_server, "stats", "total_commands_processed:") - commands < 40 + 10
    assert made == [(1, 0), (1, 5), ([7], 0)]
    f.opero.cache.invalidate_tag("k:5")
    assert [f(1), f(1, k=5), f(1, k=5)] == [1] * 3
    assert made[3:] == [(1, 5)]
    redis_server.cli("del", redis_server.cli("--scan", "--pattern", "*:tag:*").split()[0])  # an evicted mark
    made.clear()
    f(1), f(1, k=5), f([7])
    assert len(made) <= 3
    made.clear()
    asyncio.run(main())
    assert made == [*((n, 0) for n in range(50)), (3, 0)]


def test_answers_in_pieces_are_put_together():
    from opero.stores.cache.quick import MORE, UNASKED, bulk

    data = b"$3\r\nabc\r\n$-1\r\n$0\r\n\r\n-ERR no\r\n"
    found, at = [], 0
    for end in range(len(data) + 1):
        while (answer := bulk(data[:end], at))[0] is not MORE:
            found.append(answer[0])
            at = answer[1]
            if at == len(data):
                break
        else:
            assert at + answer[1] <= len(data)  # it never waits for more than there will be
    assert found == [b"abc", None, b"", UNASKED]


def test_names_made_before_keys_rotated_are_not_kept_among_those_made_after(redis_server):
    ring = o.KeyRing([b"k" * 32])
    f, _, _ = counted(redis_server.url, signing_key=ring)
    look, key = f.opero.cache._around.place.look, f.opero.cache._key
    place = look._place

    def rotated_meanwhile(asked):
        names = place(asked)
        look._place = place
        ring.rotate(b"n" * 32, keep=1)
        look._known_of(key((2,), {}))  # another thread asks
        return names

    look._place = rotated_meanwhile
    before = look._known_of(key((1,), {})).question
    after = look._known_of(key((1,), {})).question
    assert after != before
    assert after == type(look._known_of(key((1,), {})))(*place(key((1,), {}))).question


def test_large_keys_are_not_remembered(redis_server):
    f, _, made = counted(redis_server.url, values=lambda x: 1)
    look = f.opero.cache._around.place.look
    for _ in range(2):
        assert f("x" * 10_000) == 1
        assert look._known_of(f.opero.cache._key(("x" * 10_000,), {})).count == 1
        assert look._known_of(f.opero.cache._key(("x",), {})).count == 1
    assert [len(key[-1]) for key in look._known] == [1]
    assert len(made) == 1
