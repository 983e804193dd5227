"""An answer as it comes: its events or its object, what it says that a client would act on, what it cost."""

from typing import Any

from ledger.gateway import wire
from ledger.gateway.wire import Event
from schemas.reading import one_reading
from store.spool import Spool

LONGEST = 64 << 20
"""Bytes of an answer; a longer one is cut off and fails."""

_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call", "computer_call")
_ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "error": "failed",
}


def is_call(item: Any) -> bool:
    """Whether an item of an output is one that a client executes."""
    kind = item.get("type") if isinstance(item, dict) else None
    return isinstance(kind, str) and (kind in _CALLS or (kind.endswith("_call") and kind not in _HOSTED))


def _text(items: list[Any]) -> str:
    parts = []
    for item in items:
        if isinstance(item, dict) and item.get("type") == "message":
            content = item.get("content")
            for part in content if isinstance(content, list) else []:
                if isinstance(part, dict) and part.get("type") == "output_text":
                    parts.append(str(part.get("text") or ""))
    return "".join(parts)


_HOSTED = frozenset(
    ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call")
)
"""Calls that the other side executes itself."""


PARTS = ("output_text", "refusal")
"""What a message is made of."""

_SPOKEN = {
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.apply_patch_call_operation_diff": "diff",
    "response.output_text": "text",
}

_SPEAKING = (
    *(f"{prefix}." for prefix in _SPOKEN),
    "response.output_item.",
    "response.content_part.",
    "response.refusal.",
    "response.reasoning",
    # Of what the other side executes.
    "response.web_search_call.",
    "response.file_search_call.",
    "response.code_interpreter_call",
    "response.image_generation_call.",
    "response.mcp_",
)
"""How the events begin that speak of an item, and that are known."""


def spoken(item: dict[str, Any]) -> str:
    """What the deltas of a call make together."""
    operation = item.get("operation")
    found = item.get("arguments", item.get("input"))
    if isinstance(operation, dict):
        found = operation.get("diff")
    return found if isinstance(found, str) else ""


