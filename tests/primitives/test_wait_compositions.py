"""Waits made of waits: jitter reaches every part as it was said, and what a server asked for is never shortened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import opero as o
from opero import waits


class Busy(Exception):
    def __init__(self, retry_after=None):
        self.retry_after = retry_after


SECONDS = st.integers(0, 40)
LEAVES = st.one_of(
    st.tuples(st.just("constant"), SECONDS),
    st.tuples(st.just("sequence"), st.lists(SECONDS, min_size=1, max_size=3)),
    st.tuples(st.just("between"), SECONDS, SECONDS),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("retry_after"), inner),
        st.tuples(st.just("by_error"), inner, inner),
        st.tuples(st.just("summed"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("chain"), st.lists(SECONDS, min_size=1, max_size=3), inner),
    ),
    max_leaves=6,
)


def built(tree):  # noqa: PLR0911 - a table
    match tree:
        case "constant", seconds:
            return waits.constant(seconds)
        case "sequence", delays:
            return waits.sequence(*delays)
        case "between", low, more:
            return waits.between(low, low + more)
        case "retry_after", inner:
            return waits.retry_after(built(inner), high=1000)
        case "by_error", inner, other:
            return waits.by_error({Busy: built(inner)}, otherwise=built(other))
        case "summed", inner:
            return waits.summed(*map(built, inner))
        case "chain", delays, inner:
            return waits.sequence(*delays) + built(inner)


def span(tree, n, outcome):  # noqa: PLR0911 - a table
    """Return the least and the most without jitter, and whether jitter may be put on top: what is promised."""
    match tree:
        case "constant", seconds:
            return seconds, seconds, True
        case "sequence", delays:
            return delays[min(n, len(delays)) - 1], delays[min(n, len(delays)) - 1], True
        case "between", low, more:
            return low, low + more, False
        case "retry_after", inner:
            asked = outcome.retry_after
            return span(inner, n, outcome) if asked is None else (asked, asked, False)
        case "by_error", inner, other:
            return span(inner if isinstance(outcome, Busy) else other, n, outcome)
        case "summed", inner:
            parts = [span(each, n, outcome) for each in inner]
            return sum(p[0] for p in parts), sum(p[1] for p in parts), all(p[2] for p in parts)
        case "chain", delays, inner:
            if n <= len(delays):
                return delays[n - 1], delays[n - 1], True
            return span(inner, n - len(delays), outcome)


LEAST = {"none": 1.0, "equal": 0.5, "full": 0.0}


@given(TREES, st.integers(1, 8), st.none() | SECONDS, st.sampled_from([*LEAST]))
def test_a_delay_is_what_its_parts_say_with_jitter_where_it_belongs(tree, n, asked, jitter):
    outcome = Busy(asked)
    low, high, takes_jitter = span(tree, n, outcome)
    delay = o.Retry(wait=built(tree), jitter=jitter).delay(n, 0.0, outcome)
    assert low * (LEAST[jitter] if takes_jitter else 1) <= delay <= high + 1e-9
    if jitter == "none" and low == high:
        assert delay == low


@given(TREES, st.integers(1, 8))
def test_full_jitter_draws_below_where_it_belongs(tree, n):
    low, high, takes_jitter = span(tree, n, Busy())
    retry = o.Retry(wait=built(tree))
    delays = [retry.delay(n, 0.0, Busy()) for _ in range(20)]
    assert (min(delays) < low) == (takes_jitter and low > 0)
    assert (len(set(delays)) > 1) == (high > 0 if takes_jitter else low < high)


@pytest.mark.parametrize("jitter", LEAST)
def test_what_a_server_asked_for_is_never_shortened(jitter):
    asked = waits.retry_after(waits.constant(1))
    made = [
        asked, waits.sequence(1) + asked, waits.by_error({Busy: asked}),
        waits.summed(asked, 2),
        waits.summed(waits.sequence(1) + asked, 2), waits.by_error({}, otherwise=waits.sequence(1) + asked),
    ]  # fmt: skip
    for wait in made:
        delays = [o.Retry(wait=wait, jitter=jitter).delay(2, 0.0, Busy(30)) for _ in range(50)]
        assert min(delays) >= 30


def test_without_jitter_every_part_is_exact():
    for wait in (
        waits.by_error({Busy: 7}),
        waits.by_error({KeyError: 1}, otherwise=7),
        waits.retry_after(7),
        waits.sequence(1) + waits.retry_after(waits.by_error({Busy: waits.constant(7)})),
    ):
        assert {o.Retry(wait=wait, jitter="none").delay(2, 0.0, Busy()) for _ in range(20)} == {7.0}


def test_what_stands_for_otherwise_is_checked():
    for make in (lambda: waits.retry_after("soon"), lambda: waits.by_error({}, otherwise=-1)):
        with pytest.raises(o.ConfigurationError, match="takes"):
            make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (waits.sequence, r"delays=\(\): .* one or more of them: sequence\(1, 2, 3\)"),
        (lambda: waits.sequence([1, 2]), r"delays=.* one or more of them: sequence\(1, 2, 3\)"),
        (waits.summed, r"summed=\(\): summed takes waits to add up, one or more"),
        (lambda: waits.by_error({}), "by_error={}: by_error takes a mapping of exception types to their waits"),
        (lambda: waits.by_error([5]), "by_error takes a mapping of exception types to their waits"),
        (lambda: o.Retry(wait=[1, 2, 3]), r"wait=\[1, 2, 3\]: .*; delays in an order are waits\.sequence\(1, 2, 3\)"),
    ],
    ids=["sequence", "list", "summed", "by_error", "no mapping", "wait"],
)
def test_a_wait_without_a_delay_is_refused_and_a_list_told_the_way_out(make, said):
    with pytest.raises(o.ConfigurationError, match=said):
        make()
