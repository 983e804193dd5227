"""The bytes of a pack, the only thing whose creation commits (docs/FORMAT.md, "Pack").

Leaves, frontier and checkpoint are opaque here: the log gives them their meaning.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from blake3 import blake3

from schemas.errors import NotSound

MAX_PACK = 64 << 20
MAX_LEAVES = 65_536
MAX_CHECKPOINT = 65_536
FIRST = bytes(32)
"""Stands where the trailer of the pack before the first would."""

_FIXED = struct.Struct("<4sQQ32s16sIIII")
_MAGIC = b"LP\x01\x00"


class Pack(NamedTuple):
    """A pack taken apart.

    Attributes:
        number: of this commit, from 0.
        size: leaves of the tree before it.
        previous: trailer of the pack before it.
        salt: 16 random bytes drawn for this build, so that two builds are never equal.
        frontier: roots of the complete subtrees at `size`, largest first.
        checkpoint: newest published checkpoint that its writer had verified; may be empty.
        cids, blobs: the blobs inside, by position.
        large, large_sizes: cids and sizes of blobs that lie in `blobs/`.
        leaves: entries and signature leaves, in order.
        trailer: BLAKE3 of all bytes before it.
    """

    number: int
    size: int
    previous: bytes
    salt: bytes
    frontier: tuple[bytes, ...]
    checkpoint: bytes
    cids: list[bytes]
    blobs: list[bytes]
    large: list[bytes]
    large_sizes: tuple[int, ...]
    leaves: list[bytes]
    trailer: bytes

    @property
    def end(self) -> int:
        """Leaves of the tree after it."""
        return self.size + len(self.leaves)


def name(number: int) -> str:
    """The object's name: 256 packs a folder."""
    return f"packs/{number >> 8:010d}/{number & 255:03d}.pack"


def header_length(size: int) -> int:
    """Bytes of what stands before the checkpoint: fixed fields and frontier."""
    return _FIXED.size + 32 * size.bit_count()


def overhead(leaves: int, blobs: int) -> int:
    """An upper bound of what a pack adds to its blobs, leaves and checkpoint."""
    return _FIXED.size + 32 * 64 + 36 * blobs + 2 * leaves + 32


def build(
    number: int,
    size: int,
    previous: bytes,
    salt: bytes,
    frontier: Sequence[bytes],
    checkpoint: bytes,
    blobs: Sequence[tuple[bytes, bytes]],
    large: Sequence[tuple[bytes, int]],
    leaves: Sequence[bytes],
) -> bytes:
    """The bytes of a pack.

    Args:
        blobs: cid and sealed bytes of each blob inside.
        large: cid and size of each blob outside.
    """
    fixed = _FIXED.pack(_MAGIC, number, size, previous, salt, len(checkpoint), len(blobs), len(large), len(leaves))
    parts = [fixed, *frontier, checkpoint, *[cid for cid, _ in blobs], *[cid for cid, _ in large]]
    parts.append(struct.pack(f"<{len(blobs)}I", *[len(data) for _, data in blobs]))
    parts.append(struct.pack(f"<{len(large)}I", *[count for _, count in large]))
    parts.append(struct.pack(f"<{len(leaves)}H", *map(len, leaves)))
    parts += [data for _, data in blobs]
    parts += leaves
    body = b"".join(parts)
    return body + blake3(body).digest()


def parse(data: bytes) -> Pack:
    """Takes a pack apart and checks its trailer.

    Raises:
        NotSound: it is torn, changed, or over a limit (step 2).
    """
    found = take_apart(data)
    if blake3(memoryview(data)[:-32]).digest() != data[-32:]:
        raise NotSound("a pack's bytes do not match its trailer", step=2)
    return found


def take_apart(data: bytes) -> Pack:
    """Takes a pack apart and leaves its trailer unchecked: for naming the place of a damage.

    Raises:
        NotSound: its lengths do not add up, or are over a limit (step 2).
    """
    if len(data) > MAX_PACK or len(data) < _FIXED.size + 32:
        raise NotSound("a pack is torn or over 64 MiB", step=2)
    magic, number, size, previous, salt, n_checkpoint, n_blobs, n_large, n_leaves = _FIXED.unpack_from(data)
    if magic != _MAGIC:
        raise NotSound("a pack has another beginning: not ours, or of another version", step=2)
    if not 2 <= n_leaves <= MAX_LEAVES or n_checkpoint > MAX_CHECKPOINT or n_blobs + n_large > MAX_PACK // 32:
        raise NotSound("a pack is over a limit", step=2)
    if size >> 53:
        raise NotSound("a pack states an impossible size", step=2)
    at_checkpoint = header_length(size)
    at_cids = at_checkpoint + n_checkpoint
    at_tables = at_cids + 32 * (n_blobs + n_large)
    at_blobs = at_tables + 4 * (n_blobs + n_large) + 2 * n_leaves
    if at_blobs > len(data) - 32:
        raise NotSound("a pack is torn: its tables do not fit", step=2)
    lengths = struct.unpack_from(f"<{n_blobs}I{n_large}I{n_leaves}H", data, at_tables)
    inside = lengths[:n_blobs] + lengths[n_blobs + n_large :]
    edges = list(accumulate(inside, initial=at_blobs))
    if edges[-1] != len(data) - 32:
        raise NotSound("a pack is torn: its lengths do not add up", step=2)
    pieces = [data[a:b] for a, b in pairwise(edges)]
    cids = [data[i : i + 32] for i in range(at_cids, at_tables, 32)]
    return Pack(
        number,
        size,
        previous,
        salt,
        tuple(data[i : i + 32] for i in range(_FIXED.size, at_checkpoint, 32)),
        data[at_checkpoint:at_cids],
        cids[:n_blobs],
        pieces[:n_blobs],
        cids[n_blobs:],
        lengths[n_blobs : n_blobs + n_large],
        pieces[n_blobs:],
        data[-32:],
    )


def offsets(pack: Pack) -> list[int]:
    """Where in the pack each blob, then each leaf, begins."""
    tables = 36 * (len(pack.cids) + len(pack.large)) + 2 * len(pack.leaves)
    first = header_length(pack.size) + len(pack.checkpoint) + tables
    return list(accumulate(map(len, pack.blobs + pack.leaves), initial=first))[:-1]


def peek_previous(head: bytes) -> bytes:
    """The trailer of the pack before, as a pack states it in the first 52 of its bytes.

    Raises:
        NotSound: they do not begin a pack (step 2).
    """
    if len(head) < 52 or head[:4] != _MAGIC:
        raise NotSound("a pack is torn, or has another beginning", step=2)
    return head[20:52]


def peek_size(head: bytes) -> int:
    """The tree size before a pack, from the first 20 of its bytes.

    Raises:
        NotSound: they do not begin a pack (step 2).
    """
    if len(head) < 20 or head[:4] != _MAGIC:
        raise NotSound("a pack is torn, or has another beginning", step=2)
    return int.from_bytes(head[12:20], "little")
