"""What a call leaves to the collector of circular garbage."""

import gc
from contextlib import contextmanager

ROUNDS = range(4)  # a thread of another test may end in one of them: what is ours is left in all


@contextmanager
def uncollected():
    """Free nothing by collection within; give a function that collects, and tells how many objects lay in circles."""
    gc.collect()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.enable()
