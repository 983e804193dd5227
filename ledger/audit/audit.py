"""`ledger.verify` for a ledger: the steps in order, spans joined, pins compared."""

import os
import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ledger import homes, pins, tiles
from ledger.audit import contents, span, workers
from ledger.audit.report import Finding, Report
from ledger.audit.span import Result, Task, derived
from ledger.checkpoint import Checkpoint, Head
from ledger.locate import read_origin
from ledger.merkle import Frontier
from ledger.state import State, read
from ledger.trust import read_keys, read_trust
from policies.history import History
from schemas.entries import Disclosure, Erasure, Known, Uninterpreted, references
from schemas.errors import Malformed, Missing, NotFound, NotSound, StorageFailed
from schemas.ids import address
from schemas.trust import TrustRoot
from store import lists, pack
from store.blobs import large_name
from store.datakeys import data_name, project_id, read_tombstone, root_name
from store.folder import Folder
from store.signers import Verifier

_SPAN_BYTES = 8 << 20
_SPAN_PACKS = 1024
_PARALLEL_FROM = 24 << 20
_MOST_FINDINGS = 100
_PACK = re.compile(r"packs/[0-9]{10}/[0-9]{3}\.pack")
_AGE = b"age-encryption.org/v1\n"

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""


def audit(
    path: Path,
    trust: TrustRoot,
    since: Head | None = None,
    identity: str = "",
    progress: Progress | None = None,
) -> Report:
    """Audits a ledger. Writes nothing under its path.

    Args:
        trust: what the reader believes.
        since: a head that the reader knows from elsewhere.
        identity: URI; empty to leave contents unopened.

    Raises:
        NotFound: there is no ledger.
        StorageFailed: it can't be read.
    """
    found = _Audit(path, trust, since, identity, progress)
    try:
        return found.run()
    finally:
        found.folder.close()
        contents.forget()


