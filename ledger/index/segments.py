"""Parquet segments: entries and places of blobs, by column, in the reader's cache.

They are derived from packs that this reader has proven, and lie outside of the ledger: nobody can poison
another's queries. A segment is written once; several small ones become one. Its name bears the packs that it
covers, the trailer of the last of them, and a digest of its bytes: what is damaged, of another version or of
another history is dropped and built again.
"""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from ledger.chain import Chain
from schemas.entries import KINDS, Uninterpreted, decode
from schemas.errors import NotSound, StorageFailed
from store import pack
from store.durable import make_folders, storage_errors
from store.places import private, remove_old

VERSION = 5
_ROWS = 200_000
_SMALL = 12
_PACKS = 256


Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Place(msgspec.Struct, gc=False):
    kind: str
    time: Any = None
    run: str = ""
    step: Int64 = 0
    imported: bool = False
    denied: bool = False
    expires: Any = None


_TEXTS = [
    "stage",
    "lane",
    "task",
    "content",
    "digest",
    "detail",
    "model",
    "status",
    "request",
    "of",
    "action",
    "effect",
    "policy",
    "schema",
    "rule",
    "asked",
    "reason",
    "verdict",
    "subject",
    "requester",
    "nonce",
    "egress",
    "inputs",
    "outputs",
    "stdout",
    "stderr",
]
_NUMBERS = [
    "to",
    "decision",
    "continues",
    "attempt",
    "http",
    "input",
    "cached",
    "output",
    "reasoning",
    "cost",
    "reserved",
    "cap",
    "latency",
    "exit",
]

Row: Any = msgspec.defstruct(
    "Row",
    [*((name, str, "") for name in _TEXTS), *((name, Int64, 0) for name in _NUMBERS)],
    bases=(_Place,),
    gc=False,
)
"""The columns of an entry of another version; empty where it has no such member, or one of another type."""

_decoder = msgspec.json.Decoder(Row)
_TAGS = {type: kind for kind, type in KINDS.items()}
_EMPTY = {name: getattr(Row("", None), name) for name in Row.__struct_fields__}

ENTRIES = pa.schema(
    [
        ("index", pa.int64()),
        ("pack", pa.int64()),
        ("kind", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("run", pa.string()),
        ("step", pa.int64()),
        ("imported", pa.bool_()),
        ("denied", pa.bool_()),
        ("expires", pa.timestamp("us", "UTC")),
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.int64()) for name in _NUMBERS),
    ]
)
BLOBS = pa.schema([("cid", pa.binary(32)), ("pack", pa.int64()), ("size", pa.int64()), ("outside", pa.bool_())])


_ONCE = ("content", "digest", "detail", "request", "subject", "nonce", "inputs", "outputs", "stdout", "stderr")
_REPEATED = {"entries": ["kind", "run", *(name for name in _TEXTS if name not in _ONCE)], "blobs": False}
"""Columns that are worth a dictionary; looking for repetition in digests costs more than it saves."""

_NAME = re.compile(r"(entries|blobs)-([0-9]{10})-([0-9]{10})-([0-9a-f]{64})-([0-9a-f]{32})\.parquet")


