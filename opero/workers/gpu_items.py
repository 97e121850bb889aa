"""What a batch is made of, and how it comes apart again. The rule:

    items                                         the function gets                 and returns
    numbers of one type                           an array of shape (n,)            n results: an array whose first
    arrays of one shape and dtype                 an array of shape (n, *shape)     dimension is n, a list of n, or a
    tuples of these, of one length                a tuple of such arrays            tuple of such arrays

Items of other shapes go in batches of their own; no item is refused because of another. What is none of these is
refused with the way out. Item i gets result i: a number from an array of shape (n,), else an array; from a tuple of
arrays, a tuple.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from typing import Any

NUMBERS = (bool, int, float, complex)
DTYPES = "biufc"  # bool, int, unsigned, float, complex
WAY_OUT = "a number, an array of numbers or a tuple of them; make lists arrays, and pad what is ragged to one shape"


class Unfit(TypeError):
    """An item or a result that cannot be part of a batch."""


def kind(item: Any) -> Hashable:
    """Return what items of one batch have in common; raise `Unfit` for what cannot be in any."""
    if type(item) in NUMBERS:
        if type(item) is int and item.bit_length() > 63:
            raise Unfit("a whole number of more than 64 bits; make it a float")
        return type(item).__name__
    if isinstance(item, tuple) and item:
        return tuple([kind(part) for part in item])
    dtype = getattr(item, "dtype", None)
    if dtype is None or getattr(dtype, "kind", "") not in DTYPES:
        what = f"{type(item).__name__} of {dtype}" if dtype is not None else type(item).__name__
        raise Unfit(f"an item of a batch is {WAY_OUT}; this is a {what}")
    array: Any = item
    return array.shape, dtype.str, hasattr(item, "__cuda_array_interface__")


def stacked(items: Sequence[Any], stack: Callable[[Sequence[Any]], Any]) -> Any:
    """Return the batch that these are, all of one kind."""
    if isinstance(items[0], tuple):
        return tuple([stacked(parts, stack) for parts in zip(*items, strict=True)])
    return stack(items)


def apart(result: Any, count: int) -> list[Any]:
    """Return the result of each item."""
    if isinstance(result, tuple):
        return list(zip(*[apart(part, count) for part in result], strict=True))
    shape = getattr(result, "shape", None)
    if isinstance(result, list) or shape:
        if len(result) != count:
            raise Unfit(f"{len(result)} results for a batch of {count}; return one for each item, along axis 0")
        return result if isinstance(result, list) else result.tolist() if len(shape) == 1 else list(result)  # type: ignore[arg-type]
    what = type(result).__name__ if shape is None else "single number"
    raise Unfit(f"a {what} for a batch of {count}; return an array with one result for each item, along axis 0")


def size(result: Any) -> int:
    """Return the bytes of a batch."""
    if isinstance(result, tuple):
        return sum(map(size, result))
    return int(getattr(result, "nbytes", 0))
