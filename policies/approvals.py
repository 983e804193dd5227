"""When an action is approved: who must say yes, who may, and what each refusal is called.

Pure: entries, approvers, an index and a time come in. The fold of `policies.requests` decides by these rules at a
commit and in step 11 of verify; the gateway and the command line ask the same rules, for what they tell people.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from policies.findings import Decision
from policies.statement import Verdict
from schemas.entries import ApprovalRequested
from schemas.policy import Approvals, Policy
from schemas.trust import Approver

BREAK_GLASS = "break-glass"
"""The role of who may let go alone; the owner gives it."""

State = Literal["pending", "approved", "denied", "expired", "consumed"]


class Answer(msgspec.Struct, frozen=True):
    """What somebody signed, in its place.

    Attributes:
        key: SSH public key; whose it is, and in which role, the owner's statements say.
    """

    index: int
    key: str
    verdict: Verdict


class Request(msgspec.Struct):
    """A request for approval, and what came of it so far.

    Attributes:
        consumed: index of the entry that used it up; 0 while there is none.
    """

    entry: ApprovalRequested
    answers: list[Answer] = []
    consumed: int = 0

    def copy(self) -> "Request":
        """The same, to go on from."""
        return Request(self.entry, self.answers.copy(), self.consumed)


class Standing(NamedTuple):
    """Where a request stands.

    Attributes:
        reasons: why; of a pending one, what each quorum lacks.
        approvers: names of those whose approval counts.
    """

    state: State
    reasons: tuple[str, ...]
    approvers: tuple[str, ...] = ()


class Needed(NamedTuple):
    """What policies need to be asked for.

    Attributes:
        quorum: as in `ApprovalRequested`.
        expiry_s: the shortest of theirs.
    """

    quorum: list[str]
    expiry_s: int


def needed(policies: Sequence[Policy], decision: Decision) -> Needed | None:
    """What an approval takes, by those policies whose finding asks for one; None where none does, or one denies."""
    asking = {found.policy for found in decision.findings if found.effect == "require_approval"}
    terms = [policy.approvals or Approvals() for policy in policies if policy.policy_id in asking]
    if decision.effect != "require_approval" or not terms:
        return None
    return Needed(sorted({_spell(term) for term in terms}), min(term.expiry_s for term in terms))


def _spell(term: Approvals) -> str:
    roles = ",".join(sorted(set(term.roles)))
    return f"{term.threshold} of {roles}" if roles else str(term.threshold)


def _read(quorum: str) -> tuple[int, frozenset[str]]:
    """Threshold and roles; no roles where any approver will do."""
    count, _, roles = quorum.partition(" of ")
    return int(count), frozenset(filter(None, roles.split(",")))


def _serves(approver: Approver, roles: frozenset[str]) -> bool:
    return not roles or not roles.isdisjoint(approver.roles)


def _holder(approvers: Iterable[Approver], key: str, since: int, until: int) -> Approver | None:
    """Whose key it is, and in which roles, from one index to another; None where it does not hold all the way."""
    return next((found for found in approvers if found.key == key and found.holds(since, until)), None)


def state_of(request: Request, approvers: Iterable[Approver], index: int, now: datetime) -> Standing:
    """Where a request stands for an effect at an index.

    An approval counts if its key holds when it was given and still at the index: a key that was ended since, because
    it was stolen say, lets nothing go. One no is enough, whoever's key it was.

    Args:
        approvers: of the statement of trust in force at the index.
        index: of what is to be let go.
        now: with a zone.
    """
    entry = request.entry
    if request.consumed:
        return Standing("consumed", (f"entry {request.consumed} used it",))
    for answer in request.answers:
        if answer.verdict == "deny":
            return Standing("denied", (f"entry {answer.index} is a no",))
    if now.utcoffset() is None or now >= entry.expires:
        return Standing("expired", (f"it expired at {entry.expires:%Y-%m-%dT%H:%M:%SZ}",))
    approvers, counting = tuple(approvers), list[Approver]()
    for answer in request.answers:
        approver = _holder(approvers, answer.key, answer.index, index)
        if approver is None:
            continue
        if answer.verdict == BREAK_GLASS:
            if BREAK_GLASS in approver.roles:
                return Standing(
                    "approved", (f"{approver.name} broke the glass: entry {answer.index}",), (approver.name,)
                )
        elif approver.name != entry.requester:
            counting.append(approver)
    reasons, lacking = [], False
    for quorum in entry.quorum:
        threshold, roles = _read(quorum)
        people = sorted({approver.name for approver in counting if _serves(approver, roles)})
        lacking |= len(people) < threshold
        reasons.append(f"{len(people)} of {quorum}" + (f": {', '.join(people)}" if people else ""))
    everybody = tuple(sorted({approver.name for approver in counting}))
    return Standing("pending" if lacking else "approved", tuple(reasons), everybody)


def refusal(
    request: Request, verdict: Verdict, key: str, approvers: Iterable[Approver], index: int, now: datetime
) -> str | None:
    """Why somebody's answer to a request is refused, beginning with the name of the refusal; None where it counts.

    Args:
        key: that signed, and whose signature holds.
        index: of the answer.
    """
    approvers = tuple(approvers)
    approver = _holder(approvers, key, index, index)
    if approver is None:
        return "stranger: signed by a key that may not approve here"
    state, reasons, _ = state_of(request, approvers, index, now)
    if state in ("consumed", "denied", "expired"):
        return f"{state}: {reasons[0]}"
    if verdict == "deny":
        return None
    if verdict == BREAK_GLASS:
        return None if BREAK_GLASS in approver.roles else f"role: {approver.name} may not break the glass"
    if approver.name == request.entry.requester:
        return f"self-approval: {approver.name} asked for it"
    served = [roles for _, roles in map(_read, request.entry.quorum) if _serves(approver, roles)]
    if not served:
        return f"role: {approver.name} has none of the roles that are asked: {'; '.join(request.entry.quorum)}"
    # One person counts once, with however many keys; for another quorum another key of his may.
    said = [answer for answer in request.answers if answer.verdict == "approve"]
    before = [_holder(approvers, answer.key, answer.index, index) for answer in said]
    own = [found for found in before if found is not None and found.name == approver.name]
    if all(any(_serves(found, roles) for found in own) for roles in served):
        return f"counted already: {approver.name} has approved, and one person counts once"
    return None
