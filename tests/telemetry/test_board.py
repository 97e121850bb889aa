"""What the live page shows, from readings made by hand: a minute of differences, and the state of every policy."""

import pytest

from opero_telemetry.board import KEPT, Board
from opero_telemetry.tables import Distribution, Row, Tables

BOUNDS = (0.1, 1.0)


def duration(outcome, *counts, call="f"):
    labels = {"opero_call_name": call, "opero_outcome": outcome}
    return Row(labels, sum(counts), Distribution(BOUNDS, counts, 0.0))


def row(value, **labels):
    return Row({"opero_call_name": "f", **labels}, value)


def reading(*durations, **more):
    return Tables({"opero_call_duration_seconds": list(durations), **more})


def fed(*readings, every=1.0):
    board = Board()
    for n, each in enumerate(readings):
        board.feed(each, 100.0 + every * n)
    return board.state()


def test_nothing_is_nothing():
    assert Board().state()["operations"] == []
    assert fed(reading())["operations"] == []


def test_rates_errors_and_percentiles_are_of_what_came_since():
    state = fed(
        reading(duration("ok", 1000, 0, 0), duration("error", 50, 0, 0)),
        reading(duration("ok", 1060, 20, 0), duration("error", 60, 0, 10)),
        every=10.0,
    )
    (f,) = state["operations"]
    assert (f["name"], f["calls"], f["rate"], f["errors"]) == ("f", 1150, 10.0, 0.2)
    assert f["buckets"] == (70, 20, 10)
    assert f["p50"] == pytest.approx(0.1 * 50 / 70)
    assert f["p99"] == 1.0  # above all bounds: the last one
    assert (f["rates"], f["failures"]) == ([10.0], [2.0])
    assert f["outcomes"] == {"error": 70, "ok": 1080}


def test_a_first_reading_has_no_rate_and_an_idle_minute_no_percentiles():
    (first,) = fed(reading(duration("ok", 5, 0, 0)))["operations"]
    assert (first["rate"], first["p50"]) == (0.0, None)
    (idle,) = fed(reading(duration("ok", 5, 0, 0)), reading(duration("ok", 5, 0, 0)))["operations"]
    assert (idle["rate"], idle["errors"], idle["p99"]) == (0.0, 0.0, None)


def test_a_minute_is_kept_and_no_more():
    (f,) = fed(*(reading(duration("ok", 10 * n, 0, 0)) for n in range(100)))["operations"]
    assert (len(f["rates"]), f["rate"], f["buckets"]) == (60, 10.0, (600, 0, 0))


def test_an_operation_that_went_away_is_not_shown():
    assert (
        fed(reading(duration("ok", 1, 0, 0)), reading(duration("ok", 1, 0, 0, call="g")))["operations"][0]["name"]
        == "g"
    )


def test_a_circuit_has_a_history_of_its_changes():
    def circuit(state, failures=0.0):
        states = ("closed", "open")
        given = [row(float(each == state), opero_policy_name="p", opero_circuit_state=each) for each in states]
        ratio = [row(failures, opero_policy_name="p")]
        opened = [row(3, opero_policy_name="p", opero_circuit_state="open")]
        more = {"opero_circuit_state": given, "opero_circuit_failure_ratio": ratio}
        return reading(duration("ok", 1, 0, 0), **more, opero_circuit_transitions_total=opened)

    (f,) = fed(circuit("closed"), circuit("closed"), circuit("open", 0.75))["operations"]
    (breaker,) = f["breakers"]
    assert breaker == {
        "name": "p",
        "state": "open",
        "history": [(100.0, "closed"), (102.0, "open")],
        "failures": 0.75,
        "opened": 3,
    }
    (f,) = fed(*(circuit(("closed", "open")[n % 2]) for n in range(3 * KEPT)))["operations"]
    assert len(f["breakers"][0]["history"]) == KEPT


def test_policies_are_shown_where_there_are_any():
    (bare,) = fed(reading(duration("ok", 1, 0, 0)))["operations"]
    assert [bare[name] for name in ("cache", "budget", "bulkhead", "limiter")] == [None] * 4
    tables = reading(
        duration("ok", 1, 0, 0),
        opero_call_active=[row(2)],
        opero_cache_requests_total=[row(30, opero_cache_result="hit"), row(10, opero_cache_result="miss")],
        opero_cache_entry_count=[row(7)],
        opero_retry_budget_utilization=[row(0.5)],
        opero_bulkhead_limit=[row(4)],
        opero_bulkhead_usage=[row(3)],
        opero_bulkhead_queue_length=[row(1)],
        opero_rate_limiter_limit_per_second=[row(100)],
        opero_rate_limiter_available=[row(20)],
        opero_events_total=[row(9, opero_event_name="opero.retry.scheduled"), row(4, opero_event_name="other")],
        opero_rejections_total=[row(2, opero_rejection_reason="queue_full"), row(0, opero_rejection_reason="deadline")],
    )
    (f,) = fed(tables)["operations"]
    assert f["cache"] == {"ratio": 0.75, "requests": {"hit": 30, "miss": 10}, "entries": 7}
    assert (f["active"], f["budget"], f["retries"], f["rejections"]) == (2, 0.5, 9, {"queue_full": 2})
    assert (f["bulkhead"], f["limiter"]) == ({"used": 3, "limit": 4, "queue": 1}, {"limit": 100, "available": 20})


def test_maps_objectives_controllers_and_losses_are_shown():
    state = fed(
        reading(
            opero_map_items_total=[row(90, opero_outcome="ok"), row(10, opero_outcome="error")],
            opero_map_active=[row(4)],
            opero_map_concurrency_limit=[row(8)],
            opero_map_item_duration_seconds=[duration("ok", 80, 20, 0)],
            opero_slo_objective=[row(0.99, slo_name="quick")],
            opero_slo_error_budget_remaining=[row(0.25, slo_name="quick"), row(1.0, slo_name="other")],
            opero_slo_burn_rate=[row(2.0, slo_name="quick", slo_window="1h")],
            opero_controller_setpoint=[row(12, controller_name="pool", parameter="workers")],
            opero_controller_adjustments_total=[
                row(5, controller_name="pool", parameter="workers", direction="up"),
                row(1, controller_name="pool", parameter="workers", direction="down"),
                row(9, controller_name="pool", parameter="another", direction="down"),
            ],
            opero_telemetry_events_dropped_total=[row(3, reason="queue_full")],
        )
    )
    (run,) = state["maps"]
    assert (run["done"], run["failed"], run["active"], run["limit"]) == (100, 10, 4, 8)
    assert run["p50"] == pytest.approx(0.0625)
    assert run["p99"] == pytest.approx(0.1 + 0.9 * 0.95)
    (slo,) = state["slos"]
    assert (slo["left"], slo["sli"], slo["burn"]) == (0.25, None, {"1h": 2.0})
    (controller,) = state["controllers"]
    assert (controller["value"], controller["moves"]) == (12, {"up": 5, "down": 1})
    assert state["dropped"] == 3
