"""One state for a map in all its processes: of limits, circuits, bulkheads and budgets without a store.

It lies in memory that workers share with their parent (`opero.stores.mapped`): one piece for all maps of a process.
"""

from __future__ import annotations

import os
from itertools import count
from weakref import WeakKeyDictionary

from opero import fused
from opero.workers import journal as journals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opero.pipeline import Operation
    from opero.policy import Policy
    from opero.stores.mapped import Mapped

_store: Mapped | None = None
_names: WeakKeyDictionary[Policy, str] = WeakKeyDictionary()
_numbers = count(1)


def names_of(one: Any) -> dict[str, str]:
    """Share the state of a function's policies from now on; return the name of each state by the policy's place."""
    operation: Operation = one.opero.operation
    for place, policy in operation.places.items():
        if journals.available() and policy not in _names and policy.can_share():
            _names[policy] = f"{operation.name}:{place}:{os.getpid()}:{next(_numbers)}"
    found = {place: _names[policy] for place, policy in operation.places.items() if policy in _names}
    if found:
        _share(one, found, _shared())
    return found


def join(one: Any, names: Mapping[str, str], descriptor: int) -> None:
    """Take part in what the parent shares; who was forked by it does already."""
    global _store
    if _store is not None:
        os.close(descriptor)
        return
    from opero.stores.mapped import Mapped

    _store = Mapped(descriptor)
    _share(one, names, _store)


def _share(one: Any, names: Mapping[str, str], store: Mapped) -> None:
    operation: Operation = one.opero.operation
    for place, name in names.items():
        if operation.places[place].can_share():
            operation.places[place].share(store, name)
    fused.compile_again(one)


def descriptor() -> int:
    """Return the descriptor of the memory."""
    return _shared().descriptor


def _shared() -> Mapped:
    global _store
    if _store is None:
        from opero.stores.mapped import SIZE, Mapped

        _store = Mapped(journals.share(SIZE))
    return _store
