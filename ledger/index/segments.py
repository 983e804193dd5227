"""Parquet segments: entries and places of blobs, by column, in the reader's cache.

They are derived from packs that this reader has proven, and lie outside of the ledger: nobody can poison
another's queries. A segment is written once; several small ones become one. What is damaged or of another
version is dropped and built again.
"""

import os
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from store import pack
from store.durable import storage_errors
from store.folder import Folder

VERSION = 1
_ROWS = 200_000
_SMALL = 12


class Row(msgspec.Struct, gc=False):
    """The columns of an entry; empty where its kind has no such member."""

    kind: str
    time: str
    run: str = ""
    step: int = 0
    stage: str = ""
    lane: str = ""
    task: str = ""
    imported: bool = False
    content: str = ""
    digest: str = ""
    detail: str = ""
    model: str = ""
    to: int = 0
    status: str = ""
    request: str = ""
    of: str = ""


class _Kind(msgspec.Struct, gc=False):
    kind: str


_decoder = msgspec.json.Decoder(Row)
_kind = msgspec.json.Decoder(_Kind)
_columns = attrgetter(*Row.__struct_fields__)

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


class Segments:
    """The index of one log.

    Args:
        home: folder in the reader's cache.
        ledger: the objects that it is built from.
    """

    def __init__(self, home: Path, ledger: Folder) -> None:
        self.home = home / f"index-{VERSION}"
        self.ledger = ledger
        self.tail_entries = ENTRIES.empty_table()
        self.tail_blobs = BLOBS.empty_table()
        self._in_memory = 0

    def catch_up(self, packs: int) -> None:
        """Takes in the packs that are not indexed yet.

        Args:
            packs: how many are proven.
        """
        files = self.files()
        covered = files[-1][1] if files else 0
        if covered > packs:
            self.drop()
            covered = 0
        start = max(covered, self._in_memory)
        if start == covered:
            self.tail_entries, self.tail_blobs = ENTRIES.empty_table(), BLOBS.empty_table()
        for first, end, entries, blobs in _tables(self.ledger, start, packs):
            self.tail_entries = pa.concat_tables([self.tail_entries, entries])
            self.tail_blobs = pa.concat_tables([self.tail_blobs, blobs])
            self._in_memory = end
            if self.tail_entries.num_rows >= _ROWS or end - covered >= 256:
                self._write(covered, end)
                covered = end
            del first
        self._merge()

    def files(self) -> list[tuple[int, int]]:
        """First and last pack of each segment, without gaps from 0."""
        found: list[tuple[int, int]] = []
        with storage_errors(self.home):
            names = sorted(self.home.glob("entries-*.parquet")) if self.home.exists() else []
        spans = sorted((_span(path) for path in names), key=lambda span: (span[0], -span[1]))
        for start, end in spans:
            if start == (found[-1][1] if found else 0) and self._path("blobs", start, end).exists():
                found.append((start, end))
        return found

    def paths(self, what: str) -> list[str]:
        """The segments of `entries` or `blobs`."""
        return [str(self._path(what, start, end)) for start, end in self.files()]

    def drop(self) -> None:
        """Forgets everything: it is built again."""
        with storage_errors(self.home):
            for path in self.home.glob("*.parquet"):
                path.unlink(missing_ok=True)
        self._in_memory = 0

    def _path(self, what: str, start: int, end: int) -> Path:
        return self.home / f"{what}-{start:010d}-{end:010d}.parquet"

    def _write(self, start: int, end: int) -> None:
        self._put("blobs", start, end, self.tail_blobs)
        self._put("entries", start, end, self.tail_entries)
        self.tail_entries, self.tail_blobs = ENTRIES.empty_table(), BLOBS.empty_table()

    def _put(self, what: str, start: int, end: int, table: pa.Table) -> None:
        with storage_errors(self.home):
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            staged = self.home / f".{what}.{os.getpid()}"
            pq.write_table(table, staged, compression="zstd", compression_level=1)
            os.replace(staged, self._path(what, start, end))

    def _merge(self) -> None:
        """Makes one segment of the small ones at the end, once they are many."""
        files = self.files()
        small = []
        for start, end in reversed(files):
            if pq.read_metadata(self._path("entries", start, end)).num_rows >= _ROWS:
                break
            small.append((start, end))
        if len(small) < _SMALL:
            return
        start, end = small[-1][0], small[0][1]
        for what in ("blobs", "entries"):
            parts = [pq.read_table(self._path(what, *span)) for span in reversed(small)]
            self._put(what, start, end, pa.concat_tables(parts))
        for span in small:
            for what in ("entries", "blobs"):
                self._path(what, *span).unlink(missing_ok=True)


def _span(path: Path) -> tuple[int, int]:
    _, start, end = path.stem.split("-")
    return int(start), int(end)


def _tables(ledger: Folder, start: int, end: int) -> Iterator[tuple[int, int, pa.Table, pa.Table]]:
    """Tables of some packs each, in order: first pack, end, entries, blobs."""
    while start < end:
        first, lines, indexes, numbers = start, list[bytes](), list[int](), list[int]()
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
        yield first, start, _entries(lines, indexes, numbers), _blobs(cids, sizes, places)


def _entries(lines: list[bytes], indexes: list[int], numbers: list[int]) -> pa.Table:
    try:
        rows = _decoder.decode_lines(b"\n".join(lines))
    except msgspec.MsgspecError:
        # An entry of another version may use a member's name for something else.
        rows = [_row(line) for line in lines]
    values = dict(zip(Row.__struct_fields__, zip(*map(_columns, rows), strict=True), strict=True)) if rows else {}
    columns = []
    for field in ENTRIES:
        if field.name in ("index", "pack"):
            columns.append(pa.array(indexes if field.name == "index" else numbers, field.type))
        elif field.name == "time":
            columns.append(pa.array(values.get("time", ()), pa.string()).cast(field.type))
        else:
            columns.append(pa.array(values.get(field.name, ()), field.type))
    return pa.table(columns, schema=ENTRIES)


def _row(line: bytes) -> Row:
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError:
        try:
            return Row(_kind.decode(line).kind, "1970-01-01T00:00:00Z")
        except msgspec.MsgspecError:
            return Row("malformed", "1970-01-01T00:00:00Z")


def _blobs(cids: list[bytes], sizes: list[int], places: list[tuple[int, int, int]]) -> pa.Table:
    packs = [number for number, inside, outside in places for _ in range(inside + outside)]
    outside = [flag for _, a, b in places for flag in (False,) * a + (True,) * b]
    return pa.table(
        [pa.array(v, f.type) for v, f in zip((cids, packs, sizes, outside), BLOBS, strict=True)], schema=BLOBS
    )
