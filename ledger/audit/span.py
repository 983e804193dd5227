"""A span of packs, checked without knowing what came before it: the part of an audit that runs on all cores.

What the span's first header claims of the tree before it is taken as given, and compared by the caller with
what the span before it has proven.
"""

import gc
from datetime import datetime

import msgspec

from ledger import tiles
from ledger.audit import contents, workers
from ledger.audit.damage import locate
from ledger.checkpoint import Checkpoint
from ledger.merkle import Frontier
from ledger.state import Proven, State
from ledger.trust import Trust, read_keys, read_trust
from policies.history import History, Part
from policies.requests import Told
from schemas.entries import ApprovalBreakGlass, Uninterpreted, references
from schemas.errors import Malformed, Missing, NotSound
from schemas.ids import address
from store import lists, pack
from store.blobs import large_name
from store.folder import Folder
from store.seal import HEADER, MAGIC, SHORTEST, cid, cids
from store.signers import Verifier


class Task(msgspec.Struct, frozen=True):
    """A span to check.

    Attributes:
        path: the ledger.
        owner: vkey.
        start, end: packs.
        trust, keys: the owner's statements in force before it, as notes; with serials.
        published: size of `checkpoint`, up to which tiles are compared.
        watch: sizes at which the root is wanted.
        identity: opens contents; empty to leave them closed.
    """

    path: str
    owner: str
    start: int
    end: int
    trust: str
    trust_serial: int
    keys: str
    keys_serial: int
    published: int
    watch: tuple[int, ...]
    identity: str = ""


class Result(msgspec.Struct):
    """What a span shows.

    Attributes:
        before, frontier_before, previous: claimed by its first header.
        after, frontier_after, trailer: proven at its end.
        failed: what ended the proof before the end of the span.
        findings: what is wrong, and does not end the proof.
        sizes, roots: at the end of each pack.
        watched: roots at sizes asked for.
        checkpoints: sizes and roots of the checkpoints inside of packs.
        cids: blobs that packs name, 32 bytes each.
        wanted: cids that entries and lists name and that are not in the span.
        spare: cids in the span that nothing in it refers to.
        chains: lists: cid, first member; members: all other members of lists.
        keys_used: data key ids, hex, with the tree size before the last pack that uses each.
        absent: cids of blobs outside that are not there.
        nodes: hashes of complete subtrees by level, as in `Proven`.
        authors: last signature leaf of each author's key, by vkey.
        first, last: times of entries that have one; first_index: whose the first is.
        told: what the fold of its entries must be told.
        unruly: whether its entries break the run rules among themselves.
        glass: entries by which somebody let go alone what a quorum was asked for.
        opened: what opening contents showed (step 10).
    """

    before: int = 0
    frontier_before: tuple[bytes, ...] = ()
    previous: bytes = b""
    after: int = 0
    frontier_after: tuple[bytes, ...] = ()
    trailer: bytes = b""
    failed: tuple[int, str, str] | None = None
    findings: list[tuple[int, str]] = []
    trust: str = ""
    trust_serial: int = -1
    keys: str = ""
    keys_serial: int = -1
    statements: int = 0
    sizes: list[int] = []
    roots: list[bytes] = []
    watched: dict[int, bytes] = {}
    checkpoints: list[tuple[int, bytes]] = []
    cids: bytearray = msgspec.field(default_factory=bytearray)
    wanted: bytearray = msgspec.field(default_factory=bytearray)
    spare: bytearray = msgspec.field(default_factory=bytearray)
    chains: list[tuple[bytes, bytes]] = []
    members: bytearray = msgspec.field(default_factory=bytearray)
    keys_used: dict[str, int] = {}
    absent: list[bytes] = []
    nodes: list[tuple[int, bytes]] = []
    authors: dict[str, int] = {}
    entries: int = 0
    uninterpreted: dict[str, int] = {}
    first: datetime | None = None
    first_index: int = 0
    last: datetime | None = None
    backward: list[int] = []
    history: Part = msgspec.field(default_factory=Part)
    told: Told = msgspec.field(default_factory=Told.nothing)
    unruly: bool = False
    glass: list[int] = []
    opened: contents.Result = msgspec.field(default_factory=contents.Result)
    bytes_read: int = 0


def check(task: Task) -> Result:
    """Checks a span: steps 2 to 7, and the parts of 10 and 11 that show within it."""
    # What it makes is many small objects without circles: to look through them would cost a twentieth.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _Span(task).run()
    finally:
        if collecting:
            gc.enable()


