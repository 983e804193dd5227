"""The requests for approval of a run: what was asked, what people signed, what was let go, and what should not have.

Part of the fold of `policies.history`. A stretch of entries whose beginning is not known keeps what happened, in
order (`Event`), and is judged by the same rules once it is joined to what was before.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from policies.approvals import Answer, Request, refusal, state_of
from policies.statement import Verdict, sha512
from schemas.entries import Approval, ApprovalBreakGlass, ApprovalConsumed, ApprovalRequested, ModelRequest, kind_of
from schemas.trust import Approver

KINDS = frozenset((Approval, ApprovalBreakGlass, ApprovalConsumed, ApprovalRequested))
"""What is judged here."""


class Told(NamedTuple):
    """What no entry shows by itself, and who has proven it must say: by index.

    Attributes:
        signers: the SSH key whose signature an answer bears.
        approvers: whom the owner's statement names from there on.
    """

    signers: dict[int, str]
    approvers: dict[int, tuple[Approver, ...]]

    @classmethod
    def nothing(cls) -> "Told":
        """Of entries that need no telling."""
        return cls({}, {})


class Action(msgspec.Struct, frozen=True, tag_field="kind", tag="action"):
    """Exactly what is to happen, or has happened: what an approval is for, and no other.

    Attributes:
        action: the kind of entry that records it.
        subject: the `digest` of that entry.
        reserved: micro-USD that it may cost at worst.
        policies: versions of those that were asked; None where the decision is not known here.
        decision: index of the decision that allows it; 0 while there is none.
    """

    action: str
    subject: str
    stage: str
    lane: str
    task: str
    model: str
    reserved: int
    policies: list[str] | None
    decision: int = 0

    @classmethod
    def of(cls, entry: ModelRequest, policies: list[str] | None) -> "Action":
        """A model request."""
        place = entry.stage, entry.lane, entry.task
        return cls(kind_of(entry), entry.digest, *place, entry.model, entry.reserved, policies, entry.decision)

    def was_asked(self, entry: ApprovalRequested) -> bool:
        """Whether a request is about this action, in this place and at this cost, whatever the policies are."""
        asked = entry.action, entry.subject, entry.stage, entry.lane, entry.task, entry.model, entry.reserved
        return asked == (self.action, self.subject, self.stage, self.lane, self.task, self.model, self.reserved)

    def like(self, policies: list[str]) -> str:
        """What it has in common with each request for this action by these policies."""
        place = self.action, self.subject, self.stage, self.lane, self.task, self.model, self.reserved
        return _encoder.encode((*place, sorted(policies))).decode()


_encoder = msgspec.json.Encoder()


def _like(entry: ApprovalRequested) -> str:
    place = entry.action, entry.subject, entry.stage, entry.lane, entry.task, entry.model, entry.reserved
    return _encoder.encode((*place, sorted(entry.policies))).decode()


class Event(msgspec.Struct, frozen=True):
    """Something that a run's requests have to do with, in its place.

    Attributes:
        signer: SSH key that signed it; empty where none did, or it does not hold.
        approvers: whom the owner names there.
    """

    index: int
    entry: Approval | ApprovalBreakGlass | ApprovalConsumed | ApprovalRequested | Action
    signer: str = ""
    approvers: tuple[Approver, ...] = ()


class Requests(msgspec.Struct):
    """The fold, of one run.

    Attributes:
        asked: by index.
        lets: decisions that a used request lets go, with that request.
        alike: indexes of requests for one action by the same policies.
        nonces: that were used.
    """

    asked: dict[int, Request] = {}
    lets: dict[int, int] = {}
    alike: dict[str, list[int]] = {}
    nonces: set[str] = set()

    def copy(self) -> "Requests":
        """The same, to go on from."""
        if not self.asked:
            return Requests()
        asked = {index: request.copy() for index, request in self.asked.items()}
        alike = {like: indexes.copy() for like, indexes in self.alike.items()}
        return Requests(asked, self.lets.copy(), alike, self.nonces.copy())

    def find(self, action: Action) -> tuple[int, Request] | None:
        """The newest request for exactly this action by the same policies that nobody has used, with its index."""
        for index in reversed(self.alike.get(action.like(action.policies or []), ())):
            if not (request := self.asked[index]).consumed:
                return index, request
        return None

    def add(self, event: Event, origin: str, allowed: Mapping[int, list[str]]) -> str | None:
        """Takes in the next event.

        Args:
            origin: of the log: statements name it.
            allowed: policies of decisions that may be used, by index.

        Returns:
            What rule it breaks, or None.
        """
        entry = event.entry
        if isinstance(entry, Action):
            return self._act(entry, allowed)
        if isinstance(entry, ApprovalRequested):
            return self._ask(event.index, entry)
        if isinstance(entry, ApprovalConsumed):
            return self._consume(event, entry)
        if isinstance(entry, Approval) and not entry.to:
            return None
        return self._answer(event, entry, origin)

    def _ask(self, index: int, entry: ApprovalRequested) -> str | None:
        again = entry.nonce in self.nonces
        self.nonces.add(entry.nonce)
        self.asked[index] = Request(entry)
        self.alike.setdefault(_like(entry), []).append(index)
        if again:
            return "replayed: a request of its run has the same nonce"
        return "expired: it was asked for when it had expired" if entry.expires <= entry.time else None

    def _answer(self, event: Event, entry: Approval | ApprovalBreakGlass, origin: str) -> str | None:
        request = self.asked.get(entry.to)
        if request is None:
            return f"no request: entry {entry.to} is no earlier request of its run"
        verdict: Verdict = "break-glass"
        if isinstance(entry, Approval):
            verdict = "deny" if entry.denied else "approve"
        if entry.sha512 != sha512(origin, request.entry, verdict):
            return f"other statement: what was signed is not the statement ({verdict}) of request {entry.to}"
        if not event.signer:
            # That its signature does not hold was said where it was looked at.
            return None
        broken = refusal(request, verdict, event.signer, event.approvers, event.index, entry.time)
        if broken is None:
            request.answers.append(Answer(event.index, event.signer, verdict))
        return broken

    def _consume(self, event: Event, entry: ApprovalConsumed) -> str | None:
        request = self.asked.get(entry.to)
        if request is None:
            return f"no request: entry {entry.to} is no earlier request of its run"
        state, reasons, _ = state_of(request, event.approvers, event.index, entry.time)
        request.consumed = request.consumed or event.index
        if state != "approved":
            return f"{'not approved' if state == 'pending' else state}: request {entry.to}: {'; '.join(reasons)}"
        if entry.decision >= event.index:
            return f"no decision: entry {entry.decision} comes later"
        if entry.decision in self.lets:
            return f"consumed: decision {entry.decision} is let go by another request"
        self.lets[entry.decision] = entry.to
        return None

    def _act(self, action: Action, allowed: Mapping[int, list[str]]) -> str | None:
        policies = allowed.get(action.decision) if action.policies is None else action.policies
        to = self.lets.pop(action.decision, None)
        if to is not None:
            entry = self.asked[to].entry
            if not action.was_asked(entry):
                return f"other action: request {to} is for another than this"
            if _other(policies, entry):
                return f"changed policy: request {to} was asked for by other policies"
            return None
        # By these policies, at this cost, in this place, the same action needs the same approval every time.
        if self.alike and policies is not None and (found := self.alike.get(action.like(policies))):
            return f"not approved: it needs an approval like request {found[0]}, and uses none"
        return None

    def conflicts(
        self, events: Sequence[Event], origin: str, allowed: Mapping[int, list[str]]
    ) -> list[tuple[int, str]]:
        """What breaks the rules of a stretch that comes next."""
        if not self.asked and all(isinstance(event.entry, Action) for event in events):
            return []
        trial = self.copy()
        added = ((event.index, trial.add(event, origin, allowed)) for event in events)
        return [(index, what) for index, what in added if what is not None]


def _other(policies: Sequence[str] | None, entry: ApprovalRequested) -> bool:
    return policies is None or sorted(policies) != sorted(entry.policies)
