"""Erasure: nothing of a run can be read afterwards, everything else can, and that it happened can't be hidden.

The attacker holds the storage, and copies of it from before; in some tests an author's key as well.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyrage
import pytest

import ledger
from ledger import doctor, homes
from ledger import erase as erasing
from ledger.commit import Draft
from ledger.disclose import disclose
from ledger.drafts import Content
from ledger.erase import erase
from ledger.log import system_clock
from schemas.entries import Artifact, Erasure, encode
from schemas.errors import CannotTell, Erased, LedgerError, Missing, NotFound, RunClosed
from schemas.ids import address, run_key_id
from store.datakeys import data_name, project_id, tombstone
from store.seal import seal
from tests.support.forge import Forger, key, parsed
from tests.support.machine import ORIGIN, Machine, Place, copied, new_ledger
from tests.support.verdicts import judged, sound, unsound

SECRET = b"the customer's own words, which nobody may keep"
NAME = "named-after-the-customer"


class Told(NamedTuple):
    """A ledger with a run to erase and one to keep, and addresses of their contents."""

    place: Place
    run: str
    gone: list[str]
    kept: list[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Told:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        run, other = log.run(NAME), log.run("another")
        contents: list[Content] = [
            SECRET,
            os.urandom(100_000) + SECRET,
            os.urandom(2_500_000),
            {"asked": SECRET.decode()},
        ]
        gone = [run.artifact(content, name=NAME).address for content in contents]
        gone.append(run.prompt({"input": [SECRET.decode()] * 30, "instructions": SECRET.decode() * 50}).address)
        kept = [other.artifact(content).address for content in [b"to keep", *contents[1:3]]]
        other.finish()
        return Told(place, run.id, gone, kept)


@pytest.fixture
def told(made: Told, tmp_path: Path) -> Iterator[Told]:
    place = copied(made.place, tmp_path / "place")
    with place.machine.here():
        yield made._replace(place=place)


def object_of(told: Told, id: bytes | None = None) -> Path:
    """The object of a data key: the run's where no id is given."""
    return told.place.path / data_name(run_key_id(told.run) if id is None else id)


def is_sound(told: Told) -> list[str]:
    return sound(told.place.path, told.place.trust.owner).remarks


def is_refused(told: Told, *steps: int) -> str:
    return unsound(told.place.path, told.place.trust.owner, *steps).findings[0].what


def erased(told: Told, reason: str = "") -> int:
    with ledger.open(told.place.path) as log:
        return erase(log, told.run, reason)[0]


def unreadable(log: ledger.Log, addresses: list[str]) -> None:
    for at in addresses:
        with pytest.raises((Erased, Missing)):
            log.read(at)


def everything(path: Path) -> bytes:
    return b"".join(p.read_bytes() for p in path.rglob("*") if p.is_file())


def data_key(told: Told) -> bytes:
    """The run's data key itself, as a reader gets at it."""
    with ledger.open(told.place.path) as log:
        [root] = log.blobs.keyring.roots()
        found: bytes = pyrage.decrypt(object_of(told).read_bytes(), [root])
        return found


# What is gone, and what is not


