"""The envelope around an entry in a store that others can write to.

    magic and version · flags · codec · id of the signing key · id of the encryption key ·
    created, soft, hard, gone, load (seconds) · what marks said · tag · body

1. The tag is HMAC-SHA-256 under the reader's own key of that id, over everything else, the namespace and the full key.
   Without signing keys it is a BLAKE2b checksum: that finds damage, not malice.
2. Nothing is decrypted, inflated or decoded before the tag was checked, in constant time. Which algorithms are used is
   the reader's setting, never the message's: an entry that offers less is refused.
3. The body is compressed, then encrypted by AES-256-GCM with header, namespace and key as associated data, then signed.
4. Inflating stops at a limit that is known before it begins.
"""

from __future__ import annotations

import hmac
import os
from hashlib import blake2b
from struct import Struct, error, pack

from opero.stores.cache.keyring import ID
from opero.stores.cache.trouble import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opero.stores.cache.keyring import KeyRing

MAGIC = b"OPR\x01"
HEAD = Struct("<4sBB8s8sdddddH")
TAG, MARK, NONCE = 32, 8, 12
COMPRESSED, ENCRYPTED, FAILED = 1, 2, 4
NOBODY = bytes(ID)
INFLATED = 64 * 1024 * 1024
LEVEL = 1  # zstd: on JSON 6.9 to 1 at 785 MB/s; level 3 has 6.5 to 1 at 569


class Sheet:
    """What is written on an envelope: lifetimes in seconds from `created`, and what the marks of its tags said."""

    __slots__ = ("codec", "created", "failed", "gone", "hard", "load", "marks", "soft")

    def __init__(
        self,
        *,
        created: float,
        soft: float,
        hard: float,
        gone: float,
        load: float = 0.0,
        failed: bool = False,
        codec: int = 0,
        marks: frozenset[bytes] = frozenset(),
    ) -> None:
        self.created = created
        self.soft = soft
        self.hard = hard
        self.gone = gone
        self.load = load
        self.failed = failed
        self.codec = codec
        self.marks = marks


class Envelope:
    """Seals and opens. `compress_above` in bytes; `inflated` the most a body may grow to."""

    def __init__(
        self,
        *,
        signing: KeyRing | None = None,
        encryption: KeyRing | None = None,
        compress_above: int | None = None,
        inflated: int = INFLATED,
    ) -> None:
        self.signing = signing
        self.encryption = encryption
        self.compress_above = compress_above
        self.inflated = inflated

    @property
    def authentic(self) -> bool:
        """Whether what it opens was written by who has a key."""
        return self.signing is not None or self.encryption is not None

    def writers(self) -> tuple[object, object]:
        """Return what stands for the keys it writes with, another object after each rotation."""
        signing, encryption = self.signing, self.encryption
        return signing and signing.first(), encryption and encryption.first()

    def seal(self, address: bytes, sheet: Sheet, body: bytes) -> bytes:
        """Return the bytes of an entry at `address` (namespace and full key)."""
        if len(body) > self.inflated:
            raise Refused("too_large")
        flags = FAILED if sheet.failed else 0
        if self.compress_above is not None and len(body) > self.compress_above:
            smaller = _deflate(body)
            if len(smaller) < len(body):
                body, flags = smaller, flags | COMPRESSED
        signer = NOBODY if self.signing is None else self.signing.first()[0]
        cipher = NOBODY if self.encryption is None else self.encryption.first()[0]
        if self.encryption is not None:
            flags |= ENCRYPTED
        times = (sheet.created, sheet.soft, sheet.hard, sheet.gone, sheet.load)
        head = HEAD.pack(MAGIC, flags, sheet.codec, signer, cipher, *times, len(sheet.marks))
        head += b"".join(sorted(sheet.marks))
        if self.encryption is not None:
            nonce = os.urandom(NONCE)
            body = nonce + _aes(self.encryption.first()[1]).encrypt(nonce, body, _bound(head, address))
        key = None if self.signing is None else self.signing.first()[1]
        return head + _tag(key, head, address, body) + body

    def open(self, address: bytes, data: bytes) -> tuple[Sheet, bytes]:
        """Return sheet and body of an entry, or raise `Refused`."""
        head, flags, codec, signer, cipher, times, marks = _parse(data)
        tag, body = data[len(head) : len(head) + TAG], data[len(head) + TAG :]
        self._verify(signer, tag, head, address, body)
        body = self._decrypt(flags, cipher, head, address, body)
        if flags & COMPRESSED:
            body = _inflate(body, self.inflated)
        elif len(body) > self.inflated:
            raise Refused("too_large")
        created, soft, hard, gone, load = times
        failed = bool(flags & FAILED)
        sheet = Sheet(
            created=created, soft=soft, hard=hard, gone=gone, load=load, failed=failed, codec=codec, marks=marks
        )
        return sheet, body

    def _verify(self, signer: bytes, tag: bytes, head: bytes, address: bytes, body: bytes) -> None:
        key = None
        if self.signing is not None:
            if signer == NOBODY:
                raise Refused("unsigned")
            key = self.signing.find(signer)
        if key is None and (self.signing is not None or signer != NOBODY):
            raise Refused("unknown_key")
        if not hmac.compare_digest(tag, _tag(key, head, address, body)):
            raise Refused("corrupt" if key is None else "signature")

    def _decrypt(self, flags: int, cipher: bytes, head: bytes, address: bytes, body: bytes) -> bytes:
        if self.encryption is None:
            if flags & ENCRYPTED:
                raise Refused("unknown_key")
            return body
        if not flags & ENCRYPTED:
            raise Refused("unencrypted")
        key = self.encryption.find(cipher)
        if key is None:
            raise Refused("unknown_key")
        from cryptography.exceptions import InvalidTag

        try:
            return _aes(key).decrypt(body[:NONCE], body[NONCE:], _bound(head, address))  # type: ignore[no-any-return]
        except (InvalidTag, ValueError):
            raise Refused("signature") from None


def _parse(data: bytes) -> tuple[bytes, int, int, bytes, bytes, tuple[float, ...], frozenset[bytes]]:
    if data[:3] != MAGIC[:3]:
        raise Refused("foreign")
    if data[:4] != MAGIC:
        raise Refused("version")
    try:
        _, flags, codec, signer, cipher, *times, count = HEAD.unpack_from(data)
    except error:
        raise Refused("truncated") from None
    end = HEAD.size + count * MARK
    if len(data) < end + TAG:
        raise Refused("truncated")
    marks = frozenset(data[at : at + MARK] for at in range(HEAD.size, end, MARK))
    return data[:end], flags, codec, signer, cipher, tuple(times), marks


def _bound(head: bytes, address: bytes) -> bytes:
    return b"".join((pack("<QQ", len(head), len(address)), head, address))


def _tag(key: bytes | None, head: bytes, address: bytes, body: bytes) -> bytes:
    if key is None:
        return blake2b(_bound(head, address) + body, digest_size=TAG, person=b"opero checksum").digest()
    return hmac.digest(key, _bound(head, address) + body, "sha256")


def _aes(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(blake2b(key, digest_size=32, person=b"opero aes-gcm").digest())


def _deflate(body: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL).compress(body)


def _inflate(body: bytes, limit: int) -> bytes:
    """Inflate one frame that says how large it is; what it says is all it gets."""
    import zstandard

    try:
        size = zstandard.get_frame_parameters(body).content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or size > limit:
            raise Refused("bomb")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
    except zstandard.ZstdError:
        raise Refused("corrupt") from None
