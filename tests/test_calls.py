"""Model calls in the fold of history: budgets, attempts, pauses; whole or in stretches, and at the commit itself."""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger
from ledger.log import Log
from policies.calls import PAUSED, Calls
from policies.history import History
from schemas.entries import (
    Artifact,
    Decided,
    Erasure,
    Known,
    ModelRequest,
    ModelResponse,
    ReservationReleased,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
)
from schemas.errors import LedgerError, Malformed, RunClosed
from tests.support.calls import Caller, OverBudget, fits
from tests.support.machine import Place, new_ledger

RUNS = ["018f3c1e-7b2a-7c3d-8e4f-0123456789ab", "018f3c1e-7b2a-7c3d-8e4f-0123456789ac"]
ADDRESS, DIGEST = "artifact://" + "ab" * 32, "cd" * 32
WHEN = datetime(2026, 11, 20, tzinfo=UTC)
ROOT = Path(__file__).parents[1]
Broken = list[tuple[int, str]]


class Story:
    """Entries as a well-behaved writer would number them, from index 1 on."""

    def __init__(self) -> None:
        self.entries: list[Known] = []
        self.steps: dict[str, int] = {}

    @property
    def next(self) -> int:
        """Index of what comes next."""
        return len(self.entries) + 1

    def add(self, kind: type, run: str = RUNS[0], **members: Any) -> int:
        self.steps[run] = step = self.steps.get(run, 0) + 1
        contents = {"content": ADDRESS, "digest": DIGEST} if "content" in kind.__struct_fields__ else {}
        common = {"v": 1, "time": WHEN, "run": run, "step": step}
        self.entries.append(kind(**(common | contents | members)))
        return len(self.entries)

    def start(self, run: str = RUNS[0]) -> int:
        return self.add(RunStarted, run, key="00" * 32)

    def allow(self, run: str = RUNS[0], **members: Any) -> int:
        fields = {"action": "model.request", "effect": "allow", "rules": [], "policies": []}
        return self.add(Decided, run, **(fields | members))

    def ask(self, run: str = RUNS[0], decision: int | None = None, **members: Any) -> int:
        decision = self.allow(run) if decision is None else decision
        fields = {"model": "m", "key": "00" * 32, "attempt": 1, "envelope": ADDRESS, "task": f"t{self.next}"}
        return self.add(ModelRequest, run, decision=decision, **(fields | members))

    def answer(self, to: int, run: str = RUNS[0], **members: Any) -> int:
        return self.add(ModelResponse, run, to=to, **({"status": "completed", "verdict": "valid"} | members))


def whole(entries: Sequence[Known]) -> tuple[Broken, History]:
    history = History(ended={})
    found = [(index, what) for index, entry in enumerate(entries, 1) if (what := history.add(index, entry))]
    return found, history


def in_stretches(entries: Sequence[Known], cuts: Sequence[int]) -> tuple[Broken, History]:
    """As an audit folds: each stretch for itself, then joined."""
    history = History(ended={})
    found: Broken = []
    edges = [0, *sorted({cut % (len(entries) + 1) for cut in cuts}), len(entries)]
    for first, last in pairwise(edges):
        part, stretch = History.of_stretch(), range(first + 1, last + 1)
        unruly = [part.add(index, entries[index - 1]) for index in stretch]
        assert part.part is not None
        if any(unruly) or history.conflicts(part.part):
            # What does not join is folded again, entry by entry.
            found += [(index, what) for index in stretch if (what := history.add(index, entries[index - 1]))]
        else:
            history.join(part.part)
    return found, history


def alone(story: Story) -> Calls:
    found, history = whole(story.entries)
    assert found == []
    return history.runs[RUNS[0]].calls


def problems(story: Story) -> list[tuple[int, str]]:
    """What is broken, however the story is cut: each single cut must find the same."""
    found, _ = whole(story.entries)
    for cut in range(len(story.entries) + 1):
        joined, _ = in_stretches(story.entries, [cut])
        assert {index for index, _ in joined} == {index for index, _ in found}, (cut, joined, found)
    return found


@pytest.fixture
def story() -> Story:
    found = Story()
    found.start()
    return found


def test_what_is_asked_is_held_and_what_is_answered_is_spent(story: Story) -> None:
    first = story.ask(reserved=1_000, cap=5_000)
    story.ask(reserved=2_000, cap=5_000)
    story.answer(first, reserved=1_000, cost=300)
    calls = alone(story)
    assert (calls.spent, calls.held, list(calls.open.values())) == (300, 2_000, [2_000])
    assert problems(story) == []


