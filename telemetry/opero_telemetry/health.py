"""`/healthz`: the process answers. `/readyz`: it can do its work, by checks that can be named and added to."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from opero import catalogue
from opero.signals import STATE
from opero_telemetry.routes import Answer, as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opero.catalogue import Family
    from opero_telemetry.routes import Request

    Check = Callable[[], str | None]  # why not, or None

REFUSING = {"open", "forced_open"}


class Readiness:
    """What has to be true before this process gets work.

    Of operations named `critical` the circuit must not be open ("breakers") and the bulkhead not full ("pools").
    Add what else must hold: `readiness.checks["database"] = lambda: None if ping() else "no answer"`. A check that
    raises says no. Exporters are told about, and asked only where `checks` has them.
    """

    def __init__(self, critical: Iterable[str] = ()) -> None:
        self.critical = frozenset(critical)
        self.checks: dict[str, Check] = {"breakers": self._breakers, "pools": self._pools}
        self.told: dict[str, Check] = {}  # shown, never decisive

    def page(self, request: Request) -> Answer:
        """Answer 200 when every check holds, else 503; what fails is named by the check alone."""
        answers = {name: _ask(check) for name, check in self.checks.items()}
        ready = all(why is None for why in answers.values())
        named = {"critical": self._unknown} if self.critical else {}
        told = {name: _ask(check) for name, check in {**named, **self.told}.items()}
        body = {"ready": ready, "checks": {name: why or "ok" for name, why in {**answers, **told}.items()}}
        return as_json(body, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    def _unknown(self) -> str | None:
        calls = _family("opero.call.active")
        missing = self.critical - {key[0] for key in (calls.samples if calls else ())}
        return f"not decorated: {', '.join(sorted(missing))}" if missing else None

    def _breakers(self) -> str | None:
        states = _family("opero.circuit.state")
        if states is None:
            return None
        place = states.attributes.index(STATE)
        closed = {key[0] for key, on in states.samples.items() if on and key[place] in REFUSING} & self.critical
        return f"open: {', '.join(sorted(closed))}" if closed else None

    def _pools(self) -> str | None:
        used, limit = _family("opero.bulkhead.usage"), _family("opero.bulkhead.limit")
        if used is None or limit is None:
            return None
        full = {key[0] for key, n in used.samples.items() if key[0] in self.critical and n >= limit.samples[key]}  # type: ignore[operator]
        return f"full: {', '.join(sorted(full))}" if full else None


def alive(_: Request) -> Answer:
    """Answer that the process is there."""
    return Answer("ok\n")


def _ask(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check that fails is a no
        return f"{type(error).__name__} in the check"


def _family(name: str) -> Family | None:
    return next((family for family in catalogue.snapshot() if family.metric.name == name), None)
