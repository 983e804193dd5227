"""Step 10: with an identity, every content opens and is what its entry states."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha512
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec

from ledger.audit import workers
from ledger.audit.report import Finding
from ledger.state import Recorded, read
from schemas.entries import (
    ActionEnded,
    ActionStarted,
    Approval,
    ApprovalBreakGlass,
    ApprovalRequested,
    Content,
    Decided,
    Disclosure,
    KeysChanged,
    Known,
    ModelRequest,
    ModelResponse,
    RunStarted,
    Uninterpreted,
)
from schemas.errors import CannotTell, Erased, KeyUnusable, Missing, NotSound, StorageFailed, TooLarge
from schemas.ids import cid_of, run_key_id
from schemas.trust import KeysNote
from store import pack
from store.blobs import Blobs, note_places
from store.datakeys import Keyring, project_id, root_name
from store.durable import make_folders
from store.folder import Folder
from store.places import Places
from store.seal import HEADER, MAGIC, unseal

_PACKS = 16
_MAX_DETAIL = 16 << 20
_A_DAY = 86_400
_TABLE = 100_000
"""New places from which on a table is written, so that they are not all in memory."""

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Detail(msgspec.Struct, forbid_unknown_fields=True):
    """What docs/FORMAT.md says of a detail: these members, each left out when empty."""

    name: _Text | msgspec.UnsetType = msgspec.UNSET
    media_type: _Text | msgspec.UnsetType = msgspec.UNSET
    reason: _Text | msgspec.UnsetType = msgspec.UNSET


_detail_decoder = msgspec.json.Decoder(_Detail)


class Task(msgspec.Struct, frozen=True):
    """Entries by pack whose contents lie elsewhere, at least in part."""

    path: str
    origin: str
    identity: str
    places: str
    entries: dict[int, list[int]]


class Result(msgspec.Struct):
    """What opening contents showed.

    Attributes:
        closed: how many this identity can't open.
        missing: how many are not there, which step 6 has forgiven or found.
        long: how many details are too long to be looked at.
        elsewhere: by pack, indexes of entries whose contents lie in other packs or outside of packs.
    """

    findings: list[tuple[int, str]] = []
    closed: int = 0
    missing: int = 0
    long: int = 0
    elsewhere: dict[int, list[int]] = {}


class Outcome(msgspec.Struct):
    """The same for the whole ledger, in words."""

    findings: list[Finding] = []
    remarks: list[str] = []
    unchecked: list[str] = []


def why_not(folder: Folder, origin: str, identity: str) -> Outcome:
    """Why an identity can't open contents of this ledger; nothing where it can."""
    outcome = Outcome()
    if not identity:
        outcome.unchecked.append("contents (no identity)")
        return outcome
    try:
        Keyring(folder, origin, identity, _no_random).roots()
    except CannotTell as error:
        outcome.unchecked.append(f"contents ({error.what})")
    except NotSound as error:
        outcome.findings.append(Finding.of(error))
    return outcome


def check(
    folder: Folder,
    origin: str,
    identity: str,
    home: Path,
    packs: int,
    within: Result,
    progress: Callable[[int, int], None] | None,
) -> Outcome:
    """Opens the contents that spans could not open from the packs they had in hand.

    Args:
        home: where others keep places of blobs, outside of the ledger. What lies there is not believed: a table of
            this audit's own is made from the packs, in a folder beside it that goes when it ends.
        packs: how many there are.
        within: what the spans showed.
    """
    outcome = Outcome([Finding(step, what) for step, what in within.findings])
    closed, missing, long = within.closed, within.missing, within.long
    waiting = sorted(within.elsewhere.items())
    if waiting:
        with _folder(home) as own:
            _place_all(folder, packs, own)
            tasks = (
                Task(folder.path, origin, identity, str(own), dict(waiting[start : start + _PACKS]))
                for start in range(0, len(waiting), _PACKS)
            )
            done, parallel = 0, len(waiting) > _PACKS
            for task, result in workers.each("ledger.audit.contents", tasks, Result, _open_packs, parallel):
                outcome.findings += [Finding(step, what) for step, what in result.findings]
                closed, missing, long = closed + result.closed, missing + result.missing, long + result.long
                done += len(task.entries)
                if progress is not None:
                    progress(done, len(waiting))
    for count, why in (
        (closed, "their data keys open to other identities"),
        (missing, "missing"),
        (long, "details of more than 16 MiB"),
    ):
        if count:
            outcome.unchecked.append(f"{count:,} contents ({why})")
    return outcome


