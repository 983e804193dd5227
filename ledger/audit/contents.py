"""Step 10: with an identity, every content opens and is what its entry states."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha512
from pathlib import Path

import msgspec

from ledger.audit import workers
from ledger.audit.report import Finding
from ledger.state import Recorded, read
from schemas.entries import (
    Approval,
    Content,
    KeysChanged,
    Known,
    RunFinished,
    RunStarted,
    Uninterpreted,
)
from schemas.errors import CannotTell, Erased, KeyUnusable, Missing, NotSound
from schemas.ids import cid_of, run_key_id
from schemas.trust import KeysNote
from store import pack
from store.blobs import Blobs, note_places
from store.datakeys import Keyring, project_id, root_name
from store.folder import Folder
from store.places import Places
from store.seal import HEADER, MAGIC, unseal

_PACKS = 16


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
        elsewhere: by pack, indexes of entries whose contents lie in other packs or outside of packs.
    """

    findings: list[tuple[int, str]] = []
    closed: int = 0
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
        home: where places of blobs are kept, outside of the ledger.
        packs: how many there are.
        within: what the spans showed.
    """
    outcome = Outcome([Finding(step, what) for step, what in within.findings])
    closed = within.closed
    waiting = sorted(within.elsewhere.items())
    if waiting:
        places = Places(home)
        while places.covered < packs:
            note_places(places, pack.parse(folder.get(pack.name(places.covered))))
        places.save()
        places.close()

    def tasks() -> Iterator[Task]:
        for start in range(0, len(waiting), _PACKS):
            yield Task(folder.path, origin, identity, str(home), dict(waiting[start : start + _PACKS]))

    done = 0
    for task, result in workers.each("ledger.audit.contents", tasks(), Result, _open_packs, len(waiting) > _PACKS):
        outcome.findings += [Finding(step, what) for step, what in result.findings]
        closed += result.closed
        done += len(task.entries)
        if progress is not None:
            progress(done, len(waiting))
    if closed:
        outcome.unchecked.append(f"{closed:,} contents (their data keys open to other identities)")
    return outcome


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
            try:
                self._check(inside, recorded.entry)
            except _Elsewhere:
                result.elsewhere.setdefault(found.number, []).append(recorded.index)
            except Erased:
                continue
            except (CannotTell, Missing):
                result.closed += 1
            except NotSound as error:
                result.findings.append((10, f"pack {found.number}: {recorded.describe()}: {error.what}"))

    def _check(self, inside: dict[bytes, bytes], entry: Known | Uninterpreted) -> None:
        if isinstance(entry, Content):
            data = inside.get(bytes.fromhex(entry.content[11:]))
            if data is not None and data[:4] == MAGIC:
                key = self.keyring.open(data[4:HEADER])
                if key.digest(unseal(key, data)) != entry.digest:
                    raise NotSound(f"{entry.content} does not have the digest that its entry states", step=10)
            elif self.blobs is None:
                raise _Elsewhere
            else:
                self.blobs.check(entry.content, entry.digest)
            if entry.detail:
                self._read(inside, entry.detail)
        elif isinstance(entry, RunStarted):
            self._commitment(run_key_id(entry.run), entry.key)
        elif isinstance(entry, KeysChanged):
            note = KeysNote.parse(entry.note.rpartition("\n\n")[0] + "\n")
            self._commitment(project_id(note.root), note.project)
            if self.keyring.recipients().get(note.root, note.recipient) != note.recipient:
                raise NotSound(f"{root_name(note.root)} holds another root than the owner stated", step=10)
        elif isinstance(entry, Approval) and sha512(self._read(inside, entry.request)).hexdigest() != entry.sha512:
            raise NotSound("an approval's sha512 is not that of the request", step=10)
        if isinstance(entry, RunStarted | RunFinished) and entry.detail:
            self._read(inside, entry.detail)

    def _read(self, inside: dict[bytes, bytes], text: str) -> bytes:
        data = inside.get(cid_of(text))
        if data is not None and data[:4] == MAGIC:
            return unseal(self.keyring.open(data[4:HEADER]), data)
        if self.blobs is None:
            raise _Elsewhere
        return self.blobs.read(text)

    def _commitment(self, id: bytes, commitment: str) -> None:
        if self.keyring.open(id).commitment != commitment:
            raise NotSound(f"data key {id.hex()} is another than its entry commits to", step=10)


_openers: dict[tuple[str, str, str], Opener] = {}


def opener(path: str, origin: str, identity: str, places: str = "") -> Opener:
    """The same for all tasks of a worker, so that each data key is decrypted once."""
    key = (path, identity, places)
    if key not in _openers:
        _openers.clear()
        _openers[key] = Opener(path, origin, identity, Places(Path(places)) if places else None)
    return _openers[key]


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
