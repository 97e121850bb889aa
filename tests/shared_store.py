"""A store whose states lie in this process's memory, for what policies do with one."""

import os
import weakref
from contextlib import contextmanager

from opero import testing
from opero.stores import mapped


class MappedStore(mapped.Mapped):
    """A store that may be out of reach."""

    def __init__(self):
        descriptor = os.memfd_create("states")
        os.truncate(descriptor, mapped.SIZE)
        super().__init__(descriptor)
        self.down = False

    def ping(self):
        if self.down:
            raise ConnectionError


@contextmanager
def opened(kind=MappedStore):
    """Give one of this kind on a virtual clock. It closes with its last operation, which may be read until then."""
    store = kind()
    weakref.finalize(store, os.close, store.descriptor)
    with testing.clock() as store.time:
        yield store
