"""What a cache can say."""

from __future__ import annotations

from opero.signals import POLICY, SECONDS, Event, Metric, Signals

RESULT = "opero.cache.result"
EVICTED = "reason"
RESULTS = ("hit", "miss", "stale", "coalesced", "bypass", "error")

STALE_SERVED = Event("opero.cache.stale_served", "info", "A caller got a stale entry.", ("reason",))
BACKEND_FAILED = Event("opero.cache.backend_failed", "warning", "The store did not do its part.", ("backend", "reason"))
ENTRY_REFUSED = Event(
    "opero.cache.entry_refused", "warning", "An entry was not what was stored.", ("backend", "reason")
)
KEY_FAILED = Event(
    "opero.cache.key_failed", "warning", "A call's key or tags could not be made: it ran uncached.", ("part", "error")
)
REFRESH_FAILED = Event("opero.cache.refresh_failed", "warning", "A load in the background failed.", ("error",))
INVALIDATED = Event("opero.cache.invalidated", "debug", "Entries were ended by hand.", ("act", "by", "target"))
REQUESTS = Metric(
    "opero.cache.requests",
    "counter",
    "{request}",
    "Calls that asked the cache, by what they got.",
    attributes=(RESULT,),
    zeros=[(result,) for result in RESULTS],
)
EVICTIONS = Metric(
    "opero.cache.evictions",
    "counter",
    "{entry}",
    "Entries that had to go for others.",
    attributes=(EVICTED,),
    zeros=[("entries",), ("bytes",), ("expired",)],
)
COUNT = Metric("opero.cache.entry.count", "updown", "{entry}", "Entries held.", attributes=(POLICY,))
USAGE = Metric("opero.cache.usage", "updown", "By", "Bytes the entries take, where bounded.", attributes=(POLICY,))
LOADED = Metric(
    "opero.cache.load.duration", "histogram", "s", "How long it took to load what was not there.", buckets=SECONDS
)
SIGNALS = Signals(
    "cache",
    (STALE_SERVED, BACKEND_FAILED, ENTRY_REFUSED, KEY_FAILED, REFRESH_FAILED, INVALIDATED),
    (REQUESTS, EVICTIONS, COUNT, USAGE, LOADED),
)
