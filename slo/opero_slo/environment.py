"""Objectives without code: `OPERO_SLO=slo.yaml` (several with commas), `OPERO_SLO_HISTORY=/var/lib/shop/slo.db`."""

from __future__ import annotations

import os
from multiprocessing import parent_process

import opero_slo


def start() -> None:
    """Start what the environment asks for; not in the workers of a map, whose numbers travel to their parent."""
    given = os.environ.get("OPERO_SLO", "")
    if given and parent_process() is None:
        opero_slo.start(*given.split(","), history=os.environ.get("OPERO_SLO_HISTORY") or None)
