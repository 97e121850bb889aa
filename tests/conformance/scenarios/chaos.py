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
