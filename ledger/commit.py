"""The committer: groups what waits, signs one batch, creates one pack, tells the callers.

One thread does it for all threads and tasks of the process. Who waits may be interrupted; the commit is not.

The creation of the pack is the commit, and nothing else is (docs/adr/0001). Where another process was first,
its packs are proven, every caller's condition is decided again against them, and the pack is built anew.
"""

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ledger import batch
from ledger.chain import Chain
from ledger.checkpoint import Head
from ledger.merkle import leaf_hash
from ledger.state import Proven, Recorded, State
from policies.calls import LATE
from policies.history import History
from schemas.entries import Approval, ApprovalBreakGlass, Known, Response, RunStarted, TrustChanged, encode
from schemas.errors import (
    Erased,
    KeyUnusable,
    LedgerError,
    Malformed,
    NotSound,
    OutcomeUnknown,
    RunClosed,
    StorageFailed,
    TooLarge,
    UsageError,
)
from store import pack
from store.blobs import Prepared
from store.datakeys import Random
from store.seal import Sealed
from store.signers import Signer

_MAX_GROUP = 16_384
_ROOM = pack.MAX_PACK - (1 << 20)

Validate = Callable[[State, list[Recorded]], None]
"""Decides again at each attempt: given the state, and what was committed since the first. Raises to refuse."""


class Appended(msgspec.Struct, frozen=True):
    """An acknowledged entry.

    Attributes:
        index: its leaf's index.
        address: of its content; empty for an entry without one.
        step: its place within the run; 0 outside of one.
    """

    index: int
    address: str
    step: int


class Draft:
    """What one caller wants to append, all or nothing, in order.

    Args:
        entries: without step numbers, which are given at the commit.
        contents: what they refer to.
        validate: the caller's condition.

    Attributes:
        links: of entries that name another of the same draft, whose index nobody knows yet: which member, and the
            other's place in `entries`.
    """

    __slots__ = ("_error", "_result", "addresses", "contents", "entries", "links", "since", "validate", "wake")

    def __init__(
        self,
        entries: list[Known],
        contents: list[Prepared],
        addresses: list[str],
        validate: Validate | None = None,
    ) -> None:
        self.entries = entries
        self.contents = contents
        self.addresses = addresses
        self.validate = validate
        self.links: dict[int, tuple[str, int]] = {}
        self.since: list[Recorded] = []
        self.wake: Callable[[], None] | None = None
        self._result: list[Appended] | None = None
        self._error: BaseException | None = None

    @classmethod
    def joined(cls, drafts: "list[Draft]") -> "Draft":
        """One draft of several, in order; all their conditions must hold."""
        conditions = [draft.validate for draft in drafts if draft.validate is not None]

        def validate(state: State, since: list[Recorded]) -> None:
            for condition in conditions:
                condition(state, since)

        return cls(
            [entry for draft in drafts for entry in draft.entries],
            [prepared for draft in drafts for prepared in draft.contents],
            [address for draft in drafts for address in draft.addresses],
            validate,
        )

    @property
    def done(self) -> bool:
        """Whether it was committed or refused."""
        return self._result is not None or self._error is not None

    def accept(self, result: list[Appended]) -> None:
        """It is durable."""
        self._result = result
        self._tell()

    def refuse(self, error: BaseException) -> None:
        """It will not be committed, or nobody knows."""
        self._error = error
        self._tell()

    def result(self) -> list[Appended]:
        """Where its entries are. Raises what it was refused with."""
        if self._error is not None:
            raise self._error
        return self._result or []

    def _tell(self) -> None:
        if self.wake is not None:
            self.wake()


class _Group(NamedTuple):
    """What one pack will hold."""

    drafts: list[tuple[Draft, int, list[int]]]
    leaves: list[bytes]
    blobs: list[Sealed]
    large: list[tuple[bytes, int]]


