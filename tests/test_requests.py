"""Requests for approval in the fold of history: each refusal by its name, whole or in stretches."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.approvals import Answer, Request, needed, refusal, state_of
from policies.findings import Decision, Finding
from policies.history import History, OpenRun
from policies.requests import Action, Told
from policies.statement import Verdict, names, sha512, text
from schemas.entries import (
    Approval,
    ApprovalBreakGlass,
    ApprovalConsumed,
    ApprovalRequested,
    Decided,
    Erasure,
    Known,
    ModelRequest,
    RunFinished,
    RunStarted,
    TrustChanged,
)
from schemas.policy import Approvals, Policy
from schemas.trust import Approver
from tests.support.people import ADA, ADA_TOO, BOB, EVE, MALLORY, Person

RUNS = ["018f3c1e-7b2a-7c3d-8e4f-0123456789ab", "018f3c1e-7b2a-7c3d-8e4f-0123456789ac"]
ADDRESS, DIGEST, ORIGIN = "artifact://" + "ab" * 32, "cd" * 32, "test.example/log"
WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)
POLICY, OTHER = "11" * 32, "22" * 32
EVERYBODY = tuple(person.approver() for person in (ADA, BOB, EVE, ADA_TOO))
Broken = list[tuple[int, str]]


class Story:
    """Entries as a writer would number them, from index 1 on, with what a fold must be told of each."""

    def __init__(self, approvers: tuple[Approver, ...] = EVERYBODY) -> None:
        self.entries: list[Known] = []
        self.steps: dict[str, int] = {}
        self.told = Told.nothing()
        self.approvers = approvers
        self.at: list[tuple[Approver, ...]] = [approvers]
        for run in RUNS:
            self.add(RunStarted, run, key="00" * 32)

    def add(self, kind: type, run: str = RUNS[0], **members: Any) -> int:
        self.steps[run] = step = self.steps.get(run, 0) + 1
        contents = {"content": ADDRESS, "digest": DIGEST} if "content" in kind.__struct_fields__ else {}
        return self._put(kind(**({"v": 1, "time": WHEN, "run": run, "step": step} | contents | members)))

    def _put(self, entry: Known) -> int:
        self.entries.append(entry)
        self.at.append(self.approvers)
        return len(self.entries)

    def trust(self, *approvers: Approver) -> int:
        self.told.approvers[len(self.entries) + 1] = self.approvers = approvers
        return self._put(TrustChanged(v=1, time=WHEN, note=""))

    def ask(self, run: str = RUNS[0], **members: Any) -> int:
        fields = {"action": "model.request", "subject": DIGEST, "request": ADDRESS, "policies": [POLICY], "model": "m"}
        fields |= {"quorum": ["1"], "requester": "ci", "nonce": f"{len(self.entries):032x}", "reserved": 1_000}
        return self.add(ApprovalRequested, run, **(fields | {"expires": WHEN + timedelta(hours=1)} | members))

    def answer(self, to: int, by: Person = ADA, verdict: Verdict = "approve", **members: Any) -> int:
        asked = self.entries[to - 1] if 0 < to <= len(self.entries) else None
        origin, signed = members.pop("origin", ORIGIN), "0" * 128
        if isinstance(asked, ApprovalRequested):
            signed = sha512(origin, asked, verdict)
        run = members.pop("run", asked.run if asked else RUNS[0])
        fields: dict[str, Any] = {"request": ADDRESS, "sha512": signed, "signature": "AAAA", "to": to}
        kind = ApprovalBreakGlass if verdict == "break-glass" else Approval
        fields |= {"detail": ADDRESS} if verdict == "break-glass" else {"denied": verdict == "deny"}
        index = self.add(kind, run, **(fields | members))
        self.told.signers[index] = by.public
        return index

    def send(self, to: int | None, run: str = RUNS[0], decision: int | None = None, **members: Any) -> tuple[int, int]:
        """Decision, consumption, request: the index of the consumption, 0 where there is none, and the request's."""
        policies = members.pop("policies", [POLICY])
        time = members.pop("time", WHEN)
        if decision is None:
            fields = {"action": "model.request", "effect": "allow", "rules": [], "policies": policies}
            decision = self.add(Decided, run, **fields)
        used = self.add(ApprovalConsumed, run, to=to, decision=decision, time=time) if to is not None else 0
        tries = sum(isinstance(entry, ModelRequest) and entry.run == run for entry in self.entries)
        sent = {"model": "m", "key": "00" * 32, "attempt": tries + 1, "envelope": ADDRESS, "reserved": 1_000}
        return used, self.add(ModelRequest, run, **(sent | {"decision": decision, "time": time} | members))


