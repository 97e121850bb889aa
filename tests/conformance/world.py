"""The world a scenario happens in: one driver at one speed, on a virtual clock."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack

import trio

import opero as o
from opero import clock, events, fused, testing

HEARD = (
    "opero.arg_fallback.*",
    "opero.bulkhead.*",
    "opero.cache.*",
    "opero.call.rejected",
    "opero.circuit.*",
    "opero.fallback.*",
    "opero.hedge.*",
    "opero.retry.*",
    "opero.timeout.*",
)


class World:
    """It decorates functions, calls them, and hears what is said."""

    def __init__(self, driver, speed, names=HEARD, start=None):
        self.driver = driver
        self.is_async = driver != "blocking"
        self.speed = speed
        self.stack = stack = ExitStack()
        self.time = stack.enter_context(testing.clock(start))
        self.heard = []
        for each in names:
            stack.enter_context(events.subscribe(self.heard.append, each))

    def decorate(self, script, **settings):
        """Decorate a function that plays a script: errors are raised, numbers slept, everything else returned."""
        policies = settings.pop("policies", ())
        settings.setdefault("name", "shop.pay")
        fused.enabled = self.speed == "fast"
        try:
            if not policies and not settings.keys() & {"retries"}:
                settings["retries"] = 0
            return o.opero(*policies, **settings)(self._player(iter(script)))
        finally:
            fused.enabled = True

    def _player(self, script):
        self.calls = []
        if self.is_async:
            sleep = trio.sleep if self.driver == "trio" else asyncio.sleep

            async def play(value=None):
                self.calls.append(value)
                for step in script:
                    if not isinstance(step, Pause):
                        return _do(step)
                    await sleep(step.seconds)
                raise Over

        else:

            def play(value=None):
                self.calls.append(value)
                for step in script:
                    if not isinstance(step, Pause):
                        return _do(step)
                    clock.sleep(step.seconds)
                raise Over

        return play

    def call(self, function, *args, **kwargs):
        """Make one call; return its result or its error, and the virtual seconds it took."""
        started = self.time.now()
        answer = self.run(awaited, function, args, kwargs) if self.is_async else called(function, args, kwargs)
        try:
            return answer, round(self.time.now() - started, 6)
        finally:
            del answer  # the frames of its traceback lead back to this one

    def run(self, function, *args):
        """Run a coroutine function to its end."""
        if self.driver == "trio":
            return on_trio(function, *args)
        answers = []  # not by way of the task: since 3.12 asyncio keeps that in a circle

        async def main():
            answers.append(await function(*args))

        asyncio.run(main())
        return answers.pop()

    def flag(self):
        """Return an event of the driver."""
        return {"blocking": threading.Event, "aio": asyncio.Event, "trio": TrioFlag}[self.driver]()

    def later(self, seconds, function):
        """Call something after so many seconds, beside the running task."""

        async def wait():
            await trio.sleep(seconds)
            function()

        if self.driver == "trio":
            trio.lowlevel.spawn_system_task(wait)
        else:
            asyncio.get_running_loop().call_later(seconds, function)

    def names(self):
        """Return what was heard, without the family name."""
        return [event.name.removeprefix("opero.") for event in self.heard]


def on_trio(function, *args):
    """Run a coroutine function on trio."""
    answers = []  # trio keeps what its first task returned in a circle

    async def main():
        answers.append(await function(*args))

    trio.run(main)
    return answers.pop()


class TrioFlag:
    """An event of trio whose methods a test may replace."""

    def __init__(self):
        self._event = trio.Event()
        self.set, self.is_set = self._event.set, self._event.is_set

    async def wait(self):
        await self._event.wait()


def called(function, args, kwargs):
    try:
        return function(*args, **kwargs)
    except BaseException as error:  # the outcome under test
        return error


async def awaited(function, args, kwargs):
    try:
        return await function(*args, **kwargs)
    except BaseException as error:  # the same, inside the loop
        return error


class Over(BaseException):
    """The script is over. No error: it would be retried, for ever if nothing else ends that."""


class Pause:
    def __init__(self, seconds):
        self.seconds = seconds


def _do(step):
    if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
        raise step
    return step


def stats(function, **expected):
    stats = function.opero.stats()
    found = {name: stats[name] for name in expected}
    assert found == expected
    return True
