"""Handles of files: whatever is opened is given back, also where it ends in an error."""

import gc
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger
from ledger import homes
from ledger.audit import audit
from schemas.errors import LedgerError
from tests.support import ledgers
from tests.support.machine import ORIGIN, Place, copied, new_ledger

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux lists a process's handles")


def handles() -> Counter[str]:
    """What this process has open: files and pipes by name."""
    gc.collect()
    found = Counter[str]()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{name}")] += 1
        except FileNotFoundError:
            pass  # The handle by which the folder was listed.
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log, log.run("first") as run:
        run.artifact(os.urandom(100_000))
        run.append_many([ledger.Item(kind="artifact", content=b"%d" % n) for n in range(300)])
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


def append(place: Place) -> None:
    with ledger.open(place.path) as log:
        at = log.run("again").artifact(os.urandom(70_000)).address
        assert log.read(at)


def verify(place: Place) -> None:
    assert ledger.verify(place.path, trust=place.trust).sound


def verify_contents(place: Place) -> None:
    identity = homes.keys(ORIGIN) / "identity.txt"
    assert ledger.verify(place.path, trust=place.trust, identity=f"file:{identity}").sound


def open_in_vain(place: Place) -> None:
    with pytest.raises(LedgerError), ledger.open(place.path):
        pass


def assert_none_left(do: object, place: Place, times: int) -> None:
    assert callable(do)
    do(place)
    before = handles()
    for _ in range(times):
        do(place)
    assert handles() - before == Counter()


def test_fifty_times_open_append_and_close_leave_no_handle(place: Place) -> None:
    assert_none_left(append, place, 50)


def test_twenty_audits_leave_no_handle(place: Place) -> None:
    assert_none_left(verify, place, 20)
    assert_none_left(verify_contents, place, 20)


def test_audits_by_workers_leave_no_handle_and_no_process(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_PARALLEL_FROM", 0)
    monkeypatch.setattr(audit, "_SPAN_PACKS", 1)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text() if children.exists() else ""
    assert_none_left(verify, place, 3)
    assert (children.read_text() if children.exists() else "") == before


def test_audits_of_a_damaged_ledger_leave_no_handle(place: Place) -> None:
    ledgers.flip(ledgers.packs(place.path)[2], 200)

    def judge(place: Place) -> None:
        assert not ledger.verify(place.path, trust=place.trust).sound

    assert_none_left(judge, place, 20)


def test_what_can_not_be_opened_leaves_no_handle(place: Place) -> None:
    ledgers.packs(place.path)[-1].unlink()
    assert_none_left(open_in_vain, place, 20)


def test_a_run_that_fails_leaves_no_handle(place: Place) -> None:
    def fail(place: Place) -> None:
        with pytest.raises(ZeroDivisionError), ledger.open(place.path) as log, log.run("fails") as run:
            run.artifact(b"before")
            raise ZeroDivisionError

    assert_none_left(fail, place, 20)
