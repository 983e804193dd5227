"""Exact values: secrets that are known by name are found wherever they stand, as text or escaped in JSON.

The whole of redaction so far: a profile that only carries such values.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from blake3 import blake3

SHORTEST = 8
"""Characters of the shortest value that is looked for: a shorter one would be found everywhere."""

PROFILE = "exact"
_WITHIN = 3
"""Levels of JSON within JSON in which a value is looked for."""


class Exact:
    """Given values.

    Args:
        values: by the name under which each is known, such as its URI.
        mark: makes what stands in the place of a value; equal for equal values of one run.
    """

    def __init__(self, values: Iterable[tuple[str, str]]) -> None:
        known = sorted({value for _, value in values if len(value) >= SHORTEST})
        spelled = {form: value for value in known for form in _forms(value, _WITHIN)}
        # Longest first: a value may hold another.
        self._spelled = sorted(spelled.items(), key=lambda pair: -len(pair[0]))
        self._forms = tuple({form.encode() for value in known for form in _forms(value, _WITHIN + 1)})
        self.version = blake3(PROFILE.encode() + len(known).to_bytes(4, "big")).hexdigest()

    def found(self, data: bytes) -> bool:
        """Whether any value stands in these bytes, in the forms that JSON gives it."""
        plain = _plain(data.decode("utf-8", "replace")).encode() if b"\\" in data else data
        return any(form in data or form in plain for form in self._forms)

    def redact(self, value: Any, mark: Callable[[str], str]) -> tuple[Any, int]:
        """A JSON value with every string and name masked; and how often something was."""
        count = 0

        def masked(text: str) -> str:
            nonlocal count
            if "\\" in text and (plain := _plain(text)) != text and any(form in plain for form, _ in self._spelled):
                # Within JSON in this text, spelled in a way that only its reader sees through.
                text = plain
            for form, secret in self._spelled:
                if form in text:
                    count += text.count(form)
                    text = text.replace(form, mark(secret))
            return text

        def walk(inner: Any) -> Any:
            if isinstance(inner, str):
                return masked(inner)
            if isinstance(inner, list):
                return [walk(item) for item in inner]
            if isinstance(inner, dict):
                return {masked(name): walk(item) for name, item in inner.items()}
            return inner

        return walk(value), count


_ESCAPED = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|/)")


def _plain(text: str) -> str:
    """A text without escapes that JSON does not need: those are spelled out, at any level of JSON within JSON."""

    def spelled(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16)) if match[1] else "/"
        needed = char in '"\\' or not char.isprintable()
        return match[0] if needed else char

    return _ESCAPED.sub(spelled, text)


def _forms(value: str, depth: int) -> set[str]:
    """A value as it stands in a text, and in JSON within JSON, with and without escapes for what is not ASCII."""
    forms, level = {value}, {value}
    for _ in range(depth):
        level = {json.dumps(form, ensure_ascii=ascii)[1:-1] for form in level for ascii in (True, False)}
        forms |= level
    return forms
