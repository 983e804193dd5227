"""Steering a run from outside: pause it, let it go on, free what an interrupted call had reserved."""

from typing import Any

import msgspec

from ledger.commit import Draft
from ledger.drafts import Detail
from ledger.log import Log, system_clock
from ledger.state import Recorded, State
from schemas.entries import Known, ReservationReleased, RunPaused, RunResumed
from schemas.errors import NotFound, UsageError


def pause(log: Log, run: str, reason: str = "") -> int:
    """No model request of the run passes from here on. Returns the entry's index.

    Raises:
        RunClosed: the run has ended.
        UsageError: it is paused already.
    """
    return _steer(log, run, RunPaused, reason, True)


def resume(log: Log, run: str, reason: str = "") -> int:
    """A paused run may go on. Returns the entry's index.

    Raises:
        RunClosed: the run has ended.
        UsageError: it is not paused.
    """
    return _steer(log, run, RunResumed, reason, False)


def _steer(log: Log, run: str, kind: type[RunPaused] | type[RunResumed], reason: str, paused: bool) -> int:
    log.catch_up()

    def validate(state: State, since: list[Recorded]) -> None:
        found = state.history.find(run)
        if found is not None and bool(found.calls.paused) == paused:
            raise UsageError(f"run {run[-8:]} is {'paused already' if paused else 'not paused'}", hint="ledger log")

    return _append(log, run, kind, reason, {}, validate)


def release(log: Log, run: str, index: int, reason: str) -> int:
    """Frees what a request without a response has reserved. Returns micro-USD.

    Raises:
        NotFound: there is no such open request.
    """
    log.catch_up()
    found = log.chain.state.history.runs.get(run)
    reserved = found.calls.open.get(index) if found is not None else None
    if reserved is None:
        raise NotFound(f"entry {index} is no open request of run {run[-8:]}", hint=f"ledger budget {run[-8:]}")
    _append(log, run, ReservationReleased, reason, {"to": index, "reserved": reserved}, None)
    return reserved


def _append(log: Log, run: str, kind: Any, reason: str, members: dict[str, Any], validate: Any) -> int:
    key = log.writer.key(run, late=True)
    sealed = [log.blobs.prepare(key, msgspec.json.encode(Detail(reason=reason)))] if reason else []
    detail = sealed[0].address if sealed else ""
    entry: Known = kind(v=1, time=system_clock(), run=run, detail=detail, **members)
    return log.writer.commit(Draft([entry], sealed, [""], validate))[0].index