def whole(story: Story) -> tuple[Broken, History]:
    history = History(ended={}, origin=ORIGIN, approvers=story.at[0])
    history.told = story.told
    return [(i, what) for i, entry in enumerate(story.entries, 1) if (what := history.add(i, entry))], history


def in_stretches(story: Story, cuts: Sequence[int]) -> tuple[Broken, History]:
    """As an audit folds: each stretch for itself, then joined; through msgpack, as from a worker."""
    entries = story.entries
    history = History(ended={}, origin=ORIGIN, approvers=story.at[0])
    found: Broken = []
    edges = [0, *sorted({cut % (len(entries) + 1) for cut in cuts}), len(entries)]
    for first, last in pairwise(edges):
        part, stretch = History.of_stretch(ORIGIN, story.at[first]), range(first + 1, last + 1)
        part.told = history.told = story.told
        unruly = [part.add(index, entries[index - 1]) for index in stretch]
        assert part.part is not None
        made = msgspec.msgpack.decode(msgspec.msgpack.encode(part.part), type=type(part.part))
        if any(unruly) or history.conflicts(made):
            again = [(index, what) for index in stretch if (what := history.add(index, entries[index - 1]))]
            assert again, "nothing is wrong in it, and it was said not to join"
            found += again
        else:
            history.join(made)
        history.approvers = story.at[last]
    return found, history


def problems(story: Story) -> Broken:
    """What is broken, however the story is cut: each single cut must find the same."""
    found, one = whole(story)
    for cut in range(len(story.entries) + 1):
        joined, other = in_stretches(story, [cut])
        assert joined == found, cut
        assert one.runs == other.runs, cut
    return found


def refused(story: Story, name: str, *indexes: int) -> None:
    found = problems(story)
    assert [index for index, _ in found] == list(indexes), found
    assert all(what.startswith(f"{name}: ") for _, what in found), found


@pytest.fixture
def story() -> Story:
    return Story()


# What is let go.


def test_what_was_approved_goes_once(story: Story) -> None:
    asked = story.ask()
    story.answer(asked)
    used, _ = story.send(asked)
    assert problems(story) == []
    assert whole(story)[1].runs[RUNS[0]].requests.asked[asked].consumed == used


def test_a_run_without_requests_holds_nothing_of_them(story: Story) -> None:
    story.send(None)
    story.send(None)
    assert problems(story) == []
    assert whole(story)[1].runs[RUNS[0]].requests.asked == {}


def test_quorums_of_several_policies_must_all_be_met(story: Story) -> None:
    asked = story.ask(quorum=["1 of security", "2 of lead"])
    story.answer(asked, ADA)
    refuse, _ = story.send(asked)
    assert [index for index, _ in problems(story)][:1] == [refuse]
    again = Story()
    asked = again.ask(quorum=["1 of security", "2 of lead"])
    again.answer(asked, ADA)
    again.answer(asked, BOB)
    again.send(asked)
    assert problems(again) == []


def test_what_needed_an_approval_needs_one_each_time(story: Story) -> None:
    asked = story.ask()
    story.answer(asked)
    story.send(asked)
    _, again = story.send(None)
    refused(story, "not approved", again)
    story.send(None, stage="other")
    story.send(None, reserved=999)
    story.send(None, model="n")
    story.send(None, digest="ef" * 32)
    story.send(None, policies=[OTHER])
    refused(story, "not approved", again)


def test_what_another_run_asked_for_needs_nothing_here(story: Story) -> None:
    story.ask(RUNS[1])
    story.send(None)
    assert problems(story) == []


# What is refused.


@pytest.mark.parametrize("quorum", [["1"], ["2"], ["1 of lead"], ["1 of lead", "1 of security"]])
def test_nothing_goes_without_its_quorum(story: Story, quorum: list[str]) -> None:
    asked = story.ask(quorum=quorum)
    if quorum != ["1"] and quorum != ["1 of lead"]:
        story.answer(asked, ADA)
    used, sent = story.send(asked)
    found = problems(story)
    assert [index for index, _ in found] == [used, sent]
    assert found[0][1].startswith("not approved: ")


