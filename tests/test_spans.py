"""An audit looks at packs in spans, on all cores: where one span ends and the next begins changes no verdict."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

import ledger
from ledger import govern, note
from ledger.audit import audit
from ledger.audit.report import Report
from ledger.erase import erase
from ledger.log import system_clock
from schemas.entries import (
    Artifact,
    Erasure,
    KeysChanged,
    Known,
    Response,
    RunFinished,
    RunStarted,
    TrustChanged,
    encode,
)
from schemas.ids import cid_of, new_run_id, run_key_id
from store import lists
from store.blobs import large_name
from store.datakeys import data_name
from tests.support import ledgers
from tests.support.forge import Forger, drop_derived, key
from tests.support.machine import Machine, Place, copied, new_ledger
from tests.support.verdicts import sound, unsound

NOBODY = "01920000-0000-7000-8000-000000000000"
ZEROS = "0" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Thirty packs: interleaved runs, lists that grow over packs, large blobs, an erasure, statements."""
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        first, second, gone = log.run("first"), log.run("second"), log.run("gone")
        asked = first.prompt(request(3))
        for turn in range(4, 8):
            second.artifact(f"artifact {turn}")
            first.response(f"answer {turn}", to=asked)
            asked = first.prompt(request(turn))
            gone.artifact(os.urandom(70_000))
        first.artifact(os.urandom(3_000_000))
        govern.add_author(log, "ci")
        second.finish()
        erase(log, gone.id, "a reason")
        govern.end_author(log, "ci")
        first.append_many([ledger.Item(kind="artifact", content=b"%d" % i) for i in range(300)])
        second = log.run("a run that goes on")
        second.response("late", to=second.prompt("early"))
        first.prompt(request(9))
    assert len(ledgers.packs(place.path)) > 25
    return place


def request(turns: int) -> dict[str, object]:
    return {"model": "m", "input": [f"turn {i}: " + "words " * 300 for i in range(turns)]}


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


def open_runs(place: Place) -> dict[str, int]:
    """Runs that may grow, with their last steps; the oldest first."""
    with ledger.open(place.path) as log:
        return {id: run.step for id, run in log.chain.state.history.runs.items()}


def ended_run(place: Place) -> str:
    with ledger.open(place.path) as log:
        return next(run.id for run in log.runs() if run.status == "succeeded")


def started(run: str, step: int = 1) -> RunStarted:
    return RunStarted(v=1, time=system_clock(), run=run, step=step, key=ZEROS)


def finished(run: str, step: int) -> RunFinished:
    return RunFinished(v=1, time=system_clock(), run=run, step=step, status="succeeded")


def names(place: Place, run: str, step: int) -> Artifact:
    """A step of a run that names a content which is there."""
    with ledger.open(place.path) as log:
        content = next(r.entry.content for r in log.entries() if isinstance(r.entry, Artifact))
    return Artifact(v=1, time=system_clock(), run=run, step=step, content=content, digest=ZEROS)


def append(place: Place, *packs: list[Known]) -> Forger:
    """A rogue author's packs, each followed by one that breaks no rule."""
    forger = Forger(place.path)
    for entries in packs:
        forger.leaf(*(encode(entry) for entry in entries)).sign(key()).commit()
        forger.entries(2).sign(key()).commit()
    return forger


Attack = Callable[[Place], None]
SOUND: dict[str, Attack] = {}
UNSOUND: dict[str, Attack] = {}


def attack(verdicts: dict[str, Attack]) -> Callable[[Attack], Attack]:
    def name(attack: Attack) -> Attack:
        verdicts[attack.__name__.replace("_", " ")] = attack
        return attack

    return name


@attack(SOUND)
def nothing(place: Place) -> None:
    pass


@attack(SOUND)
def no_tiles(place: Place) -> None:
    drop_derived(place.path)


@attack(SOUND)
def rules_kept_over_many_packs(place: Place) -> None:
    run = new_run_id(1, bytes(10))
    append(place, [started(run)], [names(place, run, 2)], [names(place, run, 3)], [finished(run, 4)])


