"""What a map can say."""

from __future__ import annotations

from opero.signals import OUTCOME, SECONDS, Event, Metric, Signals

STARTED = Event("opero.map.started", "info", "A map began.", ("mode", "workers"))
PROGRESS = Event(
    "opero.map.progress", "info", "A map goes on; said once a second at most.", ("items", "failures", "total")
)
FINISHED = Event("opero.map.finished", "info", "A map ended.", ("items", "failures", "duration"))
LOST = Event("opero.map.worker_lost", "warning", "A worker died with an item.", ("index", "exitcode"))
ITEMS = Metric(
    "opero.map.items",
    "counter",
    "{item}",
    "Items that came back.",
    attributes=(OUTCOME,),
    zeros=[("ok",), ("error",)],
)
ITEM_DURATION = Metric(
    "opero.map.item.duration", "histogram", "s", "Time an item took in its worker, retries included.", buckets=SECONDS
)
ACTIVE = Metric("opero.map.active", "updown", "{item}", "Items handed over and not back.")
LIMIT = Metric("opero.map.concurrency.limit", "updown", "{item}", "Items that may run at once in running maps.")
SIGNALS = Signals("map", (STARTED, PROGRESS, FINISHED, LOST), (ITEMS, ITEM_DURATION, ACTIVE, LIMIT))