def test_a_request_is_used_once(story: Story) -> None:
    asked = story.ask()
    story.answer(asked)
    story.send(asked)
    used, sent = story.send(asked)
    found = problems(story)
    assert [index for index, _ in found] == [used, sent]
    assert found[0][1].startswith("consumed: ")


def test_one_decision_is_let_go_by_one_request(story: Story) -> None:
    one, two = story.ask(), story.ask()
    story.answer(one)
    story.answer(two)
    decision = story.add(Decided, action="model.request", effect="allow", rules=[], policies=[POLICY])
    story.add(ApprovalConsumed, to=one, decision=decision)
    again = story.add(ApprovalConsumed, to=two, decision=decision)
    refused(story, "consumed", again)


def test_a_decision_that_comes_later_is_none(story: Story) -> None:
    asked = story.ask()
    story.answer(asked)
    wrong = story.add(ApprovalConsumed, to=asked, decision=len(story.entries) + 1)
    refused(story, "no decision", wrong)


@pytest.mark.parametrize(
    "other",
    [{"digest": "ef" * 32}, {"stage": "x"}, {"lane": "x"}, {"task": "x"}, {"model": "x"}, {"reserved": 1_001}],
    ids=str,
)
def test_another_action_than_was_approved_does_not_go(story: Story, other: dict[str, Any]) -> None:
    asked = story.ask()
    story.answer(asked)
    _, sent = story.send(asked, **other)
    refused(story, "other action", sent)


@pytest.mark.parametrize("policies", [[], [OTHER], [POLICY, OTHER], [POLICY, POLICY]], ids=str)
def test_an_approval_under_a_changed_policy_lets_nothing_go(story: Story, policies: list[str]) -> None:
    asked = story.ask()
    story.answer(asked)
    _, sent = story.send(asked, policies=policies)
    refused(story, "changed policy", sent)


def test_policies_in_another_order_are_the_same(story: Story) -> None:
    asked = story.ask(policies=[POLICY, OTHER])
    story.answer(asked)
    story.send(asked, policies=[OTHER, POLICY])
    assert problems(story) == []


@pytest.mark.parametrize("after", [timedelta(0), timedelta(microseconds=1), timedelta(days=9)])
def test_an_expired_request_takes_no_answer_and_lets_nothing_go(story: Story, after: timedelta) -> None:
    asked, late = story.ask(), WHEN + timedelta(hours=1) + after
    wrong = [story.answer(asked, by, verdict, time=late) for by, verdict in ((ADA, "approve"), (EVE, "break-glass"))]
    wrong.append(story.answer(asked, BOB, "deny", time=late))
    refused(story, "expired", *wrong)
    again = Story()
    asked = again.ask()
    again.answer(asked, time=late - after - timedelta(microseconds=1))
    used, _ = again.send(asked, time=late)
    assert problems(again)[0][0] == used
    assert problems(again)[0][1].startswith("expired: ")


def test_what_is_expired_when_it_is_asked_is_refused(story: Story) -> None:
    refused(story, "expired", story.ask(expires=WHEN))


def test_one_no_beats_every_yes(story: Story) -> None:
    asked = story.ask()
    story.answer(asked, ADA)
    story.answer(asked, BOB, "deny")
    assert problems(story) == []
    wrong = [story.answer(asked, EVE), story.answer(asked, EVE, "break-glass"), story.answer(asked, ADA, "deny")]
    used, _ = story.send(asked)
    found = problems(story)
    assert [index for index, _ in found][:4] == [*wrong, used]
    assert all(what.startswith("denied: ") for _, what in found[:4])


def test_denied_then_approved_stays_denied(story: Story) -> None:
    asked = story.ask()
    story.answer(asked, BOB, "deny")
    refused(story, "denied", story.answer(asked, ADA))


def test_a_no_counts_when_its_key_has_ended_since(story: Story) -> None:
    asked = story.ask()
    story.answer(asked, BOB, "deny")
    story.trust(ADA.approver(), BOB.approver(0, len(story.entries)))
    refused(story, "denied", story.answer(asked, ADA))


def test_who_asks_does_not_approve_but_may_take_it_back(story: Story) -> None:
    asked = story.ask(requester="ada")
    wrong = [story.answer(asked, ADA), story.answer(asked, ADA_TOO)]
    refused(story, "self-approval", *wrong)
    story.answer(asked, ADA, "deny")
    refused(story, "self-approval", *wrong)


