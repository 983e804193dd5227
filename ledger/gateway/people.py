"""Calls that wait for people: asked once for exactly this request, and let go by an approval of their own.

A request without a stream is told where it stands; an equal one later, after a restart too, finds the same request.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from ledger import approve
from ledger.commit import Draft
from ledger.gateway.door import Door
from ledger.gateway.records import Place
from ledger.state import State
from policies import approvals
from policies.evaluate import Question
from policies.findings import Decision
from policies.requests import Action
from schemas.policy import Approvals, Policy

_LOOK_S = 0.5
"""Seconds between two looks for an answer."""


class People:
    """What people say of one call.

    Args:
        out: the bytes that would leave.
        worst: micro-USD that they may cost.
    """

    def __init__(
        self, door: Door, place: Place, policies: Sequence[Policy], out: bytes, model: str, worst: int | None
    ) -> None:
        self._door = door
        self._place = place
        self._policies = policies
        self._out = out
        subject = door.log.writer.key(place.run).digest(out)
        versions = [policy.version for policy in policies]
        self._action = Action(
            "model.request", subject, place.stage, place.lane, place.task, model, worst or 0, versions
        )
        asking = [policy.approvals or Approvals() for policy in policies]
        self._left = max((terms.wait_s for terms in asking), default=0.0)

    def _standing(self, state: State) -> tuple[int, approvals.Standing] | None:
        return approve.standing(state, self._place.run, self._action, self._door.now())

    def stand(self, state: State) -> approvals.State | None:
        """Where the request stands; None where people are still to be asked, or to be asked again."""
        found = self._standing(state)
        return None if found is None or found[1].state == "consumed" else found[1].state

    def asked(self, state: State) -> int:
        """Index of the request that was approved."""
        found = self._standing(state)
        return 0 if found is None else found[0]

    def request(self, decision: Decision, question: Question) -> Draft | None:
        """What asks them, to be committed; None where no policy says whom."""
        needed = approvals.needed(self._policies, decision)
        if needed is None:
            return None
        log = self._door.log
        return approve.ask(
            log.writer,
            msgspec.structs.asdict(self._place),
            self._action,
            self._out,
            needed,
            requester=log.author().name,
            question={"question": question, "findings": decision.findings},
            now=self._door.now(),
        )

    async def wait(self) -> bool:
        """Waits a moment for an answer; False once it has waited for as long as policy lets it."""
        if self._left <= 0:
            return False
        self._left -= _LOOK_S
        await asyncio.sleep(_LOOK_S)
        await asyncio.to_thread(self._door.log.catch_up)
        return True

    def say(self, state: State) -> str:
        """What a client is told."""
        found = self._standing(state)
        if found is None:
            return "an approval is required"
        index, standing = found
        if standing.state == "denied":
            return f"a person denied request {index}: {'; '.join(standing.reasons)}"
        lacking = "; ".join(standing.reasons)
        return f"an approval is required: `ledger approve {index}`, then send this again ({lacking})"
