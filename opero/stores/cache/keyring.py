"""Secret keys with ids: the first writes, all read. No byte of a key is ever shown, said or pickled."""

from __future__ import annotations

from hashlib import blake2b

from opero.errors import ConfigurationError
from opero.spelling import read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

ID = 8  # bytes


@read_settings
class KeyRing:
    """Keys for signing or encrypting, newest first; each is `least` bytes or more, from a secret source of randomness.

    The id of a key is a digest of it, and says in an entry which key to check with. `rotate` puts a key first, be it
    new or not, and keeps the `keep` first: entries written with those are read until they expire. Thread-safe.

    Example:
        >>> ring = KeyRing([b"k" * 32])
        >>> ring.rotate(b"n" * 32)
        >>> len(ring)
        2
    """

    def __init__(self, keys: bytes | Iterable[bytes], *, field: str = "signing_key", least: int = 16) -> None:
        given = (keys,) if isinstance(keys, bytes) else tuple(keys) if isinstance(keys, list | tuple) else ()
        self._field, self._least = field, least
        for key in given:
            self._check(key)
        if not given:
            raise ConfigurationError(field, type(keys), f"{least} or more bytes, or a list of them, newest first")
        self._keys = tuple((key_id(key), key) for key in given)

    def rotate(self, key: bytes, *, keep: int = 2) -> None:
        """Write with `key` from now on."""
        self._check(key)
        new = key_id(key), key
        self._keys = (new, *(known for known in self._keys if known[0] != new[0]))[:keep]

    def first(self) -> tuple[bytes, bytes]:
        """Return id and bytes of the key that writes."""
        return self._keys[0]

    def find(self, identity: bytes) -> bytes | None:
        """Return the key of this id."""
        return next((key for known, key in self._keys if known == identity), None)

    def all(self) -> tuple[bytes, ...]:
        """Return every key, newest first."""
        return tuple(key for _, key in self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<{len(self)} keys>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not pickled: give each process its keys")

    def _check(self, key: object) -> None:
        if not isinstance(key, bytes) or len(key) < self._least:
            given = f"{len(key)} bytes" if isinstance(key, bytes) else type(key)
            raise ConfigurationError(self._field, given, f"{self._least} or more bytes, kept secret")


def key_id(key: bytes) -> bytes:
    """Return the id of a key."""
    return blake2b(key, digest_size=ID, person=b"opero key id").digest()


def ring(keys: KeyRing | bytes | Iterable[bytes] | None, field: str, least: int) -> KeyRing | None:
    """Return what a user gave as a ring."""
    return keys if keys is None or isinstance(keys, KeyRing) else KeyRing(keys, field=field, least=least)