def test_the_budget_is_exact_to_the_last_micro(story: Story) -> None:
    first = story.ask(reserved=600, cap=1_000)
    story.ask(reserved=400, cap=1_000)
    story.answer(first, reserved=600, cost=599)
    story.ask(reserved=1, cap=1_000)
    assert problems(story) == []
    over = story.ask(reserved=1, cap=1_000)
    assert [index for index, _ in problems(story)] == [over]
    assert "1 micro-USD more" in problems(story)[0][1]


def test_a_cost_above_its_reservation_counts_against_what_follows(story: Story) -> None:
    first = story.ask(reserved=100, cap=1_000)
    story.answer(first, reserved=100, cost=950)
    story.ask(reserved=50, cap=1_000)
    assert problems(story) == []
    assert [index for index, _ in problems(story)] == []
    over = story.ask(reserved=51, cap=1_000)
    assert [index for index, _ in problems(story)] == [over]


def test_a_released_reservation_is_free_again_and_costs_nothing(story: Story) -> None:
    lost = story.ask(reserved=1_000, cap=1_000)
    story.add(ReservationReleased, to=lost, reserved=1_000)
    story.ask(reserved=1_000, cap=1_000)
    calls = alone(story)
    assert (calls.spent, calls.held) == (0, 1_000)
    assert problems(story) == []


@pytest.mark.parametrize("kind", [ModelResponse, ReservationReleased])
@pytest.mark.parametrize("reserved", [0, 999, 1_001, 10**12])
def test_more_or_less_than_was_reserved_can_not_be_freed(story: Story, kind: type, reserved: int) -> None:
    first = story.ask(reserved=1_000, cap=5_000)
    more = {"status": "completed", "verdict": "none"} if kind is ModelResponse else {}
    wrong = story.add(kind, to=first, reserved=reserved, **more)
    assert [index for index, _ in problems(story)] == [wrong]


def test_a_call_is_settled_once(story: Story) -> None:
    first = story.ask(reserved=10)
    story.answer(first, reserved=10, cost=1)
    again = story.answer(first, reserved=10, cost=1)
    released = story.add(ReservationReleased, to=first, reserved=10)
    assert [index for index, _ in problems(story)] == [again, released]


def test_what_was_never_asked_can_not_be_answered_nor_another_runs_call(story: Story) -> None:
    story.start(RUNS[1])
    first = story.ask(reserved=0)
    wrong = [story.answer(99), story.answer(1), story.answer(first, RUNS[1]), story.add(ReservationReleased, to=98)]
    assert [index for index, _ in problems(story)] == wrong


def test_a_request_needs_a_decision_of_its_own(story: Story) -> None:
    story.start(RUNS[1])
    allowed = story.allow()
    story.ask(decision=allowed)
    wrong = [
        story.ask(decision=allowed),
        story.ask(decision=0),
        story.ask(decision=1),
        story.ask(decision=story.allow(effect="deny", rules=["budget"])),
        story.ask(decision=story.allow(effect="require_approval", rules=["approval"])),
        story.ask(decision=story.allow(action="publication")),
        story.ask(RUNS[1], decision=story.allow()),
        story.ask(decision=999),
    ]
    assert [index for index, _ in problems(story)] == wrong


def test_m14_attempts_of_a_task_are_counted_in_order_in_its_lane(story: Story) -> None:
    def ask(attempt: int, task: str = "t", lane: str = "a", continues: int = 0) -> int:
        return story.ask(attempt=attempt, task=task, lane=lane, continues=continues)

    first = ask(1)
    ask(1, continues=first)
    ask(2, continues=first)
    ask(3)
    ask(1, lane="b")
    ask(1, task="u")
    assert problems(story) == []
    assert alone(story).tries("a", "t") == 3
    assert alone(story).tries("b", "t") == 1
    assert alone(story).tries("c", "t") == 0


@pytest.mark.parametrize(
    "attempts",
    [
        [(0, False)],
        [(2, False)],
        [(0, True)],
        [(1, False), (1, False)],
        [(1, False), (3, False)],
        [(1, False), (2, False), (1, False)],
        [(1, False), (2, False), (1, True)],
        [(1, False), (3, True)],
    ],
    ids=str,
)
def test_m14_an_attempt_that_is_counted_wrong_breaks_the_rules(story: Story, attempts: list[tuple[int, bool]]) -> None:
    last = 0
    for attempt, goes_on in attempts:
        last = story.ask(attempt=attempt, task="t", lane="a", continues=1 if goes_on else 0)
    assert [index for index, _ in problems(story)] == [last]


