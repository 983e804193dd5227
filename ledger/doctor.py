"""Looks after disks, permissions and what is derived. What is true it never touches; `verify` is about that."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ledger import homes, pins
from ledger.log import Log
from ledger.publisher import publish
from ledger.tiles import Builder
from schemas.errors import CannotTell, KeyUnusable, NotSound
from store import pack
from store.blobs import large_name
from store.datakeys import load_identity, read_tombstone, root_name
from store.places import Places
from store.signers import Signer

_A_DAY = 86_400
_LOW_SPACE = 1 << 30


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        ok: whether it is as it should be.
        what: what was found.
        hint: what to do; may be empty.
    """

    ok: bool
    what: str
    hint: str = ""


def examine(log: Log) -> Iterator[Finding]:
    """Looks at permissions, keys, space, leftovers, and what is derived."""
    yield from _permissions(log)
    yield from _keys(log)
    free = os.statvfs(log.path)
    space = free.f_bavail * free.f_frsize
    yield Finding(space > _LOW_SPACE, f"{space / 2**30:.1f} GiB free", "" if space > _LOW_SPACE else "free some space")
    published = len(log.chain.checkpoint) > 0 or log.chain.state.size == 0
    yield Finding(
        published,
        "checkpoint published" if published else "checkpoint lags, or is not there",
        "" if published else "ledger doctor --rebuild",
    )
    leftovers = list(_leftovers(log))
    yield Finding(
        not leftovers,
        f"{len(leftovers):,} leftover{'s' * (len(leftovers) != 1)}",
        "ledger doctor --gc" if leftovers else "",
    )
    erased = log.chain.state.history.erased
    if erased:
        yield Finding(
            True,
            f"{len(erased):,} data key{'s' * (len(erased) != 1)} erased",
            "backups, snapshots and bucket versions of keys/ keep what they had",
        )


def _permissions(log: Log) -> Iterator[Finding]:
    exposed = [
        path
        for path in (log.path, homes.keys(log.origin))
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    for path in exposed:
        yield Finding(False, f"{path} is open to other users", f"chmod -R go= {path}")
    if not exposed:
        yield Finding(True, "closed to other users")
    if not os.access(log.path, os.W_OK | os.X_OK):
        yield Finding(False, f"{log.path} can't be written: nothing can be appended", "check who owns it, and its mode")


def _keys(log: Log) -> Iterator[Finding]:
    home = homes.keys(log.origin)
    for name in ("owner.key", "log.key", "author.key", "identity.txt"):
        path = home / name
        if not path.exists():
            yield Finding(True, f"no {name} on this machine")
            continue
        try:
            load_identity(f"file:{path}") if name == "identity.txt" else Signer.load(f"file:{path}")
        except KeyUnusable as error:
            yield Finding(False, error.what, error.hint)
    yield from _roots(log)


def _roots(log: Log) -> Iterator[Finding]:
    missing = [n for n in range(log.chain.state.readable().note.root + 1) if log.folder.size(root_name(n)) is None]
    if missing:
        yield Finding(False, f"{root_name(missing[0])} is missing", "restore keys/ from a backup")
    try:
        opened, total = len(log.blobs.keyring.roots()), log.chain.state.readable().note.root + 1
        hint = "" if opened == total else "ask a reader to run: ledger keys grant YOUR-RECIPIENT"
        yield Finding(opened == total, f"the identity opens {opened:,} of {total:,} root{'s' * (total != 1)}", hint)
    except CannotTell as error:
        yield Finding(not log.blobs.keyring.identity, error.what, error.hint)
    except KeyUnusable as error:
        # That of this machine was looked at already.
        if log.blobs.keyring.identity != f"file:{homes.keys(log.origin) / 'identity.txt'}":
            yield Finding(False, error.what, error.hint)
    except NotSound as error:
        yield Finding(False, error.what, error.hint)


def rebuild(log: Log) -> None:
    """Makes tiles, checkpoint and the reader's cache again from the packs."""
    import shutil

    log.places.replace(Places(None))
    shutil.rmtree(homes.cache(log.origin) / log.chain.state.owner.key_id.hex(), ignore_errors=True)
    if log.publisher.log is None:
        raise KeyUnusable("no log key on this machine: tiles can't be published", hint="run it where the log key is")
    tmp = log.path / "tmp"
    tmp.mkdir(mode=0o700, exist_ok=True)
    with pins.locked(tmp / "publisher.lock"):
        publish(log.folder, log.chain, log.publisher.log, Builder(), log.chain.head, again=True)


def collect(log: Log) -> tuple[int, int]:
    """Removes what nothing needs.

    Returns:
        How many files, and their bytes.
    """
    count = size = 0
    for name in list(_leftovers(log)):
        size += log.folder.size(name) or 0
        log.folder.delete(name)
        count += 1
    return count, size


def _leftovers(log: Log) -> Iterator[str]:
    """Staged files of writers that died, blobs that no pack names, large blobs of erased runs.

    A day old at least: a writer may be between a blob and its pack.
    """
    old = time.time() - _A_DAY
    named: dict[bytes, None] = {}
    for number in range(log.chain.state.packs):
        named.update(dict.fromkeys(pack.parse(log.folder.get(pack.name(number))).large))
    names = {large_name(cid) for cid in named}
    for name in log.folder.list("tmp"):
        if not name.endswith(".lock") and Path(log.folder.at(name)).stat().st_mtime < old:
            yield name
    for name in log.folder.list("blobs"):
        if Path(log.folder.at(name)).stat().st_mtime < old and (name not in names or _is_erased(log, name)):
            yield name


def _is_erased(log: Log, name: str) -> bool:
    head = log.folder.get(name, 0, 20)
    id = head[4:20].hex()
    if head[:2] != b"LB" or id not in log.chain.state.history.erased:
        return False
    data = log.folder.find(f"keys/data/{id[:2]}/{id}.age")
    return data is not None and read_tombstone(data, log.origin) is not None
