"""A ledger, open: runs to append to, entries and contents to read."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ledger import homes, pins, registry
from ledger.chain import Chain, pack_of
from ledger.checkpoint import Checkpoint
from ledger.commit import Appended, Committer, Draft, Validate
from ledger.drafts import Detail, Drafts, RootChanged, new_run
from ledger.locate import check_owner, locate, read_origin
from ledger.publisher import Publisher
from ledger.receipt import Receipt, make
from ledger.run import Run
from ledger.state import Recorded, State, read
from ledger.trust import Trust, read_trust
from ledger.writer import Writer
from schemas.entries import Known, TrustChanged
from schemas.errors import (
    CannotTell,
    Erased,
    KeyUnusable,
    LedgerError,
    Malformed,
    Missing,
    NotFound,
    NotSound,
    TooLarge,
)
from schemas.trust import TrustRoot
from store import pack
from store.blobs import Blobs, Prepared, note_places
from store.datakeys import Keyring
from store.folder import Folder
from store.places import MANY, WORTH, Places
from store.seal import DataKey
from store.signers import Signer, Verifier


def system_clock() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def system_random(count: int) -> bytes:
    """Random bytes of the system."""
    return os.urandom(count)


MAX_DETAIL = 16 << 20
"""Bytes of a detail that are read; a longer one is nobody's name or reason."""

_WAIT = 15.0
"""Seconds to wait for somebody else's checkpoint."""


