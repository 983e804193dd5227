"""Calls that wait for people: asked once for exactly this request, and let go by an approval of their own.

A request without a stream is told where it stands; an equal one later, after a restart too, finds the same request.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from ledger import approve
from ledger.commit import Draft
from ledger.gateway.door import Door
from ledger.gateway.records import Place
from ledger.state import Recorded, State
from policies import approvals
from policies.evaluate import Question
from policies.findings import Decision
from policies.requests import Action
from schemas.errors import LedgerError
from schemas.policy import Approvals, Policy

_LOOK_S = 0.5
"""Seconds between two looks for an answer."""


class Asked(LedgerError):
    """Somebody else has asked for the same meanwhile."""


class People:
    """What people say of one call.

    Args:
        out: the bytes that would leave.
        worst: micro-USD that they may cost; None where nobody knows, which nobody can approve.
        decision: by which policy asks for people.
    """

    def __init__(
        self,
        door: Door,
        place: Place,
        policies: Sequence[Policy],
        out: bytes,
        model: str,
        worst: int | None,
        decision: Decision,
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
        self._needed = approvals.needed(policies, decision) if worst is not None else None
        self._requester = door.log.author().name.removeprefix(f"{door.log.origin}/")
        asking = {found.policy for found in decision.findings if found.effect == "require_approval"}
        waits = [(one.approvals or Approvals()).wait_s for one in policies if one.policy_id in asking]
        self._ends = time.monotonic() + min(waits, default=0.0)
        self._asked = False

    def _standing(self, state: State) -> tuple[int, approvals.Standing] | None:
        """Of a request that says what policy says today: another author could ask for less."""
        run, needed = state.history.find(self._place.run), self._needed
        found = approve.standing(state, self._place.run, self._action, self._door.now())
        if found is None or run is None or needed is None:
            return None
        entry = run.requests.asked[found[0]].entry
        as_asked = entry.quorum == needed.quorum and entry.requester == self._requester
        soon = (entry.expires - entry.time).total_seconds() <= needed.expiry_s
        return found if as_asked and soon else None

    def stand(self, state: State) -> approvals.State | None:
        """Where the request stands; None where people are still to be asked, or to be asked again."""
        found = self._standing(state)
        return None if found is None or found[1].state == "consumed" else found[1].state

    def asked(self, state: State) -> int:
        """Index of the request that was approved."""
        found = self._standing(state)
        return 0 if found is None else found[0]

    def request(self, decision: Decision, question: Question) -> Draft | None:
        """What asks them, once for a call, to be committed; None where nobody can be asked.

        The commit raises `Asked` where an equal call was first.
        """
        if self._needed is None or self._asked:
            return None
        self._asked = True
        log = self._door.log
        draft = approve.ask(
            log.writer,
            msgspec.structs.asdict(self._place),
            self._action,
            self._out,
            self._needed,
            requester=self._requester,
            question={"question": question, "findings": decision.findings},
            now=self._door.now(),
        )

        def validate(state: State, since: list[Recorded]) -> None:
            if self.stand(state) is not None:
                raise Asked("it was asked for already")

        draft.validate = validate
        return draft

    async def wait(self) -> bool:
        """Waits a moment for an answer; False once it has waited for as long as policy lets it."""
        if time.monotonic() >= self._ends:
            return False
        await asyncio.sleep(_LOOK_S)
        await asyncio.to_thread(self._door.log.catch_up)
        return True

    def say(self, state: State) -> str:
        """What a client is told."""
        found = self._standing(state)
        if found is None:
            return "an approval is required, and nobody can be asked" + ("" if self._needed else ": no price is known")
        index, standing = found
        if standing.state == "denied":
            return f"a person denied request {index}: {'; '.join(standing.reasons)}"
        lacking = "; ".join(standing.reasons)
        return f"an approval is required: `ledger approve {index}`, then send this again ({lacking})"
