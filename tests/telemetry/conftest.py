"""What every test of telemetry starts from."""

import pytest

from own_operations import own_operations

__all__ = ["own_operations"]


@pytest.fixture(autouse=True)
def _operations_of_this_file(own_operations):
    """Show no others."""
