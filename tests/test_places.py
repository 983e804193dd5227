"""Where blobs lie: tables that grow, merge, break, and are built again; never a wrong place."""

import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from store.places import LARGE, Place, Places, _Segment


def cid(i: int) -> bytes:
    return sha256(b"blob %d" % i).digest()


def place(i: int) -> Place:
    return Place(i // 3, LARGE if i % 7 == 0 else i * 100, i + 1)


def trailer(pack: int) -> bytes:
    """Of a pack; `take` below leaves it at zeros."""
    return sha256(b"pack %d" % pack).digest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "places"
    made.mkdir()
    return made


def take(places: Places, start: int, end: int, *, each: int = 10) -> None:
    """Takes in blobs, `each` to a segment; one pack a segment."""
    for at in range(start, end, each):
        for i in range(at, min(at + each, end)):
            places.add(cid(i), place(i))
        places.covered += 1
        places.save()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_holds(places: Places, count: int) -> None:
    for i in range(count):
        assert places.find(cid(i)) == place(i), i
    for i in range(count, count + 200):
        assert places.find(cid(i)) is None, i
    for absent in (bytes(32), b"\xff" * 32, cid(0)[:-1] + b"\x00", cid(0)[:-1] + b"\xff"):
        assert places.find(absent) is None


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 300])
@pytest.mark.parametrize("each", [1, 10, 97])
def test_what_was_put_is_found_and_nothing_else(count: int, each: int, folder: Path) -> None:
    places = Places(folder / "cache")
    take(places, 0, count, each=each)
    assert_holds(places, count)
    covered = places.covered
    places.close()
    again = Places(folder / "cache")
    assert again.covered == covered
    assert_holds(again, count)


def test_segments_are_merged_as_they_grow(folder: Path) -> None:
    places = Places(folder)
    for i in range(300):
        take(places, i, i + 1)
    assert len(files(folder)) < 10
    assert_holds(places, 300)
    assert_holds(Places(folder), 300)


def test_what_is_not_saved_is_found_too(folder: Path) -> None:
    places = Places(folder)
    take(places, 0, 50)
    for i in range(50, 60):
        places.add(cid(i), place(i))
    assert_holds(places, 60)
    assert_holds(Places(folder), 50)


def test_memory_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    places = Places(None)
    take(places, 0, 100)
    assert_holds(places, 100)
    places.close()
    assert files(folder) == []


def test_the_first_place_of_a_blob_stays(folder: Path) -> None:
    """A blob that is stored again later is found where it was first, before and after merging."""
    places = Places(folder)
    for pack in range(20):
        for i in range(pack + 1):
            places.add(cid(i), Place(pack, 1000 + pack, 7))
        places.covered += 1
        places.save()
        assert {places.find(cid(i)) for i in range(pack + 1)} == {Place(i, 1000 + i, 7) for i in range(pack + 1)}
    again = Places(folder)
    assert [again.find(cid(i)) for i in range(20)] == [Place(i, 1000 + i, 7) for i in range(20)]


@pytest.mark.parametrize("where", [Place(0, 0, 0), Place(2**64 - 1, 2**32 - 2, 2**32 - 1), Place(2**53, LARGE, 65_536)])
def test_places_of_every_size(where: Place, folder: Path) -> None:
    places = Places(folder)
    places.add(cid(0), where)
    assert places.find(cid(0)) == where
    places.covered = 1
    places.save()
    assert Places(folder).find(cid(0)) == where


def test_neighbours_are_told_apart(folder: Path) -> None:
    """Cids that differ in one bit, or sort next to one another."""
    number = int.from_bytes(cid(0), "big")
    near = [(number + step).to_bytes(32, "big") for step in range(-50, 50)]
    near += [(number ^ 1 << bit).to_bytes(32, "big") for bit in range(256)]
    near = list(dict.fromkeys([*near, bytes(32), b"\xff" * 32]))
    places = Places(folder)
    for i, one in enumerate(near[::2]):
        places.add(one, place(i))
    places.covered = 1
    places.save()
    assert [places.find(one) for one in near[::2]] == [place(i) for i in range(len(near[::2]))]
    assert [places.find(one) for one in near[1::2]] == [None] * len(near[1::2])


