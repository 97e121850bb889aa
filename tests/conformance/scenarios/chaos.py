"""Chaos: faults on demand."""

import opero as o


def chaos_strikes_inside_everything_else(w):
    policy = o.Chaos(error=OSError, latency=1, enabled=True)
    f = w.decorate([7], policies=[policy, o.Retry(1, jitter="none")], name="f")
    error, took = w.call(f)
    assert (type(error), took) == (OSError, 2.1)
    policy.disable()
    assert w.call(f) == (7, 0)
    assert w.calls == [None]


def a_latency_alone_delays_the_call_within_its_deadline(w):
    f = w.decorate([7], policies=[o.Chaos(latency=1, enabled=True)], attempt_timeout=5)
    assert w.call(f) == (7, 1)


def a_window_begins_at_its_first_moment_and_ends_before_its_last(w):
    policy = o.Chaos(result="struck", window=(10, 20), enabled=True)
    f = w.decorate([7, 7], policies=[policy])
    answers = []
    for _ in range(3):
        answers.append(w.call(f)[0])
        w.time.advance(10)
    assert answers == [7, "struck", 7]