@contextmanager
def _folder(home: Path) -> Iterator[Path]:
    """A folder of this audit's own, on the disk of the cache; in the system's where nothing can be written there."""
    where: Path | None = home.parent
    try:
        make_folders(home.parent)
    except StorageFailed:
        where = None
    if where is not None and not os.access(where, os.W_OK):
        where = None
    for left in home.parent.glob("audit-*") if where is not None else ():
        if left.stat().st_mtime < time.time() - _A_DAY:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix="audit-", dir=where) as name:
        yield Path(name)


def _place_all(folder: Folder, packs: int, home: Path) -> None:
    places = Places(home)
    for number in range(packs):
        note_places(places, pack.parse(folder.get(pack.name(number))))
        places.save(worth=_TABLE)
    places.save()
    places.close()
    if Places(home).covered != packs:
        raise StorageFailed(f"{home}: tables of places can't be written there", hint="free space and try again")


def _no_random(count: int) -> bytes:
    raise KeyUnusable("an audit makes no keys")


class _Elsewhere(Exception):
    """What is wanted does not lie in the pack in hand."""


class Opener:
    """Opens the contents of packs, as the entries in them state.

    Args:
        places: where blobs of other packs lie; None to open only what a pack itself holds.
    """

    def __init__(self, path: str, origin: str, identity: str, places: Places | None) -> None:
        folder = Folder(path)
        self.keyring = Keyring(folder, origin, identity, _no_random)
        self.blobs = Blobs(folder, places, self.keyring) if places else None

    def open(self, found: pack.Pack, entries: Iterable[Recorded], result: Result) -> None:
        """Opens what entries of a pack refer to."""
        inside = dict(zip(found.cids, found.blobs, strict=True))
        for recorded in entries:
            before = result.closed, result.missing, result.long, len(result.findings)
            try:
                for check in (self._check, self._check_detail):
                    self._try(check, inside, recorded, found.number, result)
            except _Elsewhere:
                # All of it is looked at again there, and is counted once.
                result.closed, result.missing, result.long = before[:3]
                del result.findings[before[3] :]
                result.elsewhere.setdefault(found.number, []).append(recorded.index)

    def _try(
        self,
        check: Callable[[dict[bytes, bytes], Known | Uninterpreted], None],
        inside: dict[bytes, bytes],
        recorded: Recorded,
        number: int,
        result: Result,
    ) -> None:
        try:
            check(inside, recorded.entry)
        except Erased:
            pass
        except CannotTell:
            result.closed += 1
        except Missing:
            if self.blobs is None:
                raise _Elsewhere from None
            result.missing += 1
        except TooLarge:
            result.long += 1
        except NotSound as error:
            result.findings.append((10, f"pack {number}: {recorded.describe()}: {error.what}"))

    def _check(self, inside: dict[bytes, bytes], entry: Known | Uninterpreted) -> None:
        if isinstance(entry, Content):
            self._digest(inside, entry.content, entry.digest)
            if isinstance(entry, ApprovalRequested):
                # What people were shown is what they have approved.
                self._digest(inside, entry.request, entry.subject)
            for text in _sealed_beside(entry):
                for _ in self._pieces(inside, text):
                    pass
        elif isinstance(entry, Disclosure):
            for _ in self._pieces(inside, entry.content):
                pass
        elif isinstance(entry, RunStarted):
            self._commitment(run_key_id(entry.run), entry.key)
        elif isinstance(entry, KeysChanged):
            note = KeysNote.parse(entry.note.rpartition("\n\n")[0] + "\n")
            self._commitment(project_id(note.root), note.project)
            if self.keyring.recipients().get(note.root, note.recipient) != note.recipient:
                raise NotSound(f"{root_name(note.root)} holds another root than the owner stated", step=10)
        elif isinstance(entry, Approval | ApprovalBreakGlass):
            hasher = sha512()
            for piece in self._pieces(inside, entry.request):
                hasher.update(piece)
            if hasher.hexdigest() != entry.sha512:
                raise NotSound("an approval's sha512 is not that of the request", step=10)

    def _digest(self, inside: dict[bytes, bytes], text: str, digest: str) -> None:
        """Opens a content and compares its digest."""
        data = inside.get(bytes.fromhex(text[11:]))
        if data is not None and data[:4] == MAGIC:
            key = self.keyring.open(data[4:HEADER])
            if key.digest(unseal(key, data)) != digest:
                raise NotSound(f"{text} does not have the digest that its entry states", step=10)
        elif self.blobs is None:
            raise _Elsewhere
        else:
            self.blobs.check(text, digest)

    def _check_detail(self, inside: dict[bytes, bytes], entry: Known | Uninterpreted) -> None:
        text = getattr(entry, "detail", "")
        if not text:
            return
        found = b""
        for piece in self._pieces(inside, text):
            found += piece
            if len(found) > _MAX_DETAIL:
                raise TooLarge(f"{text} is a detail over 16 MiB")
        try:
            _detail_decoder.decode(found)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise NotSound(f"its detail {text} is no JSON object of name, media_type and reason", step=10) from None

    def _pieces(self, inside: dict[bytes, bytes], text: str) -> Iterable[bytes]:
        data = inside.get(cid_of(text))
        if data is not None and data[:4] == MAGIC:
            return (unseal(self.keyring.open(data[4:HEADER]), data),)
        if self.blobs is None:
            raise _Elsewhere
        return self.blobs.pieces(text)

    def _commitment(self, id: bytes, commitment: str) -> None:
        if self.keyring.open(id).commitment != commitment:
            raise NotSound(f"data key {id.hex()} is another than its entry commits to", step=10)


