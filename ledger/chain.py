"""The packs of a ledger in order: where they end, what came since, what is between two sizes."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ledger import pins
from ledger.checkpoint import Checkpoint, Head
from ledger.state import Proven, Recorded, State
from schemas.errors import Malformed, NotFound, NotSound, UsageError
from store import pack
from store.blobs import note_places
from store.folder import Folder
from store.places import Places

_REMEMBERED = 4 << 20


class Stretch(NamedTuple):
    """Leaves that follow one another, with their hashes."""

    start: int
    leaves: list[bytes]
    hashes: list[bytes]


def find_end(folder: Folder, start: int = 0) -> int:
    """How many packs there are, by doubling and halving: O(log n) looks, no listing.

    Args:
        start: as many are known to exist.
    """
    if folder.size(pack.name(start)) is None:
        return start
    low, step = start, 1
    while folder.size(pack.name(low + step)) is not None:
        low, step = low + step, step * 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if folder.size(pack.name(middle)) is None:
            high = middle
        else:
            low = middle
    return low + 1


def pack_of(folder: Folder, index: int, packs: int) -> int:
    """The number of the pack that holds a leaf, by bisection over the sizes in their headers.

    Raises:
        NotFound: there is no such leaf.
    """
    low, high = 0, packs
    while high - low > 1:
        middle = (low + high) // 2
        if pack.peek_size(folder.get(pack.name(middle), 0, 20)) <= index:
            low = middle
        else:
            high = middle
    return low


class Chain:
    """A ledger's packs as one process has proven them.

    Args:
        folder: the ledger's objects.
        state: what is proven so far; goes on from there.
        places: takes in the blobs of what is proven.

    Attributes:
        checkpoint: the newest published one that was compared with what is proven; its size is `published`.
        embedded: the last one that a pack holds: the next pack need not repeat it.
    """

    def __init__(self, folder: Folder, state: State, places: Places) -> None:
        self.folder = folder
        self.state = state
        self.places = places
        self.checkpoint = b""
        self.published = 0
        self.embedded = b""
        self._foreign = self._settled = ""
        self._settling = threading.Lock()
        self._foreign_from = os.path.dirname(pack.name(max(0, state.packs - 1)))
        self._roots: dict[int, bytes] = {}
        self._recent: deque[Stretch] = deque()
        self._remembered = 0
        self._whole = True

    def open(self) -> None:
        """Compares the pin, and proves all that came since.

        Raises:
            RolledBack: behind or against the pin.
            NotSound: a gap, or a pack that does not continue the log.
        """
        pins.check(self.state, self.folder)
        end = find_end(self.folder, self.state.packs)
        if end == 0:
            raise NotFound(
                f"{self.folder.path}: a ledger without packs", hint="its `ledger init` did not end; remove it"
            )
        while self.state.packs < end:
            # Not kept: a ledger may be larger than memory.
            if not deque(self._new(), 1):
                raise NotSound(f"pack {self.state.packs} is missing, and later ones are there", step=2)
        self._read_checkpoint()

    def catch_up(self) -> list[Recorded]:
        """Proves the packs that others have committed since.

        Returns:
            Their entries.
        """
        return [recorded for proven in self._new() for recorded in proven.entries]

    def _new(self) -> Iterator[Proven]:
        self.check_whole()
        found = False
        while (data := self.folder.find(name := pack.name(self.state.packs))) is not None:
            found = True
            try:
                parsed = pack.parse(data)
            except NotSound as error:
                raise NotSound(f"{name}: {error.what}", step=error.step, hint="run: ledger verify") from None
            yield self.take(parsed)
        here, after = (pack.name(self.state.packs + ahead) for ahead in (0, 1))
        # Looked at again at the end: it may have been created between the looks.
        if not found and self.folder.size(after) is not None and self.folder.size(here) is None:
            raise NotSound(f"pack {self.state.packs} is missing, and later ones are there", step=2)

    def take(self, found: pack.Pack) -> Proven:
        """Proves the next pack, and takes it in."""
        # On a copy: other threads read the state, and must never see it half changed.
        state = self.state.copy()
        proven = state.prove(found)
        self._foreign = pack.name(found.number)
        self.adopt(state, proven)
        return proven

    def settle(self) -> None:
        """Makes the names of packs that others created durable, before anything lasting speaks of them.

        Their writer may have died before its own sync; a power cut would take the pack back, and leave a pin,
        a checkpoint or a table of places that knows it.
        """
        # One at a time: nobody goes on before the sync that he relies on has returned.
        with self._settling:
            name = self._foreign
            if name != self._settled and os.access(self.folder.path, os.W_OK):
                self.folder.sync(name)
                if self._foreign_from != os.path.dirname(name):
                    self.folder.sync(f"{self._foreign_from}/x")
                self._settled = name

    def adopt(self, state: State, proven: Proven) -> None:
        """Goes on from a state in which the next pack is proven.

        Raises:
            UsageError: an interrupt struck in the middle of this before.
        """
        self.check_whole()
        self._whole = False
        self.state, found = state, proven.pack
        self.state.history.told = proven.told
        for recorded in proven.entries:
            self.state.history.add(recorded.index, recorded.entry)
        self.embedded = found.checkpoint or self.embedded
        note_places(self.places, found)
        self._remember(proven)
        self._whole = True

    def check_whole(self) -> None:
        """Looks whether what is in memory can be relied on.

        Raises:
            UsageError: an interrupt struck while a pack was taken in.
        """
        if not self._whole:
            raise UsageError("reading was interrupted in the middle of a pack", hint="open the ledger again")

    def check_last(self) -> None:
        """Looks whether the pack that the next one builds on is still what was proven.

        Raises:
            RolledBack: it is gone, or another lies in its place.
        """
        self.check_whole()
        pins.check(self.state, self.folder)

    def trailer_of(self, packs: int) -> bytes | None:
        """The trailer of the last of so many packs, as the pack after it states it; None where fewer are proven."""
        state = self.state
        if packs >= state.packs:
            return state.trailer if packs == state.packs else None
        return pack.peek_previous(self.folder.get(pack.name(packs), 0, 52))

    def check_links(self, found: pack.Pack, before: bytes) -> None:
        """Looks whether a proven pack that is read again is the one that was proven, as far as its links tell.

        Args:
            before: trailer of the pack before it.

        Raises:
            NotSound: it does not link to the pack before it, or is not the last that was proven (step 2).
        """
        state = self.state
        if found.previous != before or (found.number == state.packs - 1 and found.trailer != state.trailer):
            raise NotSound(f"pack {found.number}: does not link to the packs around it", step=2)

    def _remember(self, proven: Proven) -> None:
        self._recent.append(Stretch(proven.pack.size, proven.pack.leaves, proven.hashes))
        self._remembered += sum(map(len, proven.pack.leaves))
        while self._remembered > _REMEMBERED and len(self._recent) > 1:
            self._remembered -= sum(map(len, self._recent.popleft().leaves))
        self._roots[self.state.size] = self.state.head.root
        if len(self._roots) > 4096:
            del self._roots[next(iter(self._roots))]

    def _read_checkpoint(self) -> None:
        data = self.folder.find("checkpoint")
        if data is None:
            return
        try:
            found = Checkpoint.parse(data, self.state.trusted().log)
        except Malformed:
            return
        if found.head.size > self.state.size:
            # Published while we read, or packs were removed: the next pack decides.
            self.catch_up()
            if found.head.size > self.state.size:
                raise NotSound(
                    f"the published checkpoint has {found.head.size:,} leaves, the packs {self.state.size:,}: cut off",
                    step=4,
                )
        if self.root_at(found.head.size) == found.head.root:
            self.checkpoint, self.published = data, found.head.size

    def root_at(self, size: int) -> bytes | None:
        """The root at a size at which a pack ended, as far as it is remembered."""
        return self.state.head.root if size == self.state.size else self._roots.get(size)

    def leaves(self, start: int, end: int) -> Iterator[Stretch]:
        """Leaves `start` to `end`, from memory or from the packs (their hashes then empty, to be made)."""
        recent = list(self._recent)
        if recent and recent[0].start <= start:
            for stretch in recent:
                yield from _part(stretch, start, end)
            return
        number = pack_of(self.folder, start, self.state.packs)
        while start < end:
            found = pack.parse(self.folder.get(pack.name(number)))
            yield from _part(Stretch(found.size, found.leaves, []), start, end)
            start, number = found.end, number + 1

    @property
    def head(self) -> Head:
        """Size and root that are proven."""
        return self.state.head


def _part(stretch: Stretch, start: int, end: int) -> Iterator[Stretch]:
    low, high = max(start, stretch.start), min(end, stretch.start + len(stretch.leaves))
    if low < high:
        a, b = low - stretch.start, high - stretch.start
        yield Stretch(low, stretch.leaves[a:b], stretch.hashes[a:b])
