"""How to map: the settings of one `@opmap`, checked where they are written."""

from __future__ import annotations

from opero.call import heard
from opero.deadlines import within
from opero.decorators import decorate
from opero.drivers import blocking
from opero.errors import ConfigurationError
from opero.kinds import is_coroutine_function, is_generator_function, signature_of
from opero.knobs import Knob
from opero.parallel import fitting
from opero.parallel.progress import shown
from opero.policy import asked, boolean, choice, number, optional, whole
from opero.workers.place import cores
from opero.workers.queues import Priority, Shared, Stealing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Context
    from typing import Any

    from opero.parallel.progress import Quiet
    from opero.parallel.tuning import Tuning
    from opero.pipeline import Operation
    from opero.workers.dask import Cluster
    from opero.workers.gpu_batch import GpuBatch
    from opero.workers.pool import Pool
    from opero.workers.queues import Queue
    from opero.workers.session import Session
    from opero.workers.worker import Job

MODES = ("auto", "thread", "process", "async", "async_process", "dask", "gpu")
ASYNC = {"async", "async_process"}
AT_ONCE = 50  # coroutines in one process worker
ERRORS = ("raise", "return", "skip")
WORKERS = {"auto": 4, "thread": 4, "process": 1, "async": 50, "async_process": 1, "dask": 1}  # for each core
MOST = {"auto": 4, "thread": 32, "process": 4, "async": 1000, "async_process": 4}  # for each core
CALLS = {True: 1024, False: 64}  # that wait for a batch at once: coroutines, threads
METHODS = ("fork", "forkserver", "spawn")