class Segments:
    """The index of one log. Threads that share it take turns; others and other processes may have their own.

    Args:
        home: folder in the reader's cache.
        chain: what is proven of the log.

    Attributes:
        entries, blobs: segments in use, from pack 0 to where the tail begins.
        tail_entries, tail_blobs: what comes after them.
    """

    def __init__(self, home: Path, chain: Chain) -> None:
        self.home = home / f"index-{VERSION}"
        self.chain = chain
        self.entries: list[str] = []
        self.blobs: list[str] = []
        self._unwritable = False
        self.forget()

    def forget(self) -> None:
        """Forgets what is in memory: every segment is looked at again."""
        self.tail_entries, self.tail_blobs = ENTRIES.empty_table(), BLOBS.empty_table()
        self._tail_from = self._tail_to = 0
        self._trailer = pack.FIRST
        self._checked: set[str] = set()

    def is_damaged(self) -> bool:
        """Whether a segment in use has changed since, or is gone: merged away by another process, say."""
        self._checked.clear()
        return not all(self._is_right(Path(path)) for path in self.entries + self.blobs)

    def catch_up(self, packs: int, *, merge: bool = True) -> None:
        """Takes in the packs that are not indexed yet. Where nothing can be written, they stay in memory.

        Args:
            packs: how many are proven.
            merge: whether small segments may become one, which removes them.

        Raises:
            NotSound: a pack is not the one that was proven (step 2).
        """
        covered, trailer = self._choose(packs)
        if covered != self._tail_from or self._tail_to > packs:
            self.tail_entries, self.tail_blobs = ENTRIES.empty_table(), BLOBS.empty_table()
            self._tail_from = self._tail_to = covered
            self._trailer = trailer
        for end, trailer, entries, blobs in _tables(self.chain, self._tail_to, packs, self._trailer):
            self.tail_entries = pa.concat_tables([self.tail_entries, entries])
            self.tail_blobs = pa.concat_tables([self.tail_blobs, blobs])
            self._tail_to, self._trailer = end, trailer
            if self.tail_entries.num_rows >= _ROWS or end - self._tail_from >= _PACKS:
                self._write_tail()
        if merge and not self._unwritable:
            self._merge()

    def _write_tail(self) -> None:
        if self._unwritable:
            return
        span = self._tail_from, self._tail_to, self._trailer
        try:
            entries = self._put("entries", *span, self.tail_entries)
            blobs = self._put("blobs", *span, self.tail_blobs)
        except StorageFailed:
            self._unwritable = True
            return
        self.entries.append(entries)
        self.blobs.append(blobs)
        self.tail_entries, self.tail_blobs = ENTRIES.empty_table(), BLOBS.empty_table()
        self._tail_from = self._tail_to

    def _choose(self, packs: int) -> tuple[int, bytes]:
        """Chooses segments without gaps from 0; where they end, and the trailer there. Wrong ones are removed."""
        found: dict[tuple[int, int], dict[str, str]] = {}
        for path in self._files():
            match = _NAME.fullmatch(path.name)
            if match is None:
                if path.name.startswith("."):
                    remove_old(path)
            elif int(match[3]) <= packs and self._is_right(path):
                found.setdefault((int(match[2]), int(match[3])), {})[match[1]] = str(path)
        self.entries, self.blobs, covered, trailer = [], [], 0, pack.FIRST
        for (start, end), pair in sorted(found.items(), key=lambda item: (item[0][0], -item[0][1])):
            if start == covered < end and len(pair) == 2:
                self.entries.append(pair["entries"])
                self.blobs.append(pair["blobs"])
                covered, trailer = end, bytes.fromhex(Path(pair["blobs"]).stem.split("-")[3])
        return covered, trailer

    def _files(self) -> list[Path]:
        try:
            return list(self.home.iterdir())
        except OSError:
            # Not made yet, or not to be read: then it is as if it were empty.
            return []

    def _is_right(self, path: Path) -> bool:
        """Compares a segment with the digest and the trailer in its name, once in a process."""
        if path.name in self._checked:
            return True
        match = _NAME.fullmatch(path.name)
        try:
            if match is None:
                return False
            right = blake3(path.read_bytes()).hexdigest(16) == match[5]
            if right and self.chain.trailer_of(int(match[3])) == bytes.fromhex(match[4]):
                self._checked.add(path.name)
                return True
            path.unlink(missing_ok=True)
        except OSError:
            # Another process merged it away, or it is no file of ours.
            pass
        return False

    def _put(self, what: str, start: int, end: int, trailer: bytes, table: pa.Table) -> str:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", compression_level=1, use_dictionary=_REPEATED[what])
        data = sink.getvalue().to_pybytes()
        name = f"{what}-{start:010d}-{end:010d}-{trailer.hex()}-{blake3(data).hexdigest(16)}.parquet"
        if self.home.is_file():
            with storage_errors(self.home):
                self.home.unlink(missing_ok=True)
        make_folders(self.home)
        staged = self.home / f".{os.getpid()}-{threading.get_ident()}.{what}"
        try:
            with storage_errors(self.home):
                with open(staged, "wb", opener=private) as file:
                    file.write(data)
                os.replace(staged, self.home / name)
        except (FileNotFoundError, NotADirectoryError):
            raise StorageFailed(f"{self.home}: removed while we write", hint="who cleans up there?") from None
        self._checked.add(name)
        return str(self.home / name)

    def _merge(self) -> None:
        """Makes one segment of the small ones at the end, once they are many."""
        small = 0
        for path in reversed(self.entries):
            if pq.read_metadata(path).num_rows >= _ROWS:
                break
            small += 1
        if small < _SMALL:
            return
        first, last = Path(self.entries[-small]).stem.split("-"), Path(self.entries[-1]).stem.split("-")
        span = int(first[1]), int(last[2]), bytes.fromhex(last[3])
        old = self.entries[-small:] + self.blobs[-small:]
        merged: list[str] = []
        try:
            for what, paths in (("entries", self.entries), ("blobs", self.blobs)):
                merged.append(self._put(what, *span, pa.concat_tables(map(pq.read_table, paths[-small:]))))
        except StorageFailed:
            self._unwritable = True
            return
        self.entries[-small:], self.blobs[-small:] = merged[:1], merged[1:]
        for path in old:
            Path(path).unlink(missing_ok=True)


