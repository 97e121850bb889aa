"""What a cache may be told, what it refuses, and where its short way is."""

import pytest

import opero as o
from opero import Cache

REDIS = {"backend": "redis", "url": "redis://localhost"}
BOUNDS = [
    ("ttl", {}, [0.5, None], [0]), ("soft_ttl", {}, [0.5, 60], [0, 60.5]), ("max_entries", {}, [1], [0]),
    ("max_bytes", {}, [1], [0]), ("max_inflated", {}, [1], [0]), ("near", REDIS, [0.5], [0]),
    ("patience", {}, [0.5], [0]), ("lease", {"backend": "disk"}, [0.5], [0]),
    ("error_ttl", {"errors": (OSError,)}, [0.5], [0]),
    ("stale_if_error", {}, [0, 0.5], [-0.1]), ("early", {}, [0, 0.5], [-0.1]), ("jitter", {}, [0, 1], [-0.1, 1.1]),
    ("compress_above", {"backend": "disk"}, [0], [-1]), ("eviction", {}, ["s3-fifo", "lru"], ["fifo"]),
    ("signing_key", {"backend": "disk"}, [b"k" * 16], [b"k" * 15]),
    ("encryption_key", {"backend": "disk"}, [b"k" * 32], [b"k" * 31, b"k" * 16]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "others", "taken", "refused"), BOUNDS, ids=lambda part: str(part)[:20])
def test_a_bound_is_where_it_is(field, others, taken, refused, tmp_path):
    given = {"ttl": 60, **others} | ({"directory": tmp_path} if others.get("backend") == "disk" else {})
    for value in taken:
        kept = Cache(**given | {field: value}).settings[field]
        assert kept is not None if isinstance(value, bytes) else kept == value
    for value in refused:
        with pytest.raises(o.ConfigurationError, match=field):
            Cache(**given | {field: value})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"backend": "memcached"},
            r"cache_backend takes 'memory', 'disk', 'redis', or an object with get, set and delete",
        ),
        ({"backend": object()}, "an object with get, set and delete"),
        ({"url": "redis://localhost"}, "a Redis URL with backend='redis', and only there"),
        ({"near": 5}, "near=5: near takes seconds, with backend='redis'"),
        ({"signing_key": b"k" * 16}, "a key where entries leave this process"),
        ({"encryption_key": b"k" * 32}, "a key where entries leave this process"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, said):
    with pytest.raises(o.ConfigurationError, match=said):
        Cache(60, **settings)


def test_an_address_stands_for_redis():
    policy = Cache(60, backend="redis://localhost:7000/1")
    assert (policy.backend, policy.url) == ("redis", "redis://localhost:7000/1")


class Own:
    def get(self, key): ...
    def set(self, key, value): ...
    def delete(self, key): ...


def test_an_object_of_ones_own_is_taken_whole():
    own = Own()
    assert Cache(60, backend=own).backend is own
    own.delete = None
    with pytest.raises(o.ConfigurationError, match="cache_backend"):
        Cache(60, backend=own)


def test_a_library_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    disk = {"backend": "disk", "directory": tmp_path}
    for settings, library in ({"encryption_key": b"k" * 32}, "cryptography"), ({"compress_above": 5}, "zstandard"):
        with pytest.raises(o.ConfigurationError, match=rf"the {library} library: pip install 'opero\[cache\]'"):
            Cache(60, **disk, **settings)


def test_arguments_are_read_where_a_function_asks_for_them():
    reads = [Cache(60, **settings).reads_arguments for settings in ({}, {"key": "{x}"}, {"key": len}, {"tags": list})]
    assert reads == [False, False, True, True]


@pytest.mark.parametrize(
    ("settings", "short"),
    [({}, True), (REDIS, True), ({"eviction": "lru"}, False), ({"key": "{x}"}, False), ({"early": 1.0}, True)],
    ids=str,
)
def test_the_short_way_is_for_keys_and_entries_without_more_to_look_at(settings, short):
    f = o.opero(Cache(60, **settings))(lambda x, y=1: x)
    assert (f.opero.operation.places["cache"].shortcut(lambda x, y=1: x, ("x", "y")) is not None) is short


def test_on_disk_there_is_no_short_way(tmp_path):
    policy = Cache(60, backend="disk", directory=tmp_path)
    assert policy.shortcut(lambda x: x, ("x",)) is None


@pytest.mark.parametrize("key", ["user:{", "user:}", ""])
def test_a_key_that_is_no_template_is_refused(key):
    with pytest.raises(o.ConfigurationError, match=r"cache_key takes a template like 'user:\{user_id\}'"):
        o.Cache(60, key=key)


@pytest.mark.parametrize("key", ["user_id", "user", "a {{b}}"])
def test_a_key_that_would_be_one_for_all_calls_is_refused(key):
    """Else each user would be answered with what was computed for the first."""
    meant = r"cache_key takes a template with a parameter in it, like '\{user_id\}', .*one key for all calls"
    with pytest.raises(o.ConfigurationError, match=meant):
        o.opero(cache_ttl=60, cache_key=key)(lambda user_id: user_id)
    with pytest.raises(o.ConfigurationError, match=meant):
        o.opero(cache_ttl=60, cache_key=key)(lambda *, user_id: user_id)
    assert o.opero(cache_ttl=60, cache_key=key)(lambda: 1)() == 1
