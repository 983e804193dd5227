"""Approvers with keys of their own, what they sign, and a run that asks them: without a gateway."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256, sha512
from typing import Any, NamedTuple

from nacl.signing import SigningKey

from ledger import approve, govern
from ledger.commit import Appended, Draft
from ledger.log import Log
from policies.approvals import Needed
from policies.requests import Action
from policies.sshsig import NAMESPACE
from policies.statement import Verdict, text
from schemas.entries import ApprovalConsumed, ApprovalRequested, Decided, ModelRequest
from schemas.trust import Approver

POLICY = sha256(b"a policy").hexdigest()
BODY = b'{"model":"m","input":"release it"}'


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class Person(NamedTuple):
    """Somebody with an SSH key, who signs as ssh-keygen does (tests/test_sshsig.py compares)."""

    name: str
    roles: tuple[str, ...] = ()
    which: int = 0

    @property
    def _key(self) -> SigningKey:
        return SigningKey(sha256(f"{self.name} {self.which}".encode()).digest())

    @property
    def wire(self) -> bytes:
        return string(b"ssh-ed25519") + string(bytes(self._key.verify_key))

    @property
    def public(self) -> str:
        return f"ssh-ed25519 {base64.b64encode(self.wire).decode()}"

    def approver(self, since: int = 0, until: int | None = None) -> Approver:
        return Approver(self.name, self.public, since, until, self.roles)

    def blob(self, document: bytes, namespace: str = NAMESPACE) -> bytes:
        fields = namespace.encode(), b"", b"sha512"
        over = b"SSHSIG" + b"".join(map(string, (*fields, sha512(document).digest())))
        signature = string(b"ssh-ed25519") + string(self._key.sign(over).signature)
        return b"SSHSIG\0\0\0\1" + b"".join(map(string, (self.wire, *fields, signature)))

    def sign(self, document: bytes, namespace: str = NAMESPACE) -> bytes:
        encoded = base64.b64encode(self.blob(document, namespace)).decode()
        return f"-----BEGIN SSH SIGNATURE-----\n{encoded}\n-----END SSH SIGNATURE-----\n".encode()


ADA, BOB, EVE = Person("ada", ("lead",)), Person("bob", ("lead", "security")), Person("eve", ("break-glass",))
ADA_TOO = Person("ada", ("lead",), 1)
MALLORY = Person("mallory")


class Asker:
    """One run that asks people before it sends a request."""

    def __init__(self, log: Log, run: str, people: Sequence[Person] = ()) -> None:
        self.log = log
        self.run = run
        for person in people:
            govern.add_approver(log, person.name, person.public, person.roles)

    def action(self, body: bytes = BODY, **members: Any) -> Action:
        subject = self.log.writer.key(self.run).digest(body)
        found: dict[str, Any] = {
            "action": "model.request",
            "subject": subject,
            "stage": "release",
            "lane": "",
            "task": "",
        }
        return Action(**(found | {"model": "m", "reserved": 1_000, "policies": [POLICY]} | members))

    def draft(
        self,
        body: bytes = BODY,
        quorum: Sequence[str] = ("1",),
        expiry_s: int = 3600,
        requester: str = "ci",
        now: datetime | None = None,
        **members: Any,
    ) -> Draft:
        action = self.action(body, **members)
        place = {"run": self.run, "stage": action.stage, "lane": action.lane, "task": action.task}
        now = now or datetime.now(UTC)
        question = {"question": {"cost": 1}, "findings": []}
        needed = Needed(list(quorum), expiry_s)
        return approve.ask(
            self.log.writer, place, action, body, needed, requester=requester, question=question, now=now
        )

    def ask(self, *args: Any, **how: Any) -> tuple[int, ApprovalRequested]:
        """Asks; the request's index, and the request as it stands."""
        draft = self.draft(*args, **how)
        done = self.log.writer.commit(draft)[0]
        entry = draft.entries[0]
        assert isinstance(entry, ApprovalRequested)
        return done.index, entry

    def answer(self, asked: ApprovalRequested, by: Person, verdict: Verdict = "approve", reason: str = "") -> Appended:
        return approve.answer(self.log, asked, verdict, by.sign(text(self.log.origin, asked, verdict)), reason)

    def sending(self, to: int | None, body: bytes = BODY, now: datetime | None = None, **members: Any) -> Draft:
        """What a gateway commits: decision, consumption, request; without a consumption where `to` is None."""
        log = self.log
        key, blobs = log.writer.key(self.run), log.blobs
        fields: dict[str, Any] = {
            "stage": "release",
            "model": "m",
            "reserved": 1_000,
            "policies": [POLICY],
            "attempt": 1,
        }
        fields |= members
        policies = fields.pop("policies")
        common = {"v": 1, "time": now or datetime.now(UTC), "run": self.run}
        place = {name: fields.pop(name) for name in ("stage", "lane", "task") if name in fields}
        question, sent, envelope = (blobs.prepare(key, piece) for piece in (b"{}", body, b'{"stage":""}'))
        about = {"content": question.address, "digest": question.digest}
        decided = Decided(
            **common, **place, **about, action="model.request", effect="allow", rules=[], policies=policies
        )
        used = [] if to is None else [ApprovalConsumed(**common, **place, to=to, decision=0)]
        request = ModelRequest(
            **common,
            **place,
            content=sent.address,
            digest=sent.digest,
            decision=0,
            key="00" * 32,
            envelope=envelope.address,
            **fields,
        )
        entries = [decided, *used, request]
        draft = Draft(entries, [question, sent, envelope], [""] * len(entries))
        draft.links = dict.fromkeys(range(1, len(entries)), ("decision", 0))
        return draft

    def send(self, to: int | None, body: bytes = BODY, **how: Any) -> list[Appended]:
        return self.log.writer.commit(self.sending(to, body, **how))


def later(entry: ApprovalRequested, seconds: float) -> datetime:
    """A time after that of a request."""
    return entry.time + timedelta(seconds=seconds)


def members(entry: Any) -> Mapping[str, Any]:
    """The members of an entry, to make another of."""
    return {name: getattr(entry, name) for name in entry.__struct_fields__}
