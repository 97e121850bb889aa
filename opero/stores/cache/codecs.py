"""Values as bytes and back, exactly: a value that would come back as another one is not stored.

1. Plain values, told by their exact types, go as MessagePack (msgspec), or as JSON where msgspec is missing.
2. Others go as MessagePack with the type the function declares it returns, if they come back the same.
3. What is left goes as pickle 5, arrays beside it, where entries are signed or encrypted. Nothing else is unpickled.
"""

from __future__ import annotations

import pickle
from functools import cache
from struct import error, pack, unpack_from

from opero.stores.cache.alike import SCALARS, exact, finite, same
from opero.stores.cache.entry import Frozen
from opero.stores.cache.trouble import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

JSON, PLAIN, TYPED, PICKLE, ERROR = 1, 2, 3, 4, 5
KEYS = SCALARS | {bytes}


class Codecs:
    """The codecs of one function. `authentic` says whether bytes come from who has a key."""

    def __init__(self, function: Callable[..., Any], *, authentic: bool) -> None:
        self._function = function
        self._authentic = authentic
        self._decoder: Any = None
        self._asked = False

    def dump(self, value: Any) -> tuple[int, bytes]:
        """Return codec and bytes, or raise `Refused`."""
        for codec, dump in ((ERROR, self._error), (PLAIN, self._plain), (TYPED, self._typed), (PICKLE, self._pickle)):
            data = dump(value)
            if data is not None:
                return (JSON, data) if codec == PLAIN and _msgspec() is None else (codec, data)
        raise Refused("codec")

    def load(self, codec: int, data: bytes) -> Any:
        """Return the value, or raise `Refused`."""
        if codec in {PICKLE, ERROR} and not self._authentic:
            raise Refused("unsigned")
        try:
            return self._load(codec, data)
        except Refused:
            raise
        except Exception:  # noqa: BLE001 - a foreign type may raise anything when it is made
            raise Refused("codec") from None

    def _load(self, codec: int, data: bytes) -> Any:
        if codec == JSON:
            import json

            return json.loads(data)
        if codec == PLAIN:
            return _plain_decoder().decode(data)
        if codec == TYPED and self._declared() is not None:
            return self._declared().decode(data)
        if codec == PICKLE:
            return _unpickle(data)
        if codec == ERROR:
            return Frozen(data)
        raise Refused("codec")

    def _error(self, value: Any) -> bytes | None:
        return value.data if isinstance(value, Frozen) and self._authentic else None

    def _plain(self, value: Any) -> bytes | None:
        msgspec = _msgspec()
        try:
            if msgspec is not None:
                return msgspec.msgpack.encode(value) if exact(value, KEYS) else None
            import json

            return json.dumps(value).encode() if exact(value, frozenset({str}), binary=False) else None
        except (OverflowError, ValueError, RecursionError):  # 65 bits, lone surrogates
            return None

    def _typed(self, value: Any) -> bytes | None:
        decoder = self._declared()
        if decoder is None or isinstance(value, Frozen):
            return None
        try:
            if not finite(value):
                return None
            data: bytes = _required().msgpack.encode(value)
            return data if same(value, decoder.decode(data)) else None
        except Exception:  # noqa: BLE001 - a foreign type may raise anything, and then it is not for this codec
            return None

    def _pickle(self, value: Any) -> bytes | None:
        if not self._authentic:
            return None
        try:
            return _pickled(value)
        except Exception:  # noqa: BLE001 - the same
            return None

    def _declared(self) -> Any:
        """Return the decoder for the type the function says it returns."""
        if not self._asked:
            self._asked = True
            self._decoder = _decoder(self._function)
        return self._decoder


def _decoder(function: Any) -> Any:
    msgspec = _msgspec()
    if msgspec is None:
        return None
    from typing import get_type_hints

    try:
        declared = get_type_hints(function).get("return")
        return None if declared is None else msgspec.msgpack.Decoder(declared)
    except Exception:  # noqa: BLE001 - annotations are foreign code; without a usable one there is no typed codec
        return None


@cache
def _plain_decoder() -> Any:
    return _required().msgpack.Decoder(ext_hook=_extended)


def _extended(*_: Any) -> Any:
    """Refuse what no plain value is written as."""
    raise Refused("codec")


def _pickled(value: Any) -> bytes:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [len(data), *(view.nbytes for view in views)]
    return b"".join((pack("<I", len(sizes)), pack(f"<{len(sizes)}Q", *sizes), data, *views))


def _unpickle(body: bytes) -> Any:
    try:
        (count,) = unpack_from("<I", body)
        sizes = unpack_from(f"<{count}Q", body, 4)
    except error:
        raise Refused("truncated") from None
    view, at, parts = memoryview(body), 4 + 8 * count, []
    for size in sizes:
        parts.append(view[at : at + size])
        at += size
    return pickle.loads(parts[0], buffers=map(bytearray, parts[1:]))  # noqa: S301 - the envelope was authentic


def _msgspec() -> Any:
    try:
        import msgspec
    except ImportError:
        return None
    return msgspec


def _required() -> Any:
    found = _msgspec()
    if found is None:
        raise Refused("codec")
    return found
