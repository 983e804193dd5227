"""Step 10: every content opens and is what its entry states, whatever lies in this machine's cache."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import ledger
from ledger import homes
from ledger.audit.report import Report
from ledger.commit import Draft
from ledger.disclose import disclose
from ledger.erase import erase
from ledger.index.reader import Log
from ledger.log import system_clock
from schemas.entries import Artifact, Disclosure, Erasure
from schemas.ids import address, cid_of, run_key_id
from store import lists, pack
from store.blobs import Prepared, large_name
from store.datakeys import data_name
from store.seal import cid
from tests.support import ledgers
from tests.support.machine import ORIGIN, Place, copied, new_ledger

CONTENT = os.urandom(2_500_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        with log.run("first", stage="plan") as run:
            run.artifact(CONTENT, name="large")
            run.artifact(b"small", name="small", media_type="text/plain")
        with log.run("second") as run:
            run.artifact(CONTENT)
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


def audited(place: Place) -> Report:
    identity = homes.keys(ORIGIN) / "identity.txt"
    return ledger.verify(place.path, trust=place.trust, identity=f"file:{identity}")


def cache(place: Place) -> list[Path]:
    """Tables of places, in this machine's cache."""
    with ledger.open(place.path) as log:
        log.catch_up_places()
        log.places.save()
    found = list(homes.cache(ORIGIN).rglob("*.places"))
    assert found
    return found


def test_every_content_opens(place: Place) -> None:
    with ledger.open(place.path) as log:
        disclose(log, log.run("third").artifact(os.urandom(100_000)).address)
        erase(log, log.runs()[1].id, "a reason")
    report = audited(place)
    assert report.sound, report.findings
    assert not [what for what in report.unchecked if "contents" in what]


@pytest.mark.parametrize("at", [11, 32 + 5, 32 + 10, 32 + 14], ids=["cid", "pack", "offset", "length"])
def test_a_damaged_cache_changes_no_verdict(place: Place, at: int) -> None:
    for table in cache(place):
        data = bytearray(table.read_bytes())
        for record in range(96, len(data), 48):
            data[record + at] ^= 1
        table.write_bytes(data)
    report = audited(place)
    assert report.sound, report.findings
    assert not [what for what in report.unchecked if "contents" in what]


def test_a_second_audit_of_the_same_process_opens_the_keys_again(tmp_path: Path) -> None:
    """Contents that lie in packs, whose keys the first audit has opened, and that are damaged since."""
    place = new_ledger(tmp_path / "place")
    with place.machine.here():
        with ledger.open(place.path) as log:
            run = log.run("small")
            run.artifact(b"small")
        assert audited(place).sound
        ledgers.flip(place.path / data_name(run_key_id(run.id)), 250)
        assert {finding.step for finding in audited(place).findings} == {10}


@pytest.mark.parametrize("where", ["", "file"])
def test_an_audit_leaves_nothing_behind(place: Place, where: str) -> None:
    folder = homes.cache(ORIGIN)
    if where:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.write_text("in the way")
    report = audited(place)
    assert report.sound, report.findings
    assert folder.is_file() if where else not list(folder.rglob("audit-*"))


def test_what_an_audit_that_was_killed_left_is_removed(place: Place) -> None:
    home = cache(place)[0].parent.parent
    (home / "audit-left").mkdir()
    (home / "audit-left" / "0.places").write_bytes(b"x")
    os.utime(home / "audit-left", (0, 0))
    (home / "audit-running").mkdir()
    assert audited(place).sound
    assert not (home / "audit-left").exists()
    assert (home / "audit-running").exists()


def append(log: Log, detail: bytes | None = None, **changes: object) -> str:
    """An artifact with that detail; returns the detail's address."""
    run = log.run("more")
    key = log.writer.key(run.id)
    made = [log.blobs.prepare(key, b"content")]
    if detail is not None:
        made.append(log.blobs.prepare(key, detail))
    entry = Artifact(
        v=1,
        time=system_clock(),
        run=run.id,
        content=made[0].address,
        digest=made[0].digest,
        detail=made[-1].address if detail is not None else "",
    )
    log.writer.commit(Draft([msgspec.structs.replace(entry, **changes)], made, [made[0].address]))
    return made[-1].address


