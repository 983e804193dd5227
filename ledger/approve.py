"""Asking people, and what they answer: requests that wait in open runs, their statements, signed answers.

The rules are those of `policies.approvals`; whether an answer holds is decided where it is committed.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

import msgspec

from ledger.commit import Appended, Draft
from ledger.drafts import Item
from ledger.log import Log
from ledger.state import State
from ledger.writer import Writer
from policies import statement
from policies.approvals import Needed, Standing, state_of
from policies.requests import Action
from policies.statement import Verdict
from schemas.entries import ApprovalRequested
from schemas.errors import Ambiguous, Malformed, NotFound

_NONCE = 16
_SHORTEST = 4


class Waiting(msgspec.Struct, frozen=True):
    """A request of an open run that nobody has used yet.

    Attributes:
        index: of its entry.
    """

    index: int
    entry: ApprovalRequested
    standing: Standing


def ask(
    writer: Writer,
    place: Mapping[str, Any],
    action: Action,
    body: bytes,
    needed: Needed,
    *,
    requester: str,
    question: Mapping[str, Any],
    now: datetime,
) -> Draft:
    """A request for approval, to be committed before anybody waits for it.

    Args:
        place: `run`, `stage`, `lane` and `task` of what is to happen.
        action: exactly what is to happen; its `subject` is the keyed digest of `body`.
        body: its bytes, for people to read.
        needed: by the policies that ask (`policies.approvals.needed`).
        requester: who wants it. An approver of that name can't approve it.
        question: what policy was asked and found, and further evidence; becomes sealed JSON.
        now: in UTC.

    Raises:
        RunClosed: the run is not open.
        Malformed: the bytes are not those of the action, or the log's years are over.
    """
    key = writer.key(place["run"])
    asked, about = (
        writer.blobs.prepare(key, body, request=True),
        writer.blobs.prepare(key, msgspec.json.encode(question)),
    )
    if asked.digest != action.subject:
        raise Malformed("a request for approval of other bytes than those of its action")
    try:
        expires = (now + timedelta(seconds=needed.expiry_s)).replace(microsecond=0)
    except OverflowError:
        raise Malformed("a request for approval would expire after the year 9999", hint="approvals.expiry_s") from None
    entry = ApprovalRequested(
        v=1,
        time=now,
        **place,
        content=about.address,
        digest=about.digest,
        action=action.action,
        subject=action.subject,
        request=asked.address,
        policies=action.policies or [],
        quorum=needed.quorum,
        requester=requester,
        nonce=writer.random(_NONCE).hex(),
        expires=expires,
        model=action.model,
        reserved=action.reserved,
    )
    return Draft([entry], [asked, about], [about.address])


def standing(state: State, run: str, action: Action, now: datetime) -> tuple[int, Standing] | None:
    """Where the newest request for exactly this action stands, with its index; None where it must be asked for.

    A no holds until its request would have expired; then people may be asked again. Also for a commit, in `validate`:
    then it says what the commit will find.
    """
    found = state.history.find(run)
    asked = found.requests.find(action) if found is not None else None
    if asked is None or now >= asked[1].entry.expires:
        return None
    return asked[0], state_of(asked[1], state.history.approvers, state.size, now)


def waiting(log: Log, now: datetime) -> list[Waiting]:
    """Every request of an open run that is neither used nor denied nor expired, oldest first."""
    return [one for one in _all(log.chain.state, now) if one.standing.state in _OPEN]


_OPEN = ("pending", "approved")


def _all(state: State, now: datetime) -> list[Waiting]:
    runs = [run for run in state.history.runs.values() if not run.finished]
    asked = sorted((pair for run in runs for pair in run.requests.asked.items()), key=itemgetter(0))
    approvers = state.history.approvers
    return [Waiting(index, request.entry, state_of(request, approvers, state.size, now)) for index, request in asked]


def find(log: Log, text: str, now: datetime) -> Waiting:
    """The request that is meant: by its index, or a part of four or more digits of its nonce or digest.

    Raises:
        NotFound: there is none, or it waits no longer; says why.
        Ambiguous: several fit.
    """
    every = _all(log.chain.state, now)
    exact = [one for one in every if text == str(one.index)]
    # Digits alone are an index: they stand in some nonce sooner or later.
    part = text if len(text) >= _SHORTEST and not text.isdecimal() else " "
    fitting = [one for one in every if part in one.entry.nonce or part in one.entry.subject]
    still = [one for one in fitting if one.standing.state in _OPEN]
    chosen = exact or still or fitting
    if not chosen:
        raise NotFound(f"no request {text[:60]!r} in an open run", hint="`ledger approve` lists what waits")
    if len(chosen) > 1:
        named = ", ".join(str(one.index) for one in chosen[:5])
        raise Ambiguous(f"{text[:60]!r} fits several requests: {named}", hint="name it by its index")
    return chosen[0]


def answer(log: Log, asked: ApprovalRequested, verdict: Verdict, signature: bytes, reason: str = "") -> Appended:
    """Appends what an approver signed.

    Args:
        signature: armored, over `text(log, asked, verdict)`.
        reason: sealed with it; breaking the glass needs one.

    Raises:
        Malformed: it is refused, beginning with the name of the refusal.
    """
    run = log.resume(asked.run, stage=asked.stage, lane=asked.lane, task=asked.task)
    signed = text(log, asked, verdict) + signature
    return run.append_many([Item(kind="approval", content=signed, reason=reason)])[0]


def content(log: Log, asked: ApprovalRequested) -> bytes:
    """The bytes of the action, as a person must see them before signing.

    Raises:
        NotSound: they are not those that would be approved (step 10).
        Missing, Erased, CannotTell: why they can't be read.
    """
    found = log.read(asked.request)
    log.blobs.check(asked.request, asked.subject)
    return found


def text(log: Log, asked: ApprovalRequested, verdict: Verdict) -> bytes:
    """The statement that is to be signed."""
    return statement.text(log.origin, asked, verdict)
