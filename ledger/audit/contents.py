"""Step 10: with an identity, every content opens and is what its entry states."""

from collections.abc import Callable, Iterator
from hashlib import sha512
from pathlib import Path

import msgspec

from ledger.audit import workers
from ledger.audit.report import Finding
from ledger.state import describe
from schemas.entries import (
    Approval,
    Content,
    Disclosure,
    KeysChanged,
    Known,
    RunFinished,
    RunStarted,
    Uninterpreted,
    decode,
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

_SPAN = 16


class Task(msgspec.Struct, frozen=True):
    """Packs whose contents to open."""

    path: str
    origin: str
    identity: str
    places: str
    start: int
    end: int


class Result(msgspec.Struct):
    """What opening them showed."""

    findings: list[tuple[int, str]] = []
    opened: int = 0
    erased: int = 0
    closed: int = 0
    bytes_read: int = 0


class Outcome(msgspec.Struct):
    """The same for the whole ledger, in words."""

    findings: list[Finding] = []
    remarks: list[str] = []
    unchecked: list[str] = []


def check(
    folder: Folder,
    origin: str,
    identity: str,
    home: Path,
    packs: int,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> Outcome:
    """Opens every content.

    Args:
        home: where places of blobs are kept, outside of the ledger.
        packs, total: how many packs, and their bytes.
    """
    outcome = Outcome()
    keyring = Keyring(folder, origin, identity, _no_random)
    try:
        keyring.roots()
    except CannotTell as error:
        outcome.unchecked.append(f"contents ({error.what})")
        return outcome
    except NotSound as error:
        outcome.findings.append(Finding.of(error))
        return outcome
    places = Places(home)
    while places.covered < packs:
        note_places(places, pack.parse(folder.get(pack.name(places.covered))))
        places.covered += 1
    places.save()
    places.close()

    def tasks() -> Iterator[Task]:
        for start in range(0, packs, _SPAN):
            yield Task(folder.path, origin, identity, str(home), start, min(start + _SPAN, packs))

    closed = done = 0
    for _, result in workers.each("ledger.audit.contents", tasks(), Result, open_span, total > 24 << 20):
        outcome.findings += [Finding(step, what) for step, what in result.findings]
        closed += result.closed
        done += result.bytes_read
        if progress is not None:
            progress(min(done, total), total)
    if closed:
        outcome.unchecked.append(f"{closed:,} contents (their data keys open to other identities)")
    return outcome


def _no_random(count: int) -> bytes:
    raise KeyUnusable("an audit makes no keys")


_open: dict[tuple[str, str, str], Blobs] = {}


def _blobs(task: Task) -> Blobs:
    """The same for all tasks of a worker, so that each data key is decrypted once."""
    key = (task.path, task.identity, task.places)
    if key not in _open:
        _open.clear()
        folder = Folder(task.path)
        keyring = Keyring(folder, task.origin, task.identity, _no_random)
        _open[key] = Blobs(folder, Places(Path(task.places)), keyring)
    return _open[key]


def open_span(task: Task) -> Result:
    """Opens the contents of a few packs."""
    blobs, result = _blobs(task), Result()
    for number in range(task.start, task.end):
        data = blobs.folder.get(pack.name(number))
        result.bytes_read += len(data)
        found = pack.parse(data)
        inside = dict(zip(found.cids, found.blobs, strict=True))
        for position, raw in enumerate(found.leaves):
            if raw[:1] != b"{":
                continue
            entry = decode(raw)
            try:
                _check(blobs, inside, entry)
                result.opened += 1
            except Erased:
                result.erased += 1
            except (CannotTell, Missing):
                result.closed += 1
            except NotSound as error:
                where = describe(found.size + position, entry)
                result.findings.append((10, f"pack {number}: {where}: {error.what}"))
    return result


def _check(blobs: Blobs, inside: dict[bytes, bytes], entry: Known | Uninterpreted) -> None:
    if isinstance(entry, Uninterpreted):
        return
    if isinstance(entry, Content):
        data = inside.get(cid_of(entry.content))
        if data is not None and data[:4] == MAGIC:
            key = blobs.keyring.open(data[4:HEADER])
            if key.digest(unseal(key, data)) != entry.digest:
                raise NotSound(f"{entry.content} does not have the digest that its entry states", step=10)
        else:
            blobs.check(entry.content, entry.digest)
    elif isinstance(entry, RunStarted):
        _commitment(blobs, run_key_id(entry.run), entry.key)
    elif isinstance(entry, KeysChanged):
        note = KeysNote.parse(entry.note.rpartition("\n\n")[0] + "\n")
        _commitment(blobs, project_id(note.root), note.project)
        if blobs.keyring.recipients().get(note.root, note.recipient) != note.recipient:
            raise NotSound(f"{root_name(note.root)} holds another root than the owner stated", step=10)
    elif isinstance(entry, Approval):
        if sha512(blobs.read(entry.request)).hexdigest() != entry.sha512:
            raise NotSound("an approval's sha512 is not that of the request", step=10)
    elif isinstance(entry, Disclosure):
        return
    if isinstance(entry, Content | RunStarted | RunFinished) and entry.detail:
        blobs.read(entry.detail)


def _commitment(blobs: Blobs, id: bytes, commitment: str) -> None:
    if blobs.keyring.open(id).commitment != commitment:
        raise NotSound(f"data key {id.hex()} is another than its entry commits to", step=10)


def serve() -> None:
    """The worker's side of `ledger.audit.workers.each`."""
    workers.serve(Task, open_span)
