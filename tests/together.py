"""Threads that begin together, and who waits for what they do."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor


def together(*works, seconds=60):
    """Call all of them at once, each in a thread of its own; return what they returned, or raise what one raised."""
    barrier = threading.Barrier(len(works), timeout=seconds)

    def begin(work):
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return [done.result(seconds) for done in [threads.submit(begin, work) for work in works]]


def wait_for(holds, seconds=15):
    """Look until it holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)
