"""What of an answer a client may see, and when: nothing that it would execute before it is valid and recorded.

`buffered`: all of it at the end. `relayed`: reasoning and text pass at once; from the first event that speaks of a call
on, and of text where a schema must hold, everything waits. Clients execute a call at `response.output_item.done`,
seconds before the stream ends: to hold back only its end would be too late.
"""

from typing import Any

from ledger.gateway.answer import is_call
from ledger.gateway.wire import Event

_HARMLESS = ("response.created", "response.in_progress", "response.queued", "keepalive")
_ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


class Release:
    """Decides event by event.

    Args:
        relayed: whether anything may pass before the end.
        schema: whether text must hold to one.
    """

    def __init__(self, relayed: bool, schema: bool) -> None:
        self.holding = not relayed
        self.schema = schema
        self.held: list[bytes] = []

    def take(self, event: Event) -> bytes:
        """What of this event passes now; the rest is held."""
        if not self.holding and self._must_wait(event):
            self.holding = True
        if self.holding:
            self.held.append(event.raw)
            return b""
        return event.raw

    def _must_wait(self, event: Event) -> bool:
        kind, data = event.type, event.data
        if data is None:
            return False
        if kind in _HARMLESS:
            response = data.get("response")
            return isinstance(response, dict) and bool(response.get("output"))
        if kind in _ENDS:
            return True
        item: Any = data.get("item")
        if isinstance(item, dict):
            # What kind of item it is decides, and an unknown one waits.
            if item.get("type") == "reasoning":
                return False
            return is_call(item) or item.get("type") != "message" or self.schema
        if kind.startswith("response.reasoning"):
            return False
        if kind.startswith(("response.output_text", "response.content_part", "response.refusal")):
            return self.schema
        return True

    def rest(self) -> bytes:
        """What was held, once it is valid and recorded."""
        held, self.held = self.held, []
        return b"".join(held)