def test_a_lane_and_a_task_can_not_be_confused(story: Story) -> None:
    story.ask(attempt=1, lane="a", task="b\nc")
    story.ask(attempt=1, lane="a\nb", task="c")
    story.ask(attempt=1, lane="a b", task="c")
    story.ask(attempt=1, lane="a", task="b c")
    assert problems(story) == []
    assert alone(story).tries("a", "b\nc") == 1


def test_a_paused_run_may_not_ask_but_its_calls_may_end(story: Story) -> None:
    first = story.ask(reserved=5)
    story.add(RunPaused)
    story.answer(first, reserved=5)
    assert problems(story) == []
    wrong = story.ask()
    assert problems(story) == [(wrong, PAUSED)]
    story.add(RunResumed)
    story.ask()
    assert problems(story) == [(wrong, PAUSED)]


def test_calls_that_were_open_may_end_after_their_run(story: Story) -> None:
    first, second = story.ask(reserved=5), story.ask(reserved=7)
    story.add(RunFinished, status="succeeded")
    story.answer(first, reserved=5, cost=4)
    assert problems(story) == []
    _, history = whole(story.entries)
    assert history.find(RUNS[0]) is None
    assert history.runs[RUNS[0]].calls.held == 7
    story.add(ReservationReleased, to=second, reserved=7)
    assert problems(story) == []
    _, history = whole(story.entries)
    assert RUNS[0] not in history.runs
    late = story.answer(second, reserved=7)
    assert [index for index, _ in problems(story)] == [late]


@pytest.mark.parametrize("kind", [Artifact, RunPaused, RunResumed, RunFinished])
def test_nothing_else_follows_the_end_of_a_run_while_calls_are_open(story: Story, kind: type) -> None:
    first = story.ask(reserved=5)
    story.add(RunFinished, status="succeeded")
    wrong = story.add(kind, **({"status": "failed"} if kind is RunFinished else {}))
    story.answer(first, reserved=5)
    assert [index for index, _ in problems(story)] == [wrong]


def test_no_request_follows_the_end_of_a_run(story: Story) -> None:
    first = story.ask(reserved=5)
    allowed = story.allow()
    story.add(RunFinished, status="succeeded")
    wrong = story.ask(decision=allowed, reserved=1)
    found, _ = whole(story.entries)
    assert [index for index, _ in found] == [wrong]
    assert first < wrong


def test_an_erased_run_has_no_calls_left(story: Story) -> None:
    first = story.ask(reserved=5)
    story.entries.append(Erasure(v=1, time=WHEN, of=RUNS[0], keys=[RUNS[0].replace("-", "")]))
    late = story.answer(first, reserved=5)
    assert [index for index, _ in problems(story)] == [late]


@pytest.mark.parametrize("free", [0, 1])
def test_the_slack_of_a_stretch_is_exact_where_it_is_joined(story: Story, free: int) -> None:
    """The stretch frees and reserves what it does not know the beginning of."""
    old = story.ask(reserved=400, cap=1_000)
    cut = len(story.entries)
    story.ask(reserved=500, cap=1_000)
    story.answer(old, reserved=400, cost=100)
    tight = story.ask(reserved=400 + 1 - free, cap=1_000)
    found, _ = whole(story.entries)
    joined, _ = in_stretches(story.entries, [cut])
    assert [index for index, _ in found][:1] == ([] if free else [tight])
    assert [index for index, _ in joined][:1] == ([] if free else [tight])


ACTIONS = st.tuples(
    st.sampled_from(
        ["ask", "ask", "ask", "answer", "answer", "release", "pause", "resume", "finish", "artifact", "allow"]
    ),
    st.integers(0, 1),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
)


