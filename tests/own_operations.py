"""Show the operations of a test's own file: those of a whole run are more than an instrument has series for."""

import pytest

from opero import catalogue


@pytest.fixture
def own_operations(request, monkeypatch):
    name = request.module.__name__
    living = [(reference, entry, reference()) for reference, entry in list(catalogue._live.items())]
    own = {r: entry for r, entry, operation in living if operation and operation.function.__module__ == name}
    monkeypatch.setattr(catalogue, "_live", own)
    monkeypatch.setattr(catalogue, "_retired", {})