class Log:
    """A ledger as one process has it open; safe to share among threads.

    Made by `ledger.open`. Close it, or use it as a context manager: closing publishes what is new.

    Attributes:
        origin: the log's name.
        path: where it lies.
        writer: appends.
        closing: called before it is closed, by what stands on it.
    """

    def __init__(
        self, folder: Folder, state: State, identity: str, signer: str | Signer | None, log: str | Signer | None
    ):
        self.path = Path(folder.path)
        self.origin = state.origin
        self.folder = folder
        self._signer = signer
        self._lock = threading.Lock()
        self._placing = threading.Lock()
        self._places_made_again = False
        self._process = os.getpid()
        self.closing: list[Callable[[], object]] = []
        self._home = homes.pins(self.origin)
        self.places = Places(homes.cache(self.origin) / state.owner.key_id.hex() / "places")
        self.chain = Chain(folder, state, self.places)
        keyring = Keyring(folder, self.origin, identity, system_random)
        keyring.erased = state.history.erased
        self.blobs = Blobs(folder, self.places, keyring, self._heal)
        self.publisher = Publisher(self.chain, self._lock, self._home, self._log_key(log), self._save_places)
        self.writer = Writer(self.chain, self.blobs, self._make_committer, system_clock, system_random)
        self.writer.log = self

    @classmethod
    def open(cls, where: str | Path | None = None, *, signer: str | None = None, identity: str | None = None) -> Self:
        """Opens a ledger and proves what came since this machine last saw it.

        Args:
            where: its folder; else `LEDGER`, else `.ledger` here or above.
            signer: URI of the author key; else `LEDGER_SIGNER`, else the registered one, else the one that `init` made.
            identity: URI of the identity for reading; else `LEDGER_IDENTITY`, else likewise.

        Raises:
            NotFound: there is no ledger.
            NotOurs: it belongs to another user.
            CannotTell: nobody told this machine whom to trust for it.
            RolledBack: it lacks what this machine has seen.
            NotSound: what came since does not continue it.
        """
        path = locate(where)
        folder = Folder(path)
        origin = read_origin(folder)
        check_owner(path)
        home = homes.keys(origin)
        owner = Verifier.parse(own_trust(origin, "LEDGER_TRUST=LINE").owner)
        registered = {one.use: one.uri for one in registry.read(origin)}
        signer = signer or os.environ.get("LEDGER_SIGNER") or registered.get("author") or _default(home / "author.key")
        identity = identity or os.environ.get("LEDGER_IDENTITY") or registered.get("identity")
        identity = identity or _default(home / "identity.txt") or ""
        state = pins.load(homes.pins(origin), owner) or State(owner)
        log = cls(folder, state, identity, signer, registered.get("log") or _default(home / "log.key"))
        try:
            log.chain.open()
            log.places.keep(log.chain.trailer_of)
        except BaseException:
            folder.close()
            raise
        return log

    @classmethod
    def found(cls, folder: Folder, owner: Verifier, author: Signer, log: Signer) -> Self:
        """A ledger without packs, for `init`."""
        return cls(folder, State(owner), "", author, log)

    def run(self, name: str = "", *, stage: str = "", lane: str = "", task: str = "", imported: bool = False) -> Run:
        """Starts a run.

        Args:
            name: for people; sealed.
            stage, lane, task: what its entries carry.
            imported: whether it took place elsewhere.
        """
        while True:
            id = new_run(self.writer)
            try:
                self.writer.commit(Drafts(self.writer, id, stage, lane, task, imported).start(name))
            except RootChanged:
                continue
            return Run(self.writer, id, stage=stage, lane=lane, task=task, imported=imported)

    def resume(self, run: str | Run, *, stage: str = "", lane: str = "", task: str = "", imported: bool = False) -> Run:
        """An open run, from its id.

        Raises:
            RunClosed: it has ended, or never started here.
        """
        id = run.id if isinstance(run, Run) else run
        self.writer.key(id)
        return Run(self.writer, id, stage=stage, lane=lane, task=task, imported=imported)

    def read(self, address: str) -> bytes:
        """The content of an address.

        Raises:
            Malformed: it is no address.
            Missing, Erased, CannotTell, NotSound: why it can't be read.
        """
        self.catch_up()
        self.catch_up_places()
        return self.blobs.read(address)

    def entries(self, run: str | Run | None = None) -> Iterator[Recorded]:
        """Entries in order, of one run or of all."""
        id = run.id if isinstance(run, Run) else run
        for number in range(self.chain.state.packs):
            found = pack.parse(self.folder.get(pack.name(number)))
            for position, raw in enumerate(found.leaves):
                if raw[:1] == b"{" and (id is None or id.encode() in raw):
                    recorded, _ = read(found.size + position, raw)
                    if id is None or recorded.entry.run == id:
                        yield recorded

    def of_kind(self, kind: str) -> Iterator[Recorded]:
        """Entries of one kind in order, of what is proven."""
        begins = b'{"kind":"%s"' % kind.encode()
        for number in range(self.chain.state.packs):
            found = pack.parse(self.folder.get(pack.name(number)))
            for position, raw in enumerate(found.leaves):
                if raw.startswith(begins):
                    yield read(found.size + position, raw)[0]

    def last_prompt(self, run: str) -> int:
        """Index of the newest prompt of an open run; 0 where there is none."""
        prompts = self.chain.state.history.runs[run].prompts
        return prompts[-1] if prompts else 0

    def detail(self, address: str) -> Detail:
        """The sealed part of an entry; empty where there is none, or it can't be read by this identity.

        Also where an author sealed what is none: `verify` says that, and readers go on.
        """
        if not address:
            return Detail()
        self.catch_up_places()
        try:
            return msgspec.json.decode(self.blobs.read(address, MAX_DETAIL), type=Detail)
        except (CannotTell, Erased, Missing, Malformed, NotSound, TooLarge):
            return Detail()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Detail()

    def entry(self, index: int) -> Recorded:
        """The entry at an index.

        Raises:
            NotFound: there is none.
        """
        found = self.pack_of(index)
        raw = found.leaves[index - found.size]
        if raw[:1] != b"{":
            raise NotFound(f"leaf {index:,} is a signature, not an entry", hint=f"try {index - 1}")
        return read(index, raw)[0]

    def pack_of(self, index: int) -> pack.Pack:
        """The pack that holds a leaf.

        Raises:
            NotFound: there is no such leaf.
        """
        state = self.chain.state
        if not 0 <= index < state.size:
            raise NotFound(f"no entry {index:,}; the log has {state.size:,} leaves")
        return pack.parse(self.folder.get(pack.name(pack_of(self.folder, index, state.packs))))

    def trust_at(self, index: int) -> Trust:
        """The statement of trust in force at an index."""
        found = self.chain.state.trusted()
        if found.note.serial == 0:
            return found
        for recorded in self.entries():
            entry = recorded.entry
            if recorded.index > index:
                break
            if isinstance(entry, TrustChanged):
                serial = found.note.serial + 1 if recorded.index else 0
                try:
                    found = read_trust(entry.note, self.chain.state.owner, self.origin, serial)
                except NotSound:
                    # Not the owner's, whoever put it there: not in force.
                    continue
        return found

    def receipt(self, index: int) -> Receipt:
        """An offline proof of an entry and its author. Waits until a checkpoint covers it.

        Raises:
            NotFound: there is no such entry.
            CannotTell: nobody published in time.
        """
        recorded, found = self.entry(index), self.pack_of(index)
        signed = next(i for i in range(index, found.end) if found.leaves[i - found.size][:1] != b"{")
        published = self._published(signed)
        leaf = found.leaves[signed - found.size]
        return make(self.folder, recorded, signed, leaf, self.trust_at(signed), published)

    def _published(self, index: int) -> Checkpoint:
        deadline = time.monotonic() + _WAIT
        while True:
            data = self.folder.find("checkpoint")
            if data is not None:
                try:
                    found = Checkpoint.parse(data, self.chain.state.trusted().log)
                except Malformed:
                    # Damaged: published again below.
                    found = None
                if found is not None and found.head.size > index:
                    return found
            before = self.chain.published
            self.publisher.now()
            if self.chain.published > before:
                continue
            if time.monotonic() > deadline:
                raise CannotTell(
                    f"no checkpoint covers entry {index} yet",
                    hint="a machine with the log key publishes; try again later",
                )
            time.sleep(0.2)

    def catch_up_places(self) -> None:
        """Learns where the blobs of all proven packs lie."""
        with self._placing:
            self._place_all(self.places)
        self.places.save(self.chain.settle, worth=WORTH)

    def _save_places(self) -> None:
        if self.places.unsaved >= MANY:
            self.catch_up_places()

    def make_places_again(self) -> None:
        """Makes the tables of places from the packs; whoever reads goes on with the old ones until then."""
        with self._placing:
            if not self._places_made_again:
                right = Places(None)
                self._place_all(right)
                self.places.replace(right)
                self._places_made_again = True
        self.catch_up_places()

    def _heal(self) -> None:
        # The tables are a cache: before the ledger is blamed, they are made again, once in a process.
        if not self._places_made_again:
            self.make_places_again()

    def _place_all(self, places: Places) -> None:
        while (end := places.reached())[0] < self.chain.state.packs:
            number, trailer = end
            found = pack.parse(self.folder.get(pack.name(number)))
            self.chain.check_links(found, trailer)
            note_places(places, found)

    def catch_up(self) -> None:
        """Proves what other processes have committed since."""
        with self._lock:
            self.chain.catch_up()

    def project_key(self) -> DataKey:
        """The data key that runs share."""
        return self.writer.project_key()

    def author(self) -> Verifier:
        """The key that signs what this process appends."""
        return self.writer.committer.author.verifier

    def append_statements(
        self, entries: list[Known], contents: list[Prepared], validate: Validate | None = None
    ) -> list[Appended]:
        """Appends entries that belong to no run."""
        return self.writer.commit(Draft(entries, contents, [""] * len(entries), validate))

    def close(self) -> None:
        """Publishes what is new, and gives files back. In a forked child it is the parent's, and left alone."""
        if os.getpid() != self._process:
            return
        try:
            while self.closing:
                self.closing.pop(0)()
            self.writer.close()
            self.publisher.close()
        finally:
            self.places.close()
            self.folder.close()

    def _make_committer(self) -> Committer:
        if self._signer is None:
            raise KeyUnusable(
                f"no author key for {self.origin} on this machine",
                hint="name one by LEDGER_SIGNER; the owner adds it by `ledger keys author NAME add`",
            )
        signer = self._author(self._signer)
        self._check_not_ended(signer.verifier.vkey)
        return Committer(self.chain, self.blobs.has, signer, system_random, self._lock, self.publisher.nudge)

    def _author(self, signer: str | Signer) -> Signer:
        if isinstance(signer, Signer):
            return signer
        trust = self.chain.state.trust
        return Signer.load(signer, [verifier for verifier, _, _ in trust.authors] if trust else [])

    def _log_key(self, log: str | Signer | None) -> Signer | Callable[[], Signer] | None:
        """The log's key; one on a token is opened where there is something to publish, not by who only reads."""
        if not isinstance(log, str):
            return log
        if log.startswith("pkcs11:"):
            return lambda: Signer.load(log, [self.chain.state.trusted().log])
        return Signer.load(log)

    def _check_not_ended(self, vkey: str) -> None:
        trust, size = self.chain.state.trust, self.chain.state.size
        mine = [author for author in trust.note.authors if author.vkey == vkey] if trust else []
        # The signature comes after one entry at least.
        if mine and all(author.until is not None and author.until <= size + 1 for author in mine):
            raise KeyUnusable(
                f"{mine[-1].name} was ended at index {mine[-1].until:,}: this key can't write any more",
                hint="name another author's key by LEDGER_SIGNER; the owner adds one by `ledger keys author NAME add`",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except LedgerError as closing:
            if error is None:
                raise
            # What went wrong first is what the caller must learn.
            error.add_note(f"closing {self.path} failed too: {closing.what}")


def own_trust(origin: str, told_by: str = "--trust LINE") -> TrustRoot:
    """Whom this machine trusts for a log: `LEDGER_TRUST`, else what its user's configuration says.

    Args:
        told_by: how the caller can be told, for the hint.

    Raises:
        CannotTell: nobody has told.
    """
    named = os.environ.get("LEDGER_TRUST", "")
    path = homes.keys(origin) / "trust"
    try:
        text = named or path.read_text()
    except OSError:
        raise CannotTell(
            f"no trust root for {origin}", hint=f"ask its owner for the line that `ledger init` printed: {told_by}"
        ) from None
    root = TrustRoot.parse(text)
    if root.origin != origin:
        raise CannotTell(f"the trust root is for {root.origin}, the ledger is {origin}", hint="is it the right ledger?")
    return root


def _default(path: Path) -> str | None:
    return f"file:{path}" if path.exists() else None
