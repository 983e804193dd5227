"""Where a request holds text: each string and each name of an object, but for what must stay as it is.

What stays is told by its place in the Responses API, and by a form that leaves no room for a text: a place alone is
open to whoever writes the request. Exact values are looked for there all the same.

An array of bytes is a text too, and so is a long number: a key may be one. In a JSON Schema to which an answer is held,
what the answer has to repeat (`enum`, `const`, names of properties) keeps paths and other kinds that could come back:
the client judges by the schema that it wrote, and no answer could meet both that and a masked one. Secrets go.
"""

import base64
import json
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from policies.redaction import binary
from policies.redaction.places import NAMES, is_address, stays, step
from schemas.errors import LedgerError

_PARTS = ("content", "output", "summary")
"""Members of an item that hold parts of a message."""


_FEWEST = 16
"""Numbers of an array that may be the bytes of a key."""

_LONG = 10_000_000
"""The least number that may be a value that is known by name, which has eight characters."""

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependentRequired")
"""Members of a schema whose names are those of properties, or of other schemas."""

_HELD = ("enum", "const", "required")
"""Members of a schema that an answer has to repeat."""

Role = Literal["item", "tool", "format", ""]
"""What a value is in a request: an item of the input, a tool, the form of the answer, or anything else."""


class Collided(LedgerError):
    """Two names of one object would become one."""


class Leaf(NamedTuple):
    """A text in a request.

    Attributes:
        text: UTF-8.
        place: where it is, such as `.content[0].text`; of names that the API does not give only which it is, `{2}`.
        name: of the member that holds it, where that may tell what it is.
        stays: whether by place and form it is nothing that rules could judge.
        keeps: whether kinds that may come back stay in it.
        number: whether it is the spelling of numbers, for which a string stands once any of it is masked.
    """

    text: bytes
    place: str
    name: bytes = b""
    stays: bool = False
    keeps: bool = False
    number: bool = False


See = Callable[[Leaf], str | None]
"""What becomes of a text; None: it stays."""


def is_number(value: Any) -> bool:
    """Whether a value of JSON is an array of bytes, or a number as long as secrets are."""
    if type(value) is list:
        return len(value) >= _FEWEST and all(type(one) is int and 0 <= one < 256 for one in value)
    return type(value) in (int, float) and not -_LONG < value < _LONG


def walk(value: Any, see: See, *, role: Role = "", opens: bool = True) -> Any:
    """A value of a request with each text as `see` says. The same order each time; what does not change is shared.

    Args:
        role: what the value is.
        opens: whether a data: URL is seen as what it carries: a text as that text, an image as nothing to judge.

    Raises:
        Collided: two names of an object are the same afterwards.
        UnicodeEncodeError: a text holds what is no character.
    """
    walker = _Walker(see, opens)
    if role == "item":
        return walker.item(value, "")
    return walker.holder(value, "", role) if role else walker.free(value, "", "")


class _Walker:
    def __init__(self, see: See, opens: bool) -> None:
        self._see = see
        self._opens = opens

    def item(self, value: Any, place: str) -> Any:
        """An item of the input, or a part of one: the API gives names, and says what some hold."""
        if not isinstance(value, dict):
            return self.free(value, place, "")

        def member(name: str, inner: Any, place: str) -> Any:
            if name in _PARTS and isinstance(inner, list):
                return _listed(inner, place, self.item)
            if isinstance(inner, str) and name in NAMES:
                return self._text(inner, place, "", stays(value, name, inner))
            return self.free(inner, place, "" if name in NAMES else name)

        return self._members(value, place, member)

    def holder(self, value: Any, place: str, role: Role) -> Any:
        """What holds schemas: a tool, or several under one name; or the form of the answer."""

        def member(name: str, inner: Any, place: str) -> Any:
            if name == "parameters" and role == "tool":
                return self.schema(inner, place, "")
            if name == "tools" and role == "tool" and isinstance(inner, list):
                return _listed(inner, place, lambda tool, place: self.holder(tool, place, role))
            if name == "format" and role == "format" and isinstance(inner, dict):
                return self._members(inner, place, form)
            return self.free(inner, place, name)

        def form(name: str, inner: Any, place: str) -> Any:
            return self.schema(inner, place, "") if name == "schema" else self.free(inner, place, name)

        return self._members(value, place, member) if isinstance(value, dict) else self.free(value, place, "")

    def schema(self, value: Any, place: str, name: str) -> Any:
        """A JSON Schema, or a part of one."""
        if isinstance(value, list) and not is_number(value):
            return _listed(value, place, lambda inner, place: self.schema(inner, place, name))
        if not isinstance(value, dict):
            return self.free(value, place, name)

        def named(name: str, inner: Any, place: str) -> Any:
            return self.schema(inner, place, name) if isinstance(inner, dict) else self.free(inner, place, "", True)

        def member(name: str, inner: Any, place: str) -> Any:
            if name in _HELD:
                return self.free(inner, place, name, True)
            if name in _NAMED and isinstance(inner, dict):
                return self._members(inner, place, named, True)
            return self.schema(inner, place, name)

        return self._members(value, place, member)

    def free(self, value: Any, place: str, name: str, keeps: bool = False) -> Any:
        """A value within which names are anybody's.

        Args:
            name: of the member that it is.
            keeps: see `Leaf`.
        """
        if isinstance(value, str):
            return self._text(value, place, name, False, keeps)
        if is_number(value):
            spelled = json.dumps(value)
            # A number alone has no form by which a rule could know it.
            leaf = Leaf(spelled.encode(), place, name.encode(), not isinstance(value, list), keeps, True)
            return value if (new := self._seen(leaf, spelled)) is spelled else new
        if isinstance(value, list):
            return _listed(value, place, lambda inner, place: self.free(inner, place, name, keeps))
        if isinstance(value, dict):
            return self._members(value, place, lambda name, inner, place: self.free(inner, place, name, keeps), keeps)
        return value

    def _members(
        self, value: dict[str, Any], place: str, member: Callable[[str, Any, str], Any], keeps: bool = False
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        changed = False
        for index, (name, inner) in enumerate(value.items()):
            here = place + step(name, index)
            new = name if name in NAMES else self._seen(Leaf(name.encode(), here + "~", keeps=keeps), name)
            if new in found:
                raise Collided("two names of an object would be masked alike", hint="rename one of them")
            found[new] = member(name, inner, here)
            changed = changed or new != name or found[new] is not inner
        return found if changed else value

    def _text(self, text: str, place: str, name: str, stays: bool, keeps: bool = False) -> str:
        if self._opens and text.startswith("data:") and (carried := binary.carried(text)) is not None:
            if carried.inner is None:
                return self._seen(Leaf(text.encode(), place, stays=True), text)
            # A text file: its text is what is looked at, and it leaves as it came, in base64.
            said = carried.inner.decode()
            new = self._seen(Leaf(carried.inner, place), said)
            return text if new is said else carried.head + base64.b64encode(new.encode()).decode()
        return self._seen(Leaf(text.encode(), place, name.encode(), stays or is_address(text), keeps), text)

    def _seen(self, leaf: Leaf, text: str) -> str:
        new = self._see(leaf)
        return text if new is None else new


def _listed(value: list[Any], place: str, inner: Callable[[Any, str], Any]) -> list[Any]:
    found = [inner(member, f"{place}[{index}]") for index, member in enumerate(value)]
    return value if all(new is old for new, old in zip(found, value, strict=True)) else found
