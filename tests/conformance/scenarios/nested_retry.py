"""Retry within retry: who gave up is not asked again."""

import opero as o
from opero import fused


def what_an_inner_function_gave_up_is_not_retried_again(w):
    outer, middle, leaf = _three_levels(w)
    error, _ = w.call(outer)
    assert (type(error), len(w.calls)) == (OSError, 3)
    assert error.__notes__ == ["opero: 1 attempt in 2.5 s, leaf had retried it"]
    assert [e.fields["inner"] for e in w.heard if e.name == "opero.retry.nested"] == ["leaf", "leaf"]
    assert [f.opero.stats()["attempts"] for f in (outer, middle, leaf)] == [1, 1, 3]


def the_nested_guard_sees_through_wrapped_errors_and_can_be_off(w):
    outer, _, _ = _three_levels(w, wrap=True)
    assert isinstance(w.call(outer)[0], RuntimeError)
    assert len(w.calls) == 3
    outer, _, _ = _three_levels(w, nested=True)
    w.call(outer)
    assert len(w.calls) == 27


def _three_levels(w, *, nested=False, wrap=False):
    def down(function, name):
        policy = o.Retry(2, wait=1, jitter="none", nested=nested)

        if w.is_async:

            async def level(value=None):
                try:
                    return await function(value)
                except OSError as error:
                    raise (RuntimeError("wrapped") if wrap else error) from (error if wrap else None)

        else:

            def level(value=None):
                try:
                    return function(value)
                except OSError as error:
                    raise (RuntimeError("wrapped") if wrap else error) from (error if wrap else None)

        return o.opero(policy, name=name)(level)

    fused.enabled = w.speed == "fast"
    try:
        leaf = w.decorate([OSError() for _ in range(99)], retries=2, min_delay=1, jitter="none", name="leaf")
        fused.enabled = w.speed == "fast"
        middle = down(leaf, "middle")
        return down(middle, "outer"), middle, leaf
    finally:
        fused.enabled = True