def tell(actions: Sequence[tuple[str, int, int, int, int]], *, careful: bool) -> list[Known]:
    """A history of two runs. A careful teller keeps every rule; another one breaks some."""
    story, history = Story(), History(ended={})
    mirrored = 0

    def mirror() -> None:
        nonlocal mirrored
        for entry in story.entries[mirrored:]:
            mirrored += 1
            history.add(mirrored, entry)

    for run in RUNS:
        story.start(run)
    for what, which, a, b, c in actions:
        mirror()
        run = RUNS[which]
        state = history.runs.get(run)
        if careful and (state is None or (state.finished and what not in ("answer", "release"))):
            continue
        calls = state.calls if state is not None else Calls()
        waiting = list(calls.open)
        if what == "ask":
            lane, task = f"l{a % 2}", f"t{b % 3}"
            goes_on = c % 3 == 0
            before = calls.tries(lane, task)
            attempt = before if goes_on and before and a % 2 else before + 1
            reserved, cap = a * 100, 2_000 if c % 2 else 0
            if careful:
                if calls.paused or (cap and calls.spent + calls.held + reserved > cap):
                    continue
            elif b == 7:
                attempt += c - 4 if c > 4 else 0
            unused = next(iter(calls.allowed)) if calls.allowed and c == 8 else None
            members = {"attempt": attempt, "lane": lane, "task": task, "reserved": reserved, "cap": cap}
            if not careful and b == 8:
                unused = c
            story.ask(run, decision=unused, continues=1 if goes_on else 0, **members)
        elif what in ("answer", "release"):
            to = waiting[a % len(waiting)] if waiting else a
            reserved = calls.open.get(to, 5)
            if careful and not waiting:
                continue
            if not careful and b == 9:
                to, reserved = to + c, reserved + c
            if what == "answer":
                story.answer(to, run, reserved=reserved, cost=min(c * 30, reserved) if careful else c * 30)
            else:
                story.add(ReservationReleased, run, to=to, reserved=reserved)
        elif what == "pause":
            story.add(RunPaused, run)
        elif what == "resume":
            story.add(RunResumed, run)
        elif what == "finish":
            if a > 5:
                story.add(RunFinished, run, status="succeeded")
        elif what == "artifact":
            story.add(Artifact, run)
        else:
            story.allow(run, effect="allow" if a else "deny", rules=[] if a else ["model"])
    return story.entries


CUTS = st.lists(st.integers(0, 10_000), max_size=4)


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=40), CUTS)
def test_a_history_that_keeps_the_rules_keeps_them_in_stretches(actions: list[Any], cuts: list[int]) -> None:
    entries = tell(actions, careful=True)
    found, one = whole(entries)
    assert found == []
    joined, other = in_stretches(entries, cuts)
    assert joined == []
    assert one.runs == other.runs
    assert one.ended == other.ended


@settings(max_examples=800, deadline=None)
@given(st.lists(ACTIONS, max_size=40), CUTS)
def test_a_history_that_breaks_rules_is_found_broken_in_stretches_too(actions: list[Any], cuts: list[int]) -> None:
    entries = tell(actions, careful=False)
    found, _ = whole(entries)
    joined, _ = in_stretches(entries, cuts)
    assert bool(found) == bool(joined), (found, joined)
    # Of several that break one rule at a join only one need be named.
    assert {index for index, _ in joined} <= {index for index, _ in found}


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=30), st.integers(0, 10_000))
def test_a_branch_decides_as_the_history_would_and_leaves_it_alone(actions: list[Any], cut: int) -> None:
    entries = tell(actions, careful=False)
    at = cut % (len(entries) + 1)
    _, history = whole(entries[:at])
    _, untouched = whole(entries[:at])
    branch, plain = history.branch(), History(history.runs)
    tried = [bool(branch.add(index, entry)) for index, entry in enumerate(entries[at:], at + 1)]
    assert history.runs == untouched.runs
    assert tried == [bool(plain.add(index, entry)) for index, entry in enumerate(entries[at:], at + 1)]


