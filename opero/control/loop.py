"""The loop: it reads, asks the law, and moves the knob no further than is safe.

1. A knob never leaves its bounds. One step multiplies it by `rise` at most and by `fall` at least; `grain` is a step
   that is always allowed, for knobs near zero.
2. A wish closer than `dead` (a share of where the knob is) changes nothing. After a step down nothing goes up for
   `rest` seconds. So a knob turns back at most 2 t / rest + 1 times in t seconds, whatever it is told.
3. What makes no sense (NaN, infinite, negative, older than before), a law that raises and a wish that is no number
   leave the last safe value, and say so once: `opero.controller.held`.
4. In shadow the law is asked, its wishes are bounded, counted and told, and the knob stays. Frozen, nobody is asked.
5. Every step is an event, with from, to, reason and inputs.

One daemon thread steps all controllers, each `INTERVAL` seconds. It begins with the first controller that runs, and
ends when there is none. `step(now)` is public: a simulator or a test does without the thread.
"""

from __future__ import annotations

from _weakrefset import WeakSet
from collections import deque
from copy import deepcopy
from math import inf, isfinite
from threading import Event as Flag
from threading import Thread
from typing import NamedTuple

from opero import acts, clock, forks
from opero.control.signals import ADJUSTED, ADJUSTMENTS, HELD, SETPOINT, SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from opero.control.law import Law, Wish
    from opero.control.users import Users
    from opero.knobs import Knob
    from opero.pipeline import Operation
    from opero.policy import Observation

INTERVAL = 0.5  # seconds between two steps of the loop
KEPT = 100  # adjustments a controller remembers


class Adjustment(NamedTuple):
    """One step. `at` is monotonic seconds; with `shadow` it is what would have been."""

    at: float
    before: float
    after: float
    reason: str
    inputs: Mapping[str, float]
    shadow: bool


class Controller:
    """One knob in the hands of one law. Thread-safe.

    `read(now)` returns the law's snapshot, None where there is nothing new. `setpoint` is where the controller has the
    knob, in shadow where it would have it; `history` are its last 100 steps.
    """

    def __init__(
        self,
        law: Law,
        read: Callable[[float], Any],
        knob: Knob,
        *,
        users: Users | None = None,
        rise: float = 2.0,
        fall: float = 0.5,
        dead: float = 0.01,
        grain: float = 0.0,
        rest: float = 1.0,
        shadow: bool = False,
    ) -> None:
        self.law = law
        self.knob = knob
        self.frozen = False
        self.in_shadow = shadow
        self.setpoint = knob.value
        self.history: deque[Adjustment] = deque(maxlen=KEPT)
        self.held = ""  # why it keeps its last safe value
        self._read = read
        self._users = users
        self._pristine = deepcopy(law), knob.value
        self._rise, self._fall, self._dead, self._grain, self._rest = rise, fall, dead, grain, rest
        self._seen = self._fell = -inf
        self._lock = forks.lock()

    def join(self, operation: Operation) -> None:
        """Turn the knob for this operation, too."""
        if self._users is not None:
            self._users.add(operation)
        operation.book.declare(SIGNALS)
        operation.book.expect(tuple((ADJUSTMENTS, (self.name, self.parameter, way)) for way in ("up", "down")))

    @property
    def name(self) -> str:
        """The name of its law."""
        return self.law.name

    @property
    def parameter(self) -> str:
        """The name of its knob."""
        return self.knob.name

    def step(self, now: float) -> bool:
        """Look once, and move the knob as far as is safe; whether that was anywhere."""
        with self._lock:
            return not self.frozen and self._step_locked(now)

    def freeze(self) -> None:
        """Leave the knob where it is, until `resume`."""
        self._act("freeze")
        self.frozen = True

    def resume(self) -> None:
        """Let the law go on from where the knob is."""
        self._act("resume")
        with self._lock:
            self.setpoint, self.frozen = self.knob.value, False

    def override(self, value: float) -> float:
        """Put the knob somewhere within its bounds, and leave it there until `resume`; return where it is."""
        with self._lock:
            self.frozen = True
            self.setpoint = self.knob.set(value)
        self._act("override", self.setpoint)
        return self.setpoint

    def reset(self) -> None:
        """Put the knob where it began, and let the law begin anew, with nothing remembered."""
        self._act("reset")
        law, value = self._pristine
        with self._lock:
            self.law, self.frozen, self.held = deepcopy(law), False, ""
            self._seen = self._fell = -inf
            self.setpoint = self.knob.set(value)

    def forget(self) -> None:
        """Let the law begin anew, on another clock, from where the knob is."""
        with self._lock:
            self.law, self._seen, self._fell = deepcopy(self._pristine[0]), -inf, -inf

    def shadow(self, on: bool = True) -> None:
        """Only say what it would do; with False, do it, from where the knob is."""
        self._act("shadow" if on else "act")
        with self._lock:
            self.in_shadow, self.setpoint = on, self.knob.value

    def observe(self, now: float) -> Iterable[Observation]:
        """Yield its gauge."""
        yield SETPOINT, (self.name, self.parameter), self.setpoint

    def __repr__(self) -> str:
        state = "frozen" if self.frozen else "in shadow" if self.in_shadow else self.held or "running"
        return f"<{self.name}: {self.parameter} at {self.setpoint:g}, {state}>"

    def _step_locked(self, now: float) -> bool:
        try:
            snapshot = self._read(now)
            if snapshot is None:
                return False
            if not _sane(snapshot):
                return self._hold("nonsense")
            if snapshot.now <= self._seen:
                return self._hold("stale")
            self._seen = snapshot.now
            wishes = self.law.decide(snapshot)
        except Exception as error:  # noqa: BLE001 - a broken law or reader costs its adaptation, never a call
            return self._hold("failed", type(error).__name__)
        moved = False
        for wish in wishes:
            if wish.parameter != self.parameter or not isfinite(wish.value):
                return self._hold("nonsense", wish.reason)
            moved = self._grant(wish, now) or moved
        self.held = ""
        return moved

    def _grant(self, wish: Wish, now: float) -> bool:
        before = self.setpoint
        after = self._bounded(before, wish.value)
        if abs(after - before) <= self._dead * abs(before) or (after > before and now < self._fell + self._rest):
            return False
        self.setpoint = after if self.in_shadow else self.knob.set(after)
        if after < before:
            self._fell = now
        self.history.append(Adjustment(now, before, self.setpoint, wish.reason, wish.inputs, self.in_shadow))
        self._tell(self.history[-1])
        return not self.in_shadow

    def _bounded(self, before: float, value: float) -> float:
        lowest = min(before * self._fall, before - self._grain)
        highest = max(before * self._rise, before + self._grain)
        return min(max(value, lowest, self.knob.low), highest, self.knob.high)

    def _tell(self, step: Adjustment) -> None:
        speaker = self._speaker()
        if speaker is None:
            return
        speaker.book.add(ADJUSTMENTS, (self.name, self.parameter, "up" if step.after > step.before else "down"))
        said = {"controller": self.name, "parameter": self.parameter, "from": step.before, "to": step.after}
        why = {"reason": step.reason, "inputs": dict(step.inputs), "shadow": step.shadow}
        speaker.emit(ADJUSTED, {**said, **why})

    def _hold(self, reason: str, error: str = "") -> bool:
        """Keep the knob where it is; say so when that begins."""
        begins, self.held = not self.held, reason
        speaker = self._speaker() if begins else None
        if speaker is not None:
            said = {"controller": self.name, "parameter": self.parameter, "value": self.setpoint}
            speaker.emit(HELD, {**said, "reason": reason, "error": error})
        return False

    def _act(self, act: str, value: float | None = None) -> None:
        speaker = self._speaker()
        if speaker is not None:
            said = {} if value is None else {"value": value}
            speaker.emit(acts.ACTED, acts.about(act, target=self.parameter, **said))

    def _speaker(self) -> Operation | None:
        """Return the operation that speaks for it: the first that uses the knob, so that a step is told once."""
        return next(iter(self._users), None) if self._users is not None else None


