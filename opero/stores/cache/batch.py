"""Many tasks, one connection: what is asked while an answer is awaited goes out together, in one trip.

A task that finds nobody on the way asks at once. Its cancellation ends its own trip; nobody else is in it.
"""

from __future__ import annotations

from opero import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from opero.runtime import Runtime, Waiter

    Command = tuple[Any, ...]
    Send = Callable[[Sequence[Command]], Awaitable[list[Any]]]

LARGEST = 500  # commands a trip


class Job:
    """The commands of one task, and what came of them."""

    __slots__ = ("answers", "commands", "error", "waiter")

    def __init__(self, commands: Sequence[Command], waiter: Waiter) -> None:
        self.commands = commands
        self.waiter = waiter
        self.answers: list[Any] = []
        self.error: BaseException | None = None

    def result(self) -> list[Any]:
        """Return the answers, or raise the first error among them."""
        failed = self.error
        if failed is None:
            failed = next((answer for answer in self.answers if isinstance(answer, Exception)), None)
        if failed is not None:
            raise failed
        return self.answers


class Batch:
    """The trips of one loop. `patience` bounds, in seconds, how long a task waits for its answers."""

    def __init__(self, send: Send, patience: float) -> None:
        self._send = send
        self._patience = patience
        self._busy = False
        self._waiting: list[Job] = []

    async def run(self, runtime: Runtime, commands: Sequence[Command]) -> list[Any]:
        """Send commands and return their answers."""
        job = Job(commands, runtime.waiter())
        if self._busy:
            self._waiting.append(job)
            try:
                if not await runtime.park(job.waiter, clock.now() + self._patience):
                    raise TimeoutError
            finally:
                if job in self._waiting:
                    self._waiting.remove(job)
            return job.result()
        self._busy = True
        try:
            job.answers = await self._send(commands)
        finally:
            if self._waiting:
                runtime.fork(self._go_on(), _done)
            else:
                self._busy = False
        return job.result()

    async def _go_on(self) -> None:
        try:
            while self._waiting:
                await self._trip()
        finally:
            self._busy = False

    async def _trip(self) -> None:
        jobs = self._waiting[:LARGEST]
        del self._waiting[:LARGEST]
        try:
            answers = iter(await self._send([command for job in jobs for command in job.commands]))
            for job in jobs:
                job.answers = [next(answers) for _ in job.commands]
        except Exception as error:  # noqa: BLE001 - each task raises it where it waits
            for job in jobs:
                job.error = error
        finally:
            for job in jobs:
                if not job.answers and job.error is None:
                    job.error = TimeoutError("the loop ends")
                job.waiter.wake()


def _done() -> None:
    """Tell nobody: the jobs tell those who wait for them."""