def test_a_branch_gives_a_run_however_it_is_asked_for(story: Story) -> None:
    story.ask(reserved=5)
    _, history = whole(story.entries)
    branch = history.branch()
    assert branch.runs[RUNS[0]] is branch.runs.get(RUNS[0]) is not history.runs[RUNS[0]]
    with pytest.raises(KeyError):
        history.branch().runs[RUNS[1]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return new_ledger(tmp_path)


def spent(log: Log, run: str) -> tuple[int, int]:
    log.catch_up()
    calls = log.chain.state.history.runs[run].calls
    return calls.spent, calls.held


def test_fifty_threads_never_reserve_more_than_the_cap(place: Place) -> None:
    with place.machine.here(), ledger.open(place.path) as log:
        run = log.run("crowd").id
        caller, kept, refused = Caller(log, run), [], []

        def reserve(number: int) -> None:
            try:
                kept.append(caller.ask(f"t{number}", validate=fits(run, 1_000, 20_000), reserved=1_000, cap=20_000))
            except OverBudget:
                refused.append(number)

        threads = [threading.Thread(target=reserve, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(kept), len(refused)) == (20, 30)
        assert spent(log, run) == (0, 20_000)
        for asked in kept:
            caller.answer(asked.index, entry_task(log, asked.index), cost=10, reserved=1_000)
        assert spent(log, run) == (200, 0)
    with place.machine.here():
        assert ledger.verify(place.path).findings == []


def entry_task(log: Log, index: int) -> str:
    return log.entry(index).entry.task  # type: ignore[union-attr]


def test_the_fold_refuses_what_no_condition_has_refused(place: Place) -> None:
    """Also a writer that forgets to decide again can't commit over its cap, twice, or out of turn."""
    with place.machine.here(), ledger.open(place.path) as log:
        run = log.run("careless").id
        caller = Caller(log, run)
        first = caller.ask("t", reserved=900, cap=1_000)
        size = log.chain.state.size
        for how in (
            {"reserved": 101, "cap": 1_000},
            {"attempt": 2},
            {"attempt": 0},
            {"decision": first.index},
            {"decision": first.index - 1},
        ):
            with pytest.raises(Malformed):
                caller.ask("u", **how)
        with pytest.raises(Malformed):
            caller.ask("t")
        with pytest.raises(Malformed):
            caller.answer(first.index, "t", cost=1, reserved=901)
        with pytest.raises(Malformed):
            caller.release(first.index + 1, "t", 0)
        assert log.chain.state.size == size
        caller.commit(RunPaused(v=1, time=WHEN, run=run))
        with pytest.raises(Malformed):
            caller.ask("v")
        caller.commit(RunResumed(v=1, time=WHEN, run=run))
        caller.ask("v", reserved=100, cap=1_000)
    with place.machine.here():
        assert ledger.verify(place.path).findings == []


def test_a_call_that_was_open_is_answered_after_its_run_has_finished(place: Place) -> None:
    with place.machine.here(), ledger.open(place.path) as log:
        run = log.run("short")
        caller = Caller(log, run.id)
        first, second = caller.ask("a", reserved=10), caller.ask("b", reserved=10)
        run.finish()
        with pytest.raises(RunClosed):
            caller.ask("c")
        with pytest.raises(RunClosed):
            run.prompt("late")
        caller.answer(first.index, "a", cost=3, reserved=10, late=True)
        caller.release(second.index, "b", 10)
        with pytest.raises(LedgerError):
            caller.release(second.index, "b", 10)
    with place.machine.here():
        assert ledger.verify(place.path).findings == []


@pytest.mark.parametrize(("cost", "cap", "reserved", "calls"), [(-1, 60_000, 1_000, 60), (700, 100_000, 1_000, 0)])
def test_two_processes_never_spend_more_than_the_cap(
    place: Place, cost: int, cap: int, reserved: int, calls: int
) -> None:
    with place.machine.here(), ledger.open(place.path) as log:
        run = log.run("shared").id
    barrier = place.path.parent / "go"
    numbers = [str(number) for number in (8, reserved, cap, cost)]
    command = [sys.executable, str(ROOT / "tests/support/spender.py"), str(place.path), str(barrier), run, *numbers]
    environment = place.machine.environment | {"PYTHONPATH": str(ROOT)}
    made: list[list[int]] = []
    with ExitStack() as stack:
        processes = []
        for _ in range(2):
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            processes.append(process)
        barrier.touch()
        shares = []
        for process in processes:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            shares.append(json.loads(output))
            made += shares[-1]
    # On a busy machine one may be through before the other has begun; then the cap is all that is shown.
    assert any(shares)
    with place.machine.here(), ledger.open(place.path) as log:
        paid, held = spent(log, run)
        assert paid + held <= cap
        if cost < 0:
            assert len(made) == calls
            assert (paid, held) == (0, cap)
        else:
            # Each stopped when no worst case fitted any more.
            assert paid == cost * len(made)
            assert held == 0
            assert paid > cap - 16 * reserved
        assert len({index for index, _ in made}) == len(made)
    with place.machine.here():
        assert ledger.verify(place.path).findings == []
