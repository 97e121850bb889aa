"""Functions that maps run in other processes: they must be found by name."""

import asyncio
import mmap
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


def plain(x):
    if x == 3:
        raise KeyError(x)
    return x * 10


async def coroutine(x):
    await asyncio.sleep(0)
    return plain(x)


@opmap(mode="async_process", workers=2, errors="return", name="work.fetch")
async def fetch(x):
    if x == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(x, float):
        await asyncio.sleep(x)
    return x


def letter(x):
    return "abcdefghij"[x]


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
    if x == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if x == "memory":
        raise MemoryError
    if x == "recursion":
        return fragile.opero.bypass(x)
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


@opmap(mode="process", workers=2, errors="return", on_death="retry", name="work.unlucky")
def unlucky(pair):
    """Dies once with item 7, always with item 13, and leaves a file for each time it ran."""
    folder, n = pair
    earlier = len(list(folder.glob(f"{n}-*")))
    (folder / f"{n}-{earlier}").touch()
    if n == 13 or (n == 7 and not earlier):
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def hang(seconds):
    time.sleep(seconds)
    return seconds


def spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return seconds


def fail():
    raise OSError("no licence")


def give_up():
    os._exit(3)


@opmap(mode="process", workers=2, name="work.inner")
def inner(x):
    return x


@opmap(mode="process", workers=2, name="work.outer")
def outer(n):
    return sum(inner([n * k for k in range(5)]))


STATE = {}


def warm_up():
    STATE["pid"] = os.getpid()


@opmap(mode="process", workers=2, worker_init=warm_up, worker_lifespan=3, chunk_size=1, name="work.mortal")
def mortal(x):
    assert STATE["pid"] == os.getpid()
    return os.getpid()


@opmap(mode="process", workers=1, worker_memory=150_000_000, chunk_size=1, name="work.hungry")
def hungry(size):
    STATE[size] = bytearray(os.urandom(1)) * size
    return os.getpid()


@opmap(mode="process", workers=2, constants={"table": list(range(100_000))}, name="work.looked_up")
def looked_up(x, *, table):
    return table[x]


@opmap(mode="process", workers=2, name="work.doubled")
def doubled(array):
    array *= 2
    return array


@opmap(mode="process", workers=2, name="work.seen")
def seen(x):
    return events.current_correlation_id()


def noted(n, *, folder):
    """Note that it ran, in a file of this process, and work for 2 ms."""
    with (folder / str(os.getpid())).open("a") as file:
        file.write(f"{n}\n")
    spin(0.002)
    return n


def traced(x):
    """Return the id of the trace it runs in."""
    from opentelemetry import trace

    return format(trace.get_current_span().get_span_context().trace_id, "032x")


async def traced_later(x):
    await asyncio.sleep(0)
    return traced(x)


def same(x):
    return x


async def same_later(x):
    return x


def counted(n, *, folder):
    """Count that it ran, in a byte of memory all workers share; costs less than a microsecond."""
    if "ticks" not in STATE:
        with (folder / "ticks").open("r+b") as file:
            STATE["ticks"] = mmap.mmap(file.fileno(), 0)
        (folder / str(os.getpid())).touch()
    STATE["ticks"][n] += 1
    return n * 3


def quick(x):
    """Give numbers of one type as long as x is small, then other things."""
    return QUICK[x](x) if x in QUICK else x + 1


QUICK = {
    500: lambda x: "a text",
    1_500: lambda x: True,
    2_500: lambda x: 1 << 80,
    3_500: lambda x: {}[x],
    4_500: lambda x: os.kill(os.getpid(), signal.SIGKILL),
    5_500: lambda x: [x],
    6_500: lambda x: os._exit(3),
    7_500: lambda x: time.sleep(0.02),
}


def half(x):
    """Give floats, and die with one item."""
    return os._exit(3) if x == 5_000 else x / 2 if x != 7_000 else float("nan")


def listed(x):
    """Return a list of it, or die."""
    return [x] if x != "kill" else os.kill(os.getpid(), signal.SIGKILL)


async def hang_later(seconds):
    await asyncio.sleep(seconds)
    return seconds


def tallied(n, *, folder):
    """Fail once with every third item and always with every tenth; note each attempt in a file of this process."""
    with (folder / str(os.getpid())).open("a") as file:
        file.write(f"{n}\n")
    TALLY[n] = TALLY.get(n, 0) + 1
    time.sleep(0.001)
    if n % 10 == 0 or (n % 3 == 0 and TALLY[n] == 1):
        raise OSError(n)
    return n


TALLY = {}


def deadly(x):
    """Fail, die, or return it."""
    if x == "fail":
        raise OSError(x)
    if x == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return x


async def deadly_later(x):
    if isinstance(x, float):
        await asyncio.sleep(x)
    elif x == "kill":
        await asyncio.sleep(0.1)
    return deadly(x)


def marked(n, *, folder, mark):
    """Give the same number again and again, count that it ran, and die with item 10 000."""
    counted(n, folder=folder)
    if n == 10_000:
        os.kill(os.getpid(), signal.SIGKILL)
    return mark


def napped(seconds):
    """Sleep, and tell who did."""
    if seconds:
        time.sleep(seconds)
    return threading.get_native_id()


def parent_of_one(x):
    """Have a child that ends by itself; return its status."""
    child = os.fork()
    if not child:
        os._exit(0)
    return os.waitpid(child, 0)[1]
