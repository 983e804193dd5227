"""The attacker's workshop: packs built by hand from real pieces, by who holds the storage and some of the keys."""

import os
import shutil
from pathlib import Path
from typing import Any, Self

from ledger import batch, homes
from ledger.checkpoint import Head
from ledger.merkle import Frontier, leaf_hash
from store import pack
from store.signers import Signer
from tests.support import ledgers
from tests.support.machine import ORIGIN


def key(name: str = "author", origin: str = ORIGIN) -> Signer:
    """A private key of this machine: `owner`, `log`, `author`, or one that `add_author` made."""
    return Signer.load(f"file:{homes.keys(origin)}/{name}.key")


def new_key(name: str = f"{ORIGIN}/mallory") -> Signer:
    """A key that nobody has heard of."""
    return Signer(name, os.urandom(32))


def parsed(path: Path) -> list[pack.Pack]:
    """The packs of a ledger, taken apart."""
    return [pack.parse(file.read_bytes()) for file in ledgers.packs(path)]


def drop_derived(path: Path) -> None:
    """Takes tiles and checkpoint away: who holds the storage can."""
    shutil.rmtree(path / "tile", ignore_errors=True)
    (path / "checkpoint").unlink(missing_ok=True)


class Forger:
    """Goes on from the first packs of a ledger; headers and trailers are always right, unless told otherwise.

    Args:
        path: the ledger.
        keep: how many packs stay; the others, and what was derived from them, are gone.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        self.path = path
        self.old = parsed(path)
        kept = self.old if keep is None else self.old[:keep]
        for file in ledgers.packs(path)[len(kept) :]:
            file.unlink()
        if len(kept) < len(self.old):
            drop_derived(path)
        self.number = len(kept)
        self.trailer = kept[-1].trailer if kept else pack.FIRST
        self.before = Frontier()
        for found in kept:
            for leaf in found.leaves:
                self.before.append(leaf_hash(leaf))
        self.frontier = self.before.copy()
        self.leaves: list[bytes] = []

    @property
    def size(self) -> int:
        """Index of the next leaf."""
        return self.frontier.size

    def leaf(self, *leaves: bytes) -> Self:
        """Adds leaves as they are."""
        for leaf in leaves:
            self.leaves.append(leaf)
            self.frontier.append(leaf_hash(leaf))
        return self

    def entries(self, count: int = 1) -> Self:
        """Adds entries of a kind that nobody interprets."""
        for _ in range(count):
            self.leaf(b'{"kind":"test.note","number":%d}' % self.size)
        return self

    def signature(
        self, by: Signer, *, count: int | None = None, origin: str = ORIGIN, head: Head | None = None
    ) -> bytes:
        """The signature leaf for this place."""
        if count is None:
            signed = next((i for i, leaf in enumerate(reversed(self.leaves)) if leaf[:1] != b"{"), len(self.leaves))
            count = signed
        return batch.sign(origin, head or Head(self.size, self.frontier.root()), count, by)

    def sign(self, by: Signer, **how: Any) -> Self:
        """Closes a batch."""
        return self.leaf(self.signature(by, **how))

    def commit(self, **changes: Any) -> Self:
        """Writes the pack. `changes` are parts of its header, or blobs, that differ from what they should be."""
        parts: dict[str, Any] = {
            "number": self.number,
            "size": self.before.size,
            "previous": self.trailer,
            "salt": os.urandom(16),
            "frontier": self.before.hashes,
            "checkpoint": b"",
            "blobs": [],
            "large": [],
            "leaves": self.leaves,
        }
        data = pack.build(**(parts | changes))
        file = self.path / pack.name(self.number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self.number, self.trailer, self.leaves = self.number + 1, data[-32:], []
        self.before = self.frontier.copy()
        return self

    def again(self, found: pack.Pack, leaves: list[bytes] | None = None, **changes: Any) -> Self:
        """Writes an earlier pack's blobs with these leaves, or its own, as the next pack."""
        self.leaf(*(found.leaves if leaves is None else leaves))
        parts: dict[str, Any] = {
            "blobs": list(zip(found.cids, found.blobs, strict=True)),
            "large": list(zip(found.large, found.large_sizes, strict=True)),
        }
        return self.commit(**(parts | changes))
