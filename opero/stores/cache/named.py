"""What entries, leases and marks are called in Redis."""

from __future__ import annotations

from urllib.parse import quote


def key_of(name: str) -> str:
    """Return the key of an entry or mark."""
    namespace, kind, digest = name.rsplit(":", 2)
    return f"opero:{quoted(namespace)}:{kind}:{digest}"


def called(name: str) -> bytes:
    """Return the same as a near-cache hears it."""
    return key_of(name).encode()


def lease_of(name: str) -> str:
    """Return the key of an entry's lease, in the same slot."""
    return f"opero:{quoted(name.rsplit(':', 2)[0])}:lease:{{{key_of(name)}}}"


def end_of(name: str, token: bytes) -> str:
    """Return the key that says how the holder of a lease ended without an entry."""
    return f"{lease_of(name)}:{token.decode()}"


def prefix_of(namespace: str) -> str:
    """Return what every key of a namespace begins with."""
    return f"opero:{quoted(namespace)}"


def quoted(namespace: str) -> str:
    """Return a namespace as it stands in keys."""
    return quote(namespace, safe=":/.-_")