class Committer:
    """Appends to one ledger on behalf of all threads and tasks of a process.

    Args:
        has: whether a blob can be read from what is committed.
        author: signs batches.
        lock: held while `chain` changes.
        committed: called after each commit.
    """

    def __init__(
        self,
        chain: Chain,
        has: Callable[[bytes], bool],
        author: Signer,
        random: Random,
        lock: threading.Lock,
        committed: Callable[[], None],
    ) -> None:
        self.chain = chain
        self.has = has
        self.author = author
        self.random = random
        self.committed = committed
        self._lock = lock
        self._process = os.getpid()
        self._handing_in = threading.Lock()
        self._waiting: list[Draft] = []
        self._idle = threading.Lock()
        self._idle.acquire()
        self._closing = False
        self._thread: threading.Thread | None = None

    def append(self, draft: Draft) -> list[Appended]:
        """Commits a draft, together with whatever else waits. Returns when it is durable."""
        done = threading.Lock()
        done.acquire()
        draft.wake = done.release
        self.submit(draft)
        done.acquire()
        return draft.result()

    def submit(self, draft: Draft) -> None:
        """Hands a draft in; its `wake` is called when it is done.

        Raises:
            UsageError: this process was forked from the one that opened the ledger, or has closed it.
        """
        if os.getpid() != self._process:
            raise UsageError("this ledger was opened before a fork", hint="open it again in the child")
        with self._handing_in:
            if self._closing:
                raise UsageError("this ledger was closed", hint="open it again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger-commit", daemon=True)
                self._thread.start()
            self._waiting.append(draft)
            if self._idle.locked():
                self._idle.release()

    def close(self) -> None:
        """Commits what was handed in, and takes no more."""
        with self._handing_in:
            self._closing = True
            if self._idle.locked():
                self._idle.release()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        """Commits group after group, in a thread of its own: an interrupt of the main thread never strikes here.

        While one group syncs, the next forms.
        """
        while True:
            self._idle.acquire()
            with self._handing_in:
                group, self._waiting = self._waiting[:_MAX_GROUP], self._waiting[_MAX_GROUP:]
                ending = self._closing and not group
                if (self._waiting or self._closing) and self._idle.locked():
                    self._idle.release()
            if ending:
                return
            try:
                self._commit(group)
            except Exception as error:  # noqa: BLE001
                # Whatever it is, it reaches every caller; none is left waiting.
                if not isinstance(error, LedgerError):
                    unknown = OutcomeUnknown(f"a commit was ended by our own bug: {type(error).__name__}")
                    unknown.__cause__, error = error, unknown
                for draft in group:
                    if not draft.done:
                        draft.refuse(error)

    def _commit(self, waiting: list[Draft]) -> None:
        while waiting:
            # Other threads may take in what other processes commit: one state for all of this, and its number.
            with self._lock:
                group, waiting = self._gather(waiting)
                if not group.drafts:
                    continue
                # What the next pack builds on must not be lost alone: its writer may have died before its own sync.
                self.chain.settle()
                self.chain.check_last()
                data, made = self._build(group)
                trial = self.chain.state.copy()
                number = trial.packs
                try:
                    proven = trial.prove(pack.parse(data), made)
                except NotSound as error:
                    # What nobody could prove must not be committed: it would end the log for everybody.
                    what = f"{self.author.name} may not write here: {error.what}"
                    for draft, _, _ in group.drafts:
                        draft.refuse(KeyUnusable(what, hint="ledger keys"))
                    continue
                if proven.problems:
                    waiting = _refuse_wrong(group, proven) + waiting
                    continue
                if number and not number % 256:
                    # The folder before this one holds the pack that we build on.
                    self.chain.folder.sync(pack.name(number - 1))
            name = pack.name(number)
            if self._create(name, data):
                self._acknowledge(group, trial, proven)
            else:
                with self._lock:
                    since = self.chain.catch_up()
                for draft, _, _ in group.drafts:
                    draft.since += since
                waiting = [draft for draft, _, _ in group.drafts] + waiting

    def _create(self, name: str, data: bytes) -> bool:
        """Creates the pack; False where another writer's lies there."""
        folder = self.chain.folder
        if folder.create(name, data):
            return True
        # An answer may be lost and the put repeated: what lies there then is ours, and nobody has synced its name.
        if folder.get(name) != data:
            return False
        try:
            folder.sync(name)
        except StorageFailed as error:
            raise OutcomeUnknown(f"{error.what}; {name} may or may not survive", hint=error.hint) from None
        return True

    def _gather(self, waiting: list[Draft]) -> tuple[_Group, list[Draft]]:
        """Takes as many drafts as fit one pack; refuses those whose condition no longer holds."""
        state = self.chain.state
        group = _Group([], [], [], [])
        # What this group appends counts already, draft by draft: two that fit a budget alone may not fit together.
        trial = _fold(state, group)
        cids: set[bytes] = set()
        room = _ROOM
        for position, draft in enumerate(waiting):
            try:
                if draft.validate is not None:
                    draft.validate(trial, draft.since)
                steps, leaves = self._encode(draft, trial, state.size + len(group.leaves))
            except Exception as error:  # noqa: BLE001
                # Whatever a caller's condition raises is his own: the others of the group go on.
                trial = _fold(state, group)
                draft.refuse(error)
                continue
            inside, large = self._missing(draft, cids)
            need = sum(map(len, leaves)) + sum(len(b.data) for b in inside)
            need += pack.overhead(len(leaves), len(inside) + len(large))
            if need > room or len(group.leaves) + len(leaves) >= pack.MAX_LEAVES:
                if group.drafts:
                    return group, waiting[position:]
                trial = _fold(state, group)
                draft.refuse(TooLarge("more than a pack of 64 MiB holds at once", hint="append in several calls"))
                continue
            room -= need
            group.drafts.append((draft, len(group.leaves), steps))
            group.leaves.extend(leaves)
            group.blobs.extend(inside)
            group.large.extend(large)
            cids.update(b.cid for b in inside)
            cids.update(c for c, _ in large)
        return group, []

    def _encode(self, draft: Draft, trial: State, first: int) -> tuple[list[int], list[bytes]]:
        """Steps and bytes of a draft's entries, which the state takes in; raises where they break its rules."""
        history = trial.history
        for prepared in draft.contents:
            if (erasure := history.erased.get(prepared.key.id.hex())) is not None:
                raise Erased(f"the run's data key was erased by entry {erasure}", hint="start a new run")
        steps, leaves = [], []
        for position, entry in enumerate(draft.entries):
            # The draft's own, and not yet anybody else's: a copy would be checked all over again.
            if position in draft.links:
                member, other = draft.links[position]
                msgspec.structs.force_setattr(entry, member, first + other)
            step = _next_step(entry, history) if entry.run else 0
            if step:
                msgspec.structs.force_setattr(entry, "step", step)
            leaves.append(encode(entry))
            if type(entry) in _SIGNED:
                _tell(trial, first + position, entry)
            if (broken := history.add(first + position, entry)) is not None:
                raise Malformed(broken, hint="`ledger log RUN` shows what the run holds")
            steps.append(step)
        return steps, leaves

    def _missing(self, draft: Draft, cids: set[bytes]) -> tuple[list[Sealed], list[tuple[bytes, int]]]:
        """The draft's blobs that no committed pack refers to yet, nor this one."""
        inside: dict[bytes, Sealed] = {}
        large: dict[bytes, int] = {}
        for prepared in draft.contents:
            for blob in prepared.inside:
                if blob.cid not in cids and not self.has(blob.cid):
                    inside[blob.cid] = blob
            for cid, size in prepared.outside:
                if cid not in cids and not self.has(cid):
                    large[cid] = size
        return list(inside.values()), list(large.items())

    def _build(self, group: _Group) -> tuple[bytes, batch.Made]:
        state = self.chain.state
        frontier = state.frontier.copy()
        frontier.extend([leaf_hash(leaf) for leaf in group.leaves])
        head = Head(frontier.size, frontier.root())
        signature = batch.sign(state.origin, head, len(group.leaves), self.author)
        data = pack.build(
            state.packs,
            state.size,
            state.trailer,
            self.random(16),
            state.frontier.hashes,
            b"" if self.chain.checkpoint == self.chain.embedded else self.chain.checkpoint,
            group.blobs,
            group.large,
            [*group.leaves, signature],
        )
        return data, batch.Made(signature, self.author.verifier)

    def _acknowledge(self, group: _Group, state: State, proven: Proven) -> None:
        first = proven.pack.size
        with self._lock:
            # Another thread may have read our pack back already.
            if self.chain.state.packs == proven.pack.number:
                self.chain.adopt(state, proven)
        self.committed()
        for draft, at, steps in group.drafts:
            result = [
                Appended(first + at + i, address, step)
                for i, (address, step) in enumerate(zip(draft.addresses, steps, strict=True))
            ]
            draft.accept(result)


