"""What is done about an alert: log it, tell somebody by webhook, or relieve the system. Every action leaves a record.

Actions never run inside a call and never break the monitor: one that fails is an outcome in the audit.
"""

from __future__ import annotations

import json
import urllib.request
from collections import deque
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from opero import acts, catalogue, clock
from opero.errors import ConfigurationError
from opero.knobs import Knob
from opero.spelling import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opero.pipeline import Operation

AUDIT = 1000
PENDING = 1000


@dataclass(frozen=True)
class Alert:
    """What an action is told. `event` is the name of the event; no argument, result or message of a call is in it."""

    event: str
    slo: str
    alert: str
    severity: str
    at: float
    burn_rate: float = 0.0
    operation: str = ""
    runbook: str = ""
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """What became of an action: done, failed, would run (dry run), cooling down, or dropped."""

    at: float
    action: str
    alert: Alert
    outcome: str
    detail: str = ""


class Action(Protocol):
    """Anything callable on an alert; what it returns goes into the audit."""

    def __call__(self, alert: Alert, /) -> object:
        """Act."""
        ...


@read_settings
@dataclass(frozen=True)
class Rule:
    """Run an action on events that match, at most once in `cooldown` seconds for each objective and alert.

    `on` is an event name with `*`; `severity` and `target` (the name of an AlertNotificationTarget) narrow it; with
    `dry_run` it is only recorded what would have been done.
    """

    action: Action
    on: str = "opero.slo.alert_fired"
    severity: str = "*"
    target: str = "*"
    cooldown: float = 300.0
    dry_run: bool = False

    def matches(self, alert: Alert) -> bool:
        """Whether it is about this alert."""
        targeted = self.target == "*" or any(fnmatchcase(target, self.target) for target in alert.targets)
        return fnmatchcase(alert.event, self.on) and fnmatchcase(alert.severity, self.severity) and targeted


