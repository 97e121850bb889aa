"""Grafana dashboards in code, from what the primitives declare that they say.

from opero_dashboards import build
for name, dashboard in build().items(): ...
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["build"]


def build() -> dict[str, dict[str, Any]]:
    """Return every dashboard in Grafana's classic JSON model, by file name."""
    from opero_dashboards.pages import every
    from opero_dashboards.vocabulary import Vocabulary

    return every(Vocabulary.declared())
