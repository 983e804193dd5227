"""What of an answer a client may see, and when: nothing that it would execute before it is valid and recorded.

`buffered`: all of it at the end. `relayed`: reasoning and text pass at once; from the first event that speaks of a call
on, and of text where a schema must hold, everything waits. Clients execute a call at `response.output_item.done`,
seconds before the stream ends: to hold back only its end would be too late.
"""

from typing import Any

from ledger.gateway.answer import PARTS
from ledger.gateway.wire import Event

_HARMLESS = ("response.created", "response.in_progress", "response.queued", "keepalive")
_ITEMS = ("response.output_item.added", "response.output_item.done")
_MEMBERS = frozenset(
    (
        "type", "sequence_number", "response", "item", "item_id", "output_index", "content_index", "summary_index",
        "annotation_index", "annotation", "delta", "text", "refusal", "part", "logprobs", "obfuscation",
    )
)  # fmt: skip


class Release:
    """Decides event by event.

    Args:
        relayed: whether anything may pass before the end.
        schema: whether text must hold to one.
    """

    def __init__(self, relayed: bool, schema: bool) -> None:
        self.holding = not relayed
        self.schema = schema
        self._at = self._held = 0

    def take(self, event: Event) -> bytes:
        """What of this event passes now; the rest is held."""
        if not self.holding and self._must_wait(event):
            self.holding = True
        self._at += len(event.raw)
        if self.holding:
            return b""
        self._held = self._at
        return event.raw

    def _must_wait(self, event: Event) -> bool:
        kind, data = event.type, event.data
        if data is None:
            return False
        # By what is known to be harmless: a kind, or a member, that nobody has heard of waits.
        if not data.keys() <= _MEMBERS:
            return True
        if kind in _HARMLESS:
            response = data.get("response")
            return isinstance(response, dict) and any(response.get(name) for name in ("output", "output_text"))
        if kind in _ITEMS:
            return not self._passes(data.get("item"))
        if "item" in data or "response" in data:
            return True
        if kind.startswith("response.reasoning"):
            return False
        if kind.startswith(("response.output_text", "response.content_part", "response.refusal")):
            part = data.get("part")
            return self.schema or (part is not None and not _is_said(part))
        return True

    def _passes(self, item: Any) -> bool:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "reasoning":
            return True
        content = item.get("content") if kind == "message" else None
        return not self.schema and isinstance(content, list) and all(map(_is_said, content))

    def rest(self) -> tuple[int, int]:
        """Where in the stream lies what was held."""
        return self._held, self._at


def _is_said(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in (*PARTS, "reasoning_text", "summary_text")
