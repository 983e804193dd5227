"""Parquet segments: entries and places of blobs, by column, in the reader's cache.

They are derived from packs that this reader has proven, and lie outside of the ledger: nobody can poison
another's queries. A segment is written once; several small ones become one. What is damaged or of another
version is dropped and built again.
"""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from schemas.entries import KINDS, decode, kind_of
from schemas.errors import NotSound
from store import pack
from store.durable import storage_errors
from store.folder import Folder

VERSION = 1
_ROWS = 200_000
_SMALL = 12
_PACKS = 256


Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Row(msgspec.Struct, gc=False):
    """The columns of an entry; empty where its kind has no such member."""

    kind: str
    time: str
    run: str = ""
    step: Int64 = 0
    stage: str = ""
    lane: str = ""
    task: str = ""
    imported: bool = False
    content: str = ""
    digest: str = ""
    detail: str = ""
    model: str = ""
    to: Int64 = 0
    status: str = ""
    request: str = ""
    of: str = ""


_decoder = msgspec.json.Decoder(Row)
_MEMBERS = {name: attrgetter(name) for name in Row.__struct_fields__}

ENTRIES = pa.schema(
    [
        ("index", pa.int64()),
        ("pack", pa.int64()),
        ("kind", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        *((name, pa.string()) for name in ("run",)),
        ("step", pa.int64()),
        *((name, pa.string()) for name in ("stage", "lane", "task")),
        ("imported", pa.bool_()),
        *((name, pa.string()) for name in ("content", "digest", "detail", "model")),
        ("to", pa.int64()),
        *((name, pa.string()) for name in ("status", "request", "of")),
    ]
)
BLOBS = pa.schema([("cid", pa.binary(32)), ("pack", pa.int64()), ("size", pa.int64()), ("outside", pa.bool_())])


_REPEATED = {"entries": ["kind", "run", "stage", "lane", "task", "model", "status", "of"], "blobs": False}
"""Columns that are worth a dictionary; looking for repetition in digests costs more than it saves."""

_NAME = re.compile(r"(entries|blobs)-([0-9]{10})-([0-9]{10})-([0-9a-f]{32})\.parquet")


class Segments:
    """The index of one log. Threads that share it take turns; others and other processes may have their own.

    Args:
        home: folder in the reader's cache.
        ledger: the objects that it is built from.

    Attributes:
        entries, blobs: segments in use, from pack 0 to where the tail begins.
        tail_entries, tail_blobs: what comes after them.
    """

    def __init__(self, home: Path, ledger: Folder) -> None:
        self.home = home / f"index-{VERSION}"
        self.ledger = ledger
        self.entries: list[str] = []
        self.blobs: list[str] = []
        self.forget()

    def forget(self) -> None:
        """Forgets what is in memory: every segment is looked at again."""
        self.tail_entries, self.tail_blobs = ENTRIES.empty_table(), BLOBS.empty_table()
        self._tail_from = self._tail_to = 0
        self._checked: set[str] = set()

    def catch_up(self, packs: int, *, merge: bool = True) -> None:
        """Takes in the packs that are not indexed yet.

        Args:
            packs: how many are proven.
            merge: whether small segments may become one, which removes them.
        """
        covered = self._choose(packs)
        if covered != self._tail_from or self._tail_to > packs:
            self.tail_entries, self.tail_blobs = ENTRIES.empty_table(), BLOBS.empty_table()
            self._tail_from = self._tail_to = covered
        for end, entries, blobs in _tables(self.ledger, self._tail_to, packs):
            self.tail_entries = pa.concat_tables([self.tail_entries, entries])
            self.tail_blobs = pa.concat_tables([self.tail_blobs, blobs])
            self._tail_to = end
            if self.tail_entries.num_rows >= _ROWS or end - self._tail_from >= _PACKS:
                self.entries.append(self._put("entries", self._tail_from, end, self.tail_entries))
                self.blobs.append(self._put("blobs", self._tail_from, end, self.tail_blobs))
                self.tail_entries, self.tail_blobs = ENTRIES.empty_table(), BLOBS.empty_table()
                self._tail_from = end
        if merge:
            self._merge()

    def _choose(self, packs: int) -> int:
        """Chooses whole segments without gaps from 0; returns where they end. Damaged ones are removed."""
        found: dict[tuple[int, int], dict[str, str]] = {}
        if self.home.is_dir():
            for path in self.home.iterdir():
                match = _NAME.fullmatch(path.name)
                if match is not None and self._is_whole(path, match[4]):
                    found.setdefault((int(match[2]), int(match[3])), {})[match[1]] = str(path)
        self.entries, self.blobs, covered = [], [], 0
        for (start, end), pair in sorted(found.items(), key=lambda item: (item[0][0], -item[0][1])):
            if start == covered < end <= packs and len(pair) == 2:
                self.entries.append(pair["entries"])
                self.blobs.append(pair["blobs"])
                covered = end
        return covered

    def _is_whole(self, path: Path, digest: str) -> bool:
        """Compares a segment with the digest in its name, once in a process."""
        if path.name in self._checked:
            return True
        try:
            if blake3(path.read_bytes()).hexdigest(16) == digest:
                self._checked.add(path.name)
                return True
            path.unlink(missing_ok=True)
        except OSError:
            # Another process merged it away, or it is no file of ours.
            pass
        return False

    def _put(self, what: str, start: int, end: int, table: pa.Table) -> str:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", compression_level=1, use_dictionary=_REPEATED[what])
        data = sink.getvalue().to_pybytes()
        path = self.home / f"{what}-{start:010d}-{end:010d}-{blake3(data).hexdigest(16)}.parquet"
        with storage_errors(self.home):
            try:
                self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            except FileExistsError:
                self.home.unlink()
                self.home.mkdir(mode=0o700)
            staged = self.home / f".{os.getpid()}-{threading.get_ident()}.{what}"
            staged.write_bytes(data)
            os.replace(staged, path)
        self._checked.add(path.name)
        return str(path)

    def _merge(self) -> None:
        """Makes one segment of the small ones at the end, once they are many."""
        small = 0
        for path in reversed(self.entries):
            if pq.read_metadata(path).num_rows >= _ROWS:
                break
            small += 1
        if small < _SMALL:
            return
        start, end = _span(self.entries[-small])[0], _span(self.entries[-1])[1]
        old = self.entries[-small:] + self.blobs[-small:]
        for what, paths in (("entries", self.entries), ("blobs", self.blobs)):
            merged = pa.concat_tables([pq.read_table(path) for path in paths[-small:]])
            paths[-small:] = [self._put(what, start, end, merged)]
        for path in old:
            Path(path).unlink(missing_ok=True)


def _span(path: str) -> tuple[int, int]:
    _, start, end, _ = Path(path).stem.split("-")
    return int(start), int(end)


def _tables(ledger: Folder, start: int, end: int) -> Iterator[tuple[int, pa.Table, pa.Table]]:
    """Tables of some packs each, in order: the pack after them, entries, blobs."""
    while start < end:
        lines, indexes, numbers = list[bytes](), list[int](), list[int]()
        cids, sizes, places = list[bytes](), list[int](), list[tuple[int, int, int]]()
        while start < end and len(lines) < 50_000:
            found = pack.parse(ledger.get(pack.name(start)))
            before = len(lines)
            for index, leaf in enumerate(found.leaves, found.size):
                if leaf[:1] == b"{":
                    lines.append(leaf)
                    indexes.append(index)
            numbers += [start] * (len(lines) - before)
            cids += found.cids
            cids += found.large
            sizes += map(len, found.blobs)
            sizes += found.large_sizes
            places.append((start, len(found.cids), len(found.large)))
            start += 1
        yield start, _entries(lines, indexes, numbers), _blobs(cids, sizes, places)


def _entries(lines: list[bytes], indexes: list[int], numbers: list[int]) -> pa.Table:
    try:
        rows = _decoder.decode_lines(b"\n".join(lines))
        if len(rows) != len(lines):
            rows = [_row(line) for line in lines]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # An entry of another version may use a member's name for something else.
        rows = [_row(line) for line in lines]
    rows = [row if row.kind in KINDS else _row(line) for row, line in zip(rows, lines, strict=True)]
    # Member by member: a tuple for each row would be 100,000 objects for the collector to look through.
    values = {name: list(map(member, rows)) for name, member in _MEMBERS.items()}
    columns = []
    for field in ENTRIES:
        if field.name in ("index", "pack"):
            columns.append(pa.array(indexes if field.name == "index" else numbers, field.type))
        elif field.name == "time":
            columns.append(_times(values["time"], field.type))
        else:
            columns.append(_column(values[field.name], field.type))
    return pa.table(columns, schema=ENTRIES)


def _column(values: Sequence[Any], type: pa.DataType) -> pa.Array:
    # Most members are empty, or the same, in a whole stretch of entries.
    if values and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], type), len(values))
    return pa.array(values, type)


def _times(texts: Sequence[str], type: pa.DataType) -> pa.Array:
    try:
        return pa.array(texts, pa.string()).cast(type)
    except pa.ArrowInvalid:
        return pa.array([_time(text) for text in texts], type)


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _row(line: bytes) -> Row:
    """A row of what is of another version, or malformed."""
    try:
        entry = decode(line)
    except NotSound:
        return Row("malformed", "")
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Row(kind_of(entry), "", run=entry.run, step=entry.step)


def _blobs(cids: list[bytes], sizes: list[int], places: list[tuple[int, int, int]]) -> pa.Table:
    packs = [number for number, inside, outside in places for _ in range(inside + outside)]
    outside = [flag for _, a, b in places for flag in (False,) * a + (True,) * b]
    return pa.table(
        [pa.array(v, f.type) for v, f in zip((cids, packs, sizes, outside), BLOBS, strict=True)], schema=BLOBS
    )
