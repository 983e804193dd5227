"""Sealed blobs: padded, encrypted, committed to one plaintext, addressed by what lies on disk.

The format, and why each part is there, is docs/FORMAT.md, "Sealed blob". XChaCha20-Poly1305 alone opens one
ciphertext under two keys to two texts; `com` ends that (Albertini et al., "How to Abuse and Fix Authenticated
Encryption Without Key Commitment", 2022). Padding is Padmé (Nikitin et al., PURBs, 2019).
"""

import hmac
import struct
import threading
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Self

import zstandard
from blake3 import blake3
from nacl.exceptions import CryptoError

from schemas.errors import KeyUnusable, NotSound, TooLarge
from store import aead

MAX_PIECE = 1 << 20
"""Bytes of content that one sealed blob holds at most; longer content is a list."""

MAGIC = b"LB\x01\x00"
HEADER = 20
OVERHEAD = HEADER + 32 + 32 + 16
SHORTEST = OVERHEAD + 256
"""Bytes of the shortest sealed blob."""
_CONTEXT = "agent-ledger 2026-11 v1 "
# Copied for each use: to derive from the context again would cost a twelfth of a cid.
_CID = blake3(derive_key_context=_CONTEXT + "blob cid")
_EXPAND = blake3(derive_key_context=_CONTEXT + "blob expand")
_LEVEL = 1
_PREFIX = struct.Struct("<BII")


class _Zstd(threading.local):
    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=_LEVEL).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd = _Zstd()


class DataKey:
    """What a run's blobs are sealed under: 32 random bytes, their id, and what is derived from them.

    Attributes:
        id: 16 bytes, in clear in each blob.
        commitment: hex; tells this key from any other and nothing else about it.
        requests: 32 bytes; keys the digests by which requests are known again.
        pseudonyms: 32 bytes; keys what stands in the place of masked values.
    """

    __slots__ = ("_digest", "_seal", "_siv", "commitment", "id", "pseudonyms", "requests")

    def __init__(self, id: bytes, secret: bytes) -> None:
        if len(id) != 16 or len(secret) != 32:
            raise KeyUnusable("a data key has an id of 16 and a secret of 32 bytes")
        self.id = id
        self._siv = _derive("blob siv", secret)
        self._seal = _derive("blob seal", secret)
        self._digest = _derive("content digest", secret)
        self.requests = _derive("request key", secret)
        self.pseudonyms = _derive("pseudonym", secret)
        self.commitment = _derive("data key commitment", secret).hex()

    def __repr__(self) -> str:
        return f"DataKey({self.id.hex()})"

    def siv(self, header: bytes, message: bytes) -> bytes:
        """What the blob's key is derived from: header and padded message, keyed."""
        return blake3(header + message, key=self._siv).digest()

    def blob_key(self, header: bytes, siv: bytes) -> bytes:
        """`bk`: opens the one blob that has this header and siv."""
        return blake3(header + siv, key=self._seal).digest()

    def digest(self, content: bytes) -> str:
        """The keyed digest of a content, hex: equal contents under one data key have equal digests."""
        return blake3(content, key=self._digest).hexdigest()

    def hasher(self) -> blake3:
        """The same digest for a content that comes in parts."""
        return blake3(key=self._digest)


def _derive(purpose: str, secret: bytes) -> bytes:
    return blake3(secret, derive_key_context=_CONTEXT + purpose).digest()


def cid(sealed: bytes) -> bytes:
    """The 32 bytes by which a blob or list is addressed."""
    return _CID.copy().update(sealed).digest()


def cids(blobs: Iterable[bytes]) -> list[bytes]:
    """The same for many."""
    fresh = _CID.copy
    return [fresh().update(sealed).digest() for sealed in blobs]


@lru_cache(maxsize=4096)
def padme(length: int) -> int:
    """The padded length: at least 256, at most 12 % more, few distinct values."""
    length = max(256, length)
    exponent = length.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return length + mask & ~mask


class Sealed(NamedTuple):
    """A sealed blob and its address."""

    cid: bytes
    data: bytes


