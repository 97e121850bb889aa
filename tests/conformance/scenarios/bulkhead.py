"""Bulkhead: slots, and a queue before them."""

import opero as o


def a_full_bulkhead_refuses_and_a_free_one_does_not(w):
    policy = o.Bulkhead(1)
    f = w.decorate([7], policies=[policy])
    assert policy.slots.take()
    assert isinstance(w.call(f)[0], o.BulkheadFullError)
    policy.slots.release(policy.slots.taken)
    assert w.call(f)[0] == 7
    assert policy.slots.used == 0


def a_queued_call_gives_up_after_max_wait(w):
    policy = o.Bulkhead(1, max_queue=1, max_wait=3)
    f = w.decorate([7], policies=[policy])
    policy.slots.take()
    error, took = w.call(f)
    assert (type(error), error.reason, took) == (o.BulkheadFullError, "queue_timeout", 3)
    assert not policy.slots.queue
