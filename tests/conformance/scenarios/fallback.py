"""Fallback: another answer in the place of an error."""

from world import stats

import opero as o


def a_fallback_answers_with_the_original_arguments(w):
    f = w.decorate([OSError()], fallback=lambda value=None: f"for {value}")
    assert w.call(f, "ann") == ("for ann", 0)
    assert w.names() == ["fallback.used"]
    assert stats(f, calls=1, ok=0, errors=0, fallbacks=1)


def a_fallback_may_be_a_value(w):
    f = w.decorate([OSError()], fallback=0)
    assert w.call(f) == (0, 0)


def fallbacks_form_a_chain_and_each_class_may_have_its_own(w):
    def broken(value=None):
        raise KeyError(value)

    policy = o.Fallback(broken, lambda value=None: f"last {value}", by={ValueError: "own", TypeError: broken})
    f = w.decorate([OSError(), ValueError(), TypeError()], policies=[policy])
    assert [w.call(f, "x")[0] for _ in range(3)] == ["last x", "own", "last x"]
    assert [event.fields["answer"] for event in w.heard] == [2, 1, 3]
    f = w.decorate([OSError("first")], policies=[o.Fallback(broken)])
    error = w.call(f)[0]
    assert (type(error), str(error.__context__)) == (KeyError, "first")


def a_fallback_may_answer_some_errors_and_some_results(w):
    policy = o.Fallback("spare", on=OSError, on_result=lambda r: r is None)
    f = w.decorate([OSError(), None, 7, KeyError("mine")], policies=[policy])
    assert [w.call(f)[0] for _ in range(3)] == ["spare", "spare", 7]
    assert isinstance(w.call(f)[0], KeyError)


def strategies_reach_the_fallback_and_the_alternatives(w):
    table = {KeyError: "rotate", ValueError: "fallback", TypeError: "raise", OSError: "retry"}
    policies = [o.Retry(1, wait=1, jitter="none", strategies=table), o.Fallback("spare"), o.ArgFallback("value")]
    f = w.decorate([KeyError(), 7, ValueError(), TypeError(), OSError(), 8], policies=policies)
    assert w.call(f, ["a", "b"]) == (7, 0)
    assert w.call(f, ["a", "b"]) == ("spare", 0)
    assert isinstance(w.call(f, ["a", "b"])[0], TypeError)
    assert w.call(f, ["a", "b"]) == (8, 1)
    assert w.calls == ["a", "b", "a", "a", "a", "a"]


def of_two_classes_that_match_the_first_has_the_answer(w):
    def broken(value=None):
        raise KeyError

    policy = o.Fallback("last", by={ConnectionError: broken, OSError: "never"})
    f = w.decorate([ConnectionError()], policies=[policy])
    assert w.call(f)[0] == "last"
    assert w.heard[-1].fields["answer"] == 2


def an_answer_may_be_a_coroutine_function_where_the_function_is_one(w):
    async def later(value=None):
        return f"later {value}"

    f = w.decorate([OSError()], policies=[o.Fallback(later if w.is_async else "later {}".format)])
    assert w.call(f, "x")[0] == "later x"
