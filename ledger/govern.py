"""What the owner decides: who may write, who may approve, who may read."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ledger import homes, note, pins, registry
from ledger.log import Log, system_clock, system_random
from ledger.state import Recorded, State
from ledger.trust import read_keys, read_trust
from schemas.entries import KeysChanged, Known, TrustChanged
from schemas.errors import Ambiguous, KeyUnusable, LedgerError, NotFound, NotSound, OutcomeUnknown, UsageError
from schemas.trust import Approver, Author, KeysNote, TrustNote, check_name, check_recipient, check_roles
from store import secrets
from store.datakeys import (
    NewRoot,
    data_name,
    encrypt_root,
    load_identity,
    new_root,
    project_id,
    recipient,
    root_name,
)
from store.pkcs11uri import shown
from store.seal import DataKey
from store.signers import Signer, Verifier


def owner_of(log: Log) -> Signer:
    """The owner's key: `LEDGER_OWNER`, else the registered one, else the one that `init` made.

    Raises:
        KeyUnusable: it isn't on this machine.
    """
    home = homes.keys(log.origin) / "owner.key"
    uri = os.environ.get("LEDGER_OWNER") or registry.of(log.origin, "owner") or f"file:{home}"
    signer = Signer.load(uri, [log.chain.state.owner])
    if signer.verifier.vkey != log.chain.state.owner.vkey:
        raise KeyUnusable(f"{shown(uri)} is not the owner's key of {log.origin}", hint="name it by LEDGER_OWNER")
    return signer


def add_author(log: Log, name: str, key: str = "") -> tuple[Author, Path | None]:
    """Lets another key sign batches from now on; an author may have several, as while one takes another's place.

    Args:
        key: its vkey, or a URI of the private key; one is made here where it is empty.

    Returns:
        The author, and where the new private key lies.
    """
    check_name(name)
    if name in _OTHER_KEYS:
        raise UsageError(f"an author can't be called {name}: another key's file is", hint="name it otherwise")
    key_name, path, seed = f"{log.origin}/{name}", None, b""
    if "+" in key:
        verifier = Verifier.parse(key)
        if verifier.name != key_name:
            raise UsageError(f"an author's key of this ledger is named {key_name}", hint="make it under that name")
    elif key:
        verifier = Signer.named(key, key_name).verifier
    else:
        seed = system_random(32)
        verifier = Signer(key_name, seed).verifier
    known = log.chain.state.trusted().note.authors
    if any(a.vkey == verifier.vkey and a.until is None for a in known):
        raise UsageError(f"this key is {name}'s already", hint="`ledger keys` lists authors")
    author = Author(verifier.vkey, log.chain.state.size)
    owner_of(log)
    if seed:
        # Before the statement: nobody may be named an author whose key is nowhere.
        path = _free_path(log.origin, name)
        secrets.save(path, Signer.format(key_name, seed))
    try:
        _change_trust(log, lambda old, size: msgspec.structs.replace(old, authors=(*old.authors, author)))
    except OutcomeUnknown:
        raise
    except LedgerError:
        if path is not None:
            path.unlink(missing_ok=True)
        raise
    return author, path


_OTHER_KEYS = ("owner", "log", "author")


def _free_path(origin: str, name: str) -> Path:
    """Where a new key of an author goes; those that have ended stay where they are."""
    home = homes.keys(origin)
    names = (f"{name}.{number}.key" for number in itertools.count(2))
    return next(home / file for file in itertools.chain([f"{name}.key"], names) if not (home / file).exists())


def end_author(log: Log, name: str, at: int | None = None, key: str = "") -> Author:
    """Ends an author's key.

    Args:
        at: index from which it no longer counts; now where absent. An earlier one disowns what was signed since.
        key: which, where the author has several: its vkey, or its key id.

    Raises:
        Ambiguous: the author has several, and none is named.
    """
    authors = log.chain.state.trusted().note.authors
    found = [a for a in authors if a.name == name and a.until is None]
    if key:
        found = [a for a in found if key in (a.vkey, a.id)]
    if not found:
        raise NotFound(
            f"no author {name!r} with such a key in force" if key else f"no author {name!r} in force",
            hint="`ledger keys` lists authors",
        )
    if len(found) > 1:
        # Whoever ends a stolen key must not believe that it was the one, and have ended the other.
        older = ", ".join(f"{a.id} from {a.since:,}" for a in found)
        raise Ambiguous(f"{name} has {len(found)} keys: {older}", hint=f"ledger keys author {name} end {found[0].id}")
    # The batch that carries this statement is judged by it: whoever ends his own key signs it one last time.
    own = log.author().vkey == found[0].vkey
    if own and at is not None:
        raise UsageError("an author can't disown himself", hint="sign with another author's key: LEDGER_SIGNER")
    if not any(a != found[0] and a.until is None for a in authors):
        raise UsageError(f"{name} is the last author: nobody could write any more", hint="add another one first")
    if at is not None and not 0 <= at <= log.chain.state.size:
        raise UsageError(f"no index {at}; the log has {log.chain.state.size:,} leaves", hint="ledger log")

    def change(old: TrustNote, size: int) -> TrustNote:
        until = size + 2 if own else size if at is None else at
        ended = [msgspec.structs.replace(a, until=until) if a == found[0] else a for a in old.authors]
        return msgspec.structs.replace(old, authors=tuple(ended))

    note = _change_trust(log, change)
    return next(a for a in note.authors if a.vkey == found[0].vkey)


def add_approver(log: Log, name: str, key: str, roles: tuple[str, ...] = ()) -> Approver:
    """Lets a person's SSH key approve from now on.

    Args:
        key: as in `id_ed25519.pub`; the comment is dropped.
        roles: in which it may; `break-glass` lets it do so alone.
    """
    check_name(name)
    roles = check_roles(tuple(sorted(set(roles))))
    words = key.split()
    if len(words) < 2 or words[0] not in ("ssh-ed25519", "sk-ssh-ed25519@openssh.com"):
        raise UsageError("not an Ed25519 SSH public key", hint="the content of id_ed25519.pub or id_ed25519_sk.pub")
    approver = Approver(name, f"{words[0]} {words[1]}", log.chain.state.size, roles=roles)
    if any(a.key == approver.key and a.until is None for a in log.chain.state.trusted().note.approvers):
        raise UsageError("this key may approve already", hint="`ledger keys` lists approvers")
    _change_trust(log, lambda old, size: msgspec.structs.replace(old, approvers=(*old.approvers, approver)))
    return approver


def end_approver(log: Log, name: str) -> None:
    """Ends all keys of a person."""
    if not any(a.name == name and a.until is None for a in log.chain.state.trusted().note.approvers):
        raise NotFound(f"no approver {name!r} in force", hint="`ledger keys` lists approvers")

    def change(old: TrustNote, size: int) -> TrustNote:
        approvers = tuple(
            msgspec.structs.replace(a, until=size) if a.name == name and a.until is None else a for a in old.approvers
        )
        return msgspec.structs.replace(old, approvers=approvers)

    _change_trust(log, change)


class _Moved(LedgerError):
    """The log grew while a statement was being signed that speaks of its size."""


def _change_trust(log: Log, change: Callable[[TrustNote, int], TrustNote]) -> TrustNote:
    """Commits the statement that `change` makes of the old one at the log's size, and of no other."""
    owner = owner_of(log)
    while True:
        log.catch_up()
        state = log.chain.state
        old, size = state.trusted().note, state.size
        new = msgspec.structs.replace(change(old, size), serial=old.serial + 1)
        signed = note.sign(new.format(), owner).decode()
        try:
            read_trust(signed, owner.verifier, log.origin, new.serial, old.log)
        except NotSound as error:
            raise UsageError(error.what, hint="nothing was changed") from None

        def validate(state: State, since: list[Recorded], size: int = size) -> None:
            if state.size != size:
                raise _Moved("the log grew")

        try:
            log.append_statements([TrustChanged(v=1, time=system_clock(), note=signed)], [], validate)
        except _Moved:
            continue
        return new