class Actions:
    """Runs rules one after the other in a thread of its own; `audit` holds the last thousand records."""

    def __init__(self, rules: Iterable[Rule], tell: Callable[[Record], object] = bool) -> None:
        self.rules = tuple(rules)
        self.audit: deque[Record] = deque(maxlen=AUDIT)
        self._tell = tell
        self._last: dict[tuple[int, str, str], float] = {}
        self._queue: Queue[tuple[Rule, Alert] | None] = Queue(PENDING)
        self._thread: Thread | None = None

    def hear(self, alert: Alert) -> None:
        """Queue what is to be done; returns at once."""
        for number, rule in enumerate(self.rules):
            if not rule.matches(alert):
                continue
            key = (number, alert.slo, alert.alert)
            if alert.at - self._last.get(key, float("-inf")) < rule.cooldown:
                self._record(rule, alert, "cooling down")
            elif rule.dry_run:
                self._last[key] = alert.at
                self._record(rule, alert, "would run")
            else:
                self._last[key] = alert.at
                self._queue_up(rule, alert)

    def stop(self, seconds: float = 5.0) -> None:
        """Let what is queued finish, for so long."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(seconds)

    def _queue_up(self, rule: Rule, alert: Alert) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._work, name="opero-slo-actions", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait((rule, alert))
        except Full:
            self._record(rule, alert, "dropped", f"{PENDING} are waiting")

    def _work(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=60)
            except Empty:
                continue
            if item is None:
                return
            self._run(*item)

    def _run(self, rule: Rule, alert: Alert) -> None:
        acts.by.set(f"{alert.slo}: {alert.alert}")  # this thread's own, and only ever ours
        try:
            detail = rule.action(alert)
        except Exception as error:  # noqa: BLE001 - an action that fails is a record, not the end of the monitor
            self._record(rule, alert, "failed", type(error).__name__)
        else:
            self._record(rule, alert, "done", "" if detail is None else str(detail)[:200])

    def _record(self, rule: Rule, alert: Alert, outcome: str, detail: str = "") -> None:
        record = Record(clock.wall(), name_of(rule.action), alert, outcome, detail)
        self.audit.append(record)
        self._tell(record)


@read_settings
@dataclass(frozen=True)
class Webhook:
    """Post the alert as JSON. Only http and https; a secret belongs into `headers`, which are never shown."""

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 5.0

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname:
            raise ConfigurationError("url", self.url, "an address with http or https")

    def __call__(self, alert: Alert) -> str:
        body = json.dumps(asdict(alert)).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310 - checked above
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
            return f"HTTP {answer.status}"


@read_settings
@dataclass(frozen=True)
class Log:
    """Write one line by the standard logger `opero.slo`."""

    level: str = "WARNING"

    def __call__(self, alert: Alert) -> None:
        import logging

        line = f"{alert.event} slo={alert.slo} alert={alert.alert} severity={alert.severity} burn={alert.burn_rate:.3g}"
        logging.getLogger("opero.slo").log(logging.getLevelName(self.level), line)


@read_settings
@dataclass(frozen=True)
class ForceBreaker:
    """Open the breaker of the operations that match (by default the one the objective is about), or close it again."""

    state: str = "forced_open"
    operation: str = ""

    def __post_init__(self) -> None:
        if self.state not in {"forced_open", "closed"}:
            raise ConfigurationError("state", self.state, "forced_open or closed")

    def __call__(self, alert: Alert) -> str:
        return _each(self.operation or alert.operation, self._force)

    def _force(self, operation: Operation) -> bool:
        policy: Any = operation.places.get("circuit_breaker")
        if policy is None:
            return False
        from opero.breaker import Breaker

        breaker = Breaker(operation, policy)
        breaker.force_open() if self.state == "forced_open" else breaker.force_close()
        return True


@read_settings
@dataclass(frozen=True)
class ClearCache:
    """Empty the cache of the operations that match (by default the one the objective is about): what it holds is wrong.

    Every caller then asks the function, so give it a long cool-down.
    """

    operation: str = ""

    def __call__(self, alert: Alert) -> str:
        return _each(self.operation or alert.operation, self._clear)

    def _clear(self, operation: Operation) -> bool:
        if "cache" not in operation.places:
            return False
        from opero.caching import CacheHandle

        CacheHandle(operation).clear_now()
        return True


@read_settings
@dataclass(frozen=True)
class TurnKnob:
    """Set a knob of the operations that match, `to` a value or by a `factor` of what it is; its bounds hold.

    Shedding load is `TurnKnob("bulkhead.limit", factor=0.5)`; a retry budget has `retry_budget.ratio`.
    """

    knob: str
    to: float | None = None
    factor: float | None = None
    operation: str = ""

    def __post_init__(self) -> None:
        if (self.to is None) == (self.factor is None):
            raise ConfigurationError("to", self.to, "a value, or give factor instead")

    def __call__(self, alert: Alert) -> str:
        return _each(self.operation or alert.operation, self._turn)

    def _turn(self, operation: Operation) -> bool:
        turned = False
        for knob in _knobs(operation):
            if knob.name == self.knob:
                value = knob.set(self.to if self.to is not None else knob.value * (self.factor or 1.0))
                operation.emit(acts.ACTED, acts.about("turn_knob", target=knob.name, value=value))
                turned = True
        return turned


def _knobs(operation: Operation) -> list[Knob]:
    """Return what may be tuned: knobs of the policies, and of the state they hold."""
    found: list[Knob] = []
    for policy in operation.policies:
        held = list(vars(policy).values())
        slots = [name for each in held for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())]
        held += [value for each in held for value in getattr(each, "__dict__", {}).values()]
        held += [getattr(each, name, None) for each in held for name in slots]
        found += [each for each in held if isinstance(each, Knob)]
    return list(dict.fromkeys(found))


def _each(pattern: str, act: Callable[[Operation], bool]) -> str:
    names = [o.name for o in catalogue.operations() if fnmatchcase(o.name, pattern) and act(o)]
    if not names:
        raise ConfigurationError("operation", pattern, "one that lives here and has what is to be changed")
    return ", ".join(sorted(set(names)))


def name_of(action: object) -> str:
    """Name an action in the audit."""
    return getattr(action, "__qualname__", type(action).__name__)