def test_two_keys_of_one_human_count_once(story: Story) -> None:
    asked = story.ask(quorum=["2"])
    story.answer(asked, ADA)
    wrong = story.answer(asked, ADA_TOO)
    refused(story, "counted already", wrong)
    story.answer(asked, BOB)
    story.send(asked)
    refused(story, "counted already", wrong)


def test_another_key_of_one_human_may_serve_another_role() -> None:
    token = Person("ada", ("security",), 7)
    story = Story((ADA.approver(), token.approver()))
    asked = story.ask(quorum=["1 of lead", "1 of security"])
    story.answer(asked, ADA)
    story.answer(asked, token)
    story.send(asked)
    assert problems(story) == []


def test_who_has_no_role_that_is_asked_is_refused(story: Story) -> None:
    asked = story.ask(quorum=["1 of security", "2 of auditor"])
    refused(story, "role", story.answer(asked, ADA), story.answer(asked, EVE))


def test_a_stranger_is_refused(story: Story) -> None:
    asked = story.ask()
    refused(story, "stranger", *(story.answer(asked, MALLORY, verdict) for verdict in ("approve", "deny")))


def test_a_key_that_was_ended_since_lets_nothing_go(story: Story) -> None:
    """A thief who has approved before he was noticed gains nothing."""
    asked = story.ask()
    story.answer(asked, ADA)
    story.trust(ADA.approver(0, len(story.entries)), BOB.approver())
    used, sent = story.send(asked)
    assert [index for index, _ in problems(story)] == [used, sent]
    assert problems(story)[0][1].startswith("not approved: ")


def test_a_key_that_is_named_later_has_not_approved_before(story: Story) -> None:
    story.trust(BOB.approver())
    asked = story.ask()
    wrong = story.answer(asked, ADA)
    story.trust(BOB.approver(), ADA.approver(len(story.entries) + 1))
    refused(story, "stranger", wrong)
    used, _ = story.send(asked)
    assert problems(story)[1][0] == used


def test_an_answer_whose_signature_does_not_hold_counts_for_nothing(story: Story) -> None:
    asked = story.ask()
    index = story.answer(asked, ADA)
    del story.told.signers[index]
    used, _ = story.send(asked)
    assert problems(story)[0][0] == used


def test_what_was_signed_for_another_log_run_request_or_verdict_is_refused(story: Story) -> None:
    asked, other = story.ask(), story.ask()
    there = story.ask(RUNS[1], nonce="f" * 32)
    of = {index: story.entries[index - 1] for index in (asked, other, there)}
    replays = [sha512(ORIGIN, of[other], "approve"), sha512(ORIGIN, of[there], "approve")]  # type: ignore[arg-type]
    replays += [sha512("test.example/other", of[asked], "approve"), sha512(ORIGIN, of[asked], "deny")]  # type: ignore[arg-type]
    replays += [sha512(ORIGIN, of[asked], "break-glass"), "0" * 128]  # type: ignore[arg-type]
    refused(story, "other statement", *(story.answer(asked, ADA, sha512=digest) for digest in replays))


CHANGED: dict[str, Any] = {
    "run": RUNS[1], "stage": "x", "lane": "x", "task": "x", "action": "x", "model": "x", "reserved": 1_001,
    "subject": "ef" * 32, "request": ADDRESS[:-1] + "0", "content": ADDRESS[:-1] + "0", "policies": [OTHER],
    "quorum": ["2"], "requester": "x", "nonce": "e" * 32, "expires": WHEN + timedelta(hours=2),
}  # fmt: skip


@pytest.mark.parametrize("member", CHANGED)
def test_every_member_of_a_request_is_signed(story: Story, member: str) -> None:
    asked = story.entries[story.ask() - 1]
    assert isinstance(asked, ApprovalRequested)
    other = msgspec.structs.replace(asked, **{member: CHANGED[member]})
    assert text(ORIGIN, other, "approve") != text(ORIGIN, asked, "approve")


def test_a_nonce_is_used_once_in_a_run(story: Story) -> None:
    story.ask(nonce="a" * 32)
    story.ask(RUNS[1], nonce="a" * 32)
    refused(story, "replayed", story.ask(nonce="a" * 32, subject="ef" * 32))