def _tables(chain: Chain, start: int, end: int, trailer: bytes) -> Iterator[tuple[int, bytes, pa.Table, pa.Table]]:
    """Tables of some packs each, in order: the pack after them, the trailer before that, entries, blobs.

    Args:
        trailer: of the pack before the first.
    """
    while start < end:
        lines, indexes, numbers = list[bytes](), list[int](), list[int]()
        cids, sizes, places = list[bytes](), list[int](), list[tuple[int, int, int]]()
        while start < end and len(lines) < 50_000:
            found = pack.parse(chain.folder.get(pack.name(start)))
            chain.check_links(found, trailer)
            trailer = found.trailer
            inside = [leaf for leaf in found.leaves if leaf[:1] == b"{"]
            if len(inside) == len(found.leaves) - 1:
                # One batch, the common case: its signature leaf is the last.
                indexes += range(found.size, found.end - 1)
            else:
                indexes += [index for index, leaf in enumerate(found.leaves, found.size) if leaf[:1] == b"{"]
            lines += inside
            numbers += [start] * len(inside)
            cids += found.cids
            cids += found.large
            sizes += map(len, found.blobs)
            sizes += found.large_sizes
            places.append((start, len(found.cids), len(found.large)))
            start += 1
        yield start, trailer, _entries(lines, indexes, numbers), _blobs(cids, sizes, places)


def _entries(lines: list[bytes], indexes: list[int], numbers: list[int]) -> pa.Table:
    # One by one, and as verify reads them: no author can have one leaf stand for two rows, or a row for two.
    rows: list[Any] = list(map(_row, lines))
    types = set(map(type, rows))
    # Member by member: a tuple for each row would be 100,000 objects for the collector to look through.
    columns = []
    for field in ENTRIES:
        if field.name in ("index", "pack"):
            columns.append(pa.array(indexes if field.name == "index" else numbers, field.type))
        elif field.name == "kind":
            columns.append(_column([_TAGS.get(type(row)) or row.kind for row in rows], field.type))
        elif field.name == "time":
            columns.append(pa.array([row.time for row in rows], field.type))
        else:
            columns.append(_member(rows, types, field.name, field.type))
    return pa.table(columns, schema=ENTRIES)


def _member(rows: list[Any], types: set[type[msgspec.Struct]], name: str, type: pa.DataType) -> pa.Array:
    having = [kind for kind in types if name in kind.__struct_fields__]
    empty = _EMPTY[name]
    if not having:
        return pa.repeat(pa.scalar(empty, type), len(rows))
    if len(having) == len(types):
        return _column(list(map(attrgetter(name), rows)), type)
    return _column([getattr(row, name, empty) for row in rows], type)


def _column(values: Sequence[Any], type: pa.DataType) -> pa.Array:
    # Most members are empty, or the same, in a whole stretch of entries.
    if values and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], type), len(values))
    return pa.array(values, type)


def _row(line: bytes) -> Any:
    """An entry; what is of another version, or malformed, as far as its members fit the columns."""
    try:
        entry = decode(line)
    except NotSound:
        return Row("malformed")
    if not isinstance(entry, Uninterpreted):
        return entry
    try:
        row = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        row = Row(entry.kind)
    row.kind, row.time, row.run, row.step = entry.kind, _time(row.time), entry.run, entry.step
    row.expires = _time(row.expires)
    return row


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
        return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _blobs(cids: list[bytes], sizes: list[int], places: list[tuple[int, int, int]]) -> pa.Table:
    packs = [number for number, inside, outside in places for _ in range(inside + outside)]
    outside = [flag for _, a, b in places for flag in (False,) * a + (True,) * b]
    return pa.table(
        [pa.array(v, f.type) for v, f in zip((cids, packs, sizes, outside), BLOBS, strict=True)], schema=BLOBS
    )
