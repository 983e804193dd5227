"""By what a request is known again: normalised, without what clients vary from run to run.

The key is over the request as it came, before redaction; keyed by the run's data key, it tells nothing to who can't
read the run. A replay, and a conversation that goes on, are found by it. What is dropped here is dropped from the key
alone; the bytes that are kept and sent are never altered.
"""

import re
from typing import Any

import msgspec
from blake3 import blake3

VERSION = "1"
_DROPPED = frozenset(("client_metadata", "prompt_cache_key", "stream", "stream_options", "metadata", "user",
                      "safety_identifier", "store"))  # fmt: skip
# Measured of the Codex CLI: what two equal runs differ in.
_VARYING = (
    ("Chunk ID: ", re.compile(r"Chunk ID: [0-9a-f]{6}\b"), "Chunk ID: _"),
    ("Wall time: ", re.compile(r"Wall time: [0-9.]+ seconds"), "Wall time: _ seconds"),
    ("<current_date>", re.compile(r"<current_date>[^<]*</current_date>"), "<current_date>_</current_date>"),
)


class Key:
    """A request's key, and the keys of what its conversation has said so far.

    Args:
        secret: 32 bytes, of the run.
        value: the decoded body.

    Attributes:
        whole: of the request, hex.
        turns: of its first item, of its first two, …
    """

    __slots__ = ("turns", "whole")

    def __init__(self, secret: bytes, value: dict[str, Any]) -> None:
        aliases: dict[str, str] = {}
        found = value.get("input")
        items = found if isinstance(found, list) else [{"role": "user", "content": found}]
        rest = {name: value[name] for name in sorted(value) if name not in _DROPPED and name != "input"}
        before = blake3(_encoded({**rest, "model": None}), key=secret).digest()
        self.turns = []
        for item in items:
            before = blake3(before + _encoded(_normalised(item, aliases)), key=secret).digest()
            self.turns.append(before)
        self.whole = blake3(before + _encoded(rest), key=secret).hexdigest()


def normalised(value: dict[str, Any]) -> dict[str, Any]:
    """A request as it counts for its key: what is left of it is what two equal requests have in common."""
    aliases: dict[str, str] = {}
    rest = {name: value[name] for name in sorted(value) if name not in _DROPPED}
    found = rest.get("input")
    items = found if isinstance(found, list) else [{"role": "user", "content": found}]
    return {**rest, "input": [_normalised(item, aliases) for item in items]}


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _normalised(item: Any, aliases: dict[str, str]) -> Any:
    """An item without client-made ids, its call ids counted in order, and texts without what varies."""
    if not isinstance(item, dict):
        return item
    found = {name: _text(value) for name, value in item.items() if name != "id"}
    call = found.get("call_id")
    if isinstance(call, str):
        found["call_id"] = aliases.setdefault(call, f"call_{len(aliases)}")
    return found


def _text(value: Any) -> Any:
    if isinstance(value, str):
        for sign, pattern, instead in _VARYING:
            if sign in value:
                value = pattern.sub(instead, value)
        return value
    if isinstance(value, list):
        return [_text(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _text(inner) for name, inner in value.items()}
    return value