@attack(SOUND)
def the_large_blobs_of_the_erased_run_are_gone(place: Place) -> None:
    with ledger.open(place.path) as log:
        runs = {run.id for run in log.runs() if run.status == "erased"}
        contents = [getattr(r.entry, "content", "") for r in log.entries() if r.entry.run in runs]
    for content in filter(None, contents):
        (place.path / large_name(cid_of(content))).unlink()


@attack(UNSOUND)
def a_run_that_never_started(place: Place) -> None:
    append(place, *([names(place, NOBODY, step)] for step in range(4, 9)))


@attack(UNSOUND)
def many_steps_of_a_run_that_never_started_in_one_pack(place: Place) -> None:
    append(place, [names(place, NOBODY, step) for step in range(2, 9)])


@attack(UNSOUND)
def a_run_that_starts_twice(place: Place) -> None:
    run, step = next(iter(open_runs(place).items()))
    append(place, [started(run)], [names(place, run, 2)], [names(place, run, step + 1)], [finished(run, 3)])


@attack(UNSOUND)
def a_finished_run_that_starts_and_finishes_again(place: Place) -> None:
    run = ended_run(place)
    append(place, [started(run), finished(run, 2)], [started(run)])


@attack(UNSOUND)
def a_gap_in_the_steps_of_a_run(place: Place) -> None:
    run, step = next(iter(open_runs(place).items()))
    append(place, [names(place, run, step + 2)], [names(place, run, step + 3)], [names(place, run, step + 1)])


@attack(UNSOUND)
def a_run_that_goes_on_after_its_end(place: Place) -> None:
    run, step = next(iter(open_runs(place).items()))
    append(place, [finished(run, step + 1)], [names(place, run, step + 2)], [finished(run, step + 3)])


@attack(UNSOUND)
def a_run_that_goes_on_after_its_erasure(place: Place) -> None:
    run, step = next(iter(open_runs(place).items()))
    rogue = Erasure(v=1, time=system_clock(), of=run, keys=[])
    append(place, [rogue], [names(place, run, step + 1)], [names(place, run, step + 2)])


@attack(UNSOUND)
def answers_to_no_prompt(place: Place) -> None:
    (first, step), (second, other) = open_runs(place).items()
    with ledger.open(place.path) as log:
        asked = log.chain.state.history.runs[first].prompts[0]
    content = names(place, first, 1).content
    answers = [(first, step + 1, asked), (first, step + 2, asked + 1), (second, other + 1, asked)]
    for run, at, to in answers:
        entry = Response(v=1, time=system_clock(), run=run, step=at, content=content, digest=ZEROS, to=to)
        append(place, [entry])


@attack(UNSOUND)
def erasures_of_what_never_started_and_of_foreign_keys(place: Place) -> None:
    run = next(iter(open_runs(place)))
    rogue = [Erasure(v=1, time=system_clock(), of=NOBODY, keys=[run_key_id(NOBODY).hex()])]
    append(place, rogue, [Erasure(v=1, time=system_clock(), of=run, keys=[run_key_id(NOBODY).hex()])], [*rogue])


@attack(UNSOUND)
def an_erased_key_that_is_used_again(place: Place) -> None:
    with ledger.open(place.path) as log:
        run = log.run("rogue")
        sealed = log.blobs.prepare(log.writer.key(run.id), b"sealed before").inside
    rogue = Erasure(v=1, time=system_clock(), of=run.id, keys=[run_key_id(run.id).hex()])
    forger = append(place, [rogue])
    forger.entries().sign(key()).commit(blobs=[(blob.cid, blob.data) for blob in sealed])


@attack(UNSOUND)
def old_and_forged_statements(place: Place) -> None:
    with ledger.open(place.path) as log:
        trust, keys = log.chain.state.trusted(), log.chain.state.readable()
        first = next(r.entry for r in log.entries() if isinstance(r.entry, TrustChanged))
    forged = note.sign(msgspec.structs.replace(trust.note, serial=trust.note.serial + 1).format(), key())
    later = note.sign(msgspec.structs.replace(keys.note, serial=2).format(), key("owner"))
    append(
        place,
        [TrustChanged(v=1, time=system_clock(), note=first.note)],
        [TrustChanged(v=1, time=system_clock(), note=forged.decode())],
        [KeysChanged(v=1, time=system_clock(), note=later.decode())],
    )


