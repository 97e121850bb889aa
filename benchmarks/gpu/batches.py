"""How much batches, pinned copies and two streams bring on the device at hand: `python benchmarks/gpu/batches.py`.

Three ways over the same items: one at a time, in batches of one fixed size each, and with the size found. On a machine
without a GPU the same runs on NumPy, and says so. Prints a table and, with `--out`, JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import array_api_compat
import numpy as np

from opero import opmap
from opero.workers import gpu_device

SIZES = (1, 8, 64, 512, 4096)


def work(batch: object) -> object:
    """Two products and a norm for each row."""
    xp = array_api_compat.array_namespace(batch)
    weights = xp.ones((batch.shape[1], 256), dtype=batch.dtype)  # type: ignore[attr-defined]
    hidden = xp.maximum(batch @ weights, xp.asarray(0.0, dtype=batch.dtype))  # type: ignore[operator,attr-defined]
    return xp.sqrt(xp.sum(hidden * hidden, axis=1))


def measured(items: list[np.ndarray], size: int | str) -> dict[str, object]:
    """Map once to warm up and once to measure."""
    function = opmap(mode="gpu", batch_size=size, batch_target=0.02)(work)
    function(items[: len(items) // 4])
    began = time.perf_counter()
    function(items)
    seconds = time.perf_counter() - began
    sizes = function.opero.operation.book.read()[1]["opero.gpu_batch.size", ()]
    mean = sizes[-1] / sum(sizes[:-1])
    return {"size": size, "items_per_second": len(items) / seconds, "mean_batch": mean}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=512, help="float32 numbers an item")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    items = list(np.random.default_rng(1).random((arguments.items, arguments.width), dtype=np.float32))
    device = gpu_device.find()
    print(f"device {device.name}, {device.lanes} lanes, {len(items)} items of {items[0].nbytes} bytes")
    rows = [measured(items if size != 1 else items[:1000], size) for size in (*SIZES, "auto")]
    for row in rows:
        print(f"{row['size']:>6}  {row['items_per_second']:>12,.0f} items/s  {row['mean_batch']:>8.1f} a batch")
    if arguments.out:
        arguments.out.write_text(json.dumps({"device": device.name, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
