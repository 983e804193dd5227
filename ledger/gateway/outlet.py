"""What a call has released so far, for whoever listens: the client, or the same client who comes again."""

import asyncio
from collections.abc import AsyncIterator

from ledger.gateway import wire
from store.spool import Spool

AHEAD = 4 << 20
"""Bytes that may wait for a slow client before reading upstream waits too."""

_TOGETHER = 64 << 10
"""Bytes that are handed over at once."""

STUCK_S = 60.0
"""Seconds after which a client that takes nothing is waited for no longer."""

ALIVE_S = 15.0
"""Seconds of silence after which a waiting stream gets a comment."""


class Outlet:
    """Bytes in order, kept until the call is forgotten.

    Attributes:
        http, headers: how the answer begins; http is 0 as long as that is open.
        ended: nothing more comes.
        delivered: somebody has taken all of it.
        listeners: how many read.

    Args:
        streamed: whether listeners take pieces as they come; else they wait for all of it.
        kept: for what is released.
    """

    def __init__(self, streamed: bool, kept: Spool) -> None:
        self._paced = streamed
        self.http = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self.delivered = False
        self.listeners = 0
        self._kept = kept
        self._taken = 0
        self._changed = asyncio.Event()

    def begin(self, http: int, headers: dict[str, str]) -> None:
        """Fixes status and headers, once."""
        if not self.http:
            self.http, self.headers = http, headers
            self._tell()

    async def put(self, data: bytes) -> None:
        """Adds bytes; waits while a client that listens is too far behind."""
        if not data:
            return
        self._kept.append(data)
        self._tell()
        while self._paced and self.http == 200 and self.listeners and len(self._kept) - self._taken > AHEAD:
            # Who takes nothing for so long keeps no answer from being read and recorded.
            self._paced = await self._wait(STUCK_S)

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()

    async def _wait(self, seconds: float | None = None) -> bool:
        """Waits for a change; False where none came in time."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def changed(self, seconds: float | None) -> bool:
        """Waits for the next change, unless it has ended; False where none came in time."""
        return self.ended or await self._wait(seconds)

    async def begun(self, seconds: float | None) -> bool:
        """Waits for the beginning; False where it is not there in time."""
        while not self.http and not self.ended:
            if not await self._wait(seconds):
                return False
        return True

    @property
    def content(self) -> bytes:
        """All that was released."""
        return self._kept.read()

    @property
    def length(self) -> int:
        """Bytes of all that was released."""
        return len(self._kept)

    def forget(self) -> None:
        """Gives memory back: nobody comes for it any more."""
        self._kept.close()

    async def read(self) -> AsyncIterator[bytes]:
        """All of it from the beginning, as it comes, with comments while nothing does."""
        self.listeners += 1
        position = 0
        try:
            while True:
                while position < len(self._kept):
                    piece = self._kept.read(position, position + _TOGETHER)
                    yield piece
                    position += len(piece)
                    self._taken = max(self._taken, position)
                    self._tell()
                if self.ended:
                    self.delivered = True
                    return
                if not await self._wait(ALIVE_S) and not self.ended:
                    yield wire.COMMENT
        finally:
            self.listeners -= 1
            self._tell()