def _sealed_beside(entry: Content) -> Iterator[str]:
    """What an entry refers to beside content and detail."""
    others = []
    if isinstance(entry, ModelRequest):
        others.append(entry.envelope)
    elif isinstance(entry, ModelResponse):
        others.append(entry.wire)
    elif isinstance(entry, Decided):
        others.append(entry.request)
    elif isinstance(entry, ActionStarted):
        others.append(entry.inputs)
    elif isinstance(entry, ActionEnded):
        others += [entry.outputs, entry.stdout, entry.stderr]
    return filter(None, others)


_openers: dict[tuple[str, str, str], Opener] = {}


def opener(path: str, origin: str, identity: str, places: str = "") -> Opener:
    """The same for all tasks of a worker, so that each data key is decrypted once."""
    key = (path, identity, places)
    if key not in _openers:
        _openers.clear()
        _openers[key] = Opener(path, origin, identity, Places(Path(places)) if places else None)
    return _openers[key]


def forget() -> None:
    """Drops keys and tables when an audit ends: the next one reads them from the ledger again."""
    _openers.clear()


def _open_packs(task: Task) -> Result:
    result = Result()
    found = opener(task.path, task.origin, task.identity, task.places)
    folder = Folder(task.path)
    for number, indexes in task.entries.items():
        parsed = pack.parse(folder.get(pack.name(number)))
        found.open(parsed, (read(index, parsed.leaves[index - parsed.size])[0] for index in indexes), result)
    return result


def serve() -> None:
    """The worker's side of `ledger.audit.workers.each`."""
    workers.serve(Task, _open_packs)
