"""Approvals in real ledgers: refused at the commit, and found by both verifiers where somebody forges them."""

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ledger
from ledger import approve, govern, homes, note
from ledger.commit import Draft
from ledger.index.reader import Log
from policies import sshsig
from policies.statement import Verdict, text
from schemas.entries import (
    Approval,
    ApprovalBreakGlass,
    ApprovalConsumed,
    ApprovalRequested,
    Decided,
    Known,
    ModelRequest,
    TrustChanged,
    decode,
    encode,
)
from schemas.errors import Malformed, NotFound, UsageError
from tests.support.forge import Forger, key
from tests.support.machine import ORIGIN, Place, copied, new_ledger
from tests.support.people import ADA, ADA_TOO, BOB, BODY, EVE, MALLORY, POLICY, Asker, Person, later
from tests.support.verdicts import sound, unsound

ROOT = Path(__file__).parent.parent
PEOPLE = (ADA, ADA_TOO, BOB, EVE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        for person in PEOPLE:
            govern.add_approver(log, person.name, person.public, person.roles)
        log.run("release")
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


@pytest.fixture
def asker(place: Place) -> Iterator[Asker]:
    with ledger.open(place.path) as log:
        yield Asker(log, next(iter(log.chain.state.history.runs)))


def refuses(name: str, what: Callable[[], Any]) -> None:
    with pytest.raises(Malformed) as error:
        what()
    assert f"{name}: " in error.value.what, error.value.what


# At the commit.


def test_what_two_people_approved_goes_once_and_both_verifiers_agree(place: Place, asker: Asker) -> None:
    index, asked = asker.ask(quorum=["2 of lead"])
    refuses("not approved", lambda: asker.send(index))
    asker.answer(asked, ADA, reason="read it")
    refuses("not approved", lambda: asker.send(index))
    refuses("counted already", lambda: asker.answer(asked, ADA_TOO))
    asker.answer(asked, BOB)
    asker.send(index)
    refuses("consumed", lambda: asker.send(index, attempt=2))
    refuses("not approved", lambda: asker.send(None, attempt=2))
    refuses("consumed", lambda: asker.answer(asked, EVE, "deny"))
    asker.log.close()
    assert sound(place.path, place.trust.owner).findings == []


@pytest.mark.parametrize(
    ("name", "by", "how"),
    [
        ("stranger", MALLORY, {}),
        ("self-approval", ADA, {"requester": "ada"}),
        ("role", EVE, {"quorum": ["1 of lead"]}),
        ("role", BOB, {"verdict": "break-glass", "reason": "why"}),
        ("expired", ADA, {"now": datetime(2026, 1, 1, tzinfo=UTC)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_does_not_count_is_refused_by_name(asker: Asker, name: str, by: Person, how: Any) -> None:
    answer = {name: how.pop(name) for name in ("verdict", "reason") if name in how}
    _, asked = asker.ask(**how)
    before = asker.log.chain.state.size
    refuses(name, lambda: asker.answer(asked, by, **answer))
    assert asker.log.chain.state.size == before


def test_a_no_ends_it(asker: Asker) -> None:
    index, asked = asker.ask()
    asker.answer(asked, ADA)
    asker.answer(asked, BOB, "deny", "not on a Friday")
    refuses("denied", lambda: asker.send(index))
    refuses("denied", lambda: asker.answer(asked, EVE))
    # Asked again, it is another request.
    index, asked = asker.ask()
    asker.answer(asked, ADA)
    asker.send(index)


def test_a_no_holds_until_its_request_would_have_expired(asker: Asker) -> None:
    index, asked = asker.ask()
    asker.answer(asked, BOB, "deny")

    def stands(seconds: float) -> Any:
        found = approve.standing(asker.log.chain.state, asker.run, asker.action(), later(asked, seconds))
        return found and (found[0], found[1].state)

    assert stands(0) == stands(3_598) == (index, "denied")
    assert stands(3_600) is None


@pytest.mark.parametrize("namespace", ["git", "file", "ledger-approval@v2", ""])
def test_a_signature_for_another_purpose_is_refused(asker: Asker, namespace: str) -> None:
    _, asked = asker.ask()
    signed = text(ORIGIN, asked, "approve")
    with pytest.raises(Malformed) as error:
        asker.log.resume(asker.run).approval(signed + ADA.sign(signed, namespace))
    assert "wrong namespace" in error.value.what


def test_what_was_signed_for_one_run_or_log_is_refused_in_another(asker: Asker) -> None:
    _, asked = asker.ask()
    signed = text(ORIGIN, asked, "approve") + ADA.sign(text(ORIGIN, asked, "approve"))
    with asker.log.run("another") as other, pytest.raises(Malformed, match="about run"):
        other.approval(signed)
    elsewhere = text("test.example/other", asked, "approve")
    with pytest.raises(Malformed, match=r"test\.example/other"):
        asker.log.resume(asker.run).approval(elsewhere + ADA.sign(elsewhere))


def test_a_statement_of_a_request_that_nobody_made_is_refused(asker: Asker) -> None:
    draft = asker.draft()
    [asked] = draft.entries
    assert isinstance(asked, ApprovalRequested)
    with pytest.raises(NotFound):
        asker.answer(asked, ADA)


def test_a_statement_that_says_another_quorum_is_refused(asker: Asker) -> None:
    """Whoever hands it around can't make people sign less than what is asked."""
    _, asked = asker.ask(quorum=["2"])
    easier = msgspec.structs.replace(asked, quorum=["1"])
    refuses("other statement", lambda: asker.answer(easier, ADA))


def test_a_revoked_approver_lets_nothing_go_that_he_approved_before(asker: Asker) -> None:
    index, asked = asker.ask()
    asker.answer(asked, ADA)
    govern.end_approver(asker.log, "ada")
    refuses("stranger", lambda: asker.answer(asked, ADA_TOO))
    refuses("not approved", lambda: asker.send(index))
    asker.answer(asked, BOB)
    asker.send(index)


def test_an_approver_who_is_ended_in_the_same_group_lets_nothing_go(place: Place, asker: Asker) -> None:
    """Both are handed in before either is committed: the statement comes first, and counts for what follows it."""
    log = asker.log
    index, asked = asker.ask()
    asker.answer(asked, ADA)
    old = log.chain.state.trusted().note
    ended = tuple(msgspec.structs.replace(a, until=log.chain.state.size) for a in old.approvers)
    new = msgspec.structs.replace(old, serial=old.serial + 1, approvers=ended)
    statement = TrustChanged(v=1, time=datetime.now(UTC), note=note.sign(new.format(), key("owner")).decode())
    one, two = Draft([statement], [], [""]), asker.sending(index)
    group, left = log.writer.committer._gather([one, two])
    assert left == []
    assert [draft for draft, _, _ in group.drafts] == [one]
    refuses("not approved", two.result)


def test_the_policy_that_asked_is_the_policy_that_lets_go(asker: Asker) -> None:
    index, asked = asker.ask()
    asker.answer(asked, ADA)
    refuses("changed policy", lambda: asker.send(index, policies=["ab" * 32]))
    asker.send(None, policies=["ab" * 32])
    assert approve.standing(asker.log.chain.state, asker.run, asker.action(policies=["ab" * 32]), asked.time) is None


@pytest.mark.parametrize("other", [{"body": b"{}"}, {"stage": "other"}, {"model": "x"}, {"reserved": 1_001}], ids=str)
def test_another_action_than_was_approved_is_not_committed(asker: Asker, other: dict[str, Any]) -> None:
    index, asked = asker.ask()
    asker.answer(asked, ADA)
    refuses("other action", lambda: asker.send(index, **other))


def test_breaking_the_glass_needs_its_role_and_a_reason_and_is_remarked_on(place: Place, asker: Asker) -> None:
    index, asked = asker.ask(quorum=["2 of auditor"], requester="eve")
    with pytest.raises(UsageError, match="reason"):
        asker.answer(asked, EVE, "break-glass")
    done = asker.answer(asked, EVE, "break-glass", "nobody else awake")
    asker.send(index)
    asker.log.close()
    remarks = sound(place.path, place.trust.owner).remarks
    assert f"the glass was broken, without a quorum: entry {done.index}" in remarks


def test_a_paused_request_survives_the_process_that_asked(place: Place, asker: Asker) -> None:
    index, asked = asker.ask(quorum=["2"])
    asker.answer(asked, ADA)
    asker.log.close()
    for _ in range(2):
        with ledger.open(place.path) as log:
            found = approve.standing(log.chain.state, asker.run, Asker(log, asker.run).action(), asked.time)
            assert found is not None
            assert (found[0], found[1].state, found[1].reasons) == (index, "pending", ("1 of 2: ada",))
        # First by what this machine has pinned, then from the beginning.
        for file in homes.pins(ORIGIN).glob("*.pin"):
            file.unlink()
    with ledger.open(place.path) as log:
        again = Asker(log, asker.run)
        again.answer(asked, BOB)
        again.send(index)
    assert sound(place.path, place.trust.owner).findings == []


def test_one_of_several_processes_uses_an_approval(place: Place, asker: Asker, tmp_path: Path) -> None:
    index, asked = asker.ask()
    asker.answer(asked, ADA)
    barrier = tmp_path / "barrier"
    command = [sys.executable, "-m", "tests.support.consumer", str(place.path), str(barrier), asker.run, str(index)]
    started = [
        subprocess.Popen(command, cwd=ROOT, env=place.machine.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    barrier.touch()
    said = [process.communicate(timeout=60)[0].split() for process in started]
    assert sorted(words[0] for words in said) == ["refused", "refused", "sent"], said
    assert all("consumed:" in words for words in said if words[0] == "refused"), said
    asker.log.close()
    assert sound(place.path, place.trust.owner).findings == []


def test_two_uses_in_one_group_are_one(asker: Asker) -> None:
    index, asked = asker.ask()
    asker.answer(asked, ADA)
    one, two = asker.sending(index), asker.sending(index, attempt=2)
    group, _ = asker.log.writer.committer._gather([one, two])
    assert [draft for draft, _, _ in group.drafts] == [one]
    refuses("consumed", two.result)


def test_requests_and_answers_are_listed_by_queries(place: Place, asker: Asker) -> None:
    index, asked = asker.ask()
    asker.answer(asked, BOB, "deny")
    second, again = asker.ask()
    asker.answer(again, ADA)
    used = asker.send(second)[1].index
    asker.log.close()
    with Log.open(place.path) as log:
        rows = log.query('SELECT "index", requester, expires, consumed FROM requests ORDER BY 1').to_pylist()
        assert [(row["index"], row["requester"], row["consumed"]) for row in rows] == [
            (index, "ci", None),
            (second, "ci", used),
        ]
        assert rows[0]["expires"] == asked.expires
        answers = log.query('SELECT "to", denied, breakglass FROM approvals ORDER BY "index"').to_pylist()
        assert [tuple(row.values()) for row in answers] == [(index, True, False), (second, False, False)]


# Forged: validly signed by a trusted author, against the rules. Both verifiers must notice.


class Forged:
    """A run that was asked for and approved, to go on from as a dishonest author."""

    def __init__(self, place: Place, asker: Asker) -> None:
        self.place, self.run = place, asker.run
        self.index, self.asked = asker.ask(quorum=["1 of lead"])
        self.yes = asker.answer(self.asked, ADA).index
        self.statement = text(ORIGIN, self.asked, "approve")
        asker.send(None, b'{"model":"m","input":"something else"}', task="other")
        asker.log.close()
        self.entries: dict[int, Known] = {}
        for found in Forger(place.path).old:
            for index, leaf in enumerate(found.leaves, found.size):
                if leaf[:1] == b"{":
                    self.entries[index] = decode(leaf)  # type: ignore[assignment]
        self.step = max(entry.step for entry in self.entries.values() if entry.run == self.run)
        self.forger = Forger(place.path)

    def last(self, kind: type) -> Any:
        return next(entry for entry in reversed(self.entries.values()) if type(entry) is kind)

    def add(self, kind: Any, like: Any, **members: Any) -> int:
        """Another entry like one that is there, at the next step."""
        self.step += 1
        taken = {name: getattr(like, name) for name in kind.__struct_fields__ if hasattr(like, name)}
        taken |= {"time": datetime.now(UTC), "run": self.run, "step": self.step}
        entry = kind(**(taken | members))
        self.forger.leaf(encode(entry))
        return self.forger.size - 1

    def answer(self, by: Person, document: bytes | None = None, kind: Any = Approval, **members: Any) -> int:
        document = self.statement if document is None else document
        signed = {"signature": base64.b64encode(by.blob(document)).decode(), "sha512": sshsig.digest(document).hex()}
        return self.add(kind, self.last(Approval), **(signed | {"to": self.index} | members))

    def send(self, to: int | None, **members: Any) -> None:
        policies = members.pop("policies", [POLICY])
        decision = self.add(Decided, self.last(Decided), policies=policies, stage="release", task="")
        if to is not None:
            self.add(ApprovalConsumed, self.last(Decided), to=to, decision=decision, **members.pop("used", {}))
        sent = {
            "decision": decision,
            "content": self.asked.request,
            "digest": self.asked.subject,
            "task": "",
            "attempt": 1,
        }
        self.add(ModelRequest, self.last(ModelRequest), **(sent | members))

    def is_noticed(self, *words: str) -> None:
        self.forger.sign(key()).commit()
        found = unsound(self.place.path, self.place.trust.owner, 11).findings
        assert any(all(word in one.what for word in words) for one in found), found

    def is_sound(self) -> None:
        self.forger.sign(key()).commit()
        assert sound(self.place.path, self.place.trust.owner).findings == []


@pytest.fixture
def forged(place: Place, asker: Asker) -> Forged:
    return Forged(place, asker)


def signed(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


FORGERIES: dict[str, tuple[str, Callable[[Forged], object]]] = {
    "sent without any use": ("not approved", lambda f: f.send(None)),
    "used twice": ("consumed", lambda f: (f.send(f.index), f.send(f.index, attempt=2))),
    "sent twice and used once": ("not approved", lambda f: (f.send(f.index), f.send(None, attempt=2))),
    "used, of another": ("no request", lambda f: f.send(f.yes)),
    "another body": ("other action", lambda f: f.send(f.index, digest="ab" * 32)),
    "another stage": ("other action", lambda f: f.send(f.index, stage="plan")),
    "another task": ("other action", lambda f: f.send(f.index, task="t")),
    "a higher cost": ("other action", lambda f: f.send(f.index, reserved=1_001)),
    "another policy": ("changed policy", lambda f: f.send(f.index, policies=["ab" * 32])),
    "used after it had expired": ("expired", lambda f: f.send(f.index, used={"time": later(f.asked, 3600)})),
    "by a stranger": ("stranger", lambda f: f.answer(MALLORY)),
    "another statement": ("other statement", lambda f: f.answer(BOB, b"release?")),
    "a yes as a no": ("other statement", lambda f: f.answer(BOB, denied=True)),
    "a no as a yes": ("other statement", lambda f: f.answer(BOB, text(ORIGIN, f.asked, "deny"))),
    "of another log": ("other statement", lambda f: f.answer(BOB, text("test.example/b", f.asked, "approve"))),
    "the same yes again": ("counted already", lambda f: f.answer(ADA)),
    "by another key of the same person": ("counted already", lambda f: f.answer(ADA_TOO)),
    "in no role": ("role", lambda f: f.answer(EVE)),
    "after it had expired": ("expired", lambda f: f.answer(BOB, time=later(f.asked, 3601))),
    "denied, then approved": (
        "denied",
        lambda f: (f.answer(ADA, text(ORIGIN, f.asked, "deny"), denied=True), f.answer(BOB)),
    ),
    "denied, then sent": (
        "denied",
        lambda f: (f.answer(ADA, text(ORIGIN, f.asked, "deny"), denied=True), f.send(f.index)),
    ),
    "the glass, without the role": (
        "role",
        lambda f: f.answer(BOB, text(ORIGIN, f.asked, "break-glass"), ApprovalBreakGlass, detail=f.asked.content),
    ),
    "the glass, by a yes": (
        "other statement",
        lambda f: f.answer(EVE, kind=ApprovalBreakGlass, detail=f.asked.content),
    ),
    "the nonce again": (
        "replayed",
        lambda f: f.add(ApprovalRequested, f.asked, expires=f.asked.expires + timedelta(days=1)),
    ),
    "asked when it had expired": (
        "expired",
        lambda f: f.add(ApprovalRequested, f.asked, nonce="ab" * 16, expires=f.asked.expires - timedelta(days=1)),
    ),
    "a signature of another text": ("other bytes were", lambda f: f.answer(BOB, signature=signed(BOB.blob(b"x")))),
    "a signature for git": ("wrong namespace", lambda f: f.answer(BOB, signature=signed(BOB.blob(f.statement, "git")))),
}  # fmt: skip


@pytest.fixture(params=[1024, 1], ids=["one span", "a span a pack"])
def spans(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit cut in spans of so many packs."""
    monkeypatch.setattr("ledger.audit.audit._SPAN_PACKS", request.param)


@pytest.mark.usefixtures("spans")
@pytest.mark.parametrize("what", FORGERIES)
def test_what_a_dishonest_author_forges_is_noticed(forged: Forged, what: str) -> None:
    name, forge = FORGERIES[what]
    forge(forged)
    forged.is_noticed(name)


@pytest.mark.usefixtures("spans")
def test_what_a_forger_sends_by_the_rules_is_sound(forged: Forged) -> None:
    forged.send(forged.index)
    forged.is_sound()


def test_spans_of_honest_approvals_join_without_being_folded_again(
    place: Place, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or an audit of a ledger with many would read all of it twice."""
    index, asked = asker.ask(quorum=["2 of lead"])
    for person in (ADA, BOB):
        asker.answer(asked, person)
    asker.send(index)
    asker.log.close()

    def again(index: int, raw: bytes) -> None:
        raise RuntimeError(f"entry {index} is folded again")

    monkeypatch.setattr("ledger.audit.audit._SPAN_PACKS", 1)
    monkeypatch.setattr("ledger.audit.audit.read", again)
    assert ledger.verify(place.path, trust=place.trust).findings == []


def test_a_self_approval_is_noticed(forged: Forged) -> None:
    index = forged.add(ApprovalRequested, forged.asked, nonce="ab" * 16, requester="bob")
    own = msgspec.structs.replace(forged.asked, nonce="ab" * 16, requester="bob")
    forged.answer(BOB, text(ORIGIN, own, "approve"), to=index)
    forged.is_noticed("self-approval: ")


def test_a_request_of_another_run_is_noticed(forged: Forged, place: Place) -> None:
    with ledger.open(place.path) as log:
        other = log.run("another")
        asker = Asker(log, other.id)
        index, asked = asker.ask()
    forged.forger = Forger(place.path)
    forged.answer(BOB, text(ORIGIN, asked, "approve"), to=index)
    forged.is_noticed("no request: ")


def test_a_forged_use_is_not_built_upon(forged: Forged, place: Place) -> None:
    """An honest writer goes on, and takes the request as used: it lets nothing go a second time."""
    forged.add(ApprovalConsumed, forged.asked, to=forged.index, decision=1)
    forged.forger.sign(key()).commit()
    with ledger.open(place.path) as log:
        again = Asker(log, forged.run)
        refuses("consumed", lambda: again.send(forged.index))


def test_what_people_are_shown_must_be_what_they_approve(place: Place, asker: Asker) -> None:
    """An author who shows harmless bytes and asks for others: seen before anything is signed, and by step 10."""
    index, asked = asker.ask()
    asker.log.close()
    forger = Forger(place.path)
    step = asked.step + 1
    evil = msgspec.structs.replace(asked, step=step, subject="ab" * 32, nonce="cd" * 16)
    forger.leaf(encode(evil)).sign(key()).commit()
    with ledger.open(place.path) as log:
        assert approve.content(log, asked) == BODY
        found = approve.find(log, "cdcdcdcd", asked.time)
        with pytest.raises(ledger.LedgerError, match="digest"):
            approve.content(log, found.entry)
    identity = f"file:{homes.keys(ORIGIN)}/identity.txt"
    report = ledger.verify(place.path, trust=place.trust, identity=identity)
    assert [finding.step for finding in report.findings] == [10]
    assert index < found.index


# How people name them.


def test_a_request_is_found_by_index_nonce_and_digest(asker: Asker) -> None:
    index, asked = asker.ask()
    for part in (str(index), asked.nonce, asked.nonce[:8], asked.nonce[-4:], asked.subject[3:20]):
        assert approve.find(asker.log, part, asked.time).index == index
    for part in ("", "0", "999999", asked.nonce[:3], "zzzz", "artifact://"):
        with pytest.raises(NotFound):
            approve.find(asker.log, part, asked.time)
    second, again = asker.ask()
    with pytest.raises(UsageError, match="several"):
        approve.find(asker.log, asked.subject[:12], asked.time)
    # What waits no longer is not meant, where another fits.
    asker.answer(again, BOB, "deny")
    assert approve.find(asker.log, asked.subject[:12], asked.time).index == index
    assert approve.find(asker.log, str(second), asked.time).standing.state == "denied"


def test_what_waits_is_listed_until_it_is_over(asker: Asker) -> None:
    verdicts: list[Verdict] = ["approve", "deny"]
    first, asked = asker.ask()
    second, again = asker.ask()
    third, _ = asker.ask(expiry_s=60)

    def waits(now: datetime) -> list[int]:
        return [one.index for one in approve.waiting(asker.log, now)]

    assert waits(asked.time) == [first, second, third]
    assert waits(asked.time + timedelta(seconds=100)) == [first, second]
    asker.answer(asked, ADA, verdicts[0])
    asker.answer(again, ADA, verdicts[1])
    assert waits(asked.time) == [first, third]
    asker.send(first)
    assert waits(asked.time) == [third]
    asker.log.resume(asker.run).finish()
    assert waits(asked.time) == []
