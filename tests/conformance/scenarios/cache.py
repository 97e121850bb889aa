"""Cache: answers without a call."""

from world import stats

import opero as o


def a_cached_answer_is_given_without_a_call_until_it_expires(w):
    f = w.decorate([7, 8], cache_ttl=60)
    assert [w.call(f, "a")[0] for _ in range(3)] == [7, 7, 7]
    assert w.calls == ["a"]
    assert stats(f, calls=3, ok=1, cached=2, attempts=1, errors=0, active=0)
    w.time.advance(59.999)
    assert w.call(f, value="a")[0] == 7
    w.time.advance(0.001)
    assert w.call(f, "a")[0] == 8


def an_error_and_a_fallback_are_not_cached(w):
    f = w.decorate([OSError(), OSError(), 7], cache_ttl=60, fallback=0)
    assert [w.call(f)[0] for _ in range(4)] == [0, 0, 7, 7]
    assert stats(f, calls=4, ok=1, fallbacks=2, cached=1, attempts=3)


def a_cache_stands_around_the_retry(w):
    f = w.decorate([OSError(), 7], cache_ttl=60, retries=1, jitter="none", min_delay=1)
    assert w.call(f) == (7, 1)
    assert w.call(f) == (7, 0)
    assert stats(f, calls=2, ok=1, cached=1, attempts=2, retries=1)


def a_failing_function_is_answered_with_an_expired_entry_where_that_was_asked_for(w):
    f = w.decorate([7, OSError(), OSError("late")], policies=[o.Cache(10, stale_if_error=5)])
    w.call(f)
    w.time.advance(14)
    assert w.call(f)[0] == 7
    assert w.names() == ["cache.stale_served"]
    w.time.advance(1)
    assert isinstance(w.call(f)[0], OSError)
    assert f.opero.cache.stats()["stale"] == 1
    assert stats(f, calls=3, ok=1, cached=1, errors=1)
