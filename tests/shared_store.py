"""A store whose states lie in this process's memory, for what policies do with one."""

import os
import weakref
from contextlib import contextmanager

from opero import clock, testing
from opero.stores import mapped
from opero.stores.guard import guard


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


class Reachable(MappedStore):
    """One that is out of reach, while it is down, for whatever is told of calls; remembers how they ended."""

    def __init__(self):
        super().__init__()
        self.settled = []

    async def admit(self, *args):
        self.ping()
        return await super().admit(*args)

    async def settle(self, *args):
        self.ping()
        change = await super().settle(*args)
        self.settled.append(args[-2])
        return change

    async def leave(self, *args):
        self.ping()
        return await super().leave(*args)


def comes_back(store):
    """Let the store be there, and its guard notice."""
    store.down = False
    while guard(store).away:
        clock.sleep(0.05)


@contextmanager
def opened(kind=MappedStore):
    """Give one of this kind on a virtual clock. It closes with its last operation, which may be read until then."""
    store = kind()
    weakref.finalize(store, os.close, store.descriptor)
    with testing.clock() as store.time:
        yield store