@pytest.mark.parametrize("to", [1, 2, 99])
def test_what_answers_or_uses_no_request_of_its_run_is_refused(story: Story, to: int) -> None:
    there = story.ask(RUNS[1])
    wrong = [story.answer(to, run=RUNS[0]), story.answer(there, run=RUNS[0])]
    decision = story.add(Decided, action="model.request", effect="allow", rules=[], policies=[POLICY])
    wrong += [story.add(ApprovalConsumed, to=target, decision=decision) for target in (to, there)]
    refused(story, "no request", *wrong)


def test_an_approval_of_a_document_made_by_hand_lets_nothing_go(story: Story) -> None:
    asked = story.ask()
    index = story.add(Approval, request=ADDRESS, sha512="0" * 128, signature="AAAA")
    story.told.signers[index] = ADA.public
    assert problems(story) == []
    used, _ = story.send(asked)
    assert problems(story)[0][0] == used


def test_only_who_has_the_role_breaks_the_glass(story: Story) -> None:
    asked = story.ask(quorum=["3 of auditor"], requester="eve")
    refused(story, "role", story.answer(asked, ADA, "break-glass"))
    story.answer(asked, EVE, "break-glass")
    story.send(asked)
    refused(story, "role", 4)


def test_a_glass_that_was_broken_by_a_key_that_has_ended_lets_nothing_go(story: Story) -> None:
    asked = story.ask(quorum=["2"])
    story.answer(asked, EVE, "break-glass")
    story.trust(ADA.approver(), BOB.approver(), EVE.approver(0, len(story.entries)))
    used, _ = story.send(asked)
    assert problems(story)[0][0] == used


def test_nothing_is_asked_or_answered_after_the_end_of_a_run(story: Story) -> None:
    asked = story.ask()
    story.add(RunFinished, status="succeeded")
    wrong = [story.answer(asked), story.ask()]
    assert [index for index, _ in problems(story)] == wrong


def test_an_erased_run_has_no_requests_left(story: Story) -> None:
    asked = story.ask()
    story._put(Erasure(v=1, time=WHEN, of=RUNS[0], keys=[RUNS[0].replace("-", "")]))
    late = story.answer(asked)
    assert [index for index, _ in problems(story)] == [late]


# In stretches.

ACTIONS = st.tuples(
    st.sampled_from(["ask", "ask", "yes", "yes", "yes", "no", "glass", "send", "send", "plain", "trust", "finish"]),
    st.integers(0, 7),
    st.integers(0, 7),
    st.integers(0, 7),
)
PEOPLE = [ADA, BOB, ADA_TOO, EVE, MALLORY]


def tell(actions: Sequence[tuple[str, int, int, int]]) -> Story:
    story = Story()
    asked: list[int] = [1]
    for what, a, b, c in actions:
        to, run = asked[a % len(asked)], RUNS[c == 7]
        if what == "ask":
            quorum = [["1"], ["2"], ["1 of lead", "1 of security"]][b % 3]
            nonce = {"nonce": f"{a:032x}"} if c == 6 else {}
            requester = "ada" if c == 5 else "ci"
            asked.append(story.ask(run, quorum=quorum, subject=f"{a % 2:064x}", requester=requester, **nonce))
        elif what in ("yes", "no", "glass"):
            verdict: Verdict = {"yes": "approve", "no": "deny", "glass": "break-glass"}[what]  # type: ignore[assignment]
            other = (
                {"origin": "test.example/other"} if c == 4 else {"time": WHEN + timedelta(hours=2)} if c == 3 else {}
            )
            index = story.answer(to, PEOPLE[b % len(PEOPLE)], verdict, **other)
            if c == 2:
                del story.told.signers[index]
        elif what == "send":
            policies = [OTHER] if c == 3 else [POLICY]
            entry = story.entries[to - 1]
            where = entry.run if c != 4 else RUNS[0]
            story.send(to, where, digest=f"{(a if c == 5 else b) % 2:064x}", policies=policies)
        elif what == "plain":
            story.send(None, run, digest=f"{b % 2:064x}", policies=[OTHER] if c == 3 else [POLICY])
        elif what == "trust":
            left = [
                person.approver(0, len(story.entries) if place == b else None)
                for place, person in enumerate(PEOPLE[:4])
            ]
            story.trust(*left)
        elif c == 0:
            story.add(RunFinished, run, status="succeeded")
    return story


