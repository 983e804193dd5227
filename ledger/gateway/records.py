"""What the gateway writes down: decisions, requests, answers, violations, each as a draft for one commit."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple, Self

import msgspec

from ledger.commit import Draft, Validate
from ledger.drafts import Detail
from ledger.gateway.answer import Answered
from ledger.gateway.redacting import Redaction as Done
from ledger.writer import Writer
from policies.findings import Decision
from policies.routing import Step
from schemas.entries import (
    ApprovalConsumed,
    Decided,
    Known,
    ModelRequest,
    ModelResponse,
    PolicyInForce,
    Redaction,
    Routing,
    Violation,
)
from schemas.policy import Policy
from store.blobs import Prepared
from store.seal import DataKey

MICRO = 1_000_000

MOST_PLACES = 10_000
"""Places of masked stretches that one record names; the counts are of all."""


class Place(msgspec.Struct, frozen=True):
    """Where in the pipeline a call belongs."""

    run: str
    stage: str = ""
    lane: str = ""
    task: str = ""


class Told(msgspec.Struct, frozen=True):
    """What the client of a refused request learns, so that a replay tells it again.

    Attributes:
        key, normaliser: by which the request is known again, as of a `model.request`.
        code, param, message: of the error; the message without the place of the entry.
    """

    key: str
    normaliser: str
    code: str
    param: str
    message: str


class Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an answer came.

    Attributes:
        headers: those that clients need.
        chunks: milliseconds since the request left, and length, of each piece.
        left: its client had gone away before it could have it.
    """

    headers: dict[str, str] = {}
    chunks: list[tuple[int, int]] = []
    left: bool = False


class Came(NamedTuple):
    """What is recorded of an answer.

    Attributes:
        content: the bytes that came.
        wire: how.
        why: it was not let through, or did not come whole; empty where neither holds.
    """

    content: bytes
    wire: Wire
    why: str

    @classmethod
    def read(cls, read: Callable[[str], bytes], response: ModelResponse) -> Self:
        """What a response's addresses stand for.

        Args:
            read: gives the content of an address.
        """
        wire = msgspec.json.decode(read(response.wire), type=Wire) if response.wire else Wire()
        why = msgspec.json.decode(read(response.detail), type=Detail).reason if response.detail else ""
        return cls(read(response.content), wire, why)


class Records:
    """Drafts of one call.

    Args:
        late: whether the run may have finished meanwhile.
    """

    def __init__(self, writer: Writer, place: Place, now: datetime, *, late: bool = False) -> None:
        self._writer = writer
        self._key: DataKey = writer.key(place.run, late=late)
        self._common: dict[str, Any] = {"v": 1, "time": now, **msgspec.structs.asdict(place)}
        self.entries: list[Known] = []
        self.contents: list[Prepared] = []
        self.links: dict[int, tuple[str, int]] = {}

    def _seal(self, content: bytes, *, request: bool = False) -> Prepared:
        prepared = self._writer.blobs.prepare(self._key, content, request=request)
        self.contents.append(prepared)
        return prepared

    def _json(self, value: Any) -> str:
        return self._seal(msgspec.json.encode(value)).address

    def _content(self, prepared: Prepared) -> dict[str, Any]:
        return {"content": prepared.address, "digest": prepared.digest}

    def policies(self, policies: list[Policy]) -> None:
        """The policies that decide from here on."""
        for policy in policies:
            found = self._content(self._seal(policy.encode()))
            self.entries.append(PolicyInForce(**self._common, **found, policy=policy.policy_id, version=policy.version))

    def decision(
        self,
        action: str,
        decision: Decision,
        policies: list[Policy],
        question: Any,
        request: bytes | None = None,
        told: "Told | None" = None,
    ) -> None:
        """What policy says, and what it was asked; of a refusal, the request too, and what its client is told."""
        asked = {"question": question, "findings": decision.findings} | ({"told": told} if told else {})
        found = self._content(self._seal(msgspec.json.encode(asked)))
        refused = self._seal(request, request=True).address if request is not None else ""
        self.entries.append(
            Decided(
                **self._common,
                **found,
                action=action,
                effect=decision.effect,
                rules=sorted(set(decision.rules)),
                policies=[policy.version for policy in policies],
                request=refused,
            )
        )

    def routing(self, steps: Iterable[Step]) -> None:
        """Each step from the model that was asked for to the one that serves."""
        for step in steps:
            self.entries.append(Routing(**self._common, asked=step.asked, model=step.model, reason=step.reason))

    def redaction(self, done: Done) -> None:
        """What was masked, where it was, and what comes back in calls."""
        redacted = done.redacted
        if not redacted.found:
            return
        told = {
            "profile": done.known.profile,
            "found": [one._asdict() for one in redacted.found[:MOST_PLACES]],
            "left_out": max(0, len(redacted.found) - MOST_PLACES),
            "mapping": redacted.mapping,
        }
        self.entries.append(
            Redaction(
                **self._common,
                **self._content(self._seal(msgspec.json.encode(told))),
                profile=done.known.profile.profile_id,
                version=done.version,
                counts=redacted.counts,
            )
        )

    def consumed(self) -> ApprovalConsumed:
        """The approval that is used up by the request after it; which, is said at the commit."""
        self.links[len(self.entries)] = ("decision", self._decided())
        entry = ApprovalConsumed(**self._common, to=0, decision=0)
        self.entries.append(entry)
        return entry

    def _decided(self) -> int:
        return max(place for place, entry in enumerate(self.entries) if isinstance(entry, Decided))

    def request(
        self, body: bytes, *, model: str, key: str, continues: int, reserved: int, cap: int, envelope: dict[str, Any]
    ) -> ModelRequest:
        """The request that the decision before it allows; its attempt is counted at the commit."""
        found = self._content(self._seal(body, request=True))
        sealed = self._json(envelope)
        self.links[len(self.entries)] = ("decision", self._decided())
        entry = ModelRequest(
            **self._common,
            **found,
            decision=0,
            model=model,
            key=key,
            attempt=0,
            envelope=sealed,
            continues=continues,
            reserved=reserved,
            cap=cap,
        )
        self.entries.append(entry)
        return entry

    def response(
        self,
        answer: Answered,
        *,
        to: int,
        http: int,
        headers: dict[str, str],
        left: bool,
        verdict: str,
        why: str,
        cost: int,
        reserved: int,
        latency: int,
    ) -> None:
        """How the call ended."""
        found = self._content(self._seal(answer.kept.read()))
        detail = self._json(Detail(reason=why)) if why else ""
        sizes: Any = answer.tokens() or (0, 0, 0, 0, 0)
        self.entries.append(
            ModelResponse(
                **self._common,
                **found,
                detail=detail,
                to=to,
                status=answer.status,  # type: ignore[arg-type]
                verdict=verdict,  # type: ignore[arg-type]
                http=http,
                input=sizes[0],
                cached=sizes[1],
                output=sizes[2],
                reasoning=sizes[3],
                cost=cost,
                reserved=reserved,
                latency=latency,
                wire=self._json(Wire(headers, answer.chunks, left)),
            )
        )

    def violation(self, rule: str, what: str) -> None:
        """The entry before shows what policy forbids."""
        detail = self._json(Detail(reason=what))
        if self.entries:
            self.links[len(self.entries)] = ("to", len(self.entries) - 1)
        self.entries.append(Violation(**self._common, rule=rule, detail=detail))

    def draft(self, validate: Validate | None = None) -> Draft:
        """All of it, for one commit."""
        draft = Draft(self.entries, self.contents, [""] * len(self.entries), validate)
        draft.links = self.links
        return draft
