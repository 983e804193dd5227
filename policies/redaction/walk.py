"""Where a request holds text: each string and each name of an object, but for what must stay as it is.

What stays is told by its place in the Responses API, and by a form that leaves no room for a text: a place alone is
open to whoever writes the request. Exact values are looked for there all the same.
"""

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

from policies.redaction import binary
from policies.redaction.places import NAMES, is_address, stays, step
from schemas.errors import LedgerError

_PARTS = ("content", "output", "summary")
"""Members of an item that hold parts of a message."""


class Collided(LedgerError):
    """Two names of one object would become one."""


class Leaf(NamedTuple):
    """A text in a request.

    Attributes:
        text: UTF-8.
        place: where it is, such as `.content[0].text`; of names that the API does not give only which it is, `{2}`.
        name: of the member that holds it, where that may tell what it is.
        stays: whether by place and form it is nothing that rules could judge.
    """

    text: bytes
    place: str
    name: bytes = b""
    stays: bool = False


See = Callable[[Leaf], str | None]
"""What becomes of a text; None: it stays."""


def walk(value: Any, see: See, *, item: bool = False, opens: bool = True) -> Any:
    """A value of a request with each text as `see` says. The same order each time; what does not change is shared.

    Args:
        item: whether it is an item of the input; else it is the value of any other member.
        opens: whether a data: URL is seen as what it carries: a text as that text, an image as nothing to judge.

    Raises:
        Collided: two names of an object are the same afterwards.
        UnicodeEncodeError: a text holds what is no character.
    """
    walker = _Walker(see, opens)
    return walker.item(value, "") if item else walker.free(value, "", "")


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

    def free(self, value: Any, place: str, name: str) -> Any:
        """A value within which names are anybody's.

        Args:
            name: of the member that it is.
        """
        if isinstance(value, str):
            return self._text(value, place, name, False)
        if isinstance(value, list):
            return _listed(value, place, lambda inner, place: self.free(inner, place, name))
        if isinstance(value, dict):
            return self._members(value, place, lambda name, inner, place: self.free(inner, place, name))
        return value

    def _members(self, value: dict[str, Any], place: str, member: Callable[[str, Any, str], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        changed = False
        for index, (name, inner) in enumerate(value.items()):
            here = place + step(name, index)
            new = name if name in NAMES else self._seen(Leaf(name.encode(), here + "~"), name)
            if new in found:
                raise Collided("two names of an object would be masked alike", hint="rename one of them")
            found[new] = member(name, inner, here)
            changed = changed or new != name or found[new] is not inner
        return found if changed else value

    def _text(self, text: str, place: str, name: str, stays: bool) -> str:
        if self._opens and text.startswith("data:") and (carried := binary.carried(text)) is not None:
            if carried.inner is None:
                return self._seen(Leaf(text.encode(), place, stays=True), text)
            # A text file: its text is what is looked at, and it leaves as it came, in base64.
            said = carried.inner.decode()
            new = self._seen(Leaf(carried.inner, place), said)
            return text if new is said else carried.head + base64.b64encode(new.encode()).decode()
        return self._seen(Leaf(text.encode(), place, name.encode(), stays or is_address(text)), text)

    def _seen(self, leaf: Leaf, text: str) -> str:
        new = self._see(leaf)
        return text if new is None else new


def _listed(value: list[Any], place: str, inner: Callable[[Any, str], Any]) -> list[Any]:
    found = [inner(member, f"{place}[{index}]") for index, member in enumerate(value)]
    return value if all(new is old for new, old in zip(found, value, strict=True)) else found