@settings(max_examples=600, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.lists(st.integers(0, 10_000), max_size=5))
def test_requests_folded_in_stretches_are_those_folded_whole(actions: list[Any], cuts: list[int]) -> None:
    story = tell(actions)
    found, one = whole(story)
    joined, other = in_stretches(story, cuts)
    assert {index for index, _ in joined} <= {index for index, _ in found}
    assert bool(joined) == bool(found)
    if not found:
        assert one.runs == other.runs
        assert one.ended == other.ended


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=30), st.integers(0, 10_000))
def test_what_is_tried_on_a_branch_leaves_the_history_as_it_is(actions: list[Any], cut: int) -> None:
    story = tell(actions)
    history = History(ended={}, origin=ORIGIN, approvers=story.at[0])
    history.told = story.told
    at = cut % (len(story.entries) + 1)
    for index in range(1, at + 1):
        history.add(index, story.entries[index - 1])
    before = msgspec.json.encode(history.runs)
    branch = history.branch()
    branch.told = story.told
    for index in range(at + 1, len(story.entries) + 1):
        assert branch.add(index, story.entries[index - 1]) == (branch_of(history, story, at, index) or None)
    assert msgspec.json.encode(history.runs) == before


def branch_of(history: History, story: Story, at: int, index: int) -> str | None:
    """The same by a branch of its own, from the start."""
    branch = history.branch()
    branch.told = story.told
    found = [branch.add(i, story.entries[i - 1]) for i in range(at + 1, index + 1)]
    return found[-1]


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTIONS, max_size=30))
def test_what_a_machine_pins_is_read_back(actions: list[Any]) -> None:
    _, history = whole(tell(actions))
    assert msgspec.json.decode(msgspec.json.encode(history.runs), type=dict[str, OpenRun]) == history.runs


# What people are shown, and what the gateway asks.


def asked_for(**members: Any) -> ApprovalRequested:
    story = Story()
    found = story.entries[story.ask(**members) - 1]
    assert isinstance(found, ApprovalRequested)
    return found


def test_where_a_request_stands_is_said_with_its_reasons() -> None:
    request = Request(asked_for(quorum=["1 of security", "2"]))
    assert state_of(request, EVERYBODY, 9, WHEN) == ("pending", ("0 of 1 of security", "0 of 2"), ())
    request.answers.append(Answer(5, ADA.public, "approve"))
    assert state_of(request, EVERYBODY, 9, WHEN) == ("pending", ("0 of 1 of security", "1 of 2: ada"), ("ada",))
    request.answers.append(Answer(6, BOB.public, "approve"))
    assert state_of(request, EVERYBODY, 9, WHEN).state == "approved"
    assert state_of(request, (), 9, WHEN).state == "pending"
    assert state_of(request, EVERYBODY, 9, WHEN + timedelta(hours=1)).state == "expired"
    assert state_of(request, EVERYBODY, 9, WHEN.replace(tzinfo=None)).state == "expired"
    request.answers.append(Answer(7, EVE.public, "deny"))
    assert state_of(request, EVERYBODY, 9, WHEN).state == "denied"
    request.consumed = 8
    assert state_of(request, EVERYBODY, 9, WHEN).state == "consumed"


def test_an_approval_by_who_asked_counts_for_nothing_even_where_it_stands() -> None:
    request = Request(asked_for(requester="ada"), [Answer(5, ADA.public, "approve")])
    assert state_of(request, EVERYBODY, 9, WHEN) == ("pending", ("0 of 1",), ())


def test_the_last_quorum_that_is_met_does_not_stand_for_the_others() -> None:
    request = Request(asked_for(quorum=["1 of security", "2"]))
    request.answers += [Answer(5, ADA.public, "approve"), Answer(6, Person("carol").public, "approve")]
    carol = Person("carol").approver()
    found = state_of(request, (*EVERYBODY, carol), 9, WHEN)
    assert (found.state, found.reasons) == ("pending", ("0 of 1 of security", "2 of 2: ada, carol"))


@pytest.mark.parametrize(("since", "until"), [(6, None), (0, 5), (0, 9), (6, 8), (10, None)])
def test_a_key_counts_where_it_holds_from_answer_to_effect(since: int, until: int | None) -> None:
    request = Request(asked_for(), [Answer(5, ADA.public, "approve")])
    assert state_of(request, (ADA.approver(since, until),), 9, WHEN).state == "pending"
    # Ended and named again is not held all the while.
    assert state_of(request, (ADA.approver(0, 7), ADA.approver(8)), 9, WHEN).state == "pending"
    assert state_of(request, (ADA.approver(6), ADA.approver(5, 10)), 9, WHEN).state == "approved"


