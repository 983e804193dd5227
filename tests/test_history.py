"""The run rules as a fold: that a history may be folded in stretches changes nothing of what is found broken."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.history import History
from schemas.entries import (
    Artifact,
    Erasure,
    Known,
    Prompt,
    Response,
    RunFinished,
    RunStarted,
    Uninterpreted,
)
from schemas.ids import run_key_id

RUNS = [f"01920000-0000-7000-8000-00000000000{n}" for n in range(3)]
TIME = datetime(2026, 11, 22, tzinfo=UTC)
CONTENT = {"content": "artifact://" + "0" * 64, "digest": "0" * 64}
KINDS = ["start", "start", "prompt", "prompt", "response", "artifact", "artifact", "other", "finish", "erase", "note"]

# What, of which run, how far the step is from the right one, and which entry a response answers.
Wish = tuple[str, int, int, int]
WISHES = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, len(RUNS) - 1),
        st.sampled_from([0] * 12 + [-1, 1, 2]),
        st.integers(1, 6),
    ),
    max_size=40,
)


def entries_of(wishes: list[Wish]) -> list[Known | Uninterpreted]:
    """Entries that mostly keep the rules, each with the step that its wish says."""
    steps = dict.fromkeys(RUNS, 0)
    made: list[Known | Uninterpreted] = []
    for what, number, off, back in wishes:
        run = RUNS[number]
        if what == "start":
            steps[run] = 0
        step = steps[run] = max(1, steps[run] + 1 + off)
        common = {"v": 1, "time": TIME, "run": run, "step": step}
        if what == "start":
            made.append(RunStarted(**common, key="0" * 64))
        elif what == "prompt":
            made.append(Prompt(**common, **CONTENT))
        elif what == "response":
            made.append(Response(**common, **CONTENT, to=max(0, len(made) - back)))
        elif what == "artifact":
            made.append(Artifact(**common, **CONTENT))
        elif what == "finish":
            made.append(RunFinished(**common, status="succeeded"))
        elif what == "other":
            made.append(Uninterpreted("test.step", {}, run, step))
        elif what == "erase":
            whose = RUNS[(number + (back > 5)) % len(RUNS)]
            own = {} if back % 2 else {"run": run, "step": step}
            steps[run] -= bool(back % 2)
            made.append(Erasure(v=1, time=TIME, of=run, keys=[run_key_id(whose).hex()], **own))
        else:
            steps[run] -= 1
            made.append(Uninterpreted("test.note", {}))
    return made


def folded(entries: list[Known | Uninterpreted]) -> tuple[History, set[int]]:
    history = History(ended={})
    return history, {i for i, entry in enumerate(entries) if history.add(i, entry) is not None}


def stretches(count: int, cuts: list[int]) -> list[range]:
    ends = sorted({*(cut % (count + 1) for cut in cuts), count})
    return [range(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def state_of(history: History) -> tuple[object, ...]:
    runs = {id: (run.started, run.key, run.step, run.prompts) for id, run in history.runs.items()}
    return runs, history.ended, history.erased


def joined(entries: list[Known | Uninterpreted], parts: list[range]) -> tuple[History, set[int]]:
    """As an audit does it: by stretches, and entry by entry where a stretch does not join smoothly."""
    history, found = History(ended={}), set[int]()
    for part in parts:
        stretch = History.of_stretch()
        broken = [i for i in part if stretch.add(i, entries[i]) is not None]
        assert stretch.part is not None
        if not broken and not history.conflicts(stretch.part):
            history.join(stretch.part)
            continue
        again = {i for i in part if history.add(i, entries[i]) is not None}
        assert again, "nothing is wrong in it, and it was said not to join"
        found |= again
    return history, found


@settings(max_examples=1500, deadline=None)
@given(WISHES, st.lists(st.integers(0, 1000), max_size=6))
def test_a_history_folded_in_stretches_is_that_folded_whole(wishes: list[Wish], cuts: list[int]) -> None:
    entries = entries_of(wishes)
    whole, broken = folded(entries)
    parts, found = joined(entries, stretches(len(entries), cuts))
    assert found == broken
    assert state_of(parts) == state_of(whole)


@settings(max_examples=500, deadline=None)
@given(WISHES)
def test_a_history_folded_entry_by_entry_is_that_folded_whole(wishes: list[Wish]) -> None:
    entries = entries_of(wishes)
    whole, broken = folded(entries)
    parts, found = joined(entries, [range(i, i + 1) for i in range(len(entries))])
    assert found == broken
    assert state_of(parts) == state_of(whole)
