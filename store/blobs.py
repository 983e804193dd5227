"""Contents by address: sealed on the way in, checked and opened on the way out."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.errors import Malformed, Missing, NotSound, TooLarge
from schemas.ids import address, cid_of
from store import lists, pack
from store.datakeys import Keyring
from store.durable import storage_errors
from store.folder import Folder
from store.lists import MAX_CONTENT
from store.places import LARGE, Place, Places
from store.seal import MAX_PIECE, Blob, DataKey, Sealed, cid, seal, unseal

INLINE = 65_536
"""Sealed blobs of this many bytes and more lie outside of packs."""

_SPILL = 16 << 20
_MOST_SEEN = 1 << 15
_MOST_PIECES = 4096


def large_name(blob: bytes) -> str:
    """The object of a blob that lies outside of packs."""
    digits = blob.hex()
    return f"blobs/{digits[:2]}/{digits}"


class Prepared(NamedTuple):
    """A sealed content, ready to be referred to by an entry.

    Attributes:
        address: where it will be read.
        digest: keyed digest of the content.
        inside: blobs and lists for the pack.
        outside: cid and size of blobs that are durable already.
        learned: for `Prefixes.learn`, once committed.
        key: the data key that it was sealed under.
        pieces: of a model request: keyed digest of each piece, and the blob that holds it.
    """

    address: str
    digest: str
    inside: list[Sealed]
    outside: list[tuple[bytes, int]]
    learned: dict[bytes, lists._List]
    key: DataKey
    pieces: dict[str, bytes] = {}


class Blobs:
    """The contents of one ledger.

    Args:
        folder: its objects.
        places: where blobs lie, as far as is known.
        keyring: opens and makes data keys.
        heal: makes the tables of places right where they may be wrong.
    """

    def __init__(
        self, folder: Folder, places: Places, keyring: Keyring, heal: Callable[[], None] | None = None
    ) -> None:
        self.folder = folder
        self.places = places
        self.keyring = keyring
        self.heal = heal
        self.prefixes = lists.Prefixes()
        self._seen: dict[bytes, None] = {}
        self._pieces: dict[str, bytes] = {}

    def prepare(self, key: DataKey, content: bytes | Path, *, request: bool = False) -> Prepared:
        """Seals a content. Large blobs are written and made durable; small ones await their pack.

        Args:
            request: whether it is a model request, to be cut where conversations repeat themselves.

        Raises:
            TooLarge: over 4 GiB.
        """
        if isinstance(content, bytes) and len(content) <= MAX_PIECE and not request:
            sealed = seal(key, content)
            inside, outside = ([sealed], []) if len(sealed.data) < INLINE else self._divide([sealed])
            return Prepared(address(sealed.cid), key.digest(content), inside, outside, {}, key)
        shared = 0
        if request and isinstance(content, Path):
            content = _small_file(content)
        if isinstance(content, bytes):
            pieces: Iterable[bytes]
            pieces, shared = lists.cut(content, request=request)
        else:
            pieces = _file_pieces(content)
        hasher = key.hasher()
        cids: list[bytes] = []
        held: dict[str, bytes] = {}
        inside, outside, waiting = [], [], 0
        for piece in pieces:
            hasher.update(piece)
            if request:
                # A conversation says again what it said before: what is committed need not be sealed again.
                digest = key.digest(piece)
                if (blob := self._pieces.get(digest)) is not None and blob in self._seen:
                    cids.append(blob)
                    continue
            sealed = seal(key, piece)
            cids.append(sealed.cid)
            if request:
                held[digest] = sealed.cid
            here, there = self._divide([sealed])
            inside += here
            outside += there
            waiting += sum(len(blob.data) for blob in here)
            if waiting > _SPILL:
                outside += self._write_outside(inside)
                inside, waiting = [], 0
        if len(cids) == 1:
            return Prepared(address(cids[0]), hasher.hexdigest(), inside, outside, {}, key, held)
        chained = self.prefixes.build(cids, shared)
        here, there = self._divide(chained.made)
        made, large = inside + here, outside + there
        return Prepared(address(chained.cid), hasher.hexdigest(), made, large, chained.learned, key, held)

    def _divide(self, made: list[Sealed]) -> tuple[list[Sealed], list[tuple[bytes, int]]]:
        inside = [blob for blob in made if len(blob.data) < INLINE]
        outside = [blob for blob in made if len(blob.data) >= INLINE]
        return inside, self._write_outside(outside)

    def _write_outside(self, made: list[Sealed]) -> list[tuple[bytes, int]]:
        # Written anew unless a committed pack refers to it: what lies there may be a stranger's, or half synced.
        missing = [blob for blob in made if not self.has(blob.cid)]
        if missing:
            self.folder.put({large_name(blob.cid): blob.data for blob in missing})
        return [(blob.cid, len(blob.data)) for blob in made]

    def has(self, blob: bytes) -> bool:
        """Whether a blob can be read from what is committed, and need not be stored again.

        A pack may name what is not there, or is something else: each is looked at once.
        """
        if blob in self._seen:
            return True
        if self.places.find(blob) is None:
            return False
        try:
            self.get(blob)
        except (Missing, NotSound):
            return False
        self._see([blob])
        return True

    def learn(self, prepared: Prepared) -> None:
        """Takes in that a content of this process is committed."""
        self._see([blob.cid for blob in prepared.inside] + [cid for cid, _ in prepared.outside])
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = {}
        self._pieces.update(prepared.pieces)

    def _see(self, blobs: list[bytes]) -> None:
        if len(self._seen) > _MOST_SEEN:
            self._seen = {}
        self._seen.update(dict.fromkeys(blobs))

    def get(self, blob: bytes) -> bytes:
        """An object's bytes, its cid checked.

        Raises:
            Missing: no committed pack refers to it, or its object is gone.
            NotSound: its bytes are not those of the address (step 6).
        """
        try:
            return self._get(blob)
        except (Missing, NotSound):
            if self.heal is None:
                raise
        self.heal()
        return self._get(blob)

    def _get(self, blob: bytes) -> bytes:
        place = self.places.find(blob)
        if place is None:
            raise Missing(f"{address(blob)} is not in this ledger", hint="`ledger log RUN` prints addresses")
        try:
            if place.offset == LARGE:
                data = self.folder.get(large_name(blob))
            else:
                data = self.folder.get(pack.name(place.pack), place.offset, place.length)
            if cid(data) == blob:
                return data
            where = large_name(blob) if place.offset == LARGE else f"pack {place.pack}, offset {place.offset:,}"
            raise NotSound(f"{where}: the blob there is not {address(blob)}", step=6, hint="run: ledger verify")
        except (Missing, NotSound):
            # Another pack may hold what this one only claims to.
            if (found := self._search(blob)) is not None:
                return found
            raise

    def _search(self, blob: bytes) -> bytes | None:
        for number in range(self.places.covered):
            found = pack.parse(self.folder.get(pack.name(number)))
            for name, data in zip(found.cids, found.blobs, strict=True):
                if name == blob == cid(data):
                    return data
        return None

    def pieces(self, text: str) -> Iterator[bytes]:
        """The content of an address, piece by piece: no more than a piece is in memory.

        Raises:
            NotSound: it is over 4 GiB, which no writer makes (step 10).
            LedgerError: it is missing, changed, erased, or can't be opened by this identity.
        """
        return (piece for _, piece in self._open(text))

    def _open(self, text: str) -> Iterator[tuple[DataKey, bytes]]:
        def open(blob: bytes, data: bytes) -> tuple[DataKey, bytes]:
            key = self.keyring.open(Blob.parse(data).key_id)
            return key, unseal(key, data)

        length = 0
        for key, piece in lists.opened(cid_of(text), self.get, open):
            length += len(piece)
            if length > MAX_CONTENT:
                raise NotSound(f"{text} is over 4 GiB", step=10)
            yield key, piece

    def read(self, text: str, limit: int = MAX_CONTENT) -> bytes:
        """The content of an address, whole.

        Raises:
            TooLarge: it is longer than the limit.
        """
        pieces, length = [], 0
        for piece in self.pieces(text):
            length += len(piece)
            if length > limit:
                raise TooLarge(f"{text} is over {limit:,} bytes", hint=f"ledger cat {text}")
            pieces.append(piece)
        return b"".join(pieces)

    def check(self, text: str, digest: str) -> int:
        """Opens a content and compares its digest.

        Args:
            digest: as its entry states it; empty where none does.

        Returns:
            Its length in bytes.

        Raises:
            NotSound: it does not open, or is not what the entry states (step 10).
        """
        length, hasher = 0, None
        for key, piece in self._open(text):
            hasher = hasher or key.hasher()
            hasher.update(piece)
            length += len(piece)
        if digest and (hasher is None or hasher.hexdigest() != digest):
            raise NotSound(f"{text} does not have the digest that its entry states", step=10)
        return length


def note_places(places: Places, found: pack.Pack) -> None:
    """Takes the blobs of a pack in."""
    number, at = found.number, pack.offsets(found)
    inside = zip(found.cids, at, found.blobs, strict=False)
    large = zip(found.large, found.large_sizes, strict=True)
    new = [(blob, Place(number, offset, len(data))) for blob, offset, data in inside]
    places.take(number, found.trailer, new + [(blob, Place(number, LARGE, size)) for blob, size in large])


def _small_file(path: Path) -> bytes | Path:
    """A request in a file is cut like any other, where it is not larger than requests are."""
    try:
        with storage_errors(path):
            return path.read_bytes() if path.is_file() and path.stat().st_size <= _SPILL else path
    except (FileNotFoundError, NotADirectoryError):
        return path


def _file_pieces(path: Path) -> Iterator[bytes]:
    try:
        with storage_errors(path), open(path, "rb") as file:
            # At once where it says how long it is: nothing is sealed and written in vain.
            if os.fstat(file.fileno()).st_size > MAX_CONTENT:
                raise _too_large(path)
            first = file.read(MAX_PIECE)
            yield first
            read = len(first)
            while first and (piece := file.read(MAX_PIECE)):
                read += len(piece)
                if read > MAX_CONTENT:
                    raise _too_large(path)
                yield piece
    except (FileNotFoundError, NotADirectoryError):
        raise Malformed(f"{path}: no such file", hint="check the path") from None


def _too_large(path: Path) -> TooLarge:
    return TooLarge(f"{path}: over the limit of 4 GiB", hint="part it, and append the parts")
