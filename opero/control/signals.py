"""What a controller can say."""

from __future__ import annotations

from opero.signals import Event, Metric, Signals

CONTROLLER, PARAMETER, DIRECTION = "controller.name", "parameter", "direction"

ADJUSTED = Event(
    "opero.controller.adjusted",
    "info",
    "A controller moved a knob; in shadow, it would have.",
    ("controller", "parameter", "from", "to", "reason", "inputs", "shadow"),
)
HELD = Event(
    "opero.controller.held",
    "warning",
    "A controller keeps its last safe value: its law failed, or what it read made no sense. Said when that begins.",
    ("controller", "parameter", "value", "reason", "error"),
)
SETPOINT = Metric(
    "opero.controller.setpoint",
    "gauge",
    "",
    "Where a controller has its knob; in shadow, where it would have it.",
    attributes=(CONTROLLER, PARAMETER),
)
ADJUSTMENTS = Metric(
    "opero.controller.adjustments",
    "counter",
    "{adjustment}",
    "Changes of a knob by its controller.",
    attributes=(CONTROLLER, PARAMETER, DIRECTION),
)
SIGNALS = Signals("controller", (ADJUSTED, HELD), (SETPOINT, ADJUSTMENTS))
