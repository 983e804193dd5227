"""Pins: the highest state of a log that this machine has proven, kept outside of the ledger.

A pin is what makes a removed tail visible, and what makes the next look cheap: it goes on from there.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
from blake3 import blake3

from ledger import homes
from ledger.merkle import Frontier
from ledger.state import State
from ledger.trust import read_keys, read_trust
from policies.history import History, OpenRun
from schemas.errors import NotSound, RolledBack
from store import pack
from store.durable import make_folders, storage_errors
from store.folder import Folder
from store.signers import Verifier


class Pin(msgspec.Struct, frozen=True):
    """A proven state, as a file.

    Attributes:
        packs, size, frontier, trailer: as in `State`.
        trust, keys: the owner's statements in force, with their serial numbers.
        runs: open runs.
        erased: ids of erased data keys, with the entry that erased each.
    """

    format: int
    packs: int
    size: int
    frontier: tuple[bytes, ...]
    trailer: bytes
    trust: str
    trust_serial: int
    keys: str
    keys_serial: int
    runs: dict[str, OpenRun]
    erased: dict[str, int]


def _what_then(state: State) -> str:
    pin = homes.pins(state.origin) / _name(state.owner)
    return f"to forget what this machine has seen, remove {pin} (docs/THREAT-MODEL.md, “Restored backups”)"


def _name(owner: Verifier) -> str:
    return f"{owner.key_id.hex()}.pin"


def _encode(pin: Pin) -> bytes:
    body = msgspec.json.encode(pin)
    return body + b"\n" + blake3(body).hexdigest().encode() + b"\n"


def _decode(data: bytes) -> Pin:
    body, _, digest = data[:-1].rpartition(b"\n")
    if data[-1:] != b"\n" or blake3(body).hexdigest().encode() != digest:
        raise msgspec.ValidationError("the digest is wrong")
    return msgspec.json.decode(body, type=Pin)


def load(home: Path, owner: Verifier) -> State | None:
    """The state that was pinned for the log of this owner, or None.

    Raises:
        RolledBack: the pin is there and can't be read: it is never passed over.
    """
    data = Folder(home).find(_name(owner))
    if data is None:
        return None
    try:
        pin = _decode(data)
        state = State(owner)
        state.packs, state.trailer = pin.packs, pin.trailer
        state.frontier = Frontier(pin.size, pin.frontier)
        state.trust = read_trust(pin.trust, owner, owner.name, pin.trust_serial)
        state.keys = read_keys(pin.keys, owner, owner.name, pin.keys_serial)
    except (msgspec.MsgspecError, NotSound, UnicodeDecodeError):
        raise RolledBack(
            f"{home / _name(owner)}: the pin is damaged",
            hint="verify the ledger against a head that you know (--since), then remove this file",
        ) from None
    state.history = History(pin.runs, origin=state.origin, approvers=state.trust.note.approvers)
    state.history.erased = pin.erased
    return state


def of(state: State) -> Pin:
    """The pin of a state."""
    trust, keys = state.trusted(), state.readable()
    runs = {id: run.copy() for id, run in state.history.runs.items()}
    return Pin(
        1,
        state.packs,
        state.size,
        tuple(state.frontier.hashes),
        state.trailer,
        trust.raw,
        trust.note.serial,
        keys.raw,
        keys.note.serial,
        runs,
        dict(state.history.erased),
    )


def save(home: Path, owner: Verifier, pin: Pin) -> None:
    """Keeps a pin, unless a higher one is kept already."""
    make_folders(home)
    with closing(Folder(home)) as folder, locked(home / "lock"):
        old = folder.find(_name(owner))
        try:
            if old is not None and _decode(old).packs >= pin.packs:
                return
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Whoever loads a damaged pin is told; here it is left as it is.
            return
        folder.put({_name(owner): _encode(pin)})


def check(state: State, folder: Folder) -> None:
    """Compares a pinned state with the ledger.

    Raises:
        RolledBack: the ledger lacks what was there, or has something else in its place.
    """
    if state.packs == 0:
        return
    last = pack.name(state.packs - 1)
    size = folder.size(last)
    if size is None:
        raise RolledBack(
            f"{folder.path} is behind what this machine has seen: {state.packs:,} packs, of which {last} is gone",
            hint=f"cut off, or a backup? `ledger verify` reads it; {_what_then(state)}",
        )
    if folder.get(last, max(0, size - 32)) != state.trailer:
        raise RolledBack(
            f"{folder.path} contradicts what this machine has seen: {last} is another",
            hint=f"history was replaced, or a copy was continued elsewhere; {_what_then(state)}",
        )


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock file among the processes of this machine; False where it is held and `wait` is off."""
    with storage_errors(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        # A process that was forked meanwhile has the same open file, and would keep the lock.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