def test_a_refusal_needs_no_ledger() -> None:
    request = Request(asked_for(requester="ada"))
    assert refusal(request, "approve", BOB.public, EVERYBODY, 3, WHEN) is None
    assert (refusal(request, "approve", ADA.public, EVERYBODY, 3, WHEN) or "").startswith("self-approval: ")
    assert (refusal(request, "approve", BOB.public, (), 3, WHEN) or "").startswith("stranger: ")


def policy(name: str, **members: Any) -> Policy:
    return Policy(policy_id=name, requires_approval=True, allowed_models=["m"], **members)


def test_what_is_needed_is_what_those_policies_need_that_ask() -> None:
    strict = policy("strict", approvals=Approvals(threshold=2, roles=["security", "lead", "lead"], expiry_s=60))
    plain, silent = policy("plain"), policy("silent", approvals=Approvals(threshold=9, expiry_s=1))
    asking = [Finding("approval", "require_approval", "", "", "", name) for name in ("strict", "plain")]
    quiet = Finding("approval", "allow", "", "", "", "silent")
    found = needed([strict, plain, silent], Decision("require_approval", (*asking, quiet)))
    assert found == (["1", "2 of lead,security"], 60)


@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_nothing_is_asked_for_where_policy_allows_or_denies(effect: Any) -> None:
    findings = (
        Finding("approval", "require_approval", "", "", "", "plain"),
        Finding("model", effect, "", "", "", "plain"),
    )
    assert needed([policy("plain")], Decision(effect, findings)) is None
    assert needed([], Decision("require_approval", findings)) is None


def test_a_request_is_found_again_by_its_exact_action_alone(story: Story) -> None:
    first, second = story.ask(), story.ask()
    requests = whole(story)[1].runs[RUNS[0]].requests
    action = Action("model.request", DIGEST, "", "", "", "m", 1_000, [POLICY])
    found = requests.find(action)
    assert found is not None
    assert found[0] == second > first
    others = {"action": "x", "subject": "ef" * 32, "stage": "x", "lane": "x", "task": "x", "model": "x", "reserved": 1}
    for member, value in (others | {"policies": [OTHER]}).items():
        assert requests.find(msgspec.structs.replace(action, **{member: value})) is None


def test_a_used_request_is_not_found_again(story: Story) -> None:
    action = Action("model.request", DIGEST, "", "", "", "m", 1_000, [POLICY])
    first, second = story.ask(), story.ask()
    story.answer(second)
    story.send(second)
    found = whole(story)[1].runs[RUNS[0]].requests.find(action)
    assert found is not None
    assert found[0] == first
    story.answer(first)
    story.send(first)
    assert whole(story)[1].runs[RUNS[0]].requests.find(action) is None


# The statement.


def test_a_statement_is_lines_of_ascii_that_no_label_can_break() -> None:
    hostile = 'x",\n  "quorum": ["1"],\u202e\u2028\x1b[2K\x7f é'
    made = text(ORIGIN, asked_for(stage=hostile, model=hostile, requester=hostile), "approve")
    assert made.isascii()
    assert made.endswith(b"}\n")
    assert len(made.splitlines()) == len(text(ORIGIN, asked_for(), "approve").splitlines())
    assert msgspec.json.decode(made)["stage"] == hostile


def test_a_statement_names_its_log_run_nonce_and_verdict() -> None:
    for verdict in ("approve", "deny", "break-glass"):
        found = names(text(ORIGIN, asked_for(), verdict))  # type: ignore[arg-type]
        assert found is not None
        assert (found.verdict, found.log, found.run, found.nonce) == (verdict, ORIGIN, RUNS[0], f"{2:032x}")


@pytest.mark.parametrize(
    "document", [b"", b"release?", b"{}", b"[]", b'{"statement":"agent-ledger/approval@v2"}', b"\xff"]
)
def test_any_other_document_is_no_statement(document: bytes) -> None:
    assert names(document) is None


def test_three_statements_of_one_request_are_three_texts() -> None:
    asked = asked_for()
    assert len({text(ORIGIN, asked, verdict) for verdict in ("approve", "deny", "break-glass")}) == 3  # type: ignore[arg-type]