class _Audit:
    def __init__(
        self, path: Path, trust: TrustRoot, since: Head | None, identity: str, progress: Progress | None
    ) -> None:
        self.folder = Folder(path)
        self.origin = read_origin(self.folder)
        self.owner = Verifier.parse(trust.owner)
        self.since = since
        self.identity = identity
        self.progress = progress
        self.report = Report("ledger", self.origin)
        self.state = State(self.owner)
        self.state.history = History(ended={}, origin=self.origin)
        self.pin: State | None = None
        self.published: Checkpoint | None = None
        self.packs = 0
        self.total = 0
        self.done = 0
        self.broken = False
        self.sizes: list[int] = []
        self.roots = bytearray()
        self.checkpoints: set[tuple[int, bytes]] = set()
        self.watched: dict[int, bytes] = {}
        self.cids: list[bytearray] = []
        self.wanted: list[bytearray] = []
        self.spare: list[bytearray] = []
        self.members: list[bytearray] = []
        self.chains: dict[bytes, bytes] = {}
        self.absent: dict[bytes, bool] = {}
        self.keys_used: dict[str, int] = {}
        self.nodes: dict[int, list[bytes]] = {}
        self.authors: dict[str, int] = {}
        self.uninterpreted: Counter[str] = Counter()
        self.backward: list[int] = []
        self.closed = contents.why_not(self.folder, self.origin, identity)
        self.opened = contents.Result()
        self.glass: list[int] = []

    def run(self) -> Report:
        """The steps, in order."""
        began = time.monotonic()
        report = self.report
        try:
            self._trust_root()  # (1)
            self._fix_end()
            self._packs()  # (2) to (5), and what of (6), (7), (11) shows within a span
        except NotSound as error:
            self.broken = True
            report.findings.append(Finding.of(error))
        if not self.broken:
            # (4) (6) (7) (8) (10): each says what it finds, whatever the others found.
            for step in (self._checkpoints, self._blobs, self._data_keys, self._upper_tiles, self._earlier_heads):
                try:
                    step()
                except NotSound as error:
                    report.findings.append(Finding.of(error))
            report.unchecked.append("witnesses (none named)")  # (9)
            self._contents()
            self._summary()
        else:
            report.unchecked.append("everything after the place named above")
        report.findings = sorted(dict.fromkeys(report.findings), key=lambda f: f.step)[:_MOST_FINDINGS]
        report.seconds = time.monotonic() - began
        if report.sound and self.state.packs:
            try:
                if os.access(self.folder.path, os.W_OK):
                    # What a writer has not synced yet must not be pinned: a power cut could take it back.
                    self.folder.sync(pack.name(self.packs - 1))
                pins.save(homes.pins(self.origin), self.owner, pins.of(self.state))
                report.kept = True
            except StorageFailed as error:
                report.remarks.append(f"the head can't be kept on this machine: {error.what}")
        return report

    def _find(self, step: int, what: str, hint: str = "") -> None:
        self.report.findings.append(Finding(step, what, hint))

    def _trust_root(self) -> None:
        if self.owner.name != self.origin:
            raise NotSound(f"the ledger calls itself {self.origin}, the trust root {self.owner.name}", step=1)
        self.pin = pins.load(homes.pins(self.origin), self.owner)

    def _fix_end(self) -> None:
        data = self.folder.find("checkpoint")
        self.checkpoint_raw = data
        numbers: list[int] = []
        for name in filter(_PACK.fullmatch, self.folder.list("packs")):
            size = self.folder.size(name) or 0
            if name != pack.name(len(numbers)):
                raise NotSound(f"{pack.name(len(numbers))} is missing: after it lies {name}", step=2)
            numbers.append(size)
        with suppress(Missing):
            # No file was listed there: raises where it is something else, and one that came meanwhile does not count.
            self.folder.get(pack.name(len(numbers)), 0, 1)
        if not numbers:
            raise NotFound(f"{self.folder.path}: a ledger without packs", hint="its `ledger init` did not end")
        self.pack_sizes = numbers
        self.packs, self.total = len(numbers), sum(numbers)

    def _packs(self) -> None:
        first = span.check(self._task(0, 1))
        self._join(first)
        self._read_published()
        if self.published and self.published.head.size:
            # Pack 0 again, now that the tiles' size is known.
            first = span.check(self._task(0, 1))
            self.report.findings += [Finding(*f) for f in first.findings if f[0] == 7]
        tasks = self._tasks()
        parallel = self.total > _PARALLEL_FROM
        for task, result in workers.each("ledger.audit.span", tasks, Result, span.check, parallel):
            current = self._task(task.start, task.end)
            if (task.trust_serial, task.keys_serial) != (current.trust_serial, current.keys_serial):
                # A statement came between this span and when it was handed out.
                result = span.check(current)
            self._join(result)

    def _tasks(self) -> Iterator[Task]:
        start = 1
        while start < self.packs:
            end, size = start, 0
            while end < self.packs and size < _SPAN_BYTES and end - start < _SPAN_PACKS:
                size += self.pack_sizes[end]
                end += 1
            yield self._task(start, end)
            start = end

    def _task(self, start: int, end: int) -> Task:
        trust, keys = self.state.trust, self.state.keys
        watch = {head.size for head in (self.since, self.published and self.published.head) if head}
        if self.pin is not None:
            watch.add(self.pin.size)
        return Task(
            self.folder.path,
            self.owner.vkey,
            start,
            end,
            trust.raw if trust else "",
            trust.note.serial if trust else -1,
            keys.raw if keys else "",
            keys.note.serial if keys else -1,
            self.published.head.size if self.published else 0,
            tuple(sorted(watch)),
            "" if self.closed != contents.Outcome() else self.identity,
        )

    def _join(self, result: Result) -> None:
        """Compares what a span took as given with what came before, and takes it in."""
        state, report = self.state, self.report
        if result.failed is None or result.after:
            claimed = (result.before, result.frontier_before)
            if state.packs and result.previous != state.trailer:
                raise NotSound(f"pack {state.packs}: does not link to the pack before it", step=2)
            if claimed != (state.size, tuple(state.frontier.hashes)):
                raise NotSound(f"pack {state.packs}: states another tree before it than the packs make", step=4)
        report.findings += [Finding(step, what) for step, what in result.findings]
        if result.trust_serial >= 0 and (not state.trust or result.trust_serial != state.trust.note.serial):
            state.trust = read_trust(result.trust, self.owner, self.origin, result.trust_serial)
        if result.keys_serial >= 0 and (not state.keys or result.keys_serial != state.keys.note.serial):
            state.keys = read_keys(result.keys, self.owner, self.origin, result.keys_serial)
        self._fold(result)
        if state.trust is not None:
            state.history.approvers = state.trust.note.approvers
        if result.failed is not None:
            step, what, hint = result.failed
            raise NotSound(what, step=step, hint=hint)
        state.packs += len(result.sizes)
        state.trailer = result.trailer
        state.frontier = Frontier(result.after, result.frontier_after)
        self.sizes += result.sizes
        self.roots += b"".join(result.roots)
        self.watched |= result.watched
        self.checkpoints |= set(result.checkpoints)
        self._collect(result)
        self.done += result.bytes_read
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)

    def _fold(self, result: Result) -> None:
        """Step 11. Where a rule is broken, entry by entry: what is found must not depend on where spans begin."""
        history = self.state.history
        if not result.unruly and not history.conflicts(result.history):
            history.join(result.history)
            return
        history.told = result.told
        for number in range(self.state.packs, self.state.packs + len(result.sizes)):
            found = pack.parse(self.folder.get(pack.name(number)))
            for index, raw in enumerate(found.leaves, found.size):
                if raw[:1] == b"{":
                    recorded = read(index, raw)[0]
                    broken = history.add(index, recorded.entry)
                    if broken is not None:
                        self._find(11, f"pack {number}: {recorded.describe()}: {broken}")

    def _collect(self, result: Result) -> None:
        report = self.report
        self.cids.append(result.cids)
        self.wanted.append(result.wanted)
        self.spare.append(result.spare)
        self.members.append(result.members)
        self.chains |= dict(result.chains)
        unreferred = set(_split(result.spare)) if result.absent else set[bytes]()
        for blob in result.absent:
            self.absent[blob] = self.absent.get(blob, False) or blob not in unreferred
        for key, size in result.keys_used.items():
            self.keys_used[key] = max(size, self.keys_used.get(key, 0))
        for level, node in result.nodes:
            self.nodes.setdefault(level // 8, []).append(node)
        self.authors |= result.authors
        self.glass += result.glass
        self.opened.findings += result.opened.findings
        self.opened.closed += result.opened.closed
        self.opened.elsewhere |= result.opened.elsewhere
        report.entries += result.entries
        self.uninterpreted.update(result.uninterpreted)
        if result.first is not None and report.last is not None and result.first < report.last:
            self.backward.append(result.first_index)
        self.backward.extend(result.backward)
        report.first = report.first or result.first
        report.last = result.last or report.last

    def _read_published(self) -> None:
        if self.checkpoint_raw is None:
            return
        try:
            self.published = Checkpoint.parse(self.checkpoint_raw, self.state.trusted().log)
            if self.published.origin != self.origin:
                raise Malformed("it is of another log")
        except Malformed as error:
            self.published = None
            self._find(4, f"checkpoint does not hold: {error.what}", "ledger doctor --rebuild")

    def _root_at(self, size: int) -> bytes | None:
        """The root at a size at which a pack ended."""
        if size == 0:
            return Frontier().root()
        position = bisect_left(self.sizes, size)
        if position == len(self.sizes) or self.sizes[position] != size:
            return None
        return bytes(self.roots[32 * position : 32 * position + 32])

    def _checkpoints(self) -> None:
        for size, root in sorted(self.checkpoints):
            if self._root_at(size) != root:
                self._find(4, f"a pack embeds a checkpoint of {size:,} leaves whose root is not the log's")
        if self.published is None:
            return
        head = self.published.head
        if head.size > self.state.size:
            self._find(4, f"checkpoint has {head.size:,} leaves, the packs {self.state.size:,}: the end was cut off")
        elif self._root_at(head.size) != head.root:
            self._find(4, f"checkpoint of {head.size:,} leaves has another root than the packs")
        self.report.published = min(head.size, self.state.size)

    def _blobs(self) -> None:
        wanted = _cids(self.wanted)
        members = _cids(self.members)
        spare = _cids(self.spare) - wanted
        missing = {blob for blob, referred in self.absent.items() if referred or blob in wanted}
        for chunk in self.cids:
            wanted.difference_update(_split(chunk))
        missing |= wanted
        if missing:
            self._missing(missing)
        for chain in self.chains:
            if chain in members:
                self._find(6, f"list {address(chain)} stands elsewhere than first in a list")
        for chain in _too_deep(self.chains):
            self._find(6, f"list {address(chain)} is deeper than 4,096")
        spare -= set(self.absent)
        if spare:
            self.report.remarks.append(f"{len(spare):,} blobs that nothing refers to")

    def _missing(self, missing: set[bytes]) -> None:
        """Blobs that are not there: forgiven where only entries of erased runs need them. Reads all packs again."""
        erased = {id for id, how in (self.state.history.ended or {}).items() if "erased" in how}
        gone, shown, needed = dict[bytes, str](), dict[bytes, str](), dict[bytes, str]()
        members: dict[bytes, list[bytes]] = {}
        for number in range(self.packs):
            found = pack.parse(self.folder.get(pack.name(number)))
            for blob, data in self._stored(found):
                if lists.is_list(data):
                    members[blob] = lists.parse(data)
            for index, raw in enumerate(found.leaves, found.size):
                if raw[:1] == b"{":
                    entry = read(index, raw)[0].entry
                    group = gone if entry.run in erased else shown if isinstance(entry, Disclosure) else needed
                    for blob in _references(entry, raw):
                        group.setdefault(blob, f"entry {index}")
        for group in (gone, shown, needed):
            _reach(group, members)
        # What was disclosed of an erased run may be gone like the run.
        needed |= {blob: what for blob, what in shown.items() if blob not in gone and blob not in needed}
        # What no pack names is never forgiven: then nothing says that it was ever there.
        unnamed = missing - set(self.absent)
        for blob in sorted(missing):
            if blob in needed or blob in unnamed:
                name = f"{address(blob)}, which {needed.get(blob, 'a list')} needs,"
                self._find(6, f"{name} is missing ({large_name(blob)})")

    def _stored(self, found: pack.Pack) -> Iterator[tuple[bytes, bytes]]:
        yield from zip(found.cids, found.blobs, strict=True)
        for blob in found.large:
            if (data := self.folder.find(large_name(blob))) is not None:
                yield blob, data

    def _data_keys(self) -> None:
        erased = self.state.history.erased
        roots = range(self.state.readable().note.root + 1)
        for number in roots:
            if not (self.folder.find(root_name(number)) or b"").startswith(_AGE):
                self._find(6, f"{root_name(number)} is missing or no age file")
        shared = {project_id(number).hex() for number in roots}
        for id in sorted(self.keys_used.keys() | erased.keys() | shared):
            name = data_name(bytes.fromhex(id))
            data = self.folder.find(name)
            entry = erased.get(id)
            if data is None:
                if entry is None or id in self.keys_used:
                    self._find(6, f"{name} is missing, and {'no tombstone' if entry else 'no entry erased it'}")
            elif entry is None:
                if (later := read_tombstone(data, self.origin)) is not None and self._erased_meanwhile(id, later):
                    self.report.remarks.append(f"a run was erased while this audit ran: entry {later}")
                elif not data.startswith(_AGE):
                    self._find(6, f"{name} is no data key, and no entry erased it")
            elif read_tombstone(data, self.origin) != entry:
                marked = self.folder.size(name.removesuffix("age") + "erasing") is not None
                if not marked or not data.startswith(_AGE):
                    self._find(6, f"{name} is there, though entry {entry} erased it", "ledger erase RUN again")
                else:
                    self.report.remarks.append(f"an erasure is not carried out yet: entry {entry}; ledger erase RUN")
            if entry is not None and self.keys_used.get(id, 0) > entry:
                self._find(6, f"data key {id} was used after entry {entry} erased it")

    def _erased_meanwhile(self, id: str, index: int) -> bool:
        """Whether an erasure that came after the end was fixed lists a key. What came is proven like the rest."""
        state = State(self.owner)
        state.packs, state.trailer = self.state.packs, self.state.trailer
        state.frontier, state.trust, state.keys = self.state.frontier.copy(), self.state.trust, self.state.keys
        while (data := self.folder.find(pack.name(state.packs))) is not None:
            for recorded in state.prove(pack.parse(data)).entries:
                entry = recorded.entry
                if recorded.index == index and isinstance(entry, Erasure) and id in entry.keys:
                    return True
        return False

    def _upper_tiles(self) -> None:
        """Step 7 above the leaves, whose tiles the spans compared."""
        published = self.report.published if self.published else 0
        for level in range(1, 8):
            count = published >> (8 * level)
            nodes = self.nodes.get(level, [])[:count]
            for index in range(-(-count // tiles.WIDTH)):
                width = min(tiles.WIDTH, count - index * tiles.WIDTH)
                name = tiles.tile_name(level, index, width)
                data = self.folder.find(name)
                if data is None and width < tiles.WIDTH:
                    # Gone because somebody published the full one meanwhile.
                    data = (self.folder.find(tiles.tile_name(level, index)) or b"")[: 32 * width] or None
                if data != b"".join(nodes[index * tiles.WIDTH :][:width]):
                    self._find(7, derived(name, data))
        if any(finding.step == 7 for finding in self.report.findings):
            self.report.remarks.append("tiles are derived: `ledger doctor --rebuild` makes them again from the packs")
        if published < self.state.size:
            self.report.remarks.append(f"{self.state.size - published:,} leaves not published yet")

    def _earlier_heads(self) -> None:
        known = []
        if self.pin is not None and self.pin.packs:
            known.append((self.pin.head, "this machine has seen"))
        if self.since is not None:
            known.append((self.since, "you named"))
        for head, who in known:
            if head.size > self.state.size:
                self._find(8, f"the log ends at {self.state.size:,}; the head that {who} has {head.size:,}: cut off")
            elif (self.watched.get(head.size) or self._root_at(head.size)) != head.root:
                self._find(8, f"the log does not continue the head of {head.size:,} leaves that {who}")
        if not known:
            self.report.unchecked.append(
                "that the end was not cut off (no earlier head; compare the head with the sender)"
            )

    def _contents(self) -> None:
        if self.report.findings:
            self.report.unchecked.append("contents (there is worse)")
            return
        outcome = self.closed
        if outcome == contents.Outcome():
            home = homes.cache(self.origin) / self.owner.key_id.hex() / "places"
            outcome = contents.check(
                self.folder, self.origin, self.identity, home, self.packs, self.opened, self.progress
            )
        self.report.findings += outcome.findings
        self.report.remarks += outcome.remarks
        self.report.unchecked += outcome.unchecked

    def _summary(self) -> None:
        report, history = self.report, self.state.history
        ended = history.ended or {}
        erased = sum("erased" in how for how in ended.values())
        report.runs = len(history.runs) + len(ended)
        growing = sum(not run.finished for run in history.runs.values())
        if growing:
            report.remarks.insert(0, f"{_count(growing, 'run')} not finished")
        calls = sum(len(run.calls.open) for run in history.runs.values())
        if calls:
            held = sum(run.calls.held for run in history.runs.values()) / 1e6
            report.remarks.append(f"{_count(calls, 'model request')} without a response; {held:,.2f} USD stay reserved")
        if erased:
            report.remarks.insert(0, f"{_count(erased, 'run')} erased")
        if self.glass:
            named = ", ".join(f"{index:,}" for index in self.glass[:5]) + (", …" if len(self.glass) > 5 else "")
            report.remarks.insert(0, f"the glass was broken, without a quorum: entry {named}")
        for author, _, until in self.state.trusted().authors:
            if until is not None and self.authors.get(author.vkey, -1) >= until:
                last = self.authors[author.vkey]
                report.remarks.append(f"batches {until:,} to {last:,} of {author.name} are disowned by the owner")
        for kind, count in sorted(self.uninterpreted.items()):
            entries = "1 entry" if count == 1 else f"{count:,} entries"
            report.remarks.append(f"{entries} of kind {kind} not interpreted")
        if self.backward:
            times = "once" if len(self.backward) == 1 else f"{len(self.backward):,} times"
            report.remarks.append(f"the clock went back {times}, first at entry {self.backward[0]:,}")
        report.packs, report.head = self.packs, self.state.head


def _references(entry: Known | Uninterpreted, raw: bytes) -> list[bytes]:
    try:
        return references(entry, raw)
    except NotSound:
        # Found where it stands, by its span.
        return []


def _reach(group: dict[bytes, str], members: dict[bytes, list[bytes]]) -> None:
    """Adds what lists of a group lead to."""
    waiting = list(group)
    while waiting:
        blob = waiting.pop()
        new = [inner for inner in members.get(blob, ()) if inner not in group]
        group |= dict.fromkeys(new, group[blob])
        waiting += new


def _too_deep(chains: dict[bytes, bytes]) -> list[bytes]:
    """Lists that begin a chain of more than 4,096."""
    depths: dict[bytes, int] = {}
    for chain in chains:
        links, at = [], chain
        while at in chains and at not in depths:
            links.append(at)
            depths[at] = 0
            at = chains[at]
        depth = depths.get(at, 0)
        for link in reversed(links):
            depth += 1
            depths[link] = depth
    return [chain for chain, depth in depths.items() if depth > lists.MAX_DEPTH]


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _split(chunk: bytearray) -> Iterator[bytes]:
    data = bytes(chunk)
    return (data[i : i + 32] for i in range(0, len(data), 32))


def _cids(chunks: list[bytearray]) -> set[bytes]:
    return {blob for chunk in chunks for blob in _split(chunk)}