def seal(key: DataKey, content: bytes) -> Sealed:
    """Seals at most 1 MiB of content. The same content under the same key gives the same blob.

    Raises:
        TooLarge: more than 1 MiB.
    """
    if len(content) > MAX_PIECE:
        raise TooLarge(f"a piece of {len(content):,} bytes; the limit is {MAX_PIECE:,}")
    body = _zstd.compress(content)
    codec = b"\x01"
    if len(body) >= len(content):
        body, codec = content, b"\x00"
    message = b"".join((codec, len(content).to_bytes(4, "little"), len(body).to_bytes(4, "little"), body))
    message = message.ljust(padme(len(message)), b"\x00")
    return _seal_message(key, message)


def _seal_message(key: DataKey, message: bytes) -> Sealed:
    header = MAGIC + key.id
    siv = key.siv(header, message)
    secret, commitment = _expand(key.blob_key(header, siv))
    data = b"".join((header, siv, commitment, aead.encrypt(message, header, secret)))
    return Sealed(cid(data), data)


def _expand(blob_key: bytes) -> tuple[bytes, bytes]:
    both = _EXPAND.copy().update(blob_key).digest(64)
    return both[:32], both[32:]


class Blob(NamedTuple):
    """A sealed blob taken apart; nothing about it is proven yet."""

    header: bytes
    siv: bytes
    commitment: bytes
    ciphertext: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Takes a blob apart.

        Raises:
            NotSound: it is too short or has another beginning (step 10).
        """
        return cls(*_take_apart(data))

    @property
    def key_id(self) -> bytes:
        """The id of the data key that it was sealed under."""
        return self.header[4:]


def _take_apart(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    if len(data) < SHORTEST or data[:4] != MAGIC:
        raise NotSound("a blob is not in the format of sealed blobs", step=10)
    return data[:HEADER], data[HEADER:52], data[52:84], data[84:]


def unseal(key: DataKey, data: bytes) -> bytes:
    """The content of a blob whose cid the caller has checked.

    Raises:
        NotSound: it does not open, or is not what sealing would have made (step 10).
    """
    header, siv, commitment, ciphertext = _take_apart(data)
    if header[4:] != key.id:
        raise KeyUnusable(f"blob needs data key {header[4:].hex()}, not {key.id.hex()}")
    message = _open(key.blob_key(header, siv), header, commitment, ciphertext)
    if not hmac.compare_digest(key.siv(header, message), siv):
        raise NotSound("a blob's siv is not that of its content", step=10)
    return _content(message)


def unseal_disclosed(blob_key: bytes, data: bytes) -> bytes:
    """The content of a blob whose own key was disclosed; its siv can't be checked without the data key.

    Raises:
        NotSound: it does not open (step 10).
    """
    blob = Blob.parse(data)
    return _content(_open(blob_key, blob.header, blob.commitment, blob.ciphertext))


def _open(blob_key: bytes, header: bytes, commitment: bytes, ciphertext: bytes) -> bytes:
    secret, expected = _expand(blob_key)
    if not hmac.compare_digest(expected, commitment):
        raise NotSound("a blob does not open: it was sealed under another key", step=10)
    try:
        return aead.decrypt(ciphertext, header, secret)
    except CryptoError:
        raise NotSound("a blob does not open: its ciphertext was changed", step=10) from None


def _content(message: bytes) -> bytes:
    codec, raw_length, body_length = _PREFIX.unpack_from(message)
    end = 9 + body_length
    body = message[9:end]
    if end > len(message) or len(message) != padme(end) or message.count(0, end) != len(message) - end:
        raise NotSound("a blob's padding is wrong", step=10)
    if raw_length > MAX_PIECE or body_length > MAX_PIECE or codec > 1 or (codec == 0 and raw_length != len(body)):
        raise NotSound("a blob states a wrong length or an unknown codec", step=10)
    if codec == 1 and len(body) >= raw_length:
        raise NotSound("a blob is compressed to no use: sealing would not have made it", step=10)
    return body if codec == 0 else _decompress(body, raw_length)


def _decompress(body: bytes, raw_length: int) -> bytes:
    # Refused before a byte is decompressed: a frame that lies about its size, and whatever follows a frame.
    try:
        if zstandard.frame_content_size(body) != raw_length:
            raise NotSound("a blob's frame states another length", step=10)
        content = _zstd.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError:
        raise NotSound("a blob does not decompress", step=10) from None
    if len(content) != raw_length:
        raise NotSound("a blob decompresses to another length", step=10)
    return content