class Controllers:
    """The controllers of one function, by the names of their knobs: `f.opero.controllers["bulkhead.limit"]`.

    The loop steps those in `looped`, all of them unless given; who has the others steps them.
    """

    def __init__(self, controllers: Iterable[Controller], looped: Iterable[Controller] | None = None) -> None:
        controllers = tuple(controllers)
        self._looped = controllers if looped is None else tuple(looped)
        self._by_name = {controller.parameter: controller for controller in controllers}

    def __getitem__(self, parameter: str) -> Controller:
        if parameter not in self._by_name:
            there = f"there are {', '.join(self._by_name)}" if self._by_name else "there is none"
            raise KeyError(f"no controller of {parameter!r}; {there}")
        return self._by_name[parameter]

    def __iter__(self) -> Iterator[Controller]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<controllers: {', '.join(map(repr, self)) or 'none'}>"

    def freeze(self) -> None:
        """Freeze all of them."""
        for controller in self:
            controller.freeze()

    def resume(self) -> None:
        """Let all of them go on."""
        for controller in self:
            controller.resume()

    def reset(self) -> None:
        """Let all of them begin anew."""
        for controller in self:
            controller.reset()

    def shadow(self, on: bool = True) -> None:
        """Let all of them only say what they would do."""
        for controller in self:
            controller.shadow(on)

    def start(self) -> None:
        """Let the loop step them from now on."""
        LOOP.add(self._looped)


class Loop:
    """Steps controllers for as long as they live, in one daemon thread."""

    def __init__(self) -> None:
        self._controllers: WeakSet[Controller] = WeakSet()
        self._lock = forks.lock()
        self._stop = Flag()
        self._thread: Thread | None = None
        forks.remember(self)

    def after_fork(self) -> None:
        """The thread stayed with the parent; who has controllers here gets another one."""
        self._stop, self._thread = Flag(), None
        self.add(())

    def renew(self) -> None:
        """Go on in another thread, on another clock: a virtual one moves only threads that began after it."""
        self._stop.set()
        for controller in list(self._controllers):
            controller.forget()
        self.after_fork()

    def add(self, controllers: Iterable[Controller]) -> None:
        """Step these, too."""
        with self._lock:
            for controller in controllers:
                self._controllers.add(controller)
            if self._thread is None and len(self._controllers):
                self._thread = Thread(target=self._run, args=(self._stop,), name="opero-control", daemon=True)
                self._thread.start()

    def step(self, now: float) -> None:
        """Step each of them once."""
        for controller in list(self._controllers):
            controller.step(now)

    def _run(self, stop: Flag) -> None:
        while self._some(stop) and not clock.wait(stop, clock.pace(INTERVAL)):
            self.step(clock.now())

    def _some(self, stop: Flag) -> bool:
        with self._lock:
            if not len(self._controllers) and stop is self._stop:
                self._thread = None
            return len(self._controllers) > 0


LOOP = Loop()


def _sane(snapshot: Iterable[Any]) -> bool:
    """Whether every number is one that a measurement can be: finite, and not negative."""
    numbers = [each for each in snapshot if isinstance(each, int | float)]
    return all(isfinite(each) and each >= 0 for each in numbers)
