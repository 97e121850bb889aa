"""A call whose key or tags cannot be made runs uncached, and an event says so: never a failure, never a lost end."""

import asyncio

import pytest
from caches import DISTANT, counted, space

import opero as o

ALL = ["memory", "memory-lru", *DISTANT]


class User:
    def __init__(self, number):
        self.id = number

    def __opero_key__(self):
        return self.id


class Keyless:
    def __opero_key__(self):
        return self.nothing


def told(heard):
    return [(fields["part"], fields["error"]) for name, fields in heard if name == "key_failed"]


@pytest.mark.parametrize("backend", ALL)
def test_a_call_whose_tags_cannot_be_filled_runs_uncached(backend, settings, heard):
    f, made = counted(o.Cache(60, tags="user:{x.id}", namespace=space(), **settings(backend)))
    assert [f(None), f(None), f("text")] == [1, 2, 3]
    assert told(heard) == [("tags", "AttributeError")] * 3
    assert f.opero.cache.stats()["errors"] == 3
    assert [f(User(7)), f(User(7))] == [4, 4]
    f.opero.cache.invalidate_tag("user:7")
    assert f(User(7)) == len(made) == 5


@pytest.mark.parametrize("backend", ["memory", pytest.param("redis", marks=pytest.mark.service("redis"))])
def test_tasks_share_a_load_whose_tags_cannot_be_filled(backend, settings, heard):
    made = []

    @o.opero(o.Cache(60, tags="user:{x.id}", namespace=space(), **settings(backend)))
    async def f(x):
        made.append(x)
        await asyncio.sleep(0.01)
        return len(made)

    async def main():
        assert await asyncio.gather(f(None), f(None)) == [1, 1]
        assert await f(None) == 2

    asyncio.run(main())
    assert told(heard) == [("tags", "AttributeError")] * 2


@pytest.mark.parametrize(
    ("tags", "error"),
    [
        (lambda x: 1 / 0, "ZeroDivisionError"),
        (lambda x: None, "TypeError"),
        (lambda x: ["n", x], "TypeError"),
        (lambda x: [b"n"], "TypeError"),
    ],
    ids=["raises", "nothing", "no-text", "bytes"],
)
def test_tags_that_a_function_does_not_tell_as_texts_are_none(tags, error, heard):
    f, _ = counted(o.Cache(60, tags=tags))
    assert [f(1), f(1)] == [1, 2]
    assert told(heard) == [("tags", error)] * 2


def test_one_text_that_a_function_tells_is_one_tag():
    f, _ = counted(o.Cache(60, tags=lambda x: f"user:{x}"))
    assert [f(1), f(1)] == [1, 1]
    f.opero.cache.invalidate_tag("user:1")
    assert f(1) == 2


@pytest.mark.parametrize("tag", [1, None, ["n"], b"n"])
def test_only_a_text_ends_a_tag(tag):
    f, _ = counted(o.Cache(60, tags="n"))
    with pytest.raises(TypeError, match="a tag is a text, not"):
        f.opero.cache.invalidate_tag("n", tag)


@pytest.mark.parametrize("backend", ALL)
def test_a_call_whose_key_cannot_be_made_runs_uncached(backend, settings, heard):
    for key in ("{x.id}", lambda x: x.id):
        f, _ = counted(o.Cache(60, key=key, namespace=space(), **settings(backend)))
        assert [f(None), f(None), f(User(1)), f(User(1))] == [1, 2, 3, 3]
        assert told(heard) == [("key", "AttributeError")] * 2
        assert f.opero.cache.stats()["errors"] == 2
        with pytest.raises(AttributeError):
            f.opero.cache.invalidate(None)
        heard.clear()


def test_an_object_that_fails_to_tell_its_key_runs_uncached(heard):
    f, _ = counted(o.Cache(60))
    assert [f(Keyless()), f(Keyless()), f([Keyless()])] == [1, 2, 3]
    assert told(heard) == [("key", "AttributeError")] * 3


def test_tags_are_made_once_before_the_function_can_change_an_argument():
    @o.opero(o.Cache(60, key="{user.id}", tags="group:{user.group}"))
    def f(user):
        user.group = "changed"
        return user.group

    user = User(1)
    user.group = "first"
    f(user)
    assert f.opero.cache.contains(user)
    f.opero.cache.invalidate_tag("group:first")
    assert not f.opero.cache.contains(user)