def _fold(state: State, group: _Group) -> State:
    """A state to try the next draft on: what is proven, and what a group holds so far."""
    trial = state.copy()
    trial.history = state.history.branch()
    for draft, at, _ in group.drafts:
        for index, entry in enumerate(draft.entries, state.size + at):
            if type(entry) in _SIGNED:
                _tell(trial, index, entry)
            trial.history.add(index, entry)
    return trial


_SIGNED = frozenset((Approval, ApprovalBreakGlass, TrustChanged))
"""What the history judges by who has signed it."""


def _tell(trial: State, index: int, entry: Known) -> None:
    try:
        trial.tell(index, entry)
    except NotSound as error:
        raise Malformed(error.what, hint=error.hint or "`ledger keys` lists approvers") from None


def _next_step(entry: Known, history: History) -> int:
    if isinstance(entry, RunStarted):
        return 1
    run = history.runs.get(entry.run)
    if run is None or (run.finished and type(entry) not in LATE):
        raise RunClosed(f"run {entry.run} is not open", hint="it finished, was erased, or never started here")
    if isinstance(entry, Response) and entry.to and not run.asked(entry.to):
        raise Malformed(f"entry {entry.to} is no prompt of this run", hint="`ledger log RUN` shows its prompts")
    return run.step + 1


def _refuse_wrong(group: _Group, proven: Proven) -> list[Draft]:
    """Refuses now the drafts that verify would find fault with for ever; the others try again."""
    wrong = {problem.index - proven.pack.size: problem.what for problem in reversed(proven.problems)}
    others = []
    for draft, at, steps in group.drafts:
        what = next((wrong[position] for position in range(at, at + len(steps)) if position in wrong), None)
        if what is None:
            others.append(draft)
        else:
            draft.refuse(Malformed(what, hint="labels have at most 200 characters"))
    return others
