"""Tiles and entry bundles (C2SP tlog-tiles): the tree as outside tools read it.

All of it is derived from the packs. A partial tile goes only when its full tile exists.
"""

from ledger.merkle import Frontier, leaf_hash, root_of
from schemas.errors import Missing, NotSound
from store.folder import Folder

WIDTH = 256
_LEVELS = 8


def number(index: int) -> str:
    """A tile's number in its path: groups of three digits, all but the last after an `x`."""
    if index < 0:
        raise NotSound(f"no tile has the number {index}", step=7)
    groups = []
    while True:
        groups.append(f"{index % 1000:03d}")
        index //= 1000
        if not index:
            break
    return "/".join([*(f"x{g}" for g in reversed(groups[1:])), groups[0]])


def tile_name(level: int, index: int, width: int = WIDTH) -> str:
    """The object of a tile."""
    return _name(f"tile/{level}", index, width)


def bundle_name(index: int, width: int = WIDTH) -> str:
    """The object of an entry bundle."""
    return _name("tile/entries", index, width)


def _name(prefix: str, index: int, width: int) -> str:
    return f"{prefix}/{number(index)}" + (f".p/{width}" if width < WIDTH else "")


def bundle(leaves: list[bytes]) -> bytes:
    """The bytes of an entry bundle: each leaf after its length in two bytes, big endian."""
    return b"".join([part for leaf in leaves for part in (len(leaf).to_bytes(2, "big"), leaf)])


def parse_bundle(data: bytes) -> list[bytes]:
    """The leaves of an entry bundle.

    Raises:
        NotSound: it is torn (step 7).
    """
    leaves, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data):
            raise NotSound("an entry bundle is torn", step=7)
        leaves.append(data[at + 2 : end])
        at = end
    return leaves


def parse_tile(data: bytes) -> list[bytes]:
    """The hashes of a tile.

    Raises:
        NotSound: it is torn (step 7).
    """
    if len(data) % 32 or len(data) > 32 * WIDTH:
        raise NotSound("a tile is torn", step=7)
    return [data[i : i + 32] for i in range(0, len(data), 32)]


class Builder:
    """Grows tiles to the right.

    Attributes:
        size: leaves so far.
        ready: objects to be written, by name.
        filled: tiles that became full, whose partial forms may go once `ready` is written.
    """

    def __init__(self) -> None:
        self.size = 0
        self.ready: dict[str, bytes] = {}
        self.filled: list[str] = []
        self._edges: list[list[bytes]] = [[] for _ in range(_LEVELS)]
        self._leaves: list[bytes] = []

    @classmethod
    def load(cls, folder: Folder, size: int) -> "Builder":
        """Goes on from the partial tiles on disk; the caller compares `root` with what it trusts.

        Raises:
            Missing: a partial tile is not there.
            NotSound: one is torn.
        """
        found = cls()
        found.size = size
        count = size
        for level in range(_LEVELS):
            count, width = divmod(count, WIDTH)
            if width:
                found._edges[level] = parse_tile(folder.get(tile_name(level, count, width)))
                if level == 0:
                    found._leaves = parse_bundle(folder.get(bundle_name(count, width)))
        if [leaf_hash(leaf) for leaf in found._leaves] != found._edges[0]:
            raise NotSound("an entry bundle does not have the hashes of its tile", step=7)
        return found

    def root(self) -> bytes:
        """The root over all leaves, from the edges alone."""
        hashes: list[bytes] = []
        for edge in reversed(self._edges):
            frontier = Frontier()
            for node in edge:
                frontier.append(node)
            hashes += frontier.hashes
        return Frontier(self.size, hashes).root()

    def append(self, leaf: bytes, hash: bytes) -> None:
        """Adds a leaf and its hash."""
        self._leaves.append(leaf)
        self._edges[0].append(hash)
        self.size += 1
        if len(self._leaves) < WIDTH:
            return
        index = self.size // WIDTH - 1
        self._fill(bundle_name(index), bundle(self._leaves))
        self._leaves = []
        for level in range(_LEVELS):
            edge = self._edges[level]
            if len(edge) < WIDTH:
                break
            self._fill(tile_name(level, index), b"".join(edge))
            self._edges[level + 1].append(root_of(edge))
            self._edges[level] = []
            index = (index + 1) // WIDTH - 1

    def _fill(self, name: str, data: bytes) -> None:
        self.ready[name] = data
        self.filled.append(name)

    def flush(self) -> dict[str, bytes]:
        """Objects to be written for a checkpoint at this size: full tiles, and partial ones at the edge."""
        count = self.size
        for level in range(_LEVELS):
            count, width = divmod(count, WIDTH)
            if width:
                self.ready[tile_name(level, count, width)] = b"".join(self._edges[level])
                if level == 0:
                    self.ready[bundle_name(count, width)] = bundle(self._leaves)
        ready, self.ready = self.ready, {}
        return ready


class TileReader:
    """Hashes of complete subtrees, from the tiles of a tree of `size` leaves.

    They are not trusted: whoever makes a proof from them compares its root.
    """

    def __init__(self, folder: Folder, size: int) -> None:
        self.folder = folder
        self.size = size
        self._cache: dict[str, list[bytes]] = {}

    def read(self, level: int, position: int) -> bytes:
        """The root of 2^level leaves at a position."""
        tile_level, rest = divmod(level, 8)
        first = position << rest
        index, start = divmod(first, WIDTH)
        width = min(WIDTH, (self.size >> (8 * tile_level)) - index * WIDTH)
        hashes = self._tile(tile_level, index, width)[start : start + (1 << rest)]
        if len(hashes) != 1 << rest:
            raise NotSound(f"{tile_name(tile_level, index, width)} is shorter than its name says", step=7)
        return root_of(hashes)

    def leaf(self, index: int) -> bytes:
        """A leaf's bytes, from its entry bundle."""
        if not 0 <= index < self.size:
            raise NotSound(f"a tree of {self.size:,} leaves has no leaf {index:,}", step=7)
        number, position = divmod(index, WIDTH)
        width = min(WIDTH, self.size - number * WIDTH)
        leaves = parse_bundle(_get(self.folder, bundle_name(number), bundle_name(number, width)))
        if position >= len(leaves):
            raise NotSound(f"{bundle_name(number, width)} is shorter than its name says", step=7)
        return leaves[position]

    def _tile(self, level: int, index: int, width: int) -> list[bytes]:
        name = tile_name(level, index, width)
        if name not in self._cache:
            self._cache[name] = parse_tile(_get(self.folder, tile_name(level, index), name))
        return self._cache[name]


def _get(folder: Folder, full: str, partial: str) -> bytes:
    try:
        return folder.get(partial)
    except Missing:
        return folder.get(full)