# Damage: whatever is wrong with a table, it goes, and `covered` says from where to build again.


def three_segments(folder: Path) -> list[Path]:
    """Segments of 1000, 100 and 10 blobs; packs 0 to 1, 1 to 2, 2 to 3."""
    places = Places(folder)
    take(places, 0, 1000, each=1000)
    take(places, 1000, 1100, each=100)
    take(places, 1100, 1110)
    places.close()
    assert [path.stat().st_size for path in sorted(folder.iterdir())] == [96 + 48 * n for n in (1000, 100, 10)]
    return sorted(folder.iterdir())


COVERED = {0: 0, 1: 1000, 2: 1100, 3: 1110}


def assert_falls_back(folder: Path, covered: int) -> None:
    """What lies behind a damage goes too, and all can be built again."""
    places = Places(folder)
    assert places.covered == covered
    assert_holds(places, COVERED[covered])
    assert len(files(folder)) == covered
    take(places, COVERED[covered], 1200, each=100)
    assert_holds(places, 1200)
    places.close()
    assert_holds(Places(folder), 1200)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 15, 16, 23, 24, 31, 32, 63, 64, 95])
def test_a_table_with_a_damaged_head_dropped(which: int, at: int, folder: Path) -> None:
    path = three_segments(folder)[which]
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert_falls_back(folder, which)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("keep", [0, 1, 95, 96, 97, 96 + 47, 96 + 48, -48, -1])
def test_a_truncated_table_dropped(which: int, keep: int, folder: Path) -> None:
    path = three_segments(folder)[which]
    os.truncate(path, keep if keep >= 0 else path.stat().st_size + keep)
    assert_falls_back(folder, which)


@pytest.mark.parametrize("tail", [b"x", bytes(48), bytes(480)])
def test_a_table_with_more_behind_it_dropped(tail: bytes, folder: Path) -> None:
    path = three_segments(folder)[1]
    path.write_bytes(path.read_bytes() + tail)
    assert_falls_back(folder, 1)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_table_is_built_again(which: int, folder: Path) -> None:
    three_segments(folder)[which].unlink()
    assert_falls_back(folder, which)


@pytest.mark.parametrize("data", [b"", b"LEDGER-PLACES-2\n", bytes(96), bytes(96 + 48), b"PAR1" * 28, b"x" * 4096])
def test_a_foreign_file_dropped(data: bytes, folder: Path) -> None:
    three_segments(folder)
    (folder / "0000000003-0000000009.places").write_bytes(data)
    assert_falls_back(folder, 3)


def test_tables_of_another_ledger_are_told_by_their_span(folder: Path) -> None:
    """A table from a later place than what is covered does not count."""
    other = Places(folder / "other")
    other.covered = 7
    take(other, 0, 10)
    other.save()
    (path,) = (folder / "other").iterdir()
    three_segments(folder / "cache")
    later = path.rename(folder / "cache" / path.name)
    data = later.read_bytes()
    assert int.from_bytes(data[16:24], "big") == 0
    places = Places(folder / "cache")
    assert places.covered in (3, 8)
    assert len(files(folder / "cache")) == (3 if places.covered == 3 else 1)


def test_a_flipped_record_is_never_another_blobs_place(folder: Path) -> None:
    """Records are not covered by the head: a blob may be missed, and its cid is checked where it is read."""
    path = three_segments(folder)[0]
    data = bytearray(path.read_bytes())
    for at in range(96, len(data), 48):
        data[at + 5] ^= 0xFF
    path.write_bytes(data)
    places = Places(folder)
    assert all(places.find(cid(i)) in (None, place(i)) for i in range(1110))


# Crashes.


