"""Where each blob lies: sorted fixed-width tables in the reader's cache, found by bisection.

As with git's pack index: several sorted segments, merged as they grow, so that each blob is written a few
times and looked up in a few bisections. The tables are derived and local; a damaged or foreign one is
dropped and built again.
"""

import heapq
import mmap
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from store.durable import make_folders, storage_errors

_RECORD = 48
_HEAD = 64
_MAGIC = b"LEDGER-PLACES-1\n"
LARGE = 0xFFFF_FFFF
"""Stands as offset of a blob that lies in `blobs/`."""


class Place(NamedTuple):
    """A blob's pack, and where in it; `offset` is `LARGE` where it lies outside."""

    pack: int
    offset: int
    length: int


class Places:
    """Places of the blobs of packs 0 to `covered`; safe to share among threads.

    Args:
        folder: where the segments lie; None to keep all in memory.

    Attributes:
        lock: to be held where several calls belong together.
        resets: how often everything was forgotten.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.covered = 0
        self.lock = threading.RLock()
        self.resets = 0
        self._segments: list[_Segment] = []
        self._new: dict[bytes, bytes] = {}
        if folder is not None:
            self._load(folder)

    def add(self, cid: bytes, place: Place) -> None:
        """Takes in a place; the first place of a blob stays."""
        with self.lock:
            self._new.setdefault(cid, _pack(place))

    def take(self, number: int, places: Iterable[tuple[bytes, Place]]) -> None:
        """Takes in the places of all blobs of a pack."""
        with self.lock:
            for cid, place in places:
                self._new.setdefault(cid, _pack(place))
            if self.covered == number:
                self.covered += 1

    def find(self, cid: bytes) -> Place | None:
        """The place of a blob, or None."""
        with self.lock:
            record = self._new.get(cid)
            if record is not None:
                return _unpack(record)
            for segment in self._segments:
                found = segment.find(cid)
                if found is not None:
                    return found
            return None

    def save(self) -> None:
        """Writes what is new as a segment, and merges small ones."""
        with self.lock:
            self._save()

    def _save(self) -> None:
        if self.folder is None or (not self._new and self._segments and self._segments[-1].end == self.covered):
            return
        with storage_errors(self.folder):
            make_folders(self.folder)
            start = self._segments[-1].end if self._segments else 0
            records: Iterator[bytes] = iter(sorted(cid + place for cid, place in self._new.items()))
            count, merged = len(self._new), []
            # Geometric: a segment is merged once what comes after it is half its size.
            while self._segments and len(self._segments[-1]) <= 2 * count:
                last = self._segments.pop()
                merged.append(last)
                start, count = last.start, count + len(last)
                records = heapq.merge(last.records(), records)
            self._segments.append(_write(self.folder, start, self.covered, records))
            for segment in merged:
                segment.drop(keep=self._segments[-1].path)
        self._new.clear()

    def close(self) -> None:
        """Gives the files back."""
        with self.lock:
            while self._segments:
                self._segments.pop().close()

    def reset(self) -> None:
        """Forgets everything, the files too: they turned out to be wrong."""
        with self.lock:
            while self._segments:
                self._segments.pop().drop()
            self._new.clear()
            self.covered = 0
            self.resets += 1

    def _load(self, folder: Path) -> None:
        found = []
        with storage_errors(folder):
            for path in folder.glob("*.places"):
                try:
                    segment = _Segment.open(path)
                except FileNotFoundError:
                    # Another process merged it away.
                    continue
                if segment is None:
                    path.unlink(missing_ok=True)
                else:
                    found.append(segment)
        # A crash between writing a merged segment and dropping its parts leaves both: the wider one counts.
        for segment in sorted(found, key=lambda s: (s.start, -s.end)):
            if segment.start == self.covered:
                self._segments.append(segment)
                self.covered = segment.end
            else:
                segment.drop()


def _pack(place: Place) -> bytes:
    return place.pack.to_bytes(8, "big") + place.offset.to_bytes(4, "big") + place.length.to_bytes(4, "big")


def _unpack(record: bytes) -> Place:
    big = int.from_bytes
    return Place(big(record[:8], "big"), big(record[8:12], "big"), big(record[12:], "big"))


class _Segment:
    """One file: a head (magic, first and last pack, digest of the head), then records in order."""

    def __init__(self, path: Path, start: int, end: int, data: mmap.mmap) -> None:
        self.path, self.start, self.end, self.data = path, start, end, data

    def __len__(self) -> int:
        return (len(self.data) - _HEAD) // _RECORD

    @classmethod
    def open(cls, path: Path) -> "_Segment | None":
        """Opens a file, or None where it is damaged."""
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _HEAD or (size - _HEAD) % _RECORD:
                return None
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        head = data[:_HEAD]
        if head != _head(int.from_bytes(head[16:24], "big"), int.from_bytes(head[24:32], "big"), size):
            data.close()
            return None
        return cls(path, int.from_bytes(head[16:24], "big"), int.from_bytes(head[24:32], "big"), data)

    def find(self, cid: bytes) -> Place | None:
        low, high, data = 0, len(self), self.data
        while low < high:
            middle = (low + high) >> 1
            at = _HEAD + middle * _RECORD
            if data[at : at + 32] < cid:
                low = middle + 1
            else:
                high = middle
        at = _HEAD + low * _RECORD
        return _unpack(data[at + 32 : at + _RECORD]) if data[at : at + 32] == cid else None

    def records(self) -> Iterator[bytes]:
        for at in range(_HEAD, len(self.data), _RECORD):
            yield self.data[at : at + _RECORD]

    def close(self) -> None:
        self.data.close()

    def drop(self, keep: Path | None = None) -> None:
        self.close()
        if self.path != keep:
            self.path.unlink(missing_ok=True)


def _head(start: int, end: int, size: int) -> bytes:
    fields = _MAGIC + start.to_bytes(8, "big") + end.to_bytes(8, "big")
    return fields + blake3(fields + size.to_bytes(8, "big")).digest()


def _write(folder: Path, start: int, end: int, records: Iterator[bytes]) -> _Segment:
    path = folder / f"{start:010d}-{end:010d}.places"
    staged = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    with open(staged, "wb") as file:
        file.write(bytes(_HEAD))
        for record in records:
            file.write(record)
        size = file.tell()
        file.seek(0)
        file.write(_head(start, end, size))
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)
    written = _Segment.open(path)
    if written is None:
        raise OSError("the table just written can't be read")
    return written