def grant(log: Log, text: str) -> bool:
    """Lets another recipient read everything, what is written already included.

    Returns:
        Whether that is new.

    Raises:
        CannotTell: this identity opens no root, so it has nothing to hand on.
    """
    text = _recipient(text)
    owner_of(log)
    roots = log.blobs.keyring.open_roots(load_identity(log.blobs.keyring.identity or _no_identity()))
    with _governing(log):
        _check_roots(log, {number: str(root.to_public()) for number, root in roots.items()})
        old = log.chain.state.readable().note
        missing = set(range(old.root + 1)) - roots.keys()
        if missing:
            raise KeyUnusable("this identity does not open every root, so it can't hand them on", hint="ask a reader")
        readers = old.readers if text in old.readers else (*old.readers, text)
        if readers != old.readers:
            _change_keys(log, old, msgspec.structs.replace(old, readers=readers))
        for number, root in roots.items():
            made = NewRoot(str(root.to_public()), str(root))
            log.folder.put({root_name(number): encrypt_root(made, list(readers))})
    return readers != old.readers


def revoke(log: Log, text: str) -> None:
    """Stops a recipient from reading what runs that start from now on write. What he could read, he may have kept."""
    text = _recipient(text)
    owner_of(log)
    with _governing(log):
        old = log.chain.state.readable().note
        if text not in old.readers:
            raise NotFound("no such reader", hint="`ledger keys` lists readers")
        readers = tuple(r for r in old.readers if r != text)
        if not readers:
            raise UsageError("the last reader can't be revoked", hint="grant another one first")
        root, number = new_root(), old.root + 1
        secret = system_random(32)
        log.folder.put(
            {
                root_name(number): encrypt_root(root, list(readers)),
                data_name(project_id(number)): log.blobs.keyring.encrypt(secret, root.recipient),
            }
        )
        project = DataKey(project_id(number), secret).commitment
        new = msgspec.structs.replace(old, root=number, recipient=root.recipient, project=project, readers=readers)
        _change_keys(log, old, new)


