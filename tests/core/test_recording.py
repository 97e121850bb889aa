"""Arguments a user names, and what is taken out of them."""

import pytest

import opero as o
from opero.recording import GONE, LONGEST, clean


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (42, 42),
        (True, True),
        (0.5, 0.5),
        ("order 7", "order 7"),
        (b"bytes", "<bytes>"),
        (None, "<NoneType>"),
        ({"password": "x"}, "<dict>"),
        ("postgres://me:secret@db/shop", f"postgres://{GONE}@db/shop"),
        ("https://api/x?key=secret#secret", f"https://api/x?{GONE}"),
        ("Authorization: Bearer secret-secret", f"Authorization: {GONE}"),
        ("sent Bearer abc.def-123", f"sent Bearer {GONE}"),
        ("password=secret, user=me", f"password={GONE}, user=me"),
        ("-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY----- rest", f"{GONE} rest"),
        ("-----BEGIN PRIVATE KEY-----\nsecret without an end", GONE),
        ("eyJhbGciOi.eyJzdWIiOi.c2VjcmV0", GONE),
        ("id 4f9a2b7c8d1e4f9a2b7c8d1e4f9a2b7c8d1e", f"id {GONE}"),
        ("x" * 1000, "x" * (LONGEST - 1) + "…"),
    ],
    ids=str,
)
def test_what_may_be_told_of_a_value(value, told):
    assert clean(value) == told


def started(function, *args, **kwargs):
    heard = []
    with o.events.subscribe(heard.append, "opero.call.started"):
        function(*args, **kwargs)
    return dict(heard[0].fields)


def test_named_arguments_are_told_and_no_others():
    @o.opero(record=("order", "limit"), retries=0)
    def f(order, secret, limit=5): ...

    assert started(f, 7, "hush") == {"argument.order": 7, "argument.limit": 5}
    assert started(f, secret="hush", order="https://a/?k=1") == {
        "argument.order": f"https://a/?{GONE}",
        "argument.limit": 5,
    }


def test_one_name_may_stand_alone_and_survives_with_():
    f = o.opero(record="x")(lambda x: x)
    assert started(f.opero.with_(retries=1), 3) == {"argument.x": 3}


def test_wrong_arguments_fail_as_the_function_says():
    f = o.opero(record="x", retries=0)(lambda x: x)
    with o.events.subscribe(print, "opero.call.started"), pytest.raises(TypeError):
        f()


@pytest.mark.parametrize("wrong", ["nothing", ["x", "y"], 5, [5]], ids=str)
def test_a_name_the_function_does_not_have_is_refused(wrong):
    with pytest.raises(o.ConfigurationError, match="record="):
        o.opero(record=wrong)(lambda x: x)


def test_tags_are_told_with_each_call_and_by_the_handle():
    f = o.opero(retries=0, tags=["payments", "critical"], record="x")(lambda x: x)
    assert started(f, 7) == {"tags": ("payments", "critical"), "argument.x": 7}
    assert f.opero.tags == ("payments", "critical")
    other = f.opero.with_(tags="payments")
    assert (other.opero.tags, started(other, 7)["tags"]) == (("payments",), ("payments",))
    assert o.opero(retries=0)(len).opero.tags == ()


@pytest.mark.parametrize("wrong", [7, [""], [7], {"team": "a"}])
def test_tags_are_texts(wrong):
    with pytest.raises(o.ConfigurationError, match="tags="):
        o.opero(tags=wrong)
