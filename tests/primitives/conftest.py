"""What tests of several primitives need."""

import threading

import pytest

from opero.workers import spare


@pytest.fixture
def threads(monkeypatch):
    """Lets a test say whether the system has more threads: none with a stack of 64 TiB."""
    before, idle = threading.stack_size(), []
    with monkeypatch.context() as patched:
        patched.setattr(spare._threads, "_idle", idle)
        yield lambda there: threading.stack_size(before if there else 1 << 46)
        threading.stack_size(before)
    for thread in idle:  # each rests with the others now, or ends
        thread._ready.set()
