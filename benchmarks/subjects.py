"""What is measured, and its yardsticks; imports nothing but Opero, so that counting instructions does not count more.

`python -m benchmarks.subjects FEW MANY NAME...` makes the calls of some of `WATCHED`, for callgrind.
"""

from __future__ import annotations

import os
import sys

from opero import Retry, opero, waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

USUAL: dict[str, Any] = {"retries": 3, "circuit_breaker": True, "rate_limit": 1_000_000_000}
EVERYTHING: dict[str, Any] = {**USUAL, "bulkhead": 100}


def work(x: int) -> int:
    """Do nothing worth measuring."""
    return x


async def work_async(x: int) -> int:
    """Do nothing worth measuring, in a coroutine."""
    return x


def boom(x: int) -> int:
    """Fail."""
    raise KeyError(x)


def closure(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as thinly as a decorator that handles an error can."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ValueError:
            return None

    return wrapper


def closure_async(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a coroutine function as thinly."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except ValueError:
            return None

    return wrapper


def loop_by_hand(x: int) -> int:
    """Try three times, as one writes it by hand."""
    for number in range(3):
        try:
            return boom(x)
        except KeyError:
            if number == 2:
                raise
    raise AssertionError


def locked(function: Callable[[int], int]) -> Callable[[int], int]:
    """Add what a careless change would: a lock around each call."""
    from threading import Lock

    lock = Lock()

    def wrapper(x: int) -> int:
        with lock:
            return function(x)

    return wrapper


PLANTED = " with a lock planted"
WATCHED: dict[str, Callable[[], Any]] = {
    "closure": lambda: closure(work),
    "closure, async": lambda: closure_async(work_async),
    "retry": lambda: opero(work),
    "retry, breaker, limit": lambda: opero(**USUAL)(work),
    "retry, breaker, limit, async": lambda: opero(**USUAL)(work_async),
    "three failing attempts by hand": lambda: loop_by_hand,
    "three failing attempts": lambda: opero(Retry(2, wait=waits.constant(0)))(boom),
    "cache hit": lambda: opero(cache_ttl=60, retries=0)(work),
    "cache hit, async": lambda: opero(cache_ttl=60, retries=0)(work_async),
}


def main(few: int, many: int, *names: str) -> None:
    """Make few and many calls of each, in forks of this process, and say which process made which."""
    import asyncio  # before forking: for the async ones

    for name in names:
        some = 10 if name.startswith("three failing") else 1  # they take as long as a hundred others
        children = {}
        for calls in (few // some, many // some):  # beside each other: instructions are the same as one after the other
            child = os.fork()
            if child == 0:
                make = _awaiting if name.endswith("async") else _failing if "failing" in name else _calling
                make(asyncio, made(name), calls)
                os._exit(0)
            children[child] = calls
        for child, calls in children.items():
            os.waitpid(child, 0)
            print(child, calls, name, sep="\t", flush=True)


def made(name: str) -> Callable[[int], Any]:
    """Return what is called under a name."""
    function: Callable[[int], Any] = WATCHED[name.removesuffix(PLANTED)]()
    return locked(function) if name.endswith(PLANTED) else function


def _calling(_: Any, function: Callable[[int], Any], calls: int) -> None:
    for x in range(calls):
        function(x % 50)


def _failing(_: Any, function: Callable[[int], Any], calls: int) -> None:
    for x in range(calls):
        try:  # noqa: SIM105 - a context manager would cost as much as what is measured
            function(x % 50)
        except KeyError:
            pass


def _awaiting(asyncio: Any, function: Callable[[int], Any], calls: int) -> None:
    async def run() -> None:
        for x in range(calls):
            await function(x % 50)

    asyncio.run(run())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
