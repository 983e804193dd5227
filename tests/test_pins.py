"""Rollback and forks: what a machine has seen of a log, nobody takes back without its noticing.

The attacker holds the storage, and copies of it from any time; in some tests an author's key as well.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ledger
from ledger import checkpoint, homes, pins
from schemas.errors import CannotTell, LedgerError, NotSound, RolledBack
from store.folder import Folder
from store.signers import Verifier
from tests.support import ledgers
from tests.support.forge import Forger, drop_derived, key, parsed
from tests.support.machine import ORIGIN, Place, copied, new_ledger
from tests.support.verdicts import sound

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        with log.run("first") as run:
            run.prompt("asked")
        log.run("open").artifact("more")
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    """A machine that has seen all of the ledger."""
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


def other_machine(place: Place, folder: Path) -> Place:
    """The same ledger and the same keys, on a machine that has seen nothing yet."""
    return Place(place.path, place.machine.forgetful(folder), place.trust)


def append(path: Path, text: str = "x") -> int:
    with ledger.open(path) as log, log.run(text) as run:
        return run.artifact(text).index


def replace(path: Path, by: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(by, path)


def refused(path: Path, match: str = "this machine has seen") -> None:
    """It is not opened, so nothing is appended; and verify finds it at step 8."""
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises(RolledBack, match=match):
        ledger.open(path)
    report = ledger.verify(path)
    assert [finding.step for finding in report.findings] == [8], report.findings
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


# Cut off


@pytest.mark.parametrize("packs", [1, 2, 4])
def test_a_ledger_that_was_cut_behind_its_pin_is_refused(place: Place, packs: int) -> None:
    for file in ledgers.packs(place.path)[-packs:]:
        file.unlink()
    drop_derived(place.path)
    refused(place.path, "behind what this machine has seen")


def test_a_ledger_whose_packs_are_all_gone_is_refused(place: Place) -> None:
    shutil.rmtree(place.path / "packs")
    with pytest.raises(RolledBack, match="behind"):
        ledger.open(place.path)
    with pytest.raises(LedgerError):
        ledger.verify(place.path)


def test_a_cut_that_was_refused_is_refused_again(place: Place) -> None:
    ledgers.packs(place.path)[-1].unlink()
    drop_derived(place.path)
    for _ in range(3):
        refused(place.path)


def test_a_cut_ledger_that_grew_past_the_pin_again_is_refused(place: Place, tmp_path: Path) -> None:
    for file in ledgers.packs(place.path)[-2:]:
        file.unlink()
    drop_derived(place.path)
    with other_machine(place, tmp_path / "m").machine.here():
        for number in range(3):
            append(place.path, str(number))
    refused(place.path, "contradicts")


def test_a_machine_without_a_pin_is_told_by_the_checkpoint(place: Place, tmp_path: Path) -> None:
    ledgers.packs(place.path)[-1].unlink()
    with other_machine(place, tmp_path / "m").machine.here(), pytest.raises(NotSound, match="cut off"):
        ledger.open(place.path)


def test_a_writer_that_is_open_does_not_build_upon_a_pack_that_is_gone(place: Place) -> None:
    with pytest.raises(LedgerError), ledger.open(place.path) as log:
        run = log.run("open")
        ledgers.packs(place.path)[-1].unlink()
        run.artifact("acknowledged, and then?")


def test_a_writer_that_is_open_does_not_build_upon_a_pack_that_was_replaced(place: Place, tmp_path: Path) -> None:
    fork = copied(place, tmp_path / "fork")
    with fork.machine.here(), ledger.open(fork.path) as log:
        log.run("another")
    with pytest.raises(LedgerError), ledger.open(place.path) as log:
        log.run("one")
        shutil.copy(ledgers.packs(fork.path)[-1], ledgers.packs(place.path)[-1])
        log.run("acknowledged, and then?")


# Forks and restored copies


@pytest.mark.parametrize("longer", [0, 3])
def test_a_fork_is_refused_where_the_other_was_seen(place: Place, tmp_path: Path, longer: int) -> None:
    fork = copied(place, tmp_path / "fork")
    append(place.path, "one story")
    with fork.machine.here():
        for number in range(1 + longer):
            append(fork.path, f"another {number}")
    sound(place.path, place.trust.owner)
    sound(fork.path, fork.trust.owner)
    replace(place.path, fork.path)
    refused(place.path, "contradicts")
    with fork.machine.here():
        replace(fork.path, place.path)
        append(fork.path)


def test_a_replaced_last_pack_is_refused_where_the_other_was_seen(place: Place, tmp_path: Path) -> None:
    # Fewer leaves changed than anybody looks at: one pack, same number, same size.
    Forger(place.path).entries().sign(key()).commit()
    fork = copied(place, tmp_path / "fork")
    with ledger.open(place.path):
        pass
    last = len(parsed(fork.path)) - 1
    forger = Forger(fork.path, keep=last)
    forger.leaf(b'{"kind":"test.note","number":0}').sign(key()).commit()
    sound(fork.path, fork.trust.owner)
    replace(place.path, fork.path)
    refused(place.path, "contradicts")


def test_a_restored_backup_is_refused(place: Place, tmp_path: Path) -> None:
    backup = copied(place, tmp_path / "backup")
    append(place.path)
    replace(place.path, backup.path)
    refused(place.path, "behind")


def test_a_restored_backup_that_was_continued_elsewhere_is_refused(place: Place, tmp_path: Path) -> None:
    backup = copied(place, tmp_path / "backup")
    append(place.path)
    replace(place.path, backup.path)
    with other_machine(place, tmp_path / "m").machine.here():
        append(place.path, "elsewhere")
        append(place.path, "elsewhere")
        assert ledger.verify(place.path).sound
    refused(place.path)


def test_a_ledger_that_grew_elsewhere_is_no_rollback(place: Place, tmp_path: Path) -> None:
    with other_machine(place, tmp_path / "m").machine.here():
        append(place.path)
    append(place.path)
    assert ledger.verify(place.path).sound


def test_an_auditors_head_of_another_fork_is_not_continued(place: Place, tmp_path: Path) -> None:
    fork = copied(place, tmp_path / "fork")
    append(place.path, "one story")
    with fork.machine.here():
        append(fork.path, "another")
        head = ledger.verify(fork.path).head
    assert head is not None
    with other_machine(place, tmp_path / "m").machine.here():
        [finding] = ledger.verify(place.path, since=head).findings
    assert finding.step == 8


def test_verify_pins_nothing_that_is_not_sound(place: Place, tmp_path: Path) -> None:
    with other_machine(place, tmp_path / "m").machine.here():
        ledgers.flip(ledgers.packs(place.path)[-1], 60)
        assert not ledger.verify(place.path).sound
        assert not homes.pins(ORIGIN).exists() or not list(homes.pins(ORIGIN).glob("*.pin"))


def test_the_ledger_of_a_stranger_under_the_same_origin_is_refused(place: Place, tmp_path: Path) -> None:
    other = new_ledger(tmp_path / "other")
    with other.machine.here():
        for number in range(4):
            append(other.path, str(number))
    replace(place.path, other.path)
    with pytest.raises(RolledBack, match="contradicts"):
        ledger.open(place.path)
    with other_machine(place, tmp_path / "m").machine.here(), pytest.raises(NotSound, match="owner"):
        ledger.open(place.path)
    assert {finding.step for finding in ledger.verify(place.path).findings} <= {5, 8}


def test_the_keys_of_another_ledger_of_the_same_name_do_not_help(place: Place, tmp_path: Path) -> None:
    other = new_ledger(tmp_path / "other")
    with other_machine(other, tmp_path / "m").machine.here(), pytest.raises(NotSound, match="owner"):
        ledger.open(place.path)


def test_pins_of_two_ledgers_of_one_origin_are_apart(place: Place, tmp_path: Path) -> None:
    other = new_ledger(tmp_path / "other")
    with other.machine.here():
        append(other.path)
    for pin in other.machine.state.rglob("*.pin"):
        shutil.copy(pin, homes.pins(ORIGIN))
    append(place.path)
    assert ledger.verify(place.path).sound


# The pin itself


def _pin() -> Path:
    [found] = homes.pins(ORIGIN).glob("*.pin")
    return found


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "an empty object": lambda data: b"{}",
    "null": lambda data: b"null",
    "no packs": lambda data: data.replace(b'"packs":', b'"packs":0,"was":'),
    "not utf-8": lambda data: data.replace(b'"runs"', b'"run\xff"'),
    "negative": lambda data: data.replace(b'"size":', b'"size":-'),
    "other statements": lambda data: data.replace(b"author 0", b"author 1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pin_is_never_passed_over(place: Place, damage: str) -> None:
    _pin().write_bytes(DAMAGES[damage](_pin().read_bytes()))
    damaged = _pin().read_bytes()
    with pytest.raises(RolledBack):
        ledger.open(place.path)
    with pytest.raises(RolledBack):
        ledger.verify(place.path)
    assert _pin().read_bytes() == damaged


def test_a_flipped_byte_of_a_pin_is_noticed_or_changes_nothing(place: Place) -> None:
    file, folder = _pin(), Folder(place.path)
    owner = Verifier.parse(place.trust.owner)
    data = file.read_bytes()
    before = pins.load(homes.pins(ORIGIN), owner)
    assert before is not None
    assert before.history.runs, "a run is open, so that runs are in the pin"
    missed = []
    for offset in range(len(data)):
        file.write_bytes(data[:offset] + bytes([data[offset] ^ 1 << offset % 3]) + data[offset + 1 :])
        try:
            state = pins.load(homes.pins(ORIGIN), owner)
            assert state is not None
            pins.check(state, folder)
        except RolledBack:
            continue
        if pins.of(state) != pins.of(before):
            missed.append((offset, data[max(0, offset - 20) : offset + 20]))
    assert not missed


def test_a_pin_never_goes_back(place: Place) -> None:
    with ledger.open(place.path) as stale:
        append(place.path)
        after = _pin().read_bytes()
    assert _pin().read_bytes() == after
    assert stale.origin == ORIGIN


def test_a_pin_is_closed_to_others_and_leaves_nothing_in_the_ledger(place: Place, tmp_path: Path) -> None:
    files = {p: p.read_bytes() for p in place.path.rglob("*") if p.is_file()}
    with other_machine(place, tmp_path / "another user").machine.here():
        assert ledger.verify(place.path).sound
        assert _pin().stat().st_mode & 0o077 == 0
        assert homes.pins(ORIGIN).stat().st_mode & 0o077 == 0
    assert {p: p.read_bytes() for p in place.path.rglob("*") if p.is_file()} == files
    append(place.path)
    for file in (p for p in place.path.rglob("*") if p.is_file()):
        assert not file.name.endswith(".pin")
        assert str(tmp_path).encode() not in file.read_bytes()


def test_a_foreign_trust_root_is_refused(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_ledger(tmp_path / "other")
    monkeypatch.setenv("LEDGER_TRUST", other.trust.owner.replace(ORIGIN, "test.example/x"))
    with pytest.raises(CannotTell):
        ledger.open(place.path)


# The published checkpoint


def _published(place: Place) -> int:
    data = (place.path / "checkpoint").read_bytes()
    return checkpoint.Checkpoint.parse(data, key("log").verifier).head.size


def _many(place: Place, count: int) -> None:
    with ledger.open(place.path) as log, log.run("many") as run:
        run.append_many([ledger.Item(kind="artifact", content=str(n)) for n in range(count)])


@pytest.mark.parametrize("more", [3, 300], ids=["same tile", "tile since filled"])
def test_an_older_checkpoint_put_back_is_counted_as_lag(place: Place, more: int) -> None:
    old, size = (place.path / "checkpoint").read_bytes(), _published(place)
    _many(place, more)
    full = _published(place)
    (place.path / "checkpoint").write_bytes(old)
    assert f"{full - size:,} leaves not published yet" in sound(place.path, place.trust.owner).remarks


@pytest.mark.parametrize("more", [3, 300], ids=["same tile", "tile since filled"])
def test_an_older_checkpoint_put_back_is_overtaken_by_the_next(place: Place, more: int) -> None:
    old = (place.path / "checkpoint").read_bytes()
    _many(place, more)
    full = _published(place)
    (place.path / "checkpoint").write_bytes(old)
    append(place.path)
    assert _published(place) > full
    assert not any("not published" in remark for remark in sound(place.path, place.trust.owner).remarks)


def test_an_older_checkpoint_put_back_under_an_open_writer_is_overtaken(place: Place) -> None:
    old = (place.path / "checkpoint").read_bytes()
    with ledger.open(place.path) as log:
        run = log.run("open")
        log.publisher.now()
        full = _published(place)
        (place.path / "checkpoint").write_bytes(old)
        run.artifact("next")
        log.publisher.now()
        assert _published(place) > full
    sound(place.path, place.trust.owner)


def test_a_stale_process_never_makes_the_checkpoint_smaller(place: Place) -> None:
    stale = ledger.open(place.path)
    append(place.path)
    full = _published(place)
    stale.publisher.now()
    stale.close()
    assert _published(place) == full
    sound(place.path, place.trust.owner)


def test_a_checkpoint_ahead_of_the_packs_is_never_published_over(place: Place, tmp_path: Path) -> None:
    # The packs were cut, the checkpoint was not: to publish a smaller one would hide the cut.
    before = (place.path / "checkpoint").read_bytes()
    ledgers.packs(place.path)[-1].unlink()
    with other_machine(place, tmp_path / "m").machine.here(), pytest.raises(LedgerError):
        append(place.path)
    assert (place.path / "checkpoint").read_bytes() == before


# Writers that stall


def test_a_stalled_writer_lands_after_the_others_and_once(place: Place) -> None:
    code = "import sys, ledger; log = ledger.open(sys.argv[1]); log.run().artifact('other'); log.close()"
    environment = place.machine.environment | {"PYTHONPATH": str(ROOT)}
    with ledger.open(place.path) as stalled:
        run = stalled.run("stalled")
        for _ in range(2):
            subprocess.run([sys.executable, "-c", code, str(place.path)], env=environment, check=True)
        with ledger.open(place.path) as log:
            size = log.chain.state.size
        made = run.artifact("once and after")
        assert made.index >= size
    sound(place.path, place.trust.owner)
    with ledger.open(place.path) as log:
        found = [r for r in log.entries() if getattr(r.entry, "content", "") == made.address]
        assert [r.index for r in found] == [made.index]
        assert log.read(made.address) == b"once and after"


def test_a_stalled_writer_of_a_finished_run_writes_nothing(place: Place) -> None:
    with ledger.open(place.path) as stalled:
        run = stalled.run("shared")
        with ledger.open(place.path) as log:
            log.resume(run.id).finish()
            size = log.chain.state.size
        with pytest.raises(LedgerError):
            run.artifact("too late")
        stalled.catch_up()
        assert stalled.chain.state.size == size
    sound(place.path, place.trust.owner)
