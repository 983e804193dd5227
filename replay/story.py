"""What a run recorded, as its replay needs it: what was asked and answered, appended, and executed, in order."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ledger.gateway.records import Came, Told
from ledger.index.reader import Log
from schemas.entries import (
    ActionEnded,
    ActionStarted,
    Approval,
    Artifact,
    Decided,
    Erasure,
    Known,
    ModelRequest,
    ModelResponse,
    PolicyInForce,
    Prompt,
    Response,
    RunFinished,
    RunStarted,
    Value,
)
from schemas.errors import NotFound
from schemas.policy import Policy, read_policy

APPENDED = (Prompt, Response, Artifact, Approval, Value, RunFinished)
"""Kinds of entries that a program appends by itself."""


class Asked(msgspec.Struct, frozen=True):
    """A model request, and what its client learned.

    Attributes:
        index: of the entry that speaks of it: the request, or the decision that refused it.
        lane: its lane.
        key: by which it is known again.
        normaliser: version of what made the key.
        request: address of its bytes as they left, or would have.
        response: None where it was refused, or the gateway ended before an answer.
        told: of a refusal.
        ended: index of the response.
    """

    index: int
    lane: str
    key: str
    normaliser: str
    request: str
    response: ModelResponse | None = None
    told: Told | None = None
    ended: int = 0


class Command(msgspec.Struct, frozen=True):
    """One command of a run.

    Attributes:
        index: of its `action.started`.
        started, ended: its entries; `ended` is None where it was interrupted.
    """

    index: int
    started: ActionStarted
    ended: ActionEnded | None


class Story(NamedTuple):
    """A run from its beginning to its end.

    Attributes:
        run: its id.
        started: its first entry.
        finished: whether it has ended.
        asked: model requests, in order.
        appended: index and entry of what programs appended.
        commands: in order.
        policies: that decided, each as it was.
    """

    run: str
    started: RunStarted
    finished: bool
    asked: list[Asked]
    appended: list[tuple[int, Known]]
    commands: list[Command]
    policies: list[Policy]


class _Envelope(msgspec.Struct):
    normaliser: str = ""


class _Refused(msgspec.Struct):
    told: Told | None = None


def read(log: Log, run: str) -> Story:
    """Reads a run.

    Raises:
        NotFound: there is none.
        Erased: its contents are gone; names the entry that says so.
        CannotTell, Missing: they can't be read here.
    """
    started: RunStarted | None = None
    finished = False
    asked: dict[int, Asked] = {}
    appended: list[tuple[int, Known]] = []
    commands: dict[int, Command] = {}
    policies: dict[str, Policy] = {}
    for index, entry in ((recorded.index, recorded.entry) for recorded in log.entries(run)):
        match entry:
            case RunStarted():
                started = entry
            case ModelRequest():
                envelope = msgspec.json.decode(log.read(entry.envelope), type=_Envelope)
                asked[index] = Asked(index, entry.lane, entry.key, envelope.normaliser, entry.content)
            case ModelResponse() if entry.to in asked:
                asked[entry.to] = msgspec.structs.replace(asked[entry.to], response=entry, ended=index)
            case Decided() if entry.request:
                told = msgspec.json.decode(log.read(entry.content), type=_Refused).told
                if told is not None:
                    asked[index] = Asked(index, entry.lane, told.key, told.normaliser, entry.request, told=told)
            case PolicyInForce():
                policies[entry.version] = read_policy(log.read(entry.content), entry.policy)
            case ActionStarted():
                commands[index] = Command(index, entry, None)
            case ActionEnded() if entry.to in commands:
                commands[entry.to] = msgspec.structs.replace(commands[entry.to], ended=entry)
            case _:
                pass
        if isinstance(entry, APPENDED):
            finished |= isinstance(entry, RunFinished)
            appended.append((index, entry))
    if started is None:
        raise NotFound(f"no run {run}", hint="`ledger log` lists runs")
    return Story(run, started, finished, list(asked.values()), appended, list(commands.values()), [*policies.values()])


def erased(log: Log, run: str) -> int:
    """Index of the entry that erased a run; 0 where none did."""
    found = (r.index for r in log.entries() if isinstance(r.entry, Erasure) and r.entry.of == run)
    return next(found, 0)


def delivered(asked: Asked, read: Callable[[str], bytes]) -> bool:
    """Whether its client learned how a request ended: what nobody took is not answered again."""
    if asked.told is not None:
        return True
    return asked.response is not None and not Came.read(read, asked.response).wire.left
