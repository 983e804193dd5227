"""How much work a JSON Schema can make of a value, before any is done.

A validator that follows `$ref` can be made to visit 2^n schemas by n lines, for one value, while nothing else of the
process runs. Here the visits are counted along the worst path, by depth of the value, without following them.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import unquote

from schemas.errors import Malformed

MAX_DEPTH = 64
"""Nesting of a value, and of a schema's own text."""

MAX_VISITS = 100_000
"""Schemas that may be applied along one path through a value."""

_MAX_STEPS = 200_000
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
_BY_NAME = ("dependentSchemas", "dependencies")
_ITEMS = ("items", "prefixItems", "additionalItems", "contains", "unevaluatedItems")
_MEMBERS = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_DYNAMIC = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor")
_ANY = ""


class _Node:
    """One schema: those applied where it is, and those applied further in, by member (`_ANY`: any).

    Attributes:
        weight: what it costs itself: one, and its lists, which may be looked through for each value.
        count: schemas applied along the worst path from here, for values of the depth that is reckoned with.
    """

    __slots__ = ("count", "deeper", "here", "last", "settled", "weight")

    def __init__(self) -> None:
        self.here: list[_Node] = []
        self.deeper: dict[str, list[_Node]] = {}
        self.weight = 1
        self.count = self.last = 0
        self.settled = False


def visits(schema: Any) -> list[int]:
    """The most schemas applied along one path through a value, by the depth of the value.

    For values that are deeper than the list is long, it is over `MAX_VISITS`, or takes too long to tell.

    Raises:
        Malformed: the schema refers outside of itself, or goes in circles.
    """
    nodes = _graph(schema)
    active, root = _in_order(nodes), nodes[0]
    found: list[int] = []
    steps = 0
    while len(found) <= MAX_DEPTH and steps < _MAX_STEPS:
        steps += len(active)
        for node in active:
            node.last = node.count
        for node in active:
            node.count = min(_count(node), MAX_VISITS * 2)
        if root.count > MAX_VISITS:
            break
        found.append(root.count)
        # Only what can reach a circle goes on growing.
        for node in [node for node in active if _is_settled(node)]:
            node.settled = True
        active = [node for node in active if not node.settled]
    if not found:
        raise Malformed("a schema that applies itself too often", hint="it repeats one $ref in the same place")
    return found


def _count(node: _Node) -> int:
    below = max((sum(i.last for i in inner) for name, inner in node.deeper.items() if name != _ANY), default=0)
    below += sum(inner.last for inner in node.deeper.get(_ANY, ()))
    return node.weight + below + sum(inner.count for inner in node.here)


def _is_settled(node: _Node) -> bool:
    return node.count == node.last and all(inner.settled for inner in chain(node.here, *node.deeper.values()))


def _graph(schema: Any) -> list[_Node]:
    """All schemas that the first one can reach."""
    made: dict[int, _Node] = {id(schema): _Node()}
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    nodes = [made[id(schema)]]

    def node(inner: Any, depth: int) -> _Node:
        if id(inner) not in made or not isinstance(inner, dict):
            if depth > MAX_DEPTH * 4:
                raise Malformed("a schema is nested too deep")
            made[id(inner)] = _Node()
            nodes.append(made[id(inner)])
            waiting.append((inner, depth))
        return made[id(inner)]

    while waiting:
        part, depth = waiting.pop()
        if not isinstance(part, dict):
            continue
        _check(part, is_root=part is schema)
        mine = made[id(part)]
        mine.weight += sum(len(value) for value in part.values() if isinstance(value, dict | list))
        mine.here = [node(inner, depth + 1) for inner in _here(part)]
        if isinstance(reference := part.get("$ref"), str):
            mine.here.append(node(_resolve(schema, reference), 0))
        for name, inner in _deeper(part):
            mine.deeper.setdefault(name, []).append(node(inner, depth + 1))
    return nodes


def _check(part: dict[str, Any], *, is_root: bool) -> None:
    for name in _DYNAMIC:
        if name in part:
            raise Malformed(f"a schema uses {name}", hint="use $ref, to a definition in the same schema")
    if not is_root and "$id" in part:
        raise Malformed("a schema within another has an $id", hint="only the outermost may have one")


def _here(part: dict[str, Any]) -> Iterator[Any]:
    for name in _IN_PLACE:
        inner = part.get(name)
        yield from inner if isinstance(inner, list) else [inner] if name in part else []
    for name in _BY_NAME:
        if isinstance(inner := part.get(name), dict):
            yield from inner.values()


def _deeper(part: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(members := part.get("properties"), dict):
        yield from members.items()
    if isinstance(patterns := part.get("patternProperties"), dict):
        yield from ((_ANY, inner) for inner in patterns.values())
    for name in (*_ITEMS, *_MEMBERS):
        if name in part:
            inner = part[name]
            yield from ((_ANY, one) for one in (inner if isinstance(inner, list) else [inner]))


def _resolve(schema: Any, reference: str) -> Any:
    """What a `$ref` names, in the same schema."""
    hint = "a schema holds all that it needs, in $defs"
    if not reference.startswith("#"):
        raise Malformed(f"a schema refers to {reference[:60]!r}, outside of itself", hint=hint)
    found = schema
    pointer = unquote(reference[1:])
    if pointer and not pointer.startswith("/"):
        raise Malformed(f"a schema refers to the anchor {reference[:60]!r}", hint="use a path such as #/$defs/name")
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(found):
            found = found[int(name[:9])]
        else:
            raise Malformed(f"a schema refers to {reference[:60]!r}, which it does not hold", hint=hint)
    return found


def _in_order(nodes: list[_Node]) -> list[_Node]:
    """The schemas so that each comes after those applied in the same place."""
    order: list[_Node] = []
    state: dict[int, int] = {}
    for start in nodes:
        trail = [(start, iter(start.here))] if id(start) not in state else []
        state.setdefault(id(start), 1)
        while trail:
            node, inner = trail[-1]
            following = next(inner, None)
            if following is None:
                state[id(node)] = 2
                order.append(node)
                trail.pop()
            elif state.get(id(following)) == 1:
                raise Malformed("a schema refers to itself without going deeper into the value")
            elif id(following) not in state:
                state[id(following)] = 1
                trail.append((following, iter(following.here)))
    return order