def _recipient(text: str) -> str:
    words = text.split()
    text = " ".join(words[:2]) if text.startswith("ssh-") else text.strip()
    recipient(check_recipient(text))
    return text


def _check_roots(log: Log, opened: dict[int, str]) -> None:
    """Compares roots with the recipients that the owner has stated: a file may have been replaced."""
    serial = 0
    for recorded in log.entries():
        if isinstance(recorded.entry, KeysChanged):
            try:
                found = read_keys(recorded.entry.note, log.chain.state.owner, log.origin, serial).note
            except NotSound:
                continue
            serial += 1
            if opened.get(found.root, found.recipient) != found.recipient:
                raise NotSound(f"{root_name(found.root)} holds another root than the owner stated", step=10)


def _no_identity() -> str:
    raise KeyUnusable("no identity: nothing can be handed on", hint="name one by LEDGER_IDENTITY")


@contextmanager
def _governing(log: Log) -> Iterator[None]:
    """One process of this machine at a time rewrites roots, and it starts from the newest statement."""
    tmp = log.path / "tmp"
    tmp.mkdir(mode=0o700, exist_ok=True)
    with pins.locked(tmp / "govern.lock"):
        log.catch_up()
        yield


def _change_keys(log: Log, old: KeysNote, new: KeysNote) -> None:
    text = msgspec.structs.replace(new, serial=old.serial + 1).format()
    entries: list[Known] = [KeysChanged(v=1, time=system_clock(), note=note.sign(text, owner_of(log)).decode())]

    def validate(state: State, since: list[Recorded]) -> None:
        if state.readable().note != old:
            raise Ambiguous("somebody changed who can read at the same moment", hint="look at `ledger keys`; try again")

    log.append_statements(entries, [], validate)
