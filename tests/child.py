"""A child that a test forks, in the middle of what it does."""

import os
import threading
from contextlib import ExitStack, contextmanager


def fork():
    """Return 0 in the child; in the parent, go on when the child has ended well."""
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return child


@contextmanager
def ending():
    """End a child that was forked inside: well, if nothing was raised."""
    parent, code = os.getpid(), 1
    try:
        yield
        code = 0
    finally:
        if os.getpid() != parent:
            os._exit(code)


@contextmanager
def held(*locks):
    """Have another thread hold the locks: it is not there in a child."""
    ready, over = threading.Event(), threading.Event()

    def hold():
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            ready.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait()
    try:
        yield
    finally:
        over.set()
        holder.join()