def test_a_crash_between_merging_and_dropping_keeps_the_wider_table(folder: Path) -> None:
    parts = {path.name: path.read_bytes() for path in three_segments(folder)}
    places = Places(folder)
    take(places, 1110, 2110, each=1000)
    assert files(folder) == ["0000000000-0000000004.places"]
    places.close()
    for name, data in parts.items():
        (folder / name).write_bytes(data)
    again = Places(folder)
    assert again.covered == 4
    assert_holds(again, 2110)
    assert files(folder) == ["0000000000-0000000004.places"]


def test_a_torn_merge_keeps_the_parts(folder: Path) -> None:
    parts = {path.name: path.read_bytes() for path in three_segments(folder)}
    places = Places(folder)
    take(places, 1110, 2110, each=1000)
    places.close()
    (merged,) = folder.iterdir()
    merged.write_bytes(merged.read_bytes()[:1000])
    for name, data in parts.items():
        (folder / name).write_bytes(data)
    again = Places(folder)
    assert again.covered == 3
    assert_holds(again, 1110)


def test_a_crash_while_writing_leaves_nothing_that_counts(folder: Path) -> None:
    three_segments(folder)
    (folder / "0000000003-0000000004.4711.tmp").write_bytes(b"half a table")
    places = Places(folder)
    assert places.covered == 3
    assert_holds(places, 1110)


def test_what_a_crash_left_half_written_is_removed_once_nobody_can_be_at_it(folder: Path) -> None:
    three_segments(folder)
    left, being_written = folder / "0000000003-0000000004.4711-1.tmp", folder / "0000000003-0000000004.4712-1.tmp"
    for path in (left, being_written):
        path.write_bytes(b"half a table")
    then = time.time() - 2 * 86_400
    os.utime(left, (then, then))
    Places(folder)
    assert not left.exists()
    assert being_written.exists()


def test_two_processes_on_one_cache_find_all_that_each_has_seen(folder: Path) -> None:
    three_segments(folder)
    one, two = Places(folder), Places(folder)
    take(one, 1110, 2110, each=1000)
    assert_holds(two, 1110)
    take(two, 1110, 1120)
    assert_holds(one, 2110)
    assert_holds(two, 1120)
    assert_holds(Places(folder), {4: 2110}.get(Places(folder).covered, 1120))


def test_a_table_that_goes_while_tables_are_opened_is_no_crash(folder: Path) -> None:
    """Another process merges: a name was listed, and its file is gone when it is opened."""
    three_segments(folder)
    (folder / "0000000003-0000000004.places").symlink_to(folder / "gone")
    places = Places(folder)
    assert places.covered == 3
    assert_holds(places, 1110)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_any_order_of_saving_finds_all_that_is_covered(seed: int) -> None:
    """Blobs of packs ahead of what is covered may be forgotten by a restart, those behind never."""
    random, covered, ahead = Random(seed), 0, 0
    with TemporaryDirectory() as name:
        places, pack, known = Places(Path(name)), 0, 0
        for _ in range(random.randrange(1, 15)):
            for i in range(known, known + random.choice([0, 1, 2, 5, 40])):
                places.add(cid(i), place(i))
                known = i + 1
            if random.random() < 0.8:
                pack += 1
                places.covered, covered = pack, known
                for i in range(ahead, known):
                    places.add(cid(i), place(i))
                ahead = known
            if random.random() < 0.8:
                places.save()
            if random.random() < 0.3:
                places.save()
                places.close()
                places = Places(Path(name))
                assert places.covered == pack
                ahead = covered
        places.save()
        assert [places.find(cid(i)) for i in range(covered)] == [place(i) for i in range(covered)]
        assert all(places.find(cid(i)) in (None, place(i)) for i in range(covered, known + 50))
        places.close()


# Threads.


def test_a_pack_counts_as_covered_only_after_those_before_it(folder: Path) -> None:
    """What threads take in twice, or ahead of what is covered, is found; and never makes a gap look covered."""
    places = Places(folder)
    for number, covered in ((0, 1), (2, 1), (0, 1), (1, 2), (2, 3)):
        places.take(number, trailer(number), [(cid(number), Place(number, 0, 1))])
        assert places.covered == covered
        assert places.find(cid(number)) == Place(number, 0, 1)


