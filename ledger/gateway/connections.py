"""Connections that clients hold: one that says nothing, or begins and never ends, is given back.

uvicorn gives back what is idle between two requests; what never sends a whole head it would keep for ever.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 30.0
"""Seconds from the first byte, or from the connection, to the end of a request's head."""

HEAD = 128 << 10
"""Bytes of a head, as nearly as pieces tell."""


class Connection(HttpToolsProtocol):
    """One connection, with a limit of time and bytes for each head."""

    _late: asyncio.TimerHandle | None = None
    _head = 0
    _begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody came."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """He is gone."""
        self._came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._late is None and not self._answering():
            # Bytes that begin nothing, or a body that nobody reads any more: they stop the clock of an idle connection.
            self._wait()
        if self._late is None:
            return
        # The piece in which a head begins may hold the end of the body before it.
        self._head += 0 if self._begun else len(data)
        self._begun = False
        if self._head > HEAD:
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._late is None:
            self._wait()
            self._begun = True

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._came()
        super().on_headers_complete()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._head = 0
        self._late = self.loop.call_later(HEAD_S, self._give_back)

    def _came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_back(self) -> None:
        if self._answering():
            # The answer to the request before it is still on its way.
            self._late = self.loop.call_later(HEAD_S, self._give_back)
            return
        self._late = None
        transport: Any = self.transport
        transport.close()
