"""Which settings of a map do something in which mode. One that would do nothing is refused where it is written."""

from __future__ import annotations

from opero.errors import ConfigurationError

PROCESSES = ("process", "async_process")
FITS = {
    "item_timeout": ("auto", "thread", "process", "async", "async_process", "gpu"),
    "worker_init": (*PROCESSES, "dask"),
    "worker_exit": PROCESSES,
    "worker_lifespan": PROCESSES,
    "worker_memory": PROCESSES,
    "start_method": (*PROCESSES, "auto"),
    "cluster": ("dask",),
}
INSTEAD = {  # what does it on a cluster
    "item_timeout": "attempt_timeout=",
    "worker_exit": "the teardown of a distributed.WorkerPlugin",
    "worker_lifespan": "`dask worker --lifetime`",
    "worker_memory": "`dask worker --memory-limit`",
    "start_method": 'the configuration "distributed.worker.multiprocessing-method"',
}


def check(mode: str, **given: object) -> None:
    """Raise `ConfigurationError` for the first that is given and does nothing in this mode."""
    for field, value in given.items():
        if value is not None and mode not in FITS[field]:
            modes = " or ".join(f"mode={each!r}" for each in FITS[field])
            instead = f"; with mode='dask' {INSTEAD[field]} does it" if mode == "dask" else ""
            raise ConfigurationError(field, value, f"a value only with {modes}{instead}")
