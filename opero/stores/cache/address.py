"""Where a store is: shown without what opens it."""

from __future__ import annotations


class Address(str):
    """A URL that is shown without user and password."""

    __slots__ = ()

    def __repr__(self) -> str:
        scheme, _, rest = self.partition("://")
        return repr(f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else str(self))