class _Span:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.folder = Folder(task.path)
        self.result = Result()
        self.leaves: list[bytes] = []
        self.hashes: list[bytes] = []
        self.referred: set[bytes] = set()
        self.present: set[bytes] = set()
        self.seen_checkpoint = b""
        self.state = State(Verifier.parse(task.owner))
        self.history = History.of_stretch(self.state.origin)
        self.result.history = self.history.part or Part()
        self.opener = contents.opener(task.path, self.state.origin, task.identity) if task.identity else None

    def run(self) -> Result:
        result = self.result
        for number in range(self.task.start, self.task.end):
            try:
                self._pack(number)
            except NotSound as error:
                result.failed = (error.step, error.what, error.hint)
                break
            except Missing:
                result.failed = (2, f"pack {number} is missing", "")
                break
        state = self.state
        result.after, result.trailer = state.size, state.trailer
        result.frontier_after = tuple(state.frontier.hashes)
        if state.trust is not None:
            result.trust, result.trust_serial = state.trust.raw, state.trust.note.serial
        if state.keys is not None:
            result.keys, result.keys_serial = state.keys.raw, state.keys.note.serial
        result.wanted += b"".join(self.referred - self.present)
        result.spare += b"".join(self.present - self.referred)
        self._tiles()
        return result

    def _pack(self, number: int) -> None:
        data = self.folder.get(pack.name(number))
        self.result.bytes_read += len(data)
        try:
            found = pack.parse(data)
        except NotSound as error:
            raise locate(self.folder, number, data, self.task.published, error) from None
        if number == self.task.start:
            self._claim(found)
        trust = self.state.trust
        proven = self.state.prove(found)
        self._note(proven, trust)
        self._blobs(found)
        if self.opener is not None:
            self.opener.open(found, proven.entries, self.result.opened)

    def _claim(self, found: pack.Pack) -> None:
        """Takes what the first header says of the tree before it as given."""
        task, state, result = self.task, self.state, self.result
        state.packs, state.trailer = task.start, found.previous
        state.check_number(found)
        if task.start == 0 and (found.size or found.previous != pack.FIRST):
            raise NotSound("pack 0 does not begin a log", step=2)
        state.frontier = Frontier(found.size, found.frontier)
        if task.trust:
            state.trust = read_trust(task.trust, state.owner, state.origin, task.trust_serial)
            self.history.approvers = state.trust.note.approvers
        if task.keys:
            state.keys = read_keys(task.keys, state.owner, state.origin, task.keys_serial)
        result.before, result.frontier_before, result.previous = found.size, found.frontier, found.previous

    def _note(self, proven: Proven, trust: Trust | None) -> None:
        result, found = self.result, proven.pack
        for problem in proven.problems:
            result.findings.append((problem.step, f"pack {found.number}: entry {problem.index}: {problem.what}"))
        self.leaves += found.leaves
        self.hashes += proven.hashes
        result.nodes += proven.nodes
        result.entries += len(proven.entries)
        self.history.told = proven.told
        if proven.told.signers or proven.told.approvers:
            result.told.signers.update(proven.told.signers)
            result.told.approvers.update(proven.told.approvers)
            result.glass += [r.index for r in proven.entries if isinstance(r.entry, ApprovalBreakGlass)]
        add, first, last = self.history.add, result.first, result.last
        named: list[bytes] = []
        for recorded in proven.entries:
            index, entry, raw = recorded.index, recorded.entry, recorded.raw
            try:
                named += references(entry, raw)
            except NotSound as error:
                result.findings.append((error.step, f"pack {found.number}: {recorded.describe()}: {error.what}"))
            if add(index, entry) is not None:
                result.unruly = True
            if isinstance(entry, Uninterpreted):
                result.uninterpreted[entry.kind] = result.uninterpreted.get(entry.kind, 0) + 1
                continue
            if last is None:
                first, result.first_index = entry.time, index
            elif entry.time < last:
                result.backward.append(index)
            last = entry.time
        result.first, result.last = first, last
        self.referred.update(named)
        for signed in proven.batches:
            result.authors[signed.vkey] = signed.index
        if self.state.trust is not trust:
            result.statements += 1
        self._watch(proven)
        result.sizes.append(found.end)
        result.roots.append(self.state.head.root)
        if found.checkpoint and found.checkpoint != self.seen_checkpoint:
            self._checkpoint(found)

    def _watch(self, proven: Proven) -> None:
        found = proven.pack
        for size in self.task.watch:
            if found.size < size <= found.end:
                frontier = Frontier(found.size, found.frontier)
                frontier.extend(proven.hashes[: size - found.size])
                self.result.watched[size] = frontier.root()

    def _checkpoint(self, found: pack.Pack) -> None:
        try:
            parsed = Checkpoint.parse(found.checkpoint, self.state.trusted().log)
            if parsed.origin != self.state.origin:
                raise Malformed("it is of another log")
            head = parsed.head
            if head.size > found.size:
                raise Malformed("it is of a later tree")
            self.result.checkpoints.append((head.size, head.root))
            self.seen_checkpoint = found.checkpoint
        except Malformed as error:
            self.result.findings.append((4, f"pack {found.number}: the checkpoint inside does not hold: {error.what}"))

    def _blobs(self, found: pack.Pack) -> None:
        result = self.result
        made = cids(found.blobs)
        if made != found.cids:
            for blob, right, offset in zip(found.cids, made, pack.offsets(found), strict=False):
                if blob != right:
                    where = f"pack {found.number}, offset {offset:,}"
                    result.findings.append((6, f"{where}: the blob is not {address(blob)}"))
        keys = {data[:HEADER] for data in found.blobs}
        if not all(map(_begins_sealed, keys)) or min(map(len, found.blobs), default=SHORTEST) < SHORTEST:
            for blob, data in zip(made, found.blobs, strict=True):
                if not _begins_sealed(data[:HEADER]) or len(data) < SHORTEST:
                    self._list(found, blob, data)
            keys = set(filter(_begins_sealed, keys))
        for blob, size in zip(found.large, found.large_sizes, strict=True):
            try:
                data = self.folder.get(large_name(blob))
            except Missing:
                result.absent.append(blob)
                continue
            except NotSound as error:
                result.findings.append((error.step, error.what))
                continue
            result.bytes_read += len(data)
            if len(data) != size or cid(data) != blob:
                result.findings.append((6, f"{large_name(blob)} changed: it is not {address(blob)}"))
            elif _begins_sealed(data[:HEADER]) and len(data) >= SHORTEST:
                keys.add(data[:HEADER])
            else:
                self._list(found, blob, data)
        result.keys_used |= {key[4:].hex(): found.size for key in keys}
        self.present.update(found.cids)
        self.present.update(found.large)
        result.cids += b"".join(found.cids)
        result.cids += b"".join(found.large)

    def _list(self, found: pack.Pack, blob: bytes, data: bytes) -> None:
        try:
            members = lists.parse(data)
        except NotSound:
            self.result.findings.append((6, f"pack {found.number}: {address(blob)} is neither sealed blob nor list"))
            return
        self.referred.update(members)
        self.result.chains.append((blob, members[0]))
        self.result.members += b"".join(members[1:])

    def _tiles(self) -> None:
        """Step 7 for the leaves of this span: its part of each tile and bundle."""
        start = self.result.before
        end = min(start + len(self.leaves), self.task.published)
        for index in range(start // 256, -(-end // 256) if end > start else 0):
            low, high = max(start, index * 256), min(end, index * 256 + 256)
            width = min(256, self.task.published - index * 256)
            leaves, hashes = self.leaves[low - start : high - start], self.hashes[low - start : high - start]
            at = low - index * 256
            tile, bundle = tiles.tile_name(0, index, width), tiles.bundle_name(index, width)
            data = self._tile(tile, tiles.tile_name(0, index), 32 * width)
            if data is None or len(data) != 32 * width or data[32 * at : 32 * (at + len(hashes))] != b"".join(hashes):
                self._derived(tile, data)
            data = self._bundle(bundle, tiles.bundle_name(index), width)
            if data is None or not _same(data, leaves, at, width):
                self._derived(bundle, data)

    def _tile(self, name: str, full: str, length: int) -> bytes | None:
        """A tile; where the partial one has gone because the full one is there, the beginning of that."""
        data = self._find(name)
        return data if data is not None or name == full else (self._find(full) or b"")[:length] or None

    def _bundle(self, name: str, full: str, width: int) -> bytes | None:
        data = self._find(name)
        if data is not None or name == full or (whole := self._find(full)) is None:
            return data
        try:
            return tiles.bundle(tiles.parse_bundle(whole)[:width])
        except NotSound:
            return whole

    def _find(self, name: str) -> bytes | None:
        try:
            return self.folder.find(name)
        except NotSound:
            return b""

    def _derived(self, name: str, data: bytes | None) -> None:
        self.result.findings.append((7, derived(name, data)))


def _begins_sealed(head: bytes) -> bool:
    return head[:4] == MAGIC and len(head) == HEADER


def derived(name: str, data: bytes | None) -> str:
    """What is wrong with a tile or bundle, and that the packs are not touched by it."""
    return f"{name} {'is missing' if data is None else 'is not what the leaves make'} (derived from the packs)"


def _same(data: bytes, leaves: list[bytes], at: int, width: int) -> bool:
    if len(leaves) == width:
        return data == tiles.bundle(leaves)
    try:
        found = tiles.parse_bundle(data)
    except NotSound:
        return False
    return len(found) == width and found[at : at + len(leaves)] == leaves


def serve() -> None:
    """The worker's side of `ledger.audit.workers.each`."""
    workers.serve(Task, check)