GOOD = [b"{}", b'{"name":"n"}', b'{"name":"n","media_type":"m","reason":"r"}', b' { "reason" : "\\u00fc" } ']
WRONG = [b"", b"no json", b"[]", b'{"name":""}', b'{"name":7}', b'{"names":"n"}', b'{"name":"\xff"}', b"[" * 100_000]
WRONG.append(b'{"name":"' + b"long" * 500_000)


@pytest.mark.parametrize("detail", GOOD)
def test_a_detail_is_a_json_object(place: Place, detail: bytes) -> None:
    with ledger.open(place.path) as log:
        append(log, detail)
    report = audited(place)
    assert report.sound, report.findings


@pytest.mark.parametrize("detail", WRONG, ids=range(len(WRONG)))
def test_a_detail_that_is_none_is_found(place: Place, detail: bytes) -> None:
    with ledger.open(place.path) as log:
        append(log, detail)
    [finding] = audited(place).findings
    assert finding.step == 10
    assert "detail" in finding.what


def test_a_detail_too_long_to_be_looked_at_is_said(place: Place) -> None:
    with ledger.open(place.path) as log:
        append(log, bytes(17 << 20))
    report = audited(place)
    assert report.sound, report.findings
    assert "1 contents (details of more than 16 MiB)" in report.unchecked


def test_a_wrong_detail_of_a_wrong_content_are_two_findings(place: Place) -> None:
    with ledger.open(place.path) as log:
        append(log, b"no json", digest="0" * 64)
    assert [finding.step for finding in audited(place).findings] == [10, 10]


def wrong(log: Log) -> Prepared:
    """A blob in place that does not open: an author made it, and named it."""
    key = log.project_key()
    sealed = log.blobs.prepare(key, b"x").inside[0].data
    data = sealed[:-1] + bytes([sealed[-1] ^ 1])
    return Prepared(
        address(cid(data)), "0" * 64, [type(log.blobs.prepare(key, b"x").inside[0])(cid(data), data)], [], {}, key
    )


@pytest.mark.parametrize("kind", ["erasure", "disclosure"])
def test_what_an_erasure_and_a_disclosure_name_is_opened_too(place: Place, kind: str) -> None:
    with ledger.open(place.path) as log:
        run = log.run("gone").id
        made = wrong(log)
        if kind == "disclosure":
            entry: Erasure | Disclosure = Disclosure(v=1, time=system_clock(), content=made.address)
        else:
            entry = Erasure(v=1, time=system_clock(), of=run, keys=[], detail=made.address)
        log.append_statements([entry], [made])
    [finding] = audited(place).findings
    assert finding.step == 10
    assert kind in finding.what


def test_what_is_missing_is_not_said_to_open_to_others(place: Place) -> None:
    """A blob of an erased run that is gone is forgiven: nobody could open it."""
    with ledger.open(place.path) as log:
        run = log.run("gone")
        at = run.artifact(os.urandom(100_000)).address
        erase(log, run.id)
    (place.path / large_name(cid_of(at))).unlink()
    report = audited(place)
    assert report.sound, report.findings
    assert [what for what in report.unchecked if "contents" in what] == ["1 contents (missing)"]


def test_a_content_over_the_limit_is_found(place: Place) -> None:
    with ledger.open(place.path) as log:
        run = log.run("bomb")
        key = log.writer.key(run.id)
        sealed = log.blobs.prepare(key, bytes(1 << 20)).inside[0]
        first = lists.build([sealed.cid] * lists.MAX_ADDRESSES)
        second = lists.build([first.cid, sealed.cid])
        made = Prepared(address(second.cid), "0" * 64, [sealed, first, second], [], {}, key)
        entry = Artifact(v=1, time=system_clock(), run=run.id, content=made.address, digest=made.digest)
        log.writer.commit(Draft([entry], [made], [made.address]))
        assert pack.parse(log.folder.get(pack.name(log.chain.state.packs - 1))).blobs
    [finding] = audited(place).findings
    assert finding.step == 10
    assert "4 GiB" in finding.what