@attack(UNSOUND)
def malformed_entries(place: Place) -> None:
    forger = Forger(place.path)
    for raw in (b'{"kind":"artifact","v":1}', b'{"kind":"test.note","a":"artifact://short"}', b'{"kind":"A"}'):
        forger.leaf(raw).sign(key()).commit().entries().sign(key()).commit()


@attack(UNSOUND)
def a_rogue_erasure_and_a_changed_pack_behind_it(place: Place) -> None:
    append(place, [Erasure(v=1, time=system_clock(), of=NOBODY, keys=[])], [names(place, NOBODY, 2)])
    ledgers.flip(ledgers.packs(place.path)[-1], 300)


@attack(UNSOUND)
def a_batch_by_an_author_who_was_ended(place: Place) -> None:
    Forger(place.path).entries().sign(key()).commit().entries().sign(key("ci")).commit().entries().sign(key()).commit()


@attack(UNSOUND)
def a_list_that_stands_elsewhere_than_first(place: Place) -> None:
    """Its list, and the list in which it stands, are packs apart."""
    blobs = [blob for found in Forger(place.path).old for blob in zip(found.cids, found.blobs, strict=True)]
    inner = next(cid for cid, data in blobs if lists.is_list(data))
    plain = next(cid for cid, data in blobs if not lists.is_list(data))
    bad = lists.build([plain, inner])
    Forger(place.path).entries().sign(key()).commit(blobs=[(bad.cid, bad.data)])


@attack(UNSOUND)
def blobs_that_are_gone_or_changed(place: Place) -> None:
    file = sorted(file for file in (place.path / "blobs").rglob("*") if file.is_file())
    file[0].write_bytes(b"x")
    for gone in file[1:]:
        gone.unlink()


@attack(UNSOUND)
def keys_that_are_gone(place: Place) -> None:
    shutil.rmtree(place.path / "keys" / "data")


@attack(UNSOUND)
def a_key_put_back_after_its_erasure(place: Place) -> None:
    with ledger.open(place.path) as log:
        gone = next(run.id for run in log.runs() if run.status == "erased")
        living = next(run.id for run in log.runs() if run.status != "erased")
    shutil.copy(place.path / data_name(run_key_id(living)), place.path / data_name(run_key_id(gone)))


@attack(UNSOUND)
def a_pack_in_the_middle_that_is_changed(place: Place) -> None:
    ledgers.flip(ledgers.packs(place.path)[12], 300)


@attack(UNSOUND)
def a_pack_in_the_middle_that_is_gone(place: Place) -> None:
    ledgers.packs(place.path)[12].unlink()


@attack(UNSOUND)
def two_packs_swapped(place: Place) -> None:
    a, b = ledgers.packs(place.path)[7:9]
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)


@attack(UNSOUND)
def a_header_that_claims_another_tree(place: Place) -> None:
    forger = Forger(place.path).entries().sign(key())
    frontier = [bytes(32) for _ in forger.before.hashes]
    forger.commit(frontier=frontier)
    Forger(place.path).entries().sign(key()).commit()


@attack(UNSOUND)
def a_history_cut_anew_without_a_batch_in_the_middle(place: Place) -> None:
    forger = Forger(place.path, keep=5)
    for found in forger.old[6:12]:
        forger.again(found)


@attack(UNSOUND)
def tiles_and_bundles_changed(place: Place) -> None:
    for file in sorted(file for file in (place.path / "tile").rglob("*") if file.is_file()):
        ledgers.flip(file, 20)


@attack(UNSOUND)
def the_end_cut_off_behind_the_checkpoint(place: Place) -> None:
    ledgers.packs(place.path)[-1].unlink()


@attack(UNSOUND)
def another_checkpoint(place: Place) -> None:
    ledgers.flip(place.path / "checkpoint", 30)


