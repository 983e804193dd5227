"""A pack that landed and whose answer was lost, as a file server sends a request again that it has carried out.

The second attempt meets the first one's pack. It is acknowledged once, and as durable as any.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger
from schemas.errors import LedgerError, OutcomeUnknown, StorageFailed
from store.durable import Disk
from tests.support import ledgers
from tests.support.machine import Place, copied, new_ledger
from tests.support.verdicts import sound


class Retransmitting(Disk):
    """Each link of a pack is done, its answer lost, and asked for again; what was done is kept in order.

    Args:
        answers: how many of the links are answered at once.
    """

    def __init__(self, answers: int = 0) -> None:
        super().__init__()
        self.answers = answers
        self.done: list[tuple[str, str]] = []

    def link(self, source: str, target: str) -> None:
        super().link(source, target)
        self.done.append(("link", target))
        if target.endswith(".pack"):
            if self.answers == 0:
                super().link(source, target)
                raise AssertionError("a link of a name that is there must be refused")
            self.answers -= 1

    def sync_folder(self, path: str) -> None:
        super().sync_folder(path)
        self.done.append(("sync", path))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return new_ledger(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


def contents_of(place: Place) -> list[bytes]:
    with ledger.open(place.path) as log:
        return [log.read(r.entry.content) for r in log.entries() if getattr(r.entry, "content", "")]


def test_a_pack_whose_answer_was_lost_is_acknowledged_once(place: Place) -> None:
    before = len(ledgers.packs(place.path))
    wanted = [b"%d" % n for n in range(5)]
    with ledger.open(place.path) as log:
        log.folder.disk = Retransmitting()
        run = log.run("lost answers")
        made = [run.artifact(content) for content in wanted]
        assert [one.step for one in made] == [2, 3, 4, 5, 6]
        assert len({one.index for one in made}) == 5
    assert len(ledgers.packs(place.path)) == before + 6
    assert contents_of(place) == wanted
    sound(place.path, place.trust.owner)


def test_a_pack_whose_answer_was_lost_is_durable_when_it_is_acknowledged(place: Place) -> None:
    with ledger.open(place.path) as log:
        disk = log.folder.disk = Retransmitting()
        run = log.run("lost answers")
        for number in range(3):
            made = run.artifact(b"%d" % number)
            last = max(at for at, (what, _) in enumerate(disk.done) if what == "link")
            folder = os.path.dirname(disk.done[last][1])
            assert ("sync", folder) in disk.done[last:], "acknowledged, and its name can still be lost"
            assert made.index


def test_another_writers_pack_in_the_way_is_not_taken_for_ones_own(place: Place) -> None:
    """The same refusal of the disk, with another pack behind it: then the batch is built anew, and lands once."""
    wanted = [b"mine", b"and mine"]
    with ledger.open(place.path) as log, ledger.open(place.path) as other:
        run, theirs = log.run("mine"), other.run("theirs")
        for content in wanted:
            theirs.artifact(b"theirs")
            run.artifact(content)
    assert sorted(contents_of(place)) == sorted([*wanted, b"theirs", b"theirs"])
    sound(place.path, place.trust.owner)


class Failing(Retransmitting):
    """Its folders can't be synced once a pack's answer was lost."""

    def sync_folder(self, path: str) -> None:
        linked = {os.path.dirname(target) for what, target in self.done if what == "link" and target.endswith(".pack")}
        if path in linked:
            raise StorageFailed(f"{path}: the disk failed")
        super().sync_folder(path)


def test_a_pack_whose_answer_was_lost_and_whose_sync_fails_is_not_acknowledged(place: Place) -> None:
    with ledger.open(place.path) as log:
        run = log.run("lost answers")
        log.folder.disk = Failing()
        with pytest.raises(LedgerError) as refused:
            run.artifact(b"nobody knows")
        assert isinstance(refused.value, OutcomeUnknown)
        log.folder.disk = Disk()
    sound(place.path, place.trust.owner)
