"""Objectives without code: `OPERO_SLO=slo.yaml` (several with commas), `OPERO_SLO_HISTORY=/var/lib/shop/slo.db`."""

from __future__ import annotations

import os
from multiprocessing import parent_process

import opero_slo
from opero import forks


def start() -> None:
    """Start what the environment asks for; in a child of multiprocessing, as uvicorn's workers are, with a history."""
    given, history = os.environ.get("OPERO_SLO", ""), os.environ.get("OPERO_SLO_HISTORY") or None
    if given and (parent_process() is None or (history and not forks.worker)):
        opero_slo.start(*given.split(","), history=history)
