"""Fixtures for pytest, there as soon as Opero is installed: `opero_clock` and `opero_capture`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero.testing import Captured, Clock


@pytest.fixture
def opero_clock() -> Iterator[Clock]:
    """A virtual clock: every wait, window and timer of Opero, and of asyncio loops, takes no time."""
    from opero import testing

    with testing.clock() as clock:
        yield clock


@pytest.fixture
def opero_capture(request: pytest.FixtureRequest) -> Iterator[Captured]:
    """Everything said and counted during the test, as plain data; on `opero_clock`, if the test has it."""
    if "opero_clock" in request.fixturenames:
        request.getfixturevalue("opero_clock")
    from opero import testing

    with testing.capture() as captured:
        yield captured
