"""What lies in a ledger's folder may be anything: links, pipes, devices, files without end, somebody's modules.

Whoever can write the storage can put them there. None is opened, none leads a write or a removal elsewhere, and
an auditor gets a verdict in time.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ledger
from ledger import doctor
from schemas.errors import LedgerError, NotSound, StorageFailed
from tests.support import ledgers
from tests.support.machine import Place, copied, new_ledger
from tests.support.verdicts import judged, sound, unsound

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = new_ledger(tmp_path_factory.mktemp("links"))
    with place.machine.here(), ledger.open(place.path) as log, log.run("links") as run:
        run.artifact(os.urandom(100_000), name="large")
        run.artifact(b"small", name="small")
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    place = copied(made, tmp_path / "place")
    with place.machine.here():
        yield place


OBJECTS: dict[str, Callable[[Path], Path]] = {
    "pack": lambda path: ledgers.packs(path)[1],
    "last pack": lambda path: ledgers.packs(path)[-1],
    "checkpoint": lambda path: path / "checkpoint",
    "settings": lambda path: path / "ledger.toml",
    "data key": lambda path: next((path / "keys" / "data").rglob("*.age")),
    "root": lambda path: path / "keys" / "root" / "0.age",
    "large blob": lambda path: next(file for file in (path / "blobs").rglob("*") if file.is_file()),
    "tile": lambda path: max((path / "tile" / "0" / "000.p").iterdir(), key=lambda file: int(file.name)),
    "bundle": lambda path: max((path / "tile" / "entries" / "000.p").iterdir(), key=lambda file: int(file.name)),
}
STEPS = {"checkpoint": 4, "data key": 6, "root": 6, "large blob": 6, "tile": 7, "bundle": 7}


def as_pipe(file: Path) -> None:
    os.mkfifo(file)


def as_device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def as_link(file: Path) -> None:
    file.symlink_to("/etc/passwd")


def as_folder(file: Path) -> None:
    file.mkdir()


def as_endless(file: Path) -> None:
    file.touch()
    os.truncate(file, 20 << 30)


THINGS = [as_pipe, as_device, as_link, as_folder, as_endless]


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.__name__)
@pytest.mark.parametrize("what", OBJECTS)
def test_what_is_no_file_of_ours_is_never_read(place: Place, what: str, thing: Callable[[Path], None]) -> None:
    file = OBJECTS[what](place.path)
    file.unlink()
    thing(file)
    began = time.monotonic()
    if what == "settings":
        with pytest.raises(NotSound, match=r"ledger\.toml"):
            ledger.verify(place.path, trust=place.trust)
    else:
        unsound(place.path, place.trust.owner, STEPS.get(what, 2))
    with pytest.raises(LedgerError), ledger.open(place.path) as log:
        for recorded in log.entries():
            if content := getattr(recorded.entry, "content", ""):
                log.read(content)
        log.publisher.now()
        raise NotSound("read all of it, as it does not need this one", step=0)
    assert time.monotonic() - began < 20


def test_a_link_to_a_true_object_is_no_object(place: Place) -> None:
    file = OBJECTS["pack"](place.path)
    file.rename(place.path / "elsewhere")
    file.symlink_to(place.path / "elsewhere")
    unsound(place.path, place.trust.owner, 2)


def test_names_that_are_no_packs_are_nobodys_business(place: Place) -> None:
    (place.path / "packs" / ".DS_Store").write_bytes(b"\x00")
    (place.path / "packs" / "0000000000" / "notes\x1b]0;title\x07").write_bytes(b"mine")
    sound(place.path, place.trust.owner)


def outside(place: Place) -> Path:
    folder = place.path.parent / "outside"
    folder.mkdir()
    (folder / "letter").write_text("precious")
    os.utime(folder / "letter", (0, 0))
    return folder


@pytest.mark.parametrize("name", ["tmp", "blobs", "tile", "keys/data"])
def test_a_linked_folder_leads_no_removal_elsewhere(place: Place, name: str) -> None:
    folder, here = outside(place), place.path / name
    if here.exists():
        here.rename(here.with_name("moved"))
    here.symlink_to(folder)
    with pytest.raises(StorageFailed, match="is a link"), ledger.open(place.path) as log:
        doctor.collect(log)
        doctor.rebuild(log)
        list(log.folder.list("keys/data"))
    assert [file.name for file in folder.iterdir()] == ["letter"]


def test_a_linked_tile_folder_leads_no_removal_elsewhere(place: Place) -> None:
    folder = outside(place)
    partial = place.path / "tile" / "0" / "000.p"
    for file in partial.iterdir():
        file.unlink()
    partial.rmdir()
    partial.symlink_to(folder)
    with pytest.warns(UserWarning, match="is a link"), ledger.open(place.path) as log:
        run = log.run("fills the tile")
        run.append_many([ledger.Item(kind="artifact", content=b"%d" % i) for i in range(300)])
    assert [file.name for file in folder.iterdir()] == ["letter"]


def test_a_linked_lock_makes_no_file_elsewhere(place: Place) -> None:
    lock = place.path / "tmp" / "publisher.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(place.path.parent / "made")
    with pytest.warns(UserWarning, match="durable"), ledger.open(place.path) as log:
        log.run("goes on")
    assert not (place.path.parent / "made").exists()


def test_an_audit_runs_no_code_that_lies_beside_the_ledger(place: Place, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    with ledger.open(place.path) as log:
        run = log.run("large enough for workers")
        for part in range(30):
            run.append_many([ledger.Item(kind="artifact", content=os.urandom(60_000)) for _ in range(16)])
            assert part < 30
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\nraise SystemExit(1)"
    for module in ("msgspec", "blake3", "json", "struct", "ledger"):
        (stick / f"{module}.py").write_text(code)
    command = [str(Path(sys.executable).parent / "ledger"), "verify", str(place.path), "--trust", place.trust.owner]
    done = subprocess.run(command, cwd=stick, env=place.machine.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_large_blob_that_was_removed_is_missed_even_where_a_later_pack_names_it_again(place: Place) -> None:
    """The tables of packs are not signed: whoever holds the storage can write them anew, without a key."""
    from store import pack

    file = OBJECTS["large blob"](place.path)
    cid, size = bytes.fromhex(file.name), file.stat().st_size
    trailer = pack.FIRST
    for number, old in enumerate(ledgers.packs(place.path)):
        found = pack.parse(old.read_bytes())
        large = list(zip(found.large, found.large_sizes, strict=True)) + ([(cid, size)] if number == 0 else [])
        blobs = list(zip(found.cids, found.blobs, strict=True))
        parts = (number, found.size, trailer, found.salt, found.frontier, found.checkpoint, blobs, large, found.leaves)
        data = pack.build(*parts)
        trailer = data[-32:]
        old.write_bytes(data)
    sound(place.path, place.trust.owner)
    file.unlink()
    report = unsound(place.path, place.trust.owner, 6)
    assert file.name in report.findings[0].what


def test_a_blob_shorter_than_any_sealed_one_is_found(place: Place) -> None:
    from store.seal import MAGIC, cid
    from tests.support.forge import Forger, key

    short = MAGIC + bytes(16)
    forger = Forger(place.path).entries().sign
    forger(key()).commit(blobs=[(cid(short), short)])
    report = judged(place.path, place.trust.owner)
    assert [finding.step for finding in report.findings] == [6]
