"""Functions that maps run in other processes: they must be found by name."""

import os
import signal
import threading
import time

from opero import events, opmap


class Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__(first)


class Bomb:
    """Pickles, and cannot be unpickled."""

    def __reduce__(self):
        return _explode, ()


def _explode():
    raise ValueError("it cannot be read")


@opmap(mode="process", workers=2, name="work.square")
def square(x):
    return x * x


@opmap(mode="process", workers=2, errors="return", name="work.fragile")
def fragile(x):
    if x == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if x == "exit":
        os._exit(7)
    if x == "lock":
        return threading.Lock()
    if x == "raise":
        raise Unpicklable(1, 2)
    if x == "bomb":
        return Bomb()
    return x


FAILED_ONCE = []


@opmap(mode="process", workers=1, retries=2, min_delay=0, name="work.flaky")
def flaky(x):
    if x not in FAILED_ONCE:
        FAILED_ONCE.append(x)
        raise OSError
    return events.current_correlation_id() or x


@opmap(mode="process", workers=2, name="work.big")
def big(data):
    return data + b"!"


@opmap(mode="process", workers=2, name="work.slow")
def slow(x):
    time.sleep(x)
    return x


@opmap(mode="process", workers=2, name="work.pid")
def pid(x):
    return os.getpid()
