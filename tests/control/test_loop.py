"""The loop's promises: bounds, steps, rest, shadow, freeze, and what happens to nonsense."""

import gc
import threading
from itertools import pairwise
from math import inf, nan
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opero import build, objectives, opero
from opero.control.law import Wish
from opero.control.loop import LOOP, Controller
from opero.errors import ConfigurationError
from opero.knobs import Knob
from opero.primitives.retry_budget import RetryBudget
from opero.testing import capture, clock


class Said(NamedTuple):
    now: float
    wish: float
    burn: float | None = None


class Obedient:
    """Wishes what it is told to."""

    name = "obedient"

    def __init__(self):
        self.asked = 0

    def decide(self, snapshot):
        self.asked += 1
        if snapshot.burn == 13:
            raise ValueError("a law that fails")
        return [Wish("knob", snapshot.wish, "told", {"wish": snapshot.wish})]


def controller(value=10.0, low=1.0, high=100.0, **settings):
    """Return a controller, and where to put what it reads next."""
    told = []
    made = Controller(
        Obedient(), lambda now: told.pop(0) if told else None, Knob("knob", value, low=low, high=high), **settings
    )
    return made, told


def step(made, told, now, wish, **more):
    told.append(Said(now, wish, **more))
    return made.step(now)


def test_it_moves_where_the_law_wishes_and_remembers_why():
    made, told = controller()
    assert step(made, told, 1.0, 15.0)
    assert made.knob.value == made.setpoint == 15.0
    (kept,) = made.history
    assert kept == (1.0, 10.0, 15.0, "told", {"wish": 15.0}, False)


def test_one_step_goes_no_further_than_it_may():
    made, told = controller()
    step(made, told, 1.0, 1000.0)
    assert made.knob.value == 20.0
    step(made, told, 2.0, 0.0)
    assert made.knob.value == 10.0
    near_zero, told = controller(value=0.0, low=0.0, high=1.0, grain=0.1)
    step(near_zero, told, 1.0, 1.0)
    assert near_zero.knob.value == pytest.approx(0.1)


def test_a_small_wish_changes_nothing_and_a_wish_up_waits_after_a_step_down():
    made, told = controller(rest=2.0)
    assert not step(made, told, 1.0, 10.05)
    assert step(made, told, 2.0, 8.0)
    assert not step(made, told, 3.9, 10.0)
    assert step(made, told, 4.0, 10.0)


def test_nobody_is_asked_while_it_is_frozen():
    made, told = controller()
    made.freeze()
    assert not step(made, told, 1.0, 15.0)
    assert (made.law.asked, made.knob.value) == (0, 10.0)
    made.resume()
    told.clear()
    assert step(made, told, 2.0, 15.0)


def test_an_override_stays_within_bounds_until_it_is_lifted():
    made, told = controller()
    assert made.override(500) == 100.0
    assert not step(made, told, 1.0, 15.0)
    made.resume()
    told.clear()
    assert step(made, told, 2.0, 60.0)
    assert made.knob.value == 60.0
    with pytest.raises(ConfigurationError):
        made.override(nan)


def test_reset_begins_anew():
    made, told = controller()
    step(made, told, 1.0, 15.0)
    made.reset()
    assert (made.knob.value, made.setpoint, made.law.asked) == (10.0, 10.0, 0)
    assert step(made, told, 0.5, 12.0)  # also its time


def test_in_shadow_it_tells_and_changes_nothing():
    made, told = controller(shadow=True)
    assert not step(made, told, 1.0, 15.0)
    assert (made.knob.value, made.setpoint, made.history[-1].shadow) == (10.0, 15.0, True)
    assert not step(made, told, 2.0, 15.0)
    assert len(made.history) == 1
    made.shadow(False)
    assert (made.setpoint, step(made, told, 3.0, 15.0), made.knob.value) == (10.0, True, 15.0)


