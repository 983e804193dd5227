"""The Merkle tree of RFC 6962 with SHA-256: frontier, root, proofs. Pure; bytes come from the caller.

A *frontier* is the list of the roots of the complete subtrees that a tree of n leaves consists of, largest
first: as many as n has one bits. It is all that is needed to append, and to know the root.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from schemas.errors import NotSound

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(00 ‖ data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


_FEW = 8
"""Leaves up to which one after the other is faster than level by level."""


class Frontier:
    """A tree that grows to the right.

    Args:
        size: leaves so far.
        hashes: the frontier at that size.

    Raises:
        NotSound: not as many hashes as that size has (step 4).
    """

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            raise NotSound("a frontier has the wrong number of hashes", step=4)

    def copy(self) -> "Frontier":
        """Another frontier with the same leaves."""
        return Frontier(self.size, self.hashes)

    def append(self, leaf: bytes) -> None:
        """Adds a leaf, given its hash."""
        self._add(leaf)

    def _add(self, node: bytes) -> list[tuple[int, bytes]]:
        hashes, position, level = self.hashes, self.size, 0
        complete = []
        while position & 1:
            node = sha256(b"\x01" + hashes.pop() + node).digest()
            position >>= 1
            level += 1
            if not level & 7:
                complete.append((level, node))
        hashes.append(node)
        self.size += 1
        return complete

    def extend(self, leaves: list[bytes]) -> list[tuple[int, bytes]]:
        """Adds leaves, level by level: the same as `append` for each, in less time.

        Returns:
            Level and hash of each subtree of 256, 65,536, … leaves that became whole, in order within a level.
        """
        if len(leaves) < _FEW:
            return [node for leaf in leaves for node in self._add(leaf)]
        old, left, complete, level = self.size, self.hashes, list[tuple[int, bytes]](), 0
        right: list[bytes] = []
        nodes = leaves
        while nodes or old >> level:
            if level and not level & 7:
                complete += [(level, node) for node in nodes]
            if old >> level & 1:
                nodes = [left.pop(), *nodes]
            if len(nodes) & 1:
                right.append(nodes[-1])
            pairs = zip(nodes[::2], nodes[1::2], strict=False)
            nodes = [sha256(b"\x01" + a + b).digest() for a, b in pairs]
            level += 1
        self.hashes = left + right[::-1]
        self.size += len(leaves)
        return complete

    def root(self) -> bytes:
        """The hash of the whole tree."""
        if not self.hashes:
            return EMPTY_ROOT
        found = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            found = node_hash(left, found)
        return found


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


Reader = Callable[[int, int], bytes]
"""Gives the hash of the complete subtree of 2^level leaves at a position: `read(level, position)`."""


def range_root(read: Reader, start: int, end: int) -> bytes:
    """The root over leaves `start` to `end`, where `start` is what an inclusion proof would ask for.

    RFC 6962 splits a range at the largest power of two below its length; each complete half is read whole.
    """
    length = end - start
    if length.bit_count() == 1 and start % length == 0:
        return read(length.bit_length() - 1, start // length)
    middle = start + _split(length)
    return node_hash(range_root(read, start, middle), range_root(read, middle, end))


def _split(length: int) -> int:
    return 1 << (length - 1).bit_length() - 1


def inclusion_proof(read: Reader, index: int, size: int) -> list[bytes]:
    """The audit path of a leaf in a tree of `size` leaves (RFC 6962, 2.1.1), leaf upward."""
    if not 0 <= index < size:
        raise ValueError("the index is outside of the tree")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(read, middle, end))
            end = middle
        else:
            path.append(range_root(read, start, middle))
            start = middle
    return path[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2).

    Raises:
        NotSound: the proof does not have the length for that place (step 4).
    """
    if not 0 <= index < size:
        raise NotSound("a proof is for an index outside of the tree", step=4)
    found, node, last = leaf, index, size - 1
    for hash in proof:
        if last == 0:
            raise NotSound("an inclusion proof is too long", step=4)
        if node & 1 or node == last:
            found = node_hash(hash, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, hash)
        node, last = node >> 1, last >> 1
    if last:
        raise NotSound("an inclusion proof is too short", step=4)
    return found


def consistency_proof(read: Reader, old: int, size: int) -> list[bytes]:
    """Proof that the tree of `size` leaves begins with that of `old` (RFC 6962, 2.1.2)."""
    if not 0 < old <= size:
        raise ValueError("the old size must be from 1 to the new size")
    path: list[bytes] = []
    start, end, whole = 0, size, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_root(read, middle, end))
            end = middle
        else:
            path.append(range_root(read, start, middle))
            start, whole = middle, False
    if not whole:
        path.append(range_root(read, start, end))
    return path[::-1]


def check_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Checks a consistency proof (RFC 9162, 2.1.4.2).

    Raises:
        NotSound: it does not show that the one tree begins with the other (step 8).
    """
    wrong = NotSound("a consistency proof does not hold", step=8)
    if not 0 < old <= size:
        raise wrong
    if old == size:
        if proof or old_root != root:
            raise wrong
        return
    path = list(proof) if old & old - 1 else [old_root, *proof]
    if not path:
        raise wrong
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for hash in path[1:]:
        if last == 0:
            raise wrong
        if node & 1 or node == last:
            first, second = node_hash(hash, first), node_hash(hash, second)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, hash)
        node, last = node >> 1, last >> 1
    if last or first != old_root or second != root:
        raise wrong
