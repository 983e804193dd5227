"""Where each blob lies: sorted fixed-width tables in the reader's cache, found by bisection.

As with git's pack index: several sorted segments, merged as they grow, so that each blob is written a few
times and looked up in a few bisections. The tables are derived and local; a damaged or foreign one is
dropped and built again. Each bears the trailer of the last pack that it covers, which chains all packs before
it: a table of another history, such as that from which a backup was restored, is foreign.
"""

import heapq
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from schemas.errors import StorageFailed, UsageError
from store.durable import make_folders, storage_errors

_RECORD = 48
_HEAD = 96
_MAGIC = b"LEDGER-PLACES-2\n"
_NOTHING = bytes(32)
LARGE = 0xFFFF_FFFF
"""Stands as offset of a blob that lies in `blobs/`."""

WORTH = 1024
"""Packs or blobs from which on a table is worth the sync that it costs; fewer are soon read again."""

MANY = 16_384
"""Places from which on a process that goes on writing gives memory back."""

_A_DAY = 86_400


class Place(NamedTuple):
    """A blob's pack, and where in it; `offset` is `LARGE` where it lies outside."""

    pack: int
    offset: int
    length: int


class Places:
    """Places of the blobs of packs 0 to `covered`; safe to share among threads.

    Whoever looks up waits for nobody, not even for a table that is being written.

    Args:
        folder: where the segments lie; None to keep all in memory.

    Attributes:
        trailer: of the last pack that is covered.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.covered = 0
        self.trailer = _NOTHING
        # New places and segments, replaced together: who looks up takes both as they were at one moment.
        self._tables: tuple[dict[bytes, bytes], tuple[_Segment, ...]] = {}, ()
        self._changing = threading.Lock()
        self._saving = threading.Lock()
        self._closed = False
        if folder is not None:
            self._load(folder)

    def add(self, cid: bytes, place: Place) -> None:
        """Takes in a place; the first place of a blob stays."""
        with self._changing:
            self._tables[0].setdefault(cid, _pack(place))

    def keep(self, trailer_of: Callable[[int], bytes | None]) -> None:
        """Drops the segments of another history, and those behind them; asked once, when the packs are proven.

        Args:
            trailer_of: the trailer of the last of so many packs, or None where fewer are proven.
        """
        with self._changing:
            new, segments = self._tables
            right = 0
            while right < len(segments) and trailer_of(segments[right].end) == segments[right].trailer:
                right += 1
            if right == len(segments):
                return
            self._tables = new, segments[:right]
            last = segments[right - 1] if right else None
            self.covered, self.trailer = (last.end, last.trailer) if last else (0, _NOTHING)
        for segment in segments[right:]:
            segment.remove()

    def take(self, number: int, trailer: bytes, places: Iterable[tuple[bytes, Place]]) -> None:
        """Takes in the places of all blobs of a pack, which is covered from now on if those before it are."""
        with self._changing:
            new, _ = self._tables
            for cid, place in places:
                new.setdefault(cid, _pack(place))
            if number == self.covered:
                self.covered, self.trailer = number + 1, trailer

    @property
    def unsaved(self) -> int:
        """How many places are kept in memory alone."""
        return len(self._tables[0])

    def reached(self) -> tuple[int, bytes]:
        """`covered` and `trailer`, as they were at one moment."""
        with self._changing:
            return self.covered, self.trailer

    def find(self, cid: bytes) -> Place | None:
        """The place of a blob, or None.

        Raises:
            UsageError: the tables were closed.
        """
        new, segments = self._tables
        record = new.get(cid)
        if record is not None:
            return _unpack(record)
        for segment in segments:
            found = segment.find(cid)
            if found is not None:
                return found
        if self._closed:
            raise UsageError("this ledger was closed", hint="open it again")
        return None

    def save(self, settle: Callable[[], None] | None = None, *, worth: int = 1) -> None:
        """Writes what is new as a segment, and merges small ones; or leaves it to whoever is at it already.

        Where nothing can be written, all stays in memory.

        Args:
            settle: called when it is fixed what will be written, and before it is.
            worth: so many packs or blobs must be new.
        """
        new, segments = self._tables
        if len(new) < worth and self.covered - (segments[-1].end if segments else 0) < worth:
            return
        if not self._saving.acquire(blocking=False):
            return
        try:
            self._save(settle)
        finally:
            self._saving.release()

    def _save(self, settle: Callable[[], None] | None) -> None:
        with self._changing:
            new, segments = self._tables
            start, end, trailer = segments[-1].end if segments else 0, self.covered, self.trailer
            if self.folder is None or self._closed or (not new and start == end):
                return
            saved = new.copy()
        if settle is not None:
            settle()
        kept, count = list(segments), len(saved)
        records: Iterator[bytes] = iter(sorted(cid + place for cid, place in saved.items()))
        # Geometric: a segment is merged once what comes after it is half its size.
        while kept and len(kept[-1]) <= 2 * count:
            last = kept.pop()
            start, count = last.start, count + len(last)
            records = heapq.merge(last.records(), records)
        try:
            make_folders(self.folder)
            with storage_errors(self.folder):
                written = _write(self.folder, start, end, trailer, records)
        except (FileNotFoundError, StorageFailed):
            # Somebody removed the cache meanwhile, or it can't be written: what is at hand stays at hand.
            return
        with self._changing:
            left = {cid: place for cid, place in new.items() if cid not in saved}
            self._tables = left, (*kept, written)
        for segment in segments[len(kept) :]:
            segment.remove(keep=written.path)

    def replace(self, right: "Places") -> None:
        """Goes on with the places of others in memory; its own tables turned out to be wrong, and are removed."""
        with self._saving:
            with self._changing:
                new, segments = self._tables
                self._tables = new | right._tables[0], ()
                self.covered, self.trailer = right.covered, right.trailer
            for segment in segments:
                segment.remove()

    def close(self) -> None:
        """Gives the files back. What is asked for from now on is refused."""
        with self._saving, self._changing:
            self._closed = True
            self._tables = {}, ()

    def _load(self, folder: Path) -> None:
        found = []
        for path in folder.glob("*.tmp"):
            remove_old(path)
        for path in folder.glob("*.places"):
            try:
                segment = _Segment.open(path)
            except OSError:
                # Another process merged it away, or it can't be read: then it is as if it were not there.
                continue
            if segment is None:
                _remove(path)
            else:
                found.append(segment)
        segments = []
        # A crash between writing a merged segment and removing its parts leaves both: the wider one counts.
        for segment in sorted(found, key=lambda s: (s.start, -s.end)):
            if segment.start == self.covered:
                segments.append(segment)
                self.covered, self.trailer = segment.end, segment.trailer
            else:
                segment.remove()
        self._tables = {}, tuple(segments)


def _pack(place: Place) -> bytes:
    return place.pack.to_bytes(8, "big") + place.offset.to_bytes(4, "big") + place.length.to_bytes(4, "big")


def _unpack(record: bytes) -> Place:
    big = int.from_bytes
    return Place(big(record[:8], "big"), big(record[8:12], "big"), big(record[12:], "big"))


class _Segment:
    """One file: a head (magic, first pack, the one after the last, trailer, digest of all that), then records in order.

    Nobody closes it, as another thread may be looking something up: it goes with the last that holds it.
    """

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data = path, data
        self.start, self.end, self.trailer = _read_head(data[:_HEAD])

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
        if data[:_HEAD] != _head(*_read_head(data[:_HEAD]), size):
            data.close()
            return None
        return cls(path, data)

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

    def remove(self, keep: Path | None = None) -> None:
        if self.path != keep:
            _remove(self.path)


def _head(start: int, end: int, trailer: bytes, size: int) -> bytes:
    fields = _MAGIC + start.to_bytes(8, "big") + end.to_bytes(8, "big") + trailer
    return fields + blake3(fields + size.to_bytes(8, "big")).digest()


def _read_head(head: bytes) -> tuple[int, int, bytes]:
    return int.from_bytes(head[16:24], "big"), int.from_bytes(head[24:32], "big"), head[32:64]


def _write(folder: Path, start: int, end: int, trailer: bytes, records: Iterator[bytes]) -> _Segment:
    path = folder / f"{start:010d}-{end:010d}.places"
    staged = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    with open(staged, "wb", opener=private) as file:
        file.write(bytes(_HEAD))
        for record in records:
            file.write(record)
        size = file.tell()
        file.seek(0)
        file.write(_head(start, end, trailer, size))
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)
    written = _Segment.open(path)
    if written is None:
        raise OSError("the table just written can't be read")
    return written


def private(path: str, flags: int) -> int:
    """Opens a file of a cache, for `open(…, opener=private)`: its mode is 0600 whatever the umask."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def remove_old(staged: Path) -> None:
    """Removes what a crash left half written. By its age: its writer may live on another host, or share a number."""
    try:
        if staged.stat().st_mtime < time.time() - _A_DAY:
            staged.unlink()
    except OSError:
        # It was finished, somebody else removed it, or nobody may.
        pass


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # A cache that can't be written is read past what is wrong in it.
        pass
