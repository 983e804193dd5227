"""What waits for its end: as it came, in little memory, and in no file that anybody could read."""

import gc
import os
import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import StorageFailed
from store import spool
from store.spool import KEEP, PIECE, Spool

SECRET = bytes(range(32))


def filled(size: int, seed: int = 1) -> tuple[Spool, bytes]:
    data = random.Random(seed).randbytes(size)
    found = Spool(SECRET)
    for start in range(0, size, 10_007):
        found.append(data[start : start + 10_007])
    return found, data


@cache
def large() -> tuple[Spool, bytes]:
    return filled(2 * KEEP + 777)


def files() -> list[int]:
    """Descriptors of files without a name."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            if "(deleted)" in os.readlink(f"/proc/self/fd/{number}"):
                found.append(int(number))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("size", [0, 1, KEEP - 1, KEEP, KEEP + 1, KEEP + PIECE, 3 * KEEP + 5])
def test_every_size_comes_back(size: int) -> None:
    found, data = filled(size)
    assert len(found) == size
    assert found.read() == data
    for start, end in ((0, 10), (PIECE - 3, PIECE + 3), (KEEP - 1, KEEP + 1), (size - 5, size), (size, size + 9)):
        assert found.read(max(0, start), end) == data[max(0, start) : end]


@given(st.integers(0, 2 * KEEP), st.integers(0, 2 * KEEP))
@settings(max_examples=60, deadline=None)
def test_any_part_comes_back(start: int, length: int) -> None:
    found, data = large()
    assert found.read(start, start + length) == data[start : start + length]


def test_reading_and_adding_may_take_turns() -> None:
    found, whole = Spool(SECRET), b""
    for n in range(40):
        more = bytes([n]) * 100_000
        found.append(more)
        whole += more
        assert found.read(len(whole) - 150_000 if n else 0) == whole[len(whole) - 150_000 if n else 0 :]
    assert found.read() == whole


def test_what_lies_on_the_disk_can_not_be_read_and_is_gone_with_it() -> None:
    before = files()
    text = b"SECRET-TEXT " * (2 * KEEP // 12)
    found = Spool(SECRET)
    found.append(text)
    [fd] = set(files()) - set(before)
    content = os.pread(fd, 2 * KEEP + PIECE, 0)
    assert len(content) > KEEP
    assert b"SECRET" not in content
    # Equal pieces are not seen to be equal.
    assert content[:1000] != content[PIECE + 16 : PIECE + 1016]
    assert len(found.read()) == len(text)
    found.close()
    assert files() == before
    assert found.read() == b""


def test_one_that_is_forgotten_gives_its_file_back() -> None:
    before = files()
    found, _ = filled(2 * KEEP)
    assert files() != before
    del found
    gc.collect()
    assert files() == before


def test_where_the_disk_takes_nothing_all_stays_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spool.tempfile, "tempdir", str(tmp_path / "gone"))
    found, data = filled(3 * KEEP)
    assert found.read() == data


@pytest.mark.parametrize("room", [0, 4096, PIECE // 2, 2 * PIECE, KEEP + 100, KEEP + 5 * PIECE])
def test_a_disk_that_fills_up_loses_nothing_and_hinders_nobody(room: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    data = random.Random(2).randbytes(KEEP + 4 * PIECE + 999)
    found = Spool(SECRET)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        for start in range(0, len(data), 65_536):
            found.append(data[start : start + 65_536])
            assert found.read(max(0, start - 10), start + 10) == data[max(0, start - 10) : start + 10]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found.read() == data
    found.close()


def test_what_comes_back_changed_is_said_so() -> None:
    before = files()
    found, _ = filled(2 * KEEP)
    [fd] = set(files()) - set(before)
    os.pwrite(fd, b"x" * 8, 1000)
    with pytest.raises(StorageFailed):
        found.read()
