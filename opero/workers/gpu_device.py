"""Where a batch runs: on an NVIDIA GPU by CuPy, else by NumPy in this process. The function and the batches are alike.

On a GPU two lanes take turns: while one computes, the other stacks its items into pinned memory and copies them over,
each on a stream of its own. The function itself never runs twice at once.

Source: NVIDIA, "How to Overlap Data Transfers in CUDA C/C++", 2012.
"""

from __future__ import annotations

from threading import Lock, local
from typing import NamedTuple

from opero import clock
from opero.errors import ConfigurationError
from opero.workers import gpu_items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Function = Callable[[Any], Any]


class Done(NamedTuple):
    """What came of a batch: each item's value, the seconds it took, and the bytes, at least."""

    values: list[Any]
    seconds: float
    used: int


class Host:
    """NumPy, in the memory of this process."""

    name = "numpy"
    lanes = 1

    def __init__(self) -> None:
        try:
            import numpy as np
        except ImportError as error:
            raise ConfigurationError("mode", "gpu", "another one, or `pip install 'opero[gpu]'` (NumPy)") from error
        self._numpy = np

    def run(self, function: Function, items: Sequence[Any]) -> Done:
        """Run a batch."""
        began = clock.now()
        batch = gpu_items.stacked(items, self._stack)
        result = function(batch)
        values = gpu_items.apart(result, len(items))
        return Done(values, clock.now() - began, gpu_items.size(batch) + gpu_items.size(result))

    def free_memory(self) -> int:
        """Return the bytes that are free; 0 where that is not known."""
        return 0

    def release(self) -> None:
        """Give back what is cached."""

    def _stack(self, items: Sequence[Any]) -> Any:
        numbers = type(items[0]) in gpu_items.NUMBERS
        return self._numpy.asarray(items) if numbers else self._numpy.stack(items)


class Cuda(Host):
    """CuPy, on the current device."""

    lanes = 2

    def __init__(self, cupy: Any) -> None:
        super().__init__()
        from cupyx import empty_pinned  # type: ignore[import-not-found]

        self._cupy = cupy
        self._empty_pinned = empty_pinned
        self._turn = Lock()
        self._of_lane = local()
        self._device = cupy.cuda.Device()
        self.name = f"cupy {self._device.id}"

    def run(self, function: Function, items: Sequence[Any]) -> Done:
        stream, began = self._stream(), clock.now()
        with self._device, stream:
            batch = gpu_items.stacked(items, self._upload)
            stream.synchronize()  # its pinned memory is free again; the other lane computes meanwhile
            asked = clock.now()
            with self._turn:
                idle = clock.now() - asked
                result = function(batch)
            used = gpu_items.size(batch) + gpu_items.size(result)
            pinned = self._download(result, stream)
            stream.synchronize()  # the pinned memory is in use until here
        values = gpu_items.apart(_copied(pinned), len(items))
        return Done(values, clock.now() - began - idle, used)

    def free_memory(self) -> int:
        free: int = self._cupy.cuda.runtime.memGetInfo()[0]
        pool = self._cupy.get_default_memory_pool()
        return free + int(pool.free_bytes())

    def release(self) -> None:
        self._cupy.get_default_memory_pool().free_all_blocks()
        self._cupy.get_default_pinned_memory_pool().free_all_blocks()

    def _stream(self) -> Any:
        found = getattr(self._of_lane, "stream", None)
        if found is None:
            found = self._of_lane.stream = self._cupy.cuda.Stream(non_blocking=True)
        return found

    def _upload(self, items: Sequence[Any]) -> Any:
        """Stack into pinned memory, and copy from there without holding up the other lane."""
        if hasattr(items[0], "__cuda_array_interface__"):
            return self._cupy.stack(items)
        host = self._stack(items)
        pinned = self._empty_pinned(host.shape, host.dtype)
        pinned[...] = host
        batch = self._cupy.empty(host.shape, host.dtype)
        batch.set(pinned, stream=self._stream())
        return batch

    def _download(self, result: Any, stream: Any) -> Any:
        if isinstance(result, tuple):
            return tuple([self._download(part, stream) for part in result])
        if not hasattr(result, "__cuda_array_interface__"):
            return result
        pinned = self._empty_pinned(result.shape, result.dtype)
        result.get(stream=stream, out=pinned, blocking=False)
        return pinned


def find() -> Host:
    """Return the GPU if there is one that works."""
    try:
        import cupy  # type: ignore[import-not-found]

        if cupy.cuda.runtime.getDeviceCount() > 0:
            return Cuda(cupy)
    except ImportError:
        pass
    except Exception as error:
        if type(error).__name__ != "CUDARuntimeError":  # CuPy without a device says this
            raise
    return Host()


def _copied(result: Any) -> Any:
    """Return it in ordinary memory: pinned memory is scarce, and results are kept."""
    if isinstance(result, tuple):
        return tuple(map(_copied, result))
    return result.copy() if hasattr(result, "copy") else result


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that there was not memory enough; CuPy's is a MemoryError, PyTorch's is not."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