def verdict(place: Place, tmp_path: Path) -> tuple[set[tuple[int, str]], list[str], Report]:
    """What an auditor who never saw the ledger says, without times."""
    with Machine.under(tmp_path).here():
        report = ledger.verify(place.path, trust=place.trust)
    shutil.rmtree(tmp_path, ignore_errors=True)
    return {(found.step, found.what) for found in report.findings}, report.remarks, report


@pytest.mark.parametrize("what", [*SOUND, *UNSOUND])
def test_spans_of_any_length_say_the_same(
    place: Place, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what in SOUND:
        SOUND[what](place)
        sound(place.path, place.trust.owner)
    else:
        UNSOUND[what](place)
        unsound(place.path, place.trust.owner, *range(1, 12))
    monkeypatch.setattr(audit, "_SPAN_BYTES", 1 << 40)
    one = verdict(place, tmp_path / "one")
    for span_packs, parallel in ((1, False), (2, False), (7, False), (3, True)):
        monkeypatch.setattr(audit, "_SPAN_PACKS", span_packs)
        monkeypatch.setattr(audit, "_PARALLEL_FROM", 0 if parallel else 1 << 60)
        found = verdict(place, tmp_path / "other")
        assert found[:2] == one[:2], (span_packs, parallel)
        same = ["head", "published", "packs", "runs", "sound", "unchecked"]
        # Where the packs themselves are broken, they are read up to the end of some span.
        same += ["entries", "first", "last"] if one[2].head else []
        assert [getattr(found[2], name) for name in same] == [getattr(one[2], name) for name in same]


def test_a_span_is_no_longer_than_its_bytes(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(audit, "_SPAN_BYTES", 1)
    ledger.verify(place.path, trust=place.trust, progress=lambda done, total: told.append(done))
    assert len(told) == len(ledgers.packs(place.path))


# The clock.


def appended_at(place: Place, *minutes: int) -> list[int]:
    """Artifacts in packs of their own with these times; the indexes of all."""
    with ledger.open(place.path) as log:
        run = log.run("clock")
        now = datetime.now(UTC) + timedelta(days=1)
        found = []
        for at in minutes:
            item = ledger.Item(kind="artifact", content=f"at {at}", time=now + timedelta(minutes=at))
            found.append(run.append_many([item])[0].index)
    return found


def on_clocks(report: Report) -> list[str]:
    return [remark for remark in report.remarks if "clock" in remark]


SPANS = pytest.mark.parametrize("span", [1, 3, 1024])


@SPANS
def test_a_clock_that_went_back_is_remarked_on_once(place: Place, span: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_SPAN_PACKS", span)
    indexes = appended_at(place, 1, 2, 3, -5, -4, -3)
    assert on_clocks(sound(place.path, place.trust.owner)) == [
        f"the clock went back once, first at entry {indexes[3]:,}"
    ]


@SPANS
def test_a_clock_that_goes_forward_is_no_remark(place: Place, span: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_SPAN_PACKS", span)
    appended_at(place, 1, 2, 2, 3, 100)
    assert on_clocks(sound(place.path, place.trust.owner)) == []


@SPANS
def test_each_time_that_a_clock_went_back_is_counted(place: Place, span: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_SPAN_PACKS", span)
    indexes = appended_at(place, 5, 4, 6, 3, 2)
    assert on_clocks(sound(place.path, place.trust.owner)) == [
        f"the clock went back 3 times, first at entry {indexes[1]:,}"
    ]


@SPANS
def test_entries_without_a_time_move_no_clock(place: Place, span: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack that begins with entries of other kinds: the remark names the one whose time went back."""
    monkeypatch.setattr(audit, "_SPAN_PACKS", span)
    with ledger.open(place.path) as log:
        run = log.run("clock")
        step = log.chain.state.history.runs[run.id].step
    forger = Forger(place.path)
    early = names(place, run.id, step + 1)
    early = msgspec.structs.replace(early, time=datetime(2020, 1, 1, tzinfo=UTC))
    index = forger.entries(3).size
    forger.leaf(encode(early)).sign(key()).commit()
    assert on_clocks(sound(place.path, place.trust.owner)) == [f"the clock went back once, first at entry {index:,}"]
