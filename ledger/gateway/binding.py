"""What a request is bound to: by its token, and by what it says itself, which may only narrow that."""

from collections.abc import Mapping
from typing import NamedTuple

from ledger.gateway.body import Body, Refused
from ledger.gateway.door import Door
from ledger.gateway.records import Place
from ledger.gateway.tokens import Token
from schemas.envelope import TaskScope, read_scope
from schemas.errors import Malformed
from schemas.policy import Policy

LABELS = ("stage", "lane", "task")
"""What says where in the pipeline something belongs, in clear."""


class Bound(NamedTuple):
    """What a call is bound to: by its token, and what its request narrows."""

    place: Place
    scope: TaskScope | None
    policies: list[Policy]


def bind(door: Door, token: Token, headers: dict[str, str], body: Body) -> Bound:
    """1 and 2: what a request says narrows what its token binds.

    Raises:
        Refused: it says something else than its token.
    """
    metadata = body.value.get("metadata") or {}
    said: dict[str, str] = {}
    for name in (*LABELS, "task-scope"):
        header = headers.get(f"x-ledger-{name}") or ""
        value = header or metadata.get(f"ledger.{name}") or ""
        if not isinstance(value, str):
            raise Refused(f"{name} is no text", f"metadata.ledger.{name}")
        if not header.isascii():
            raise Refused(f"{name} is not ASCII", name, f"beyond ASCII: metadata, ledger.{name}")
        said[name] = value
    where = place(door, token, said)
    if any(name.startswith("ledger.") for name in metadata):
        rest = {name: value for name, value in metadata.items() if not name.startswith("ledger.")}
        body.set("metadata", rest, "metadata") if rest else body.remove("metadata", "metadata")
    scope = token.scope
    if said["task-scope"]:
        try:
            asked = read_scope(said["task-scope"])
        except Malformed as error:
            raise Refused(error.what, "task_scope", error.hint) from None
        if scope is not None and not asked.within(scope):
            raise Refused("task-scope is not within the token's", "task_scope", "a request may only narrow its token")
        scope = asked
    return Bound(where, scope, door.policies_for(token))


def place(door: Door, token: Token, said: Mapping[str, str]) -> Place:
    """Where something belongs, by its token and what is said of stage, lane and task, which may only narrow that.

    Raises:
        Refused: it says something else than its token, or what can't stand in clear.
    """
    for name, value in said.items():
        check_clear(door, name, value)
    return Place(token.run, *(_narrowed(name, getattr(token, name), said.get(name, "")) for name in LABELS))


def check_clear(door: Door, name: str, value: str) -> None:
    """Refuses what can't stand in clear for as long as the ledger does."""
    if len(value) > 1000:
        raise Refused(f"{name} is too long", name)
    if not value.isprintable():
        raise Refused(f"{name} is not printable", name)
    if value and door.redacting.masked(value) != value:
        raise Refused(f"{name} holds a secret", name)


def _narrowed(name: str, bound: str, said: str) -> str:
    if bound and said and said != bound:
        raise Refused(f"{name} {said[:60]!r} differs from the token's", name, "a request may only narrow its token")
    if len(bound or said) > 200:
        raise Refused(f"{name} is over 200 characters", name)
    return bound or said
