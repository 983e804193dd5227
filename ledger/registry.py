"""Which secrets and keys a user of a ledger has, by URI; never their values.

`secrets.json` lies beside the keys. What it names for redaction must be found in whatever leaves, so each has to
resolve before anything may; a role (an author's key, the upstream's) takes the place of what `init` made.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from ledger import homes, pins
from schemas.errors import KeyUnusable, NotFound, UsageError, untold
from schemas.trust import check_name
from store import secrets
from store.durable import make_folders, storage_errors, sync_names
from store.pkcs11uri import parse, shown

FILE = "secrets.json"

Use = Literal["redact", "upstream", "author", "owner", "log", "identity"]
ROLES = ("upstream", "author", "owner", "log", "identity")
"""Uses that one secret has at a time."""


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret that is known.

    Attributes:
        name: for people.
        uri: where it lies.
        use: what for; of every use but the keys of tokens it holds that it must never leave.
    """

    name: str
    uri: str
    use: Use = "redact"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    secrets: tuple[Named, ...] = ()


def read(origin: str) -> tuple[Named, ...]:
    """All of them, in the order in which they were added.

    Raises:
        KeyUnusable: the file is damaged or open to others, who could change whose key signs.
    """
    path = homes.keys(origin) / FILE
    if not path.exists():
        return ()
    text = secrets.load(f"file:{path}")
    try:
        return msgspec.json.decode(text, type=_File).secrets
    except msgspec.DecodeError:
        raise KeyUnusable(f"{path}: damaged", hint="restore it, or remove it and `ledger keys add` again") from None


def of(origin: str, use: Use) -> str | None:
    """The URI of the one that has a role."""
    return next((one.uri for one in read(origin) if one.use == use), None)


def add(origin: str, one: Named) -> None:
    """Adds one.

    Raises:
        UsageError: the name or the role is taken.
        KeyUnusable: the URI is none, or holds a PIN.
    """
    with adding(origin, one):
        pass


@contextmanager
def adding(origin: str, one: Named) -> Iterator[None]:
    """Adds one after what is done within: making it, once it is known that it can be added."""
    check_name(one.name)
    if untold(one.name) != one.name:
        raise UsageError("a secret stands where its name belongs", hint="ledger keys add NAME URI")
    secrets.check(one.uri)
    if one.uri.startswith("pkcs11:"):
        if one.use not in ("author", "owner", "log"):
            raise UsageError("a key on a token only signs", hint="--use author, owner or log")
        if parse(one.uri).pin_value:
            raise KeyUnusable(f"{shown(one.uri)}: a PIN is not written down here", hint="pin-source=file:PATH")
    with _changing(origin):
        known = read(origin)
        if any(other.name == one.name for other in known):
            raise UsageError(f"{one.name} is there already", hint=f"ledger keys remove {one.name}")
        taken = next((other.name for other in known if other.use == one.use and one.use in ROLES), None)
        if taken is not None:
            raise UsageError(f"{taken} is the {one.use} already", hint=f"ledger keys remove {taken}")
        yield
        _write(origin, (*known, one))


def remove(origin: str, name: str) -> Named:
    """Takes one out; the secret itself stays where it is.

    Raises:
        NotFound: there is none of that name.
    """
    with _changing(origin):
        known = read(origin)
        found = next((one for one in known if one.name == name), None)
        if found is None:
            raise NotFound("no secret of that name", hint="ledger keys list")
        _write(origin, tuple(one for one in known if one != found))
    return found


def values(named: Iterable[Named]) -> list[tuple[str, str]]:
    """URI and value of each that must never leave.

    Raises:
        KeyUnusable: one can't be had, or is too short: what can't be looked for could leave.
    """
    found = []
    for one in named:
        if one.uri.startswith("pkcs11:"):
            continue
        try:
            found.append((one.uri, value(one)))
        except KeyUnusable as error:
            # A key that is kept elsewhere, as an owner's is, is not here to leave.
            if one.use in ("redact", "upstream"):
                what = f"{one.name}: {error.what}; so it can't be looked for in what leaves"
                raise KeyUnusable(what, hint=f"ledger keys check; or ledger keys remove {one.name}") from None
    return found


def value(one: Named) -> str:
    """The value of one that is no key on a token.

    Raises:
        KeyUnusable: it can't be had, or redaction would not look for it.
    """
    from policies.redaction.exact import SHORTEST

    text = secrets.load(one.uri)
    if len(text) < SHORTEST:
        what = f"{one.uri}: under {SHORTEST} characters: such a value would be found everywhere"
        raise KeyUnusable(what, hint="make it longer")
    return text


@contextmanager
def _changing(origin: str) -> Iterator[None]:
    """One process of this machine at a time."""
    for folder in (homes.keys(origin), homes.pins(origin)):
        make_folders(folder)
    with pins.locked(homes.pins(origin) / "secrets.lock"):
        yield


def _write(origin: str, known: tuple[Named, ...]) -> None:
    path = homes.keys(origin) / FILE
    staged = Path(f"{path}.new")
    with storage_errors(path):
        staged.unlink(missing_ok=True)
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(known)), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
        sync_names(path.parent)