@pytest.mark.parametrize("wish", [nan, inf, -inf, -1.0])
def test_nonsense_leaves_the_last_safe_value(wish):
    made, told = controller()
    step(made, told, 1.0, 12.0)
    assert not step(made, told, 2.0, wish)
    assert (made.knob.value, made.held) == (12.0, "nonsense")
    assert step(made, told, 3.0, 15.0)
    assert made.held == ""


def test_what_is_older_than_before_is_not_believed():
    made, told = controller()
    step(made, told, 5.0, 12.0)
    told.append(Said(5.0, 20.0))
    assert not made.step(6.0)
    assert (made.knob.value, made.held) == (12.0, "stale")


def test_a_law_that_raises_costs_its_adaptation_only():
    made, told = controller()
    step(made, told, 1.0, 12.0)
    assert not step(made, told, 2.0, 50.0, burn=13.0)
    assert (made.knob.value, made.held) == (12.0, "failed")
    assert step(made, told, 3.0, 15.0)


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 200)


@given(st.lists(st.tuples(st.floats(0.01, 3), numbers, numbers | st.none()), max_size=60), st.booleans())
def test_no_telemetry_drives_a_knob_out_of_bounds_or_makes_it_swing(told, shadow):
    """Noisy, missing, frozen, adversarial: bounds, steps, and no more than 2 t / rest + 1 turns in t seconds."""
    made, said = controller(shadow=shadow)
    now, values, first = 0.0, [made.setpoint], None
    for passed, wish, burn in told:
        now += passed
        first = now if first is None else first
        said.append(Said(now, wish, burn))
        made.step(now)
        assert 1.0 <= made.knob.value <= 100.0
        assert 1.0 <= made.setpoint <= 100.0
        assert values[-1] / 2 - 1e-9 <= made.setpoint <= values[-1] * 2 + 1e-9
        values.append(made.setpoint)
    assert made.knob.value == (10.0 if shadow else made.setpoint)
    if first is not None:
        assert turns(values) <= 2 * (now - first) / 1.0 + 1


def turns(values):
    """How often the direction changes."""
    moves = [b > a for a, b in pairwise(values) if a != b]
    return sum(a != b for a, b in pairwise(moves))


def failing(**settings):
    @opero(
        retries=1, min_delay=0, retry_budget=RetryBudget(0.1, control="adaptive", **settings), name="control.failing"
    )
    def fail():
        raise ConnectionError

    return fail


def test_a_retry_budget_adapts_and_tells():
    with clock() as virtual, capture("opero.controller.*") as captured:
        fail = failing()
        for _ in range(12):  # the budget holds ten tokens to begin with
            with pytest.raises(ConnectionError):
                fail()
        virtual.sleep(5)
        knob = fail.opero.controllers["retry_budget.ratio"]
        assert knob.setpoint < 0.1
        event = next(event for event in captured.events if event["operation"] == "control.failing")
        fields = event["fields"]
        assert (event["name"], fields["controller"], fields["parameter"]) == (
            "opero.controller.adjusted",
            "retry_budget",
            "retry_budget.ratio",
        )
        assert (fields["from"], fields["reason"], fields["shadow"]) == (0.1, "efficacy", False)
        counted = captured.metrics()
        assert counted["opero.controller.adjustments"]["control.failing", "retry_budget", "retry_budget.ratio", "down"]
        assert counted["opero.controller.setpoint"]["control.failing", "retry_budget", "retry_budget.ratio"] < 0.1