class Plan:
    """How to map."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        mode: str | None = None,
        workers: int | str = "auto",
        ordered: bool = True,
        errors: str = "raise",
        max_pending: int | None = None,
        chunk_size: int | str = "auto",
        schedule: str = "shared",
        priority: Callable[[Any], Any] | None = None,
        item_timeout: float | None = None,
        progress: bool | Callable[[int, int | None], object] | None = None,
        constants: Mapping[str, Any] | None = None,
        on_death: str = "error",
        worker_init: Callable[[], object] | None = None,
        worker_exit: Callable[[], object] | None = None,
        worker_lifespan: int | None = None,
        worker_memory: int | None = None,
        start_method: str | None = None,
        cluster: Any = None,
        batch_size: int | str = "auto",
        batch_wait: float = 0.005,
        batch_target: float = 0.05,
    ) -> None:
        if is_generator_function(function):
            raise ConfigurationError("function", function, "no generator function: an item has one result")
        self.is_async = is_coroutine_function(function)
        self.mode = choice("mode", mode or ("async" if self.is_async else "thread"), MODES)
        if self.mode != "gpu" and self.is_async != (self.mode in ASYNC):
            fit = "'async' or 'async_process' for a coroutine function" if self.is_async else "another for a plain one"
            raise ConfigurationError("mode", self.mode, fit)
        if workers != "auto" and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
            raise ConfigurationError("workers", workers, "'auto' or a whole number, 1 or more")
        self.tunes_workers = workers == "auto" and self.mode in MOST
        first = self._workers() if workers == "auto" else int(workers)
        most = MOST.get(self.mode, 0) * cores() if self.tunes_workers else first
        least = first if self.tunes_workers and "process" in self.mode else 1  # a core without a worker helps nobody
        self.limit = Knob("map.workers", first, low=least, high=max(first, most))
        self.ordered = boolean("ordered", ordered)
        self.errors = choice("errors", errors, ERRORS)
        self.max_pending = optional(whole, "max_pending", max_pending, low=1)
        self.tunes_chunks = chunk_size == "auto" and self.mode not in {"async", "dask", "gpu"}
        self.chunk_size = None if chunk_size == "auto" else whole("chunk_size", chunk_size, low=1)
        self.schedule = choice("schedule", schedule, ("shared", "stealing"))
        self.priority = _callable("priority", priority)
        self.item_timeout = optional(number, "item_timeout", item_timeout, above=0)
        self.progress = progress if progress in (None, True, False) else _callable("progress", progress)
        self.constants = dict(constants or {})
        self.batching: GpuBatch | None = None
        if self.mode == "gpu":
            from opero.workers.gpu_batch import GpuBatch

            self.batching = GpuBatch(batch_size, wait=batch_wait, target=batch_target)
        if self.batching and self.constants:
            raise ConfigurationError("constants", constants, "none with mode='gpu': let the function close over them")
        self.tries = {"error": 1, "retry": 3}[choice("on_death", on_death, ("error", "retry"))]
        self.worker_init = _callable("worker_init", worker_init)
        self.worker_exit = _callable("worker_exit", worker_exit)
        self.worker_lifespan = optional(whole, "worker_lifespan", worker_lifespan, low=1)
        self.worker_memory = optional(whole, "worker_memory", worker_memory, low=1)
        self.start_method = choice("start_method", start_method, (None, *METHODS))
        self.general = blocking.call
        self.cluster = cluster
        fitting.check(
            self.mode,
            item_timeout=item_timeout,
            worker_init=worker_init,
            worker_exit=worker_exit,
            worker_lifespan=worker_lifespan,
            worker_memory=worker_memory,
            start_method=start_method,
            cluster=cluster,
        )
        self.tuning: Tuning | None = None
        self._pool: Pool | None = None
        self._cluster: Cluster | None = None
        self._takes_one(function)

    @property
    def workers(self) -> int:
        """How many may run at once."""
        return round(self.limit.value)

    def session(
        self, function: Any, context: Context, reduce: Callable[[Any, Any], Any] | None, *, lazily: bool
    ) -> Session:
        """Have workers; they start when there are items."""
        one = self.bound(function.one)
        if self.is_async:
            from opero.workers.tasks import want_a_loop

            want_a_loop(self.mode)
        if self.mode in {"process", "async_process"}:
            return self.processes(function, context, reduce, lazily=lazily)
        if self.mode == "thread":
            return self.threads(one, context)
        if self.mode == "dask":
            return self.tasks_of_dask(function, context, reduce)
        if self.mode == "gpu":
            return self.batches(function, one, context)
        if self.mode == "auto":
            from functools import partial

            from opero.workers.auto import Auto

            processes = partial(self.processes, function, context, reduce, lazily=lazily)
            return Auto(self, function, one, context, processes)
        return self.tasks(one, context)

    def threads(self, one: Any, context: Context) -> Session:
        """Threads of this process."""
        from opero.workers.threads import Threads

        return Threads(
            one,
            self.queue(),
            context,
            workers=self.workers,
            chunk_size=self.chunk_size,
            item_timeout=self.item_timeout,
        )

    def batches(self, function: Any, one: Any, context: Context) -> Session:
        """Batches of many items where a call is only counted; else each item is a call that waits for its batch."""
        operation = function.opero.operation
        alone = operation.policies == (self.batching,) and self.item_timeout is None and not (heard or within)
        if alone:
            from opero.workers.gpu_session import AsyncBatches, Batches

            return (AsyncBatches if self.is_async else Batches)(operation, self.general, self.queue(), context)
        if self.is_async:
            return self.tasks(one, context)
        from opero.workers.threads import Threads

        timeout = self.item_timeout
        return Threads(one, self.queue(), context, workers=self.workers, chunk_size=1, item_timeout=timeout)

    def tasks(self, one: Any, context: Context) -> Session:
        """Tasks of the running loop."""
        from opero.workers.tasks import Tasks

        return Tasks(one, self.queue(), context, workers=self.workers, item_timeout=self.item_timeout)

    def processes(
        self, function: Any, context: Context, reduce: Callable[[Any, Any], Any] | None, *, lazily: bool
    ) -> Session:
        """Processes of the function's pool."""
        from opero.workers.processes import Processes

        session: Any = Processes
        if self.is_async:
            from opero.workers.async_processes import AsyncProcesses as session  # noqa: N813
        return session(  # type: ignore[no-any-return]
            self.pool(function),
            function.opero.operation,
            self.queue(),
            context,
            workers=self.workers,
            chunk_size=self.chunk_size,
            item_timeout=self.item_timeout,
            tries=self.tries,
            least=AT_ONCE if self.is_async else 1,
            reduce=None if self.is_async or self.priority else reduce,  # who run in no order
            lazily=lazily,
        )

    def tasks_of_dask(self, function: Any, context: Context, reduce: Callable[[Any, Any], Any] | None) -> Session:
        """Tasks of a Dask cluster."""
        from opero.workers.dask import Cluster, Dask

        if self._cluster is None:
            self._cluster = Cluster(self.cluster, self.workers)
        return Dask(
            self._cluster,
            self._job(function),
            function.opero.operation.book,
            self.queue(),
            context,
            chunk_size=self.chunk_size,
            reduce=None if self.priority else reduce,
        )

    def close(self) -> None:
        """End what is kept between runs."""
        if self._pool is not None:
            self._pool.close()
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def pool(self, function: Any) -> Pool:
        """Return the process workers that are kept for this function."""
        from opero.workers import shared
        from opero.workers.pool import Pool

        if self._pool is None:
            self._pool = Pool(
                lambda: self._job(function, shared.names_of(function.one)),
                function.opero.name,
                self.workers,
                self.start_method,
            )
        return self._pool

    def queue(self) -> Queue:
        """Make a queue by the schedule."""
        if self.priority is not None:
            return Priority(self.priority)
        return Stealing(self.workers) if self.schedule == "stealing" else Shared()

    def feed(self, items: Any, session: Any) -> Any:
        """Pull an asynchronous input; only where there is a loop."""
        if not self.is_async:
            allowed = "an ordinary iterable; an asynchronous one wants a coroutine function"
            raise ConfigurationError("items", items, allowed)
        from opero.workers.tasks import Feed

        return Feed(items, session.wake)

    def shown(self, name: str, total: int | None) -> Quiet:
        """Return what shows the progress of a run."""
        return shown(self.progress, name, total)

    def bound(self, one: Any) -> Any:
        """Return the single call with the constants in it."""
        if not self.constants:
            return one
        from functools import partial

        return partial(one, **self.constants)

    def _job(self, function: Any, shared: Mapping[str, str] | None = None) -> Job:
        from opero.workers.wire import can_be_found
        from opero.workers.worker import Job

        return Job(
            function if can_be_found(function) else _Recipe(function.opero.operation),
            general=self.general,
            constants=self.constants,
            init=self.worker_init,
            exit=self.worker_exit,
            lifespan=self.worker_lifespan,
            memory=self.worker_memory,
            at_once=AT_ONCE if self.is_async else 1,
            shared=shared,
        )

    def _workers(self) -> int:
        return CALLS[self.is_async] if self.mode == "gpu" else WORKERS[self.mode] * cores()

    def _takes_one(self, function: Callable[..., Any]) -> None:
        if isinstance(function, classmethod):
            raise ConfigurationError("function", function, "a function, or a bound method: opmap(Class.method)(items)")
        parameters = signature_of(function)
        if parameters is None:
            return
        try:
            parameters.bind(None, **self.constants)
        except TypeError as error:
            allowed = "a function that can be called with one item, by position"
            if next(iter(parameters.parameters), "") in {"self", "cls"}:
                allowed += "; of a method, the bound one: opmap(object.method)(items)"
            if self.constants:
                allowed += f", and with {', '.join(self.constants)} by name"
            raise ConfigurationError("function", function, allowed) from error


class _Recipe:
    """How to make the single-item call again, in a process that cannot find it by its name."""

    def __init__(self, operation: Operation) -> None:
        self._function, self._policies, self._name = operation.function, operation.policies, operation.name

    def __repr__(self) -> str:
        return repr(self._function)

    @property
    def one(self) -> Any:
        """Make it."""
        return decorate(self._function, self._policies, {"name": self._name}, retries=False)


def _callable(field: str, value: Any) -> Any:
    return None if value is None else asked(field, value, "something to call, or None")
