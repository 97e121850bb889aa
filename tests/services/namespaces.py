"""Programs in namespaces of their own, where they may mount and listen as they like."""

import subprocess

import pytest


def apart(*kinds):
    """Return how to start a program so; skips where that is not allowed."""
    command = ["unshare", "--user", "--map-root-user", *(f"--{kind}" for kind in kinds)]
    try:
        subprocess.run([*command, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs namespaces of its own (unshare)")
    return command
