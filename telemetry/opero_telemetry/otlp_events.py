"""Events as OpenTelemetry log records. The API is still `_logs`: all that knows it is in this file and in `otlp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import get_current

from opero import __version__, events
from opero_telemetry.lines import HEARD
from opero_telemetry.relay import Relay

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import LoggerProvider

    from opero.events import Event

NUMBERS = {"info": SeverityNumber.INFO, "warning": SeverityNumber.WARN, "error": SeverityNumber.ERROR}


class OtlpEvents:
    """Emits every event of severity info or more, with the context it was said in."""

    def __init__(self, provider: LoggerProvider) -> None:
        self._logger = provider.get_logger("opero", __version__)
        self._relay = Relay("otlp", self._emit)
        self._subscription = events.subscribe(self.hear, "opero.*", when=bool)

    def hear(self, event: Event) -> None:
        """Take an event, in the call that says it."""
        if event.severity in HEARD:
            self._relay.put((event, get_current()))

    def close(self) -> None:
        """Emit what is left."""
        self._subscription.close()
        self._relay.close()

    def _emit(self, said: list[tuple[Event, Context]]) -> None:
        for event, context in said:
            attributes: dict[str, Any] = {"opero.call.name": event.operation}
            if event.correlation_id:
                attributes["opero.correlation_id"] = event.correlation_id
            attributes.update((f"opero.{name}", _plain(value)) for name, value in event.fields.items())
            self._logger.emit(
                timestamp=int(event.at * 1e9),
                context=context,
                severity_number=NUMBERS[event.severity],
                severity_text=event.severity.upper(),
                body=event.name,
                attributes=attributes,
                event_name=event.name,
            )


def _plain(value: object) -> Any:
    return (
        value if isinstance(value, str | int | float | bool) else "" if value is None else f"<{type(value).__name__}>"
    )
