"""The body of a request: read once, checked, and changed by named rewrites alone.

What no rewrite touches leaves byte for byte as it came.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.errors import Malformed
from schemas.reading import one_reading

LONGEST = 50 << 20
"""Bytes of a body."""

# Refused, as they make the request depend on what is stored upstream, or go on behind our back.
_REFUSED = {
    "background": "answers that are fetched later can't be held to policy",
    "previous_response_id": "send the whole conversation: what the model sees must be in the request",
    "conversation": "send the whole conversation: what the model sees must be in the request",
    "prompt": "prompts stored upstream can't be recorded; send the text",
    "background_options": "answers that are fetched later can't be held to policy",
}
_KNOWN = frozenset(
    [
        "access_programs",
        "client_metadata",
        "context_management",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
        "verbosity",
    ]
)
_TYPES: dict[str, type] = {
    "stream": bool,
    "tools": list,
    "include": list,
    "metadata": dict,
    "reasoning": dict,
    "text": dict,
}
_DEEPEST = 100
_REMOTE = ("image_url", "file_url", "video_url", "audio_url")


class Refused(Malformed):
    """A request that can't pass, whatever policy says.

    Attributes:
        field: where it is.
    """

    def __init__(self, what: str, field: str, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.field = field


class Body:
    """A request to `POST /v1/responses`.

    Attributes:
        came: the bytes as they came.
        rewrites: names of the rewrites so far, in order.
        value: the decoded body, as it will leave.
    """

    def __init__(self, came: bytes) -> None:
        self.came = came
        self.rewrites: list[str] = []
        try:
            self.value: dict[str, Any] = one_reading(came)
            members = msgspec.json.decode(came, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, ValueError) as error:
            raise Refused(f"the body is no JSON object of unique names: {error}", "", "send JSON") from None
        self._members = {name: bytes(raw) for name, raw in members.items()}
        for field, why in _REFUSED.items():
            found = self.value.get(field)
            if found is not None and found is not False:
                raise Refused(f"{field} is not supported here", field, why)
        for field in self.value:
            if field not in _KNOWN and field not in _REFUSED:
                raise Refused(
                    f"unknown field {field[:60]!r}", field, "only fields that are known can be held to policy"
                )
        model = self.value.get("model")
        if not isinstance(model, str) or not 0 < len(model) <= 200:
            raise Refused("model is missing", "model", "name a model")
        if not isinstance(self.value.get("input"), str | list) or self.value["input"] == []:
            raise Refused("input is missing", "input", "a text, or a list of items")
        for field, kind in _TYPES.items():
            if not isinstance(self.value.get(field) or kind(), kind):
                raise Refused(f"{field} is of another type", field)
        for item in self.items:
            if not isinstance(item, dict):
                raise Refused("an item of input is no object", "input")
            if item.get("type") == "item_reference":
                raise Refused("item_reference is not supported here", "input", "send the item itself")
        for field, inner in _members(self.value["input"], "input"):
            name = field.rpartition(".")[2]
            if name == "file_id" and inner is not None:
                raise Refused("files stored upstream are not supported here", field, "send the content as data:")
            if name in _REMOTE and inner is not None and not _is_carried(inner):
                raise Refused("only data: URLs are supported here", field, "send the content itself")

    @property
    def items(self) -> list[Any]:
        """The items of its input; one where it is a text."""
        found = self.value["input"]
        return found if isinstance(found, list) else [{"role": "user", "content": found}]

    @property
    def model(self) -> str:
        """The model that is asked for, after the rewrites so far."""
        return str(self.value["model"])

    @property
    def stream(self) -> bool:
        """Whether the client wants events."""
        return self.value.get("stream") is True

    @property
    def tools(self) -> list[Any]:
        """The tools that it offers."""
        return self.value.get("tools") or []

    def set(self, field: str, value: Any, rewrite: str) -> None:
        """Changes a member, or adds it; named as a rewrite. Nothing where it has that value already."""
        if field in self.value and self.value[field] == value and type(self.value[field]) is type(value):
            return
        self.value[field] = value
        self._members[field] = msgspec.json.encode(value)
        self._named(rewrite)

    def remove(self, field: str, rewrite: str) -> None:
        """Takes a member away; named as a rewrite."""
        if self.value.pop(field, None) is not None or field in self._members:
            self._members.pop(field, None)
            self._named(rewrite)

    def _named(self, rewrite: str) -> None:
        if rewrite not in self.rewrites:
            self.rewrites.append(rewrite)

    def forget(self) -> None:
        """Gives memory back; what it was is recorded."""
        self.came, self.value, self._members = b"", {"model": self.model}, {}

    def encode(self) -> bytes:
        """The bytes that leave: as they came where nothing was rewritten."""
        if not self.rewrites:
            return self.came
        parts = [msgspec.json.encode(name) + b":" + raw for name, raw in self._members.items()]
        return b"{" + b",".join(parts) + b"}"


def _is_carried(url: Any) -> bool:
    return isinstance(url, str) and url.startswith(("data:", "artifact://"))


def _members(value: Any, field: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """All members of objects within a value, by where they are."""
    if depth > _DEEPEST:
        raise Refused(f"{field[:60]} is nested over {_DEEPEST} levels deep", field[:60])
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{field}.{name}", inner
            yield from _members(inner, f"{field}.{name}", depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner, field, depth + 1)
