"""The pages, and one more for what none of them shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opero_dashboards.pages import (
    cache,
    circuit_breakers,
    controllers,
    gpu_batching,
    limits,
    operation,
    other,
    overview,
    parallel_map,
    retries,
    slo,
    telemetry_health,
)

if TYPE_CHECKING:
    from opero_dashboards.vocabulary import Vocabulary

PAGES = (
    overview,
    operation,
    circuit_breakers,
    retries,
    cache,
    limits,
    parallel_map,
    gpu_batching,
    controllers,
    slo,
    telemetry_health,
    other,  # the last: it takes what the others left
)


def every(vocabulary: Vocabulary) -> dict[str, dict[str, Any]]:
    """Return the dashboards by file name."""
    made = [page for module in PAGES if (page := module.page(vocabulary)) is not None]
    return {f"{page.uid.removeprefix('opero-')}.json": page.json(vocabulary) for page in made}
