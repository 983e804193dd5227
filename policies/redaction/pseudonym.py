"""What stands in the place of a value, and the way back from it for values that a tool must get as they were.

`⟦kind:base32(BLAKE3.keyed(key, kind ‖ 0 ‖ value))[:16]⟧`: 80 bits that say nothing to who has not the key, and the same
in each turn, process and replay of a run. Of a secret nothing leads back: a model could ask for it.
"""

import base64
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from blake3 import blake3

from policies.redaction.literals import replaced
from policies.redaction.splice import Put, Spliced

KIND = "[a-z]{1,15}(?:-[a-z]{1,15}){0,4}"
"""The kind in a pseudonym: a few short words of letters, so that no key and no id passes for one."""

MARK = re.compile(f"⟦({KIND}):[A-Z2-7]{{16}}⟧".encode())
"""A pseudonym, in UTF-8. Group 1: its kind.

Rules leave it alone. Who writes one himself hides 16 characters of base32 from them; not from the exact values.
"""

REVERSIBLE = frozenset(("path", "user", "name", "email"))
"""Kinds that may be mapped back; all others are secrets."""

_WORD = re.compile(r"[a-z]{1,15}")
# Where an item of the Responses API says what a client does, as JSON and as it is.
_ARGUMENTS = {"function_call": "arguments", "mcp_call": "arguments", "mcp_approval_request": "arguments"}
_PLAIN = {
    "custom_tool_call": "input",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}


class Pseudonyms:
    """Makes pseudonyms.

    Args:
        key: 32 bytes, of the run; a fork has its parent's.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, kind: str, value: bytes) -> str:
        """What stands for a value: equal for equal kinds and values, otherwise different."""
        digest = blake3(kind.encode() + b"\0" + value, key=self._key).digest(10)
        return f"⟦{_name(kind)}:{base64.b32encode(digest).decode()}⟧"


@lru_cache(maxsize=1024)
def _name(kind: str) -> str:
    """A kind as it stands in a pseudonym: of rules of others it may be anything."""
    return "-".join(_WORD.findall(kind.lower())[:5] or ["x"])


def restore(item: dict[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """A complete tool call with values in the place of their pseudonyms; any other item as it is.

    Values are escaped as deep as the JSON in which they stand. What `mapping` does not know stays. Masked again by the
    same redactor, the item has the bytes that the model wrote.

    Args:
        mapping: values by their pseudonyms.
    """
    kind = item.get("type")
    name = _ARGUMENTS.get(kind) if isinstance(kind, str) else None
    if name is not None and isinstance(text := item.get(name), str):
        return _with(item, name, restore_arguments(text, mapping))
    name = _PLAIN.get(kind) if isinstance(kind, str) else None
    return item if name is None or name not in item else _with(item, name, _each(item[name], mapping))


def restore_arguments(text: str, mapping: Mapping[str, str]) -> str:
    """The same of a function call's arguments; what is no whole JSON object or array stays as it is."""
    if not mapping or ("⟦" not in text and "\\" not in text):
        return text
    return replaced(text.encode(), lambda said: _values(said, mapping)).decode()


def restore_text(text: str, mapping: Mapping[str, str]) -> str:
    """The same of a text that a tool gets as it is, such as a custom tool's input."""
    if not mapping or "⟦" not in text:
        return text
    data = text.encode()
    return Spliced(data, _values(data, mapping)).text.decode()


def _with(item: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return item if value == item[name] else {**item, name: value}


def _each(value: Any, mapping: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return restore_text(value, mapping)
    if isinstance(value, list):
        return [_each(inner, mapping) for inner in value]
    if isinstance(value, dict):
        return {name: _each(inner, mapping) for name, inner in value.items()}
    return value


def _values(text: bytes, mapping: Mapping[str, str]) -> list[Put]:
    found = []
    for match in MARK.finditer(text):
        value = mapping.get(match[0].decode())
        # Of a kind that is never restored nothing is, whatever the mapping says.
        if value is not None and match[1].decode() in REVERSIBLE:
            found.append(Put(match.start(), match.end(), value.encode()))
    return found