def test_what_comes_while_a_table_is_written_is_neither_waited_with_nor_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge writes all there is: commits look up and take in places meanwhile."""
    places = Places(folder)
    take(places, 0, 100, each=100)
    places.take(1, trailer(1), [(cid(i), place(i)) for i in range(100, 200)])
    done = threading.Event()

    def meanwhile() -> None:
        assert [places.find(cid(i)) for i in range(200)] == [place(i) for i in range(200)]
        places.take(2, trailer(2), [(cid(i), place(i)) for i in range(200, 210)])
        assert places.find(cid(205)) == place(205)
        places.save()
        done.set()

    def slow(fd: int) -> None:
        # Once: what this one starts may write as well.
        monkeypatch.undo()
        threading.Thread(target=meanwhile, daemon=True).start()
        assert done.wait(10)

    monkeypatch.setattr(os, "fsync", slow)
    places.save()
    assert_holds(places, 210)
    saved = Places(folder)
    assert saved.covered == 2
    assert_holds(saved, 200)
    places.save()
    assert_holds(Places(folder), 210)


def test_what_a_table_speaks_of_is_fixed_before_it_is_settled(folder: Path) -> None:
    """A pack that is taken in after the sync of the packs may still be lost to a power cut."""
    places = Places(folder)
    places.take(0, trailer(0), [(cid(0), place(0))])
    places.save(lambda: places.take(1, trailer(1), [(cid(1), place(1))]))
    assert_holds(places, 2)
    saved = Places(folder)
    assert saved.covered == 1
    assert saved.find(cid(1)) is None


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_a_cache_that_somebody_removes_is_no_hindrance(
    folder: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor --rebuild` in another process, or a merge of its own."""
    places = Places(folder / "cache")
    take(places, 0, 100)
    places.take(10, trailer(10), [(cid(100), place(100))])
    real = getattr(os, when)

    def removing(*args: int | Path) -> None:
        real(*args)
        shutil.rmtree(folder / "cache")

    with monkeypatch.context() as patch:
        patch.setattr(os, when, removing)
        places.save()
    assert_holds(places, 101)
    take(places, 101, 300)
    assert_holds(places, 300)
    again = Places(folder / "cache")
    assert again.covered in (0, 31)
    assert_holds(again, 300 if again.covered else 0)


def test_look_ups_are_right_while_tables_are_written_merged_and_made_again(folder: Path) -> None:
    places, known, stop = Places(folder), 0, False
    failed: list[str] = []

    def look() -> None:
        random = Random(0)
        try:
            while not stop:
                i = random.randrange(known + 5)
                sure = i < known
                found = places.find(cid(i))
                assert found == place(i) or (found is None and not sure), i
        except Exception as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=look) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for pack in range(80):
            places.take(pack, trailer(pack), [(cid(i), place(i)) for i in range(known, known + 5)])
            known += 5
            places.save()
            if pack % 20 == 10:
                right = Places(None)
                for number in range(pack + 1):
                    right.take(number, trailer(number), [(cid(i), place(i)) for i in range(5 * number, 5 * number + 5)])
                places.replace(right)
    finally:
        stop = True
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert failed == []
    assert_holds(Places(folder), 400)


def test_tables_that_are_made_again_keep_what_came_meanwhile(folder: Path) -> None:
    three_segments(folder)
    places, right = Places(folder), Places(None)
    take(right, 0, 1110, each=400)
    places.take(3, trailer(3), [(cid(i), place(i)) for i in range(1110, 1120)])
    places.replace(right)
    assert files(folder) == []
    assert_holds(places, 1120)
    assert places.covered == 3
    places.take(3, trailer(3), [(cid(i), place(i)) for i in range(1110, 1120)])
    places.save()
    assert_holds(Places(folder), 1120)