@pytest.mark.parametrize(
    ("wish", "reason", "error"), [(nan, "nonsense", "told"), (ValueError("no"), "failed", "ValueError")]
)
def test_a_controller_says_once_that_it_keeps_its_value(monkeypatch, wish, reason, error):
    def decide(snapshot):
        if isinstance(wish, Exception):
            raise wish
        return [Wish("retry_budget.ratio", wish, "told", {})]

    with clock() as virtual, capture("opero.controller.held") as captured:
        fail = failing()
        knob = fail.opero.controllers["retry_budget.ratio"]
        monkeypatch.setattr(knob.law, "decide", decide)
        for _ in range(3):
            with pytest.raises(ConnectionError):
                fail()
            virtual.sleep(2)
        (fields,) = [event["fields"] for event in captured.events if event["operation"] == "control.failing"]
        assert (fields["parameter"], fields["value"], fields["reason"]) == ("retry_budget.ratio", 0.1, reason)
        assert fields["error"] == error
        assert (knob.setpoint, knob.held) == (0.1, reason)


def names_of_threads():
    return {thread.name for thread in threading.enumerate()}


def test_a_controller_keeps_nobody_from_waiting_for_ages_on_a_virtual_clock():
    with clock(start=0) as virtual:  # a time of its own: so long a one would stay with all other tests
        fail = failing()
        with pytest.raises(ConnectionError):
            fail()
        virtual.sleep(1e9)
        assert virtual.now() >= 1e9


def test_a_burning_objective_is_heard():
    with clock() as virtual:
        fail = failing()
        with pytest.raises(ConnectionError):
            fail()
        objectives.judged("control.*", "an-objective", 14.0, virtual.now() + 60)
        knob = fail.opero.controllers["retry_budget.ratio"]
        virtual.sleep(3)
        assert (knob.setpoint, knob.history[-1].reason) == (0.02, "slo_burn")


def test_what_is_done_by_hand_is_in_the_audit_log():
    with capture("opero.admin.acted") as captured:
        function = failing()
        controllers = function.opero.controllers
        controllers.freeze()
        controllers["retry_budget.ratio"].override(0.05)
        controllers.resume()
        controllers.shadow()
        controllers.reset()
    assert [event["fields"]["act"] for event in captured.events] == ["freeze", "override", "resume", "shadow", "reset"]
    assert {event["fields"]["target"] for event in captured.events} == {"retry_budget.ratio"}
    assert captured.events[1]["fields"]["value"] == 0.05


def test_functions_that_share_a_budget_share_its_controller():
    shared = RetryBudget(control="adaptive")
    first, second = opero(retries=1, retry_budget=shared)(len), opero(retries=1, retry_budget=shared)(len)
    assert first.opero.controllers["retry_budget.ratio"] is second.opero.controllers["retry_budget.ratio"]


def test_a_configuration_may_ask_for_it():
    from opero.config import OperoConfig

    config = OperoConfig.from_dict({"retries": 1, "retry_budget": "adaptive", "bulkhead": "adaptive"})
    assert {c.parameter for c in opero(config)(len).opero.controllers} == {
        "retry_budget.ratio",
        "bulkhead.limit",
        "bulkhead.throttle",
    }
    built = build().bulkhead(5, control="adaptive").retry(1)(len)
    assert built.opero.controllers["bulkhead.limit"].setpoint == 5


def test_without_adaptive_policies_there_is_neither_controller_nor_thread():
    plain = opero(retries=1, retry_budget=0.1)(len)
    assert len(plain.opero.controllers) == 0
    with pytest.raises(KeyError, match="there is none"):
        plain.opero.controllers["bulkhead.limit"]


def test_the_thread_begins_with_the_first_call_and_ends_when_nothing_is_left():
    with clock() as virtual:
        gc.collect()
        others = len(LOOP._controllers)
        fail = failing()
        assert len(LOOP._controllers) == others
        with pytest.raises(ConnectionError):
            fail()
        assert len(LOOP._controllers) == others + 1
        assert "opero-control" in names_of_threads()
        del fail
        gc.collect()
        virtual.sleep(2)
        assert len(LOOP._controllers) == others
        assert others or LOOP._thread is None


@pytest.mark.parametrize("value", ["adaptve", "", 3])
def test_a_law_that_is_not_there_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"adaptive|number"):
        opero(retries=1, retry_budget=value)
