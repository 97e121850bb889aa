"""The process workers a map keeps between its runs: `parse.pool`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from opero.parallel.plan import Plan


class Kept:
    """Workers come with the first items, stay for the next run, and end by themselves after a minute without work.

    `close()` ends them now; they run their exit function first. As a context manager it closes at the end of the block.
    `len(parse.pool)` is how many are idle. Modes without processes keep none; with
    `mode="dask"` it is the client and the `LocalCluster`, where none was given.
    """

    def __init__(self, function: Any, plan: Plan) -> None:
        self._function = function
        self._plan = plan

    @property
    def elsewhere(self) -> bool:
        """Whether the function runs in other processes, or may."""
        return self._plan.mode in {"process", "async_process", "dask", "auto"}

    def close(self) -> None:
        """End the idle workers. The next run starts new ones."""
        self._plan.close()

    def __len__(self) -> int:
        return len(self._plan.pool(self._function))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