def test_after_closing_nothing_is_said_to_be_absent_and_nothing_is_written(folder: Path) -> None:
    """Another thread may still read: an empty table would tell it that its blob is not there."""
    before = {path: path.read_bytes() for path in three_segments(folder)}
    places = Places(folder)
    places.close()
    with pytest.raises(UsageError, match="closed"):
        places.find(cid(0))
    places.take(3, trailer(3), [(cid(1110), place(1110))])
    places.save()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert_holds(Places(folder), 1110)


# The history that a table is of.


def chained(folder: Path | None, packs: int, history: str = "") -> Places:
    """Tables of three segments, of two packs each but the last; the trailers are those of a history."""
    places = Places(folder)
    for number in range(packs):
        places.take(number, sha256(f"{history}{number}".encode()).digest(), [(cid(number), place(number))])
        if number % 2:
            places.save()
    places.save()
    return places


def proven(packs: int, history: str = "") -> Callable[[int], bytes | None]:
    return lambda covered: sha256(f"{history}{covered - 1}".encode()).digest() if 0 < covered <= packs else None


def test_tables_of_this_history_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Segment, "__len__", lambda self: 10**9)  # never merged
    chained(folder, 5).close()
    assert len(files(folder)) == 3
    places = Places(folder)
    places.keep(proven(9))
    assert (places.covered, places.trailer) == places.reached() == (5, proven(5)(5))
    monkeypatch.undo()
    assert_holds(places, 5)


@pytest.mark.parametrize("packs", [0, 1, 2, 3, 4])
def test_tables_that_know_more_than_is_proven_go(folder: Path, packs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup was restored: what came after it is not in these packs."""
    monkeypatch.setattr(_Segment, "__len__", lambda self: 10**9)
    chained(folder, 5).close()
    monkeypatch.undo()
    places = Places(folder)
    places.keep(proven(packs))
    assert places.covered == packs // 2 * 2
    assert_holds(places, places.covered)
    assert len(files(folder)) == packs // 2


def test_tables_of_another_history_go_and_others_are_built(folder: Path) -> None:
    chained(folder, 5, "another").close()
    places = Places(folder)
    places.take(5, trailer(5), [(cid(5), place(5))])
    places.keep(proven(6))
    assert files(folder) == []
    assert places.reached() == (0, bytes(32))
    assert [places.find(cid(i)) for i in range(7)] == [None] * 5 + [place(5), None]


def test_a_trailer_goes_on_with_what_is_taken_in_and_merged(folder: Path) -> None:
    for packs in (3, 6, 7):
        places = chained(folder, packs)
        assert places.reached() == (packs, proven(packs)(packs))
        places.close()
        again = Places(folder)
        assert again.reached() == (packs, proven(packs)(packs))
        again.keep(proven(packs))
        assert_holds(again, packs)


def test_a_few_new_places_are_not_worth_a_sync(folder: Path) -> None:
    places = Places(folder)
    for number in range(9):
        places.take(number, trailer(number), [(cid(number), place(number))])
        places.save(worth=10)
    assert files(folder) == []
    places.take(9, trailer(9), [])
    places.save(worth=10)
    assert len(files(folder)) == 1
    places.take(10, trailer(10), [(cid(i), place(i)) for i in range(9, 20)])
    places.save(worth=10)
    assert_holds(Places(folder), 20)


# What a cache's folder may be.


def test_a_cache_that_can_not_be_written_stays_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "places"):
        places = Places(folder)
        take(places, 0, 100)
        assert_holds(places, 100)
        assert places.covered == 10
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_cache_on_a_failing_disk_stays_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(folder)

    def failing(fd: int) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "fsync", failing)
    take(places, 0, 100)
    assert_holds(places, 100)


def test_a_table_is_for_this_user_alone(tmp_path: Path) -> None:
    """Whatever the umask: which contents are equal says something about them."""
    before = os.umask(0)
    try:
        take(Places(tmp_path / "a" / "b" / "places"), 0, 10)
    finally:
        os.umask(before)
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert [path.stat().st_mode & 0o777 for path in made if path.is_file()] == [0o600]
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}
