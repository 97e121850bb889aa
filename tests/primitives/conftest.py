"""What tests of several primitives need."""

import threading

import pytest

from opero import testing
from opero.workers import spare
from shared_store import opened


@pytest.fixture
def threads(monkeypatch):
    """Lets a test say whether the system has more threads: none with a stack of 64 TiB."""
    before = threading.stack_size()
    with monkeypatch.context() as patched:
        patched.setattr(spare._threads, "_idle", [])
        patched.setattr(spare, "KEPT", 0)  # so that none of an earlier test comes to rest there
        yield lambda there: threading.stack_size(before if there else 1 << 46)
        threading.stack_size(before)


@pytest.fixture(params=["own", "shared"])
def where(request):
    """Settings for a state of this process, and for one in a store, on a virtual clock."""
    if request.param == "own":
        with testing.clock():
            yield {}
    else:
        with opened() as store:
            yield {"store": store, "name": "it"}
