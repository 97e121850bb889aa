"""What writing and reading costs: serialisers, the levels of zstd, envelopes, and large arrays out of band."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Table, blocking
from benchmarks.peers import there
from opero.stores.cache.codecs import PICKLE, PLAIN, Codecs
from opero.stores.cache.envelope import LEVEL, Envelope, Sheet
from opero.stores.cache.keyring import KeyRing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORDS = [{"id": n, "name": f"record {n}", "price": n / 7, "tags": ["a", "b"]} for n in range(3000)]
LEVELS = (-5, 1, 3, 6, 10, 19)


@dataclasses.dataclass
class Record:
    """One record as users have them."""

    id: int
    name: str
    price: float
    tags: list[str]


def serialisers(value: Any) -> dict[str, Callable[[int], Any]]:
    """Return everybody's way there and back."""
    plain, rich = Codecs(len, authentic=False), Codecs(len, authentic=True)
    found: dict[str, Callable[[int], Any]] = {"json": lambda _: json.loads(json.dumps(value))}
    if there("orjson"):
        import orjson

        found["orjson"] = lambda _: orjson.loads(orjson.dumps(value))
    import msgspec

    found["msgspec, MessagePack"] = lambda _: msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    found["pickle 5"] = lambda _: pickle.loads(pickle.dumps(value, 5))
    found["Opero, MessagePack with types checked"] = lambda _: plain.load(PLAIN, plain.dump(value)[1])
    found["Opero, pickle 5, signed"] = lambda _: rich.load(PICKLE, rich._pickle(value))  # type: ignore[arg-type]  # noqa: SLF001
    return found


def levels(body: bytes) -> dict[str, Callable[[int], Any]]:
    """Return zstd there and back, by level, with what is left."""
    import zstandard

    def through(level: int) -> Callable[[int], Any]:
        into, back = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
        return lambda _: back.decompress(into.compress(body))

    def name(level: int) -> str:
        size = len(zstandard.ZstdCompressor(level=level).compress(body))
        return f"level {level}{', Opero' * (level == LEVEL)} ({len(body) / size:.1f} to 1)"

    return {name(level): through(level) for level in LEVELS}


def envelopes(body: bytes) -> dict[str, Callable[[int], Any]]:
    """Return what protects an entry, by kind, with its size."""
    sheet = Sheet(created=0, soft=1, hard=1, gone=1)
    rings: Any = {"signing": KeyRing(b"k" * 32), "encryption": KeyRing(b"e" * 32)}
    kinds = {
        "checksum": Envelope(),
        "HMAC-SHA-256": Envelope(signing=rings["signing"]),
        "AES-256-GCM": Envelope(encryption=rings["encryption"]),
        "zstd": Envelope(compress_above=0),
        "zstd, AES-256-GCM and HMAC-SHA-256": Envelope(compress_above=0, **rings),
    }

    def through(envelope: Envelope) -> Callable[[int], Any]:
        return lambda _: envelope.open(b"a", envelope.seal(b"a", sheet, body))

    return {f"{name} ({len(e.seal(b'a', sheet, body)) // 1000} kB)": through(e) for name, e in kinds.items()}


def arrays() -> dict[str, Callable[[int], Any]]:
    """Return 10 MB there and back, in the pickle and beside it."""
    import numpy as np

    array = np.ones(1_250_000)

    def beside(_: int) -> Any:
        buffers: list[pickle.PickleBuffer] = []
        text = pickle.dumps(array, 5, buffer_callback=buffers.append)
        return pickle.loads(text, buffers=[bytearray(buffer.raw()) for buffer in buffers])

    return {
        "pickle 5": lambda _: pickle.loads(pickle.dumps(array, 5)),
        "pickle 5, out of band, one copy": beside,
        "a copy": lambda _: array.copy(),
    }


def tables() -> Iterator[Table]:
    """Yield every table."""
    yield Table("write and read one record", serialisers(RECORDS[0]), blocking, calls=1000, rounds=9)
    yield Table(f"write and read {len(RECORDS)} records", serialisers(RECORDS), blocking, calls=3, rounds=9)
    record = Record(1, "record 1", 1 / 7, ["a", "b"])
    subjects = {"pickle 5": lambda _: pickle.loads(pickle.dumps(record, 5))}
    subjects["dataclasses.asdict and json"] = lambda _: Record(**json.loads(json.dumps(dataclasses.asdict(record))))
    yield Table("write and read one dataclass", subjects, blocking, calls=1000, rounds=9)
    body = Codecs(len, authentic=False).dump(RECORDS)[1]
    yield Table(f"zstd of {len(body) // 1000} kB of records", levels(body), blocking, calls=2, rounds=7)
    yield Table(f"seal and open {len(body) // 1000} kB", envelopes(body), blocking, calls=5, rounds=9)
    if there("numpy"):
        yield Table("10 MB of an array", arrays(), blocking, calls=3, rounds=9)
