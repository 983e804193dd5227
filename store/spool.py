"""Bytes on their way: the first of them in memory, what is more sealed in a file that has no name.

Under a key that nobody keeps: nothing can be read from the file but by this object, and nothing is left of it.
"""

import errno
import os
import tempfile
from contextlib import suppress
from typing import IO

from blake3 import blake3
from nacl.exceptions import CryptoError

from schemas.errors import StorageFailed
from store import aead
from store.durable import storage_errors

KEEP = 1 << 20
"""Bytes that stay in memory."""

PIECE = 256 << 10
_SEALED = PIECE + 16


class Spool:
    """Bytes that are added at the end, and read anywhere.

    Args:
        secret: 32 random bytes, of this spool alone.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._file: IO[bytes] | None = None
        self._away = 0
        self._rest = bytearray()
        self._stays = False

    def __len__(self) -> int:
        return self._away + len(self._rest)

    def append(self, data: bytes) -> None:
        """Adds bytes. Where the disk takes none, they stay in memory."""
        self._rest += data
        if self._stays or len(self._rest) < (PIECE if self._file else KEEP):
            return
        try:
            self._put_away()
        except OSError:
            self._stays = True

    def _put_away(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as we do
        while len(self._rest) >= PIECE:
            sealed = aead.encrypt(bytes(self._rest[:PIECE]), b"", self._key(self._away))
            # No buffer of Python's in between: one that could not be written would come up again at each call.
            if os.pwrite(self._file.fileno(), sealed, self._away // PIECE * _SEALED) < _SEALED:
                raise OSError(errno.ENOSPC, "no space is left")
            del self._rest[:PIECE]
            self._away += PIECE

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` to `end`, or to the last.

        Raises:
            StorageFailed: the disk does not give back what it took.
        """
        end = len(self) if end is None else min(end, len(self))
        if start >= self._away:
            return bytes(self._rest[start - self._away : end - self._away])
        parts = []
        for piece in range(start - start % PIECE, min(end, self._away), PIECE):
            parts.append(self._opened(piece)[max(0, start - piece) : end - piece])
        if end > self._away:
            parts.append(bytes(self._rest[: end - self._away]))
        return b"".join(parts)

    def close(self) -> None:
        """Forgets everything."""
        file, self._file, self._away, self._rest = self._file, None, 0, bytearray()
        if file is not None:
            with suppress(OSError):
                file.close()

    def _opened(self, start: int) -> bytes:
        if self._file is None:
            return b""
        with storage_errors(tempfile.gettempdir()):
            sealed = os.pread(self._file.fileno(), _SEALED, start // PIECE * _SEALED)
        try:
            return aead.decrypt(sealed, b"", self._key(start))
        except CryptoError:
            raise StorageFailed("what was kept for a while came back changed", hint="check the disk") from None

    def _key(self, start: int) -> bytes:
        # Each under a key of its own: `aead` has one nonce.
        return blake3(start.to_bytes(8, "big"), key=self._secret).digest()
