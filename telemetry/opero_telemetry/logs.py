"""Events as log lines: JSON on stderr, your structlog, or standard logging. Configures nothing by itself.

A line is made in the call and written by a thread of its own, so a slow terminal slows no call.
"""

from __future__ import annotations

import logging
import sys
from math import inf
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from opero import clock, events
from opero.errors import ConfigurationError
from opero_telemetry.lines import HEARD, PER_CALL, SEVERITIES, line
from opero_telemetry.relay import Relay
from opero_telemetry.repeats import Repeats
from opero_telemetry.spans import ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from opero.events import Event

    Write = Callable[[dict[str, Any]], object]

KINDS = ("json", "structlog", "logging")
LEVELS = {name: getattr(logging, name.upper()) for name in SEVERITIES}


class Logs:
    """Writes a line for every event of severity info or more; a context manager.

    `severities` overrides by event name ("debug" silences one). A kind of event is told `limit` times in 10 s, then
    counted (`repeats`).
    """

    def __init__(
        self,
        kind: str = "json",
        stream: TextIO | None = None,
        *,
        severities: Mapping[str, str] | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        self._write = _writer(kind, stream)
        self._severities = _checked(severities or {})
        self._every_call = any(self._severities.get(name, "debug") in HEARD for name in PER_CALL)
        self._repeats = repeats or Repeats()
        self._relay = Relay("logs", self._write_all, idle=lambda: self._write_all([]))
        self._subscription = events.subscribe(self.hear, "opero.*", when=self._wants_every_call)

    def hear(self, event: Event) -> None:
        """Take an event, in the call that says it."""
        told = line(event, self._severities)
        if told["level"] in HEARD:
            self._relay.put(told)

    def _wants_every_call(self) -> bool:
        """What is said of every call is of no interest, unless a severity was given to it."""
        return self._every_call

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything said so far is written."""
        return self._relay.flush(seconds)

    def close(self) -> None:
        """Write what is left, the counts of repeats too."""
        self._subscription.close()
        self._relay.close()
        for told in self._repeats.due(inf):
            self._write(told)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_all(self, lines: list[dict[str, Any]]) -> None:
        for told in self._repeats.due(clock.now()):
            self._write(told)
        for each in lines:
            for told in self._repeats.admit(each, clock.now()):
                self._write(told)


def configure_logging(level: int | str = "INFO", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set structlog and standard logging up for an application: one line each, with time, level, trace and call.

    JSON unless the stream is a terminal (`json=` decides otherwise). For applications: a library leaves this to them.
    """
    out = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_ids,
        structlog.processors.TimeStamper(key="timestamp", fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    as_json = not out.isatty() if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    foreign = [structlog.stdlib.ExtraAdder(), *shared]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def add_ids(_: Any, __: str, told: dict[str, Any]) -> dict[str, Any]:
    """Add trace, span and correlation id, as a structlog processor."""
    trace, span = ids()
    if trace and "trace_id" not in told:
        told["trace_id"], told["span_id"] = trace, span
    correlation = events.current_correlation_id()
    if correlation and correlation != trace:
        told.setdefault("correlation_id", correlation)
    return told


def _writer(kind: str, stream: TextIO | None) -> Write:
    if kind == "logging":
        logger = logging.getLogger("opero")
        return lambda told: logger.log(LEVELS[told["level"]], told["event"], extra={"opero": told, **_extra(told)})
    if kind == "structlog":
        log: Any = structlog.get_logger("opero")
        return lambda told: getattr(log, told["level"])(told["event"], **_extra(told))
    if kind != "json":
        raise ConfigurationError("logs", kind, '"json", "structlog", "logging" or None')
    own: Any = structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stderr),
        processors=[structlog.processors.EventRenamer("event"), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.BoundLogger,
        context_class=dict,
    )
    return lambda told: own.msg(told["event"], **{name: value for name, value in told.items() if name != "event"})


def _extra(told: dict[str, Any]) -> dict[str, Any]:
    """What goes beside name and level; a field that logging keeps for itself gets another name."""
    return {
        f"opero_{name}" if name in RESERVED else name: value
        for name, value in told.items()
        if name not in {"event", "level"}
    }


RESERVED = {*logging.makeLogRecord({}).__dict__, "message", "asctime"}


def _checked(severities: Mapping[str, str]) -> dict[str, str]:
    for name, severity in severities.items():
        if severity not in SEVERITIES:
            raise ConfigurationError("severities", {name: severity}, f"one of {', '.join(SEVERITIES)} for an event")
    return dict(severities)