class Answered:
    """What has come so far.

    Attributes:
        chunks: their milliseconds since the request left, and their lengths.
        kept: all bytes that came.
        response: the response object, as far as it is known.
        items: items of its output that are done.
        status: as in `model.response`; empty while it goes on.
        sequence: number of the last event.
        fault: what is wrong with it as an answer; empty for none.
    """

    def __init__(self, streamed: bool, kept: Spool) -> None:
        self.streamed = streamed
        self.chunks: list[tuple[int, int]] = []
        self.kept = kept
        self.response: dict[str, Any] = {}
        self.items: list[dict[str, Any]] = []
        self.status = ""
        self.sequence = -1
        self.fault = ""
        self._events = wire.Events()
        self._said: dict[tuple[str, int | None, str], list[str]] = {}
        self._begun: set[Any] = set()

    def take(self, chunk: bytes, milliseconds: int) -> list[Event]:
        """Takes in a chunk; returns the events that it completes. Nothing more is made of it after a fault."""
        self.chunks.append((milliseconds, len(chunk)))
        self.kept.append(chunk)
        if len(self.kept) > LONGEST:
            self._wrong(f"an answer of over {LONGEST >> 20} MiB")
        if not self.streamed or self.fault:
            return []
        found = []
        try:
            for event in self._events.feed(chunk):
                self._see(event)
                found.append(event)
        except wire.Malformed as error:
            self._wrong(str(error))
        return found

    def end(self) -> None:
        """It came whole, as far as the connection tells."""
        if self.streamed:
            if not self.status and not self.fault:
                self.status = "cut_off"
            elif self._events.rest.strip() and not self.fault:
                self._wrong("the stream ends in the middle of an event")
            return
        try:
            found = one_reading(self.kept.read())
        except ValueError as error:
            self._wrong(f"the answer: {error}")
            return
        if not isinstance(found, dict) or found.get("object") != "response":
            self._wrong("the answer is no response object")
            return
        self._final(found)
        status = found.get("status")
        self.status = status if status in ("completed", "incomplete", "failed") else "malformed"

    @property
    def text(self) -> str:
        """What it says, without reasoning and calls."""
        return _text(self.items)

    def unspoken(self) -> str | None:
        """Why a client may read a text here that `text` does not hold; None where it can not."""
        for item in self.items:
            if item.get("type") == "message":
                content = item.get("content")
                parts = content if isinstance(content, list) else [None]
                if any(not isinstance(part, dict) or part.get("type") not in PARTS for part in parts):
                    return "a message with a part that is neither output_text nor refusal"
        if self.response.get("output_text") not in (None, self.text):
            return "output_text is another text than the messages'"
        return None

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Items that a client would execute."""
        return [item for item in self.items if is_call(item)]

    @property
    def hosted(self) -> list[dict[str, Any]]:
        """Calls that the other side executed, for a fee."""
        return [item for item in self.items if item.get("type") in _HOSTED]

    def tokens(self) -> tuple[int, int, int, int, int] | None:
        """Input, cached, output, reasoning and cache-written tokens; None where it does not say."""
        usage = self.response.get("usage")
        if not isinstance(usage, dict):
            return None
        inner = [usage.get("input_tokens_details"), usage.get("output_tokens_details")]
        cached, reasoning = (part if isinstance(part, dict) else {} for part in inner)
        found = (
            usage.get("input_tokens"),
            cached.get("cached_tokens") or 0,
            usage.get("output_tokens"),
            reasoning.get("reasoning_tokens") or 0,
            cached.get("cache_write_tokens") or 0,
        )
        if any(type(number) is not int or not 0 <= number < 2**40 for number in found):
            return None
        return found  # type: ignore[return-value]

    def _see(self, event: Event) -> None:
        data = event.data
        if data is None:
            return
        if self.status:
            raise wire.Malformed("a stream goes on after its end")
        number = data.get("sequence_number")
        if type(number) is int:
            if number <= self.sequence:
                raise wire.Malformed("sequence numbers of a stream do not rise")
            self.sequence = number
        self._hear(event.type, data)
        if event.type == "response.output_item.added" and is_call(data.get("item")):
            self._begun.add(data.get("output_index"))
        if event.type == "response.output_item.done" and isinstance(data.get("item"), dict):
            self._begun.discard(data.get("output_index"))
            self._check_said(data["item"])
            self.items.append(data["item"])
        if isinstance(data.get("response"), dict):
            self.response = data["response"]
            if event.type not in _ENDS and self.response.get("output"):
                raise wire.Malformed("output stands in a stream before its own event")
        if event.type in _ENDS:
            self.status = _ENDS[event.type]
            if self.status == "completed" and (self._begun or self._said):
                raise wire.Malformed("an item was begun in a stream, and not ended")
            if self.response.get("output"):
                self._compare(self.response["output"])

    def _hear(self, kind: str, data: dict[str, Any]) -> None:
        """Keeps what events say of arguments and texts: clients may put them together from these."""
        if ("item_id" in data or "output_index" in data) and not kind.startswith(_SPEAKING):
            # A client could put a call together from it, and nobody has judged that one.
            raise wire.Malformed(f"an event of the unknown kind {kind[:60]!r} speaks of an item")
        prefix, _, what = kind.rpartition(".")
        if prefix not in _SPOKEN:
            return
        item, part = data.get("item_id"), data.get("content_index")
        if not isinstance(item, str) or not isinstance(part, int | None):
            raise wire.Malformed("an event does not say of which item it is")
        if what == "delta":
            self._said.setdefault((item, part, what), []).append(str(data.get("delta") or ""))
        elif what == "done":
            self._said[item, part, what] = [str(data.get(_SPOKEN[prefix]) or "")]

    def _check_said(self, item: dict[str, Any]) -> None:
        """A call, or a text, must be the same in all its events; what is said is taken, and must be so."""
        texts: dict[int | None, Any] = {None: spoken(item)}
        if item.get("type") == "message":
            content = item.get("content")
            parts = content if isinstance(content, list) else []
            texts |= {at: part.get("text") for at, part in enumerate(parts) if isinstance(part, dict)}
        for known in [known for known in self._said if known[0] == item.get("id")]:
            if "".join(self._said.pop(known)) != texts.get(known[1]):
                raise wire.Malformed("the events of an item contradict one another")

    def _final(self, response: dict[str, Any]) -> None:
        self.response = response
        output = response.get("output")
        if not isinstance(output, list) or any(not isinstance(item, dict) for item in output):
            self._wrong("the response has no output")
            return
        self.items = output

    def _compare(self, output: Any) -> None:
        """The last event must not hold calls that no event before it did: clients read either."""
        if not isinstance(output, list):
            raise wire.Malformed("the output of a response is no list")
        done = [item for item in self.items if is_call(item)]
        if [item for item in output if is_call(item)] != done:
            raise wire.Malformed("the end of a stream holds other calls than its events")
        if _text(output) != self.text:
            raise wire.Malformed("the end of a stream holds another text than its events")

    def _wrong(self, what: str) -> None:
        self.fault = self.fault or what
        self.status = "malformed"