def test_nothing_of_an_erased_run_can_be_read_and_everything_else_can(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        before = [log.read(at) for at in told.kept]
        assert log.read(told.gone[0]) == SECRET
    erased(told)
    with ledger.open(told.place.path) as log:
        unreadable(log, told.gone)
        assert [log.read(at) for at in told.kept] == before
        info = next(r for r in log.runs() if r.id == told.run)
        assert (info.status, info.name) == ("erased", "")
        for recorded in log.entries(told.run):
            assert log.detail(getattr(recorded.entry, "detail", "")).name == ""
    is_sound(told)


def test_an_erased_run_can_not_be_read_by_who_erased_it(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        assert log.read(told.gone[0]) == SECRET
        erase(log, told.run)
        unreadable(log, told.gone)


def test_an_erased_run_can_not_be_read_by_a_process_that_had_read_it(told: Told) -> None:
    with ledger.open(told.place.path) as reader:
        assert reader.read(told.gone[0]) == SECRET
        erased(told)
        reader.catch_up()
        unreadable(reader, told.gone)


def test_an_erased_run_can_not_be_read_by_a_process_that_writes_it(told: Told) -> None:
    with ledger.open(told.place.path) as writer:
        run = writer.resume(told.run)
        run.artifact(SECRET)
        erased(told)
        with pytest.raises((Erased, RunClosed)):
            run.artifact(SECRET)
        unreadable(writer, told.gone)


def test_an_erased_run_can_not_be_read_on_another_machine_with_the_identity(told: Told, tmp_path: Path) -> None:
    erased(told)
    with told.place.machine.forgetful(tmp_path / "m").here(), ledger.open(told.place.path) as log:
        unreadable(log, told.gone)


def test_an_erased_run_can_not_be_found_by_its_content(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        assert len(list(log.find(SECRET))) == 1
    erased(told)
    with ledger.open(told.place.path) as log:
        assert list(log.find(SECRET)) == []
        assert len(list(log.find(b"to keep"))) == 1


def test_neither_plaintext_nor_data_key_lies_anywhere(told: Told) -> None:
    secret = data_key(told)
    sealed = object_of(told).read_bytes()
    erased(told, reason="a reason in words")
    where = told.place.path.parent
    for needle in (SECRET, NAME.encode(), secret, secret.hex().encode(), sealed[-64:], b"a reason in words"):
        assert needle not in everything(where)


def test_the_reason_is_sealed_and_readable_to_readers(told: Told) -> None:
    index = erased(told, reason="a reason in words")
    assert b"a reason in words" not in everything(told.place.path)
    with ledger.open(told.place.path) as log:
        log.catch_up_places()
        entry = log.entry(index).entry
        assert isinstance(entry, Erasure)
        assert log.detail(entry.detail).reason == "a reason in words"
    is_sound(told)


def test_a_detail_is_read_as_soon_as_a_ledger_is_open(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        started = next(r.entry for r in log.entries(told.run))
        assert log.detail(getattr(started, "detail", "")).name == NAME


def test_an_erased_ledger_is_sound_to_who_holds_an_identity(told: Told) -> None:
    erased(told, reason="why")
    identity = f"file:{homes.keys(ORIGIN) / 'identity.txt'}"
    assert ledger.verify(told.place.path, identity=identity).sound


def test_an_erased_ledger_is_sound_after_its_large_blobs_are_collected(told: Told) -> None:
    erased(told)
    old = 1_000_000_000
    for file in (told.place.path / "blobs").rglob("*"):
        os.utime(file, (old, old))
    before = sum(1 for p in (told.place.path / "blobs").rglob("*") if p.is_file())
    with ledger.open(told.place.path) as log:
        doctor.collect(log)
    after = sum(1 for p in (told.place.path / "blobs").rglob("*") if p.is_file())
    assert 0 < after < before
    is_sound(told)
    with ledger.open(told.place.path) as log:
        for at in told.kept:
            log.read(at)


def test_large_blobs_of_a_run_that_was_not_erased_may_not_be_missing(told: Told) -> None:
    erased(told)
    shutil.rmtree(told.place.path / "blobs")
    is_refused(told, 6)


def test_a_finished_run_can_be_erased(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        log.resume(told.run).finish()
    erased(told)
    is_sound(told)


# Who may not go on


def test_a_writer_that_holds_the_key_can_not_append_to_the_run(told: Told) -> None:
    with ledger.open(told.place.path) as writer:
        run = writer.resume(told.run)
        run.artifact("in time")
        erased(told)
        packs = len(parsed(told.place.path))
        for text in (b"too late", os.urandom(100_000)):
            with pytest.raises((Erased, RunClosed)):
                run.artifact(text)
        with pytest.raises((Erased, RunClosed)):
            run.finish()
        assert len(parsed(told.place.path)) == packs
        writer.run("another").artifact("goes on")
    is_sound(told)


def test_an_erased_run_is_not_resumed(told: Told) -> None:
    erased(told)
    with ledger.open(told.place.path) as log, pytest.raises(RunClosed):
        log.resume(told.run)


def test_a_rogue_author_who_goes_on_with_an_erased_key_is_found(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        kept, third = log.writer.key(told.run), log.run("third").id
    erased(told)
    blob = seal(kept, b"too late")
    entry = Artifact(
        v=1, time=system_clock(), run=third, step=2, content=address(blob.cid), digest=kept.digest(b"too late")
    )
    Forger(told.place.path).leaf(encode(entry)).sign(key()).commit(blobs=[blob])
    is_refused(told, 6)


def test_a_rogue_author_who_appends_to_an_erased_run_is_found(told: Told) -> None:
    erased(told)
    leaf = b'{"kind":"run.finished","v":1,"time":"2026-11-22T00:00:00Z","run":"%s","step":8,"status":"failed"}'
    Forger(told.place.path).leaf(leaf % told.run.encode()).sign(key()).commit()
    is_refused(told, 11)


def test_a_run_that_grows_while_it_is_erased_is_erased_whole(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        entries = list(log.entries(told.run))
        # Another thread of this process is faster than the one that erases.
        log.resume(told.run).artifact("sealed under a key that nobody listed")
        with pytest.raises(LedgerError):
            erasing._commit(log, told.run, "", [run_key_id(told.run).hex()], entries[-1])


# Keys put back, taken away, buried wrongly


def test_a_key_put_back_after_its_erasure_is_found(told: Told) -> None:
    sealed = object_of(told).read_bytes()
    index = erased(told)
    object_of(told).write_bytes(sealed)
    assert f"entry {index} erased it" in is_refused(told, 6)


def test_a_key_put_back_is_not_used_for_writing(told: Told) -> None:
    sealed = object_of(told).read_bytes()
    erased(told)
    object_of(told).write_bytes(sealed)
    with ledger.open(told.place.path) as log, pytest.raises((Erased, RunClosed)):
        log.resume(told.run)


def test_a_key_put_back_is_removed_by_erasing_again(told: Told) -> None:
    sealed = object_of(told).read_bytes()
    erased(told)
    object_of(told).write_bytes(sealed)
    with ledger.open(told.place.path) as log:
        assert erase(log, told.run)[1] == 1
        unreadable(log, told.gone)
    is_sound(told)


def test_a_key_deleted_without_an_entry_is_found(told: Told) -> None:
    object_of(told).unlink()
    assert "no entry erased it" in is_refused(told, 6)


def test_a_tombstone_without_an_entry_is_found(told: Told) -> None:
    object_of(told).write_bytes(tombstone(ORIGIN, 3))
    is_refused(told, 6)


def test_a_tombstone_that_is_gone_is_found(told: Told) -> None:
    erased(told)
    object_of(told).unlink()
    is_refused(told, 6)


@pytest.mark.parametrize("what", ["another entry", "another origin", "garbage", "another spelling", "nothing"])
def test_a_wrong_tombstone_is_found(told: Told, what: str) -> None:
    index = erased(told)
    right = object_of(told).read_bytes()
    assert right == tombstone(ORIGIN, index)
    wrong = {
        "another entry": tombstone(ORIGIN, index - 1),
        "another origin": tombstone("test.example/other", index),
        "garbage": b"erased\n",
        "another spelling": right.replace(str(index).encode(), f"0{index}".encode()),
        "nothing": b"",
    }
    object_of(told).write_bytes(wrong[what])
    is_refused(told, 6)


def test_a_wrong_tombstone_beside_an_erasing_mark_is_found(told: Told) -> None:
    # The mark forgives a living key, and nothing else.
    index = erased(told)
    object_of(told).write_bytes(tombstone(ORIGIN, index - 1))
    object_of(told).with_suffix(".erasing").write_bytes(b"")
    is_refused(told, 6)


def test_a_tombstone_that_is_gone_is_found_beside_an_erasing_mark(told: Told) -> None:
    erased(told)
    object_of(told).unlink()
    object_of(told).with_suffix(".erasing").write_bytes(b"")
    is_refused(told, 6)


def test_an_erasing_mark_alone_changes_nothing(told: Told) -> None:
    # Interrupted before its entry: the key lives, and nobody claims otherwise.
    object_of(told).with_suffix(".erasing").write_bytes(b"")
    is_sound(told)
    with ledger.open(told.place.path) as log:
        assert log.read(told.gone[0]) == SECRET
        log.resume(told.run).artifact("goes on")
    erased(told)
    assert not list((told.place.path / "keys").rglob("*.erasing"))
    is_sound(told)


# Interrupted, and done twice


def _interrupted(told: Told) -> int:
    """The entry is committed, its key still there: as a crash in between leaves it."""
    sealed = object_of(told).read_bytes()
    index = erased(told)
    object_of(told).write_bytes(sealed)
    object_of(told).with_suffix(".erasing").write_bytes(b"")
    return index


def test_an_interrupted_erasure_is_remarked_on(told: Told) -> None:
    index = _interrupted(told)
    assert any(f"entry {index}" in remark and "not carried out yet" in remark for remark in is_sound(told))


def test_an_interrupted_erasure_is_finished_by_erasing_again(told: Told) -> None:
    index = _interrupted(told)
    packs = len(parsed(told.place.path))
    with ledger.open(told.place.path) as log:
        assert erase(log, told.run) == (index, 1)
    assert len(parsed(told.place.path)) == packs, "it is recorded once"
    assert not list((told.place.path / "keys").rglob("*.erasing"))
    assert object_of(told).read_bytes() == tombstone(ORIGIN, index)
    assert not any("not carried out" in remark for remark in is_sound(told))


def test_an_interrupted_erasure_takes_no_more_entries(told: Told) -> None:
    with ledger.open(told.place.path) as writer:
        run = writer.resume(told.run)
        _interrupted(told)
        with pytest.raises((Erased, RunClosed)):
            run.artifact("too late")


def test_erasing_twice_changes_nothing(told: Told) -> None:
    index = erased(told)
    before = {p: p.read_bytes() for p in told.place.path.rglob("*") if p.is_file()}
    with ledger.open(told.place.path) as log:
        assert erase(log, told.run, "again") == (index, 0)
    assert {p: p.read_bytes() for p in told.place.path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("run", ["01920000-0000-7000-8000-000000000000", "", "@", "%", "' OR true --"])
def test_an_unknown_run_can_not_be_erased(told: Told, run: str) -> None:
    before = {p: p.read_bytes() for p in told.place.path.rglob("*") if p.is_file()}
    with ledger.open(told.place.path) as log, pytest.raises(NotFound):
        erase(log, run)
    assert {p: p.read_bytes() for p in told.place.path.rglob("*") if p.is_file()} == before


# Keys that are shared, and keys of who can't read


def test_the_key_that_runs_share_is_never_erased(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        shared = log.project_key()
        prepared = log.blobs.prepare(shared, b"an input of many runs")
        entry = Artifact(v=1, time=system_clock(), run=told.run, content=prepared.address, digest=prepared.digest)
        log.writer.commit(Draft([entry], [prepared], [prepared.address]))
    index = erased(told)
    with ledger.open(told.place.path) as log:
        assert log.read(prepared.address) == b"an input of many runs"
        found = log.entry(index).entry
        assert isinstance(found, Erasure)
        assert project_id(0).hex() not in found.keys
        unreadable(log, told.gone)
    is_sound(told)


def test_a_rogue_erasure_of_the_shared_key_is_found_and_stops_nobody(told: Told) -> None:
    rogue = Erasure(v=1, time=system_clock(), of=told.run, keys=[project_id(0).hex()])
    Forger(told.place.path).leaf(encode(rogue)).sign(key()).commit()
    is_refused(told, 11)
    with ledger.open(told.place.path) as log:
        log.run("still").artifact("written")


def test_a_rogue_erasure_that_lists_no_keys_does_not_shield_the_run(told: Told) -> None:
    # Recorded as erased while its key lives on: whoever erases afterwards must still succeed.
    rogue = Erasure(v=1, time=system_clock(), of=told.run, keys=[])
    Forger(told.place.path).leaf(encode(rogue)).sign(key()).commit()
    erased(told)
    with ledger.open(told.place.path) as log:
        unreadable(log, told.gone)
    is_sound(told)


def test_an_erasure_of_a_run_that_never_started_is_found(told: Told) -> None:
    rogue = Erasure(v=1, time=system_clock(), of="01920000-0000-7000-8000-000000000000", keys=[])
    Forger(told.place.path).leaf(encode(rogue)).sign(key()).commit()
    is_refused(told, 11)


@pytest.fixture
def blind(told: Told, tmp_path: Path) -> Place:
    """CI: an author without an identity, on a machine of its own."""
    folder = tmp_path / "ci"
    shutil.copytree(told.place.machine.keys, folder / "keys")
    for name in ("identity.txt", "owner.key", "log.key"):
        for file in (folder / "keys").rglob(name):
            file.unlink()
    return Place(told.place.path, Machine.under(folder), told.place.trust)


def test_what_a_blind_writer_adds_is_erased_too(told: Told, blind: Place) -> None:
    with blind.machine.here(), ledger.open(blind.path) as log:
        run = log.resume(told.run)
        added = [run.artifact(SECRET, name=NAME).address, run.artifact(os.urandom(3_000_000)).address]
        with pytest.raises(CannotTell):
            ledger.open(blind.path).read(told.gone[0])
    with ledger.open(told.place.path) as log:
        assert log.read(added[0]) == SECRET
        index, count = erase(log, told.run)
        assert count == 2
        found = log.entry(index).entry
        assert isinstance(found, Erasure)
        assert len(found.keys) == 2
    with ledger.open(told.place.path) as log:
        unreadable(log, [*told.gone, *added])
    is_sound(told)


def test_a_blind_writer_erases_what_it_can_not_read(told: Told, blind: Place) -> None:
    with blind.machine.here(), ledger.open(blind.path) as log:
        log.resume(told.run).artifact(SECRET)
        erase(log, told.run, "asked by the customer")
    with ledger.open(told.place.path) as log:
        unreadable(log, told.gone)
        assert log.detail(next(r.entry for r in log.entries() if isinstance(r.entry, Erasure)).detail).reason
    is_sound(told)


def test_a_blind_writers_run_is_erased_while_it_writes(told: Told, blind: Place) -> None:
    with blind.machine.here(), ledger.open(blind.path) as log:
        run = log.run("blind")
        added = run.artifact(SECRET).address
        with told.place.machine.here(), ledger.open(told.place.path) as other:
            assert other.read(added) == SECRET
            erase(other, run.id)
        with pytest.raises((Erased, RunClosed)):
            run.artifact(SECRET)
        unreadable(log, [added])
    with ledger.open(told.place.path) as log:
        unreadable(log, [added])
    is_sound(told)


def test_every_key_that_was_erased_has_its_tombstone(told: Told, blind: Place) -> None:
    with blind.machine.here(), ledger.open(blind.path) as log:
        log.resume(told.run).artifact(SECRET)
    index = erased(told)
    with ledger.open(told.place.path) as log:
        found = log.entry(index).entry
    assert isinstance(found, Erasure)
    for id in found.keys:
        assert object_of(told, bytes.fromhex(id)).read_bytes() == tombstone(ORIGIN, index)
        object_of(told, bytes.fromhex(id)).unlink()
        assert not judged(told.place.path, told.place.trust.owner).sound
        object_of(told, bytes.fromhex(id)).write_bytes(tombstone(ORIGIN, index))
    is_sound(told)


def test_a_damaged_cache_hides_no_key_from_an_erasure(told: Told, blind: Place) -> None:
    """Places are a cache: that a blob is not found there must not leave its key alive."""
    with blind.machine.here(), ledger.open(blind.path) as log:
        added = log.resume(told.run).artifact(SECRET).address
    with ledger.open(told.place.path) as log:
        assert log.read(added) == SECRET
        log.places.save()
    tables = list(homes.cache(ORIGIN).rglob("*.places"))
    assert tables
    for table in tables:
        table.write_bytes(table.read_bytes()[:96].ljust(table.stat().st_size, b"\0"))
    with ledger.open(told.place.path) as log:
        index, count = erase(log, told.run)
        found = log.entry(index).entry
    assert isinstance(found, Erasure)
    assert count == len(found.keys) == 2
    with ledger.open(told.place.path) as log:
        unreadable(log, [*told.gone, added])
    is_sound(told)


def test_an_erasure_never_reaches_another_runs_keys(told: Told, blind: Place) -> None:
    """Somebody who may write names another run's contents, whose addresses are in clear, in the run to be erased."""
    with ledger.open(told.place.path) as log:
        theirs = log.run("theirs")
        address = theirs.artifact(b"theirs").address
    with blind.machine.here(), ledger.open(told.place.path) as log:
        blindly = log.run("blindly").artifact(b"written blindly").address
    with ledger.open(told.place.path) as log:
        step = log.chain.state.history.runs[told.run].step
    forger = Forger(told.place.path)
    for content in (*told.kept, address, blindly):
        step += 1
        named = Artifact(v=1, time=system_clock(), run=told.run, step=step, content=content, digest="0" * 64)
        forger.leaf(encode(named))
    forger.sign(key()).commit()
    erased(told)
    with ledger.open(told.place.path) as log:
        assert log.read(address) == b"theirs"
        assert log.read(blindly) == b"written blindly"
        assert log.read(told.kept[0]) == b"to keep"
        unreadable(log, told.gone)
    is_sound(told)


@pytest.mark.parametrize("whose", ["another run's", "nobody's", "the shared one"])
def test_an_erasure_that_lists_a_foreign_key_is_found_and_hides_nothing(told: Told, whose: str) -> None:
    with ledger.open(told.place.path) as log:
        theirs = log.run("theirs")
        address = theirs.artifact(b"theirs").address
    listed = {"another run's": run_key_id(theirs.id), "nobody's": os.urandom(16), "the shared one": project_id(0)}
    rogue = Erasure(v=1, time=system_clock(), of=told.run, keys=[listed[whose].hex()])
    Forger(told.place.path).leaf(encode(rogue)).sign(key()).commit()
    with ledger.open(told.place.path) as log:
        assert log.read(address) == b"theirs"
        assert log.read(told.gone[0]) == SECRET
        log.run("still").artifact("written")
        erase(log, theirs.id, "meant")
    assert "which is not of run" in is_refused(told, 11)


def test_an_erasure_that_is_a_step_of_a_run_keeps_the_runs_rules(told: Told) -> None:
    rogue = Erasure(v=1, time=system_clock(), run=told.run, step=77, of=told.run, keys=[])
    Forger(told.place.path).leaf(encode(rogue)).sign(key()).commit()
    assert "step 77" in is_refused(told, 11)


def test_what_was_disclosed_of_an_erased_run_may_go_with_it(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        disclose(log, told.gone[1])
    erased(told)
    for file in (told.place.path / "blobs").rglob("*"):
        os.utime(file, (0, 0))
    with ledger.open(told.place.path) as log:
        assert doctor.collect(log)[0] > 0
    is_sound(told)
    rest = [file for file in (told.place.path / "blobs").rglob("*") if file.is_file()]
    assert rest, "what the other run holds is there"
    rest[0].unlink()
    is_refused(told, 6)
