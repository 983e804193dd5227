"""Secrets by URI: `file:PATH` and `env:NAME`. Errors name the URI, never the value."""

import os
import re
import stat
from pathlib import Path

from schemas.errors import KeyUnusable
from store.durable import make_folders, storage_errors, sync_names

_SCHEME = re.compile("[a-z][a-z0-9-]{0,15}")


def load(uri: str) -> str:
    """The secret's text, without white space around it.

    Raises:
        KeyUnusable: it isn't there, others may read it, or the scheme is unknown.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "env":
        value = os.environ.get(rest, "").strip()
        if not value:
            raise KeyUnusable(f"{uri}: the variable is not set", hint=f"export {rest}, or name another secret")
        return value
    if scheme == "file":
        try:
            path = Path(rest).expanduser()
        except RuntimeError:
            raise KeyUnusable(f"{uri}: there is no such user", hint="check the path") from None
        return _read(path, uri)
    # Never repeated: it may be the secret itself, put where its URI belongs.
    named = f"{scheme}: no such kind of secret" if _SCHEME.fullmatch(scheme) and uri != scheme else "not a secret's URI"
    raise KeyUnusable(named, hint="file:PATH or env:NAME")


def _read(path: Path, uri: str) -> str:
    try:
        with open(path, "rb") as file:
            # Of the open file, not of the name, which could change in between.
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise KeyUnusable(f"{uri}: others may read this key", hint=f"chmod 600 {path}")
            if status.st_uid not in (os.geteuid(), 0):
                raise KeyUnusable(f"{uri}: this key belongs to another user", hint="name a key of your own")
            return file.read(1 << 20).decode().strip()
    except FileNotFoundError:
        raise KeyUnusable(f"{uri}: no such file", hint="check the path, or restore the key from your backup") from None
    except (OSError, UnicodeDecodeError):
        raise KeyUnusable(f"{uri}: can't be read", hint="check the path and its permissions") from None


def save(path: Path, text: str) -> None:
    """Writes a new secret file with mode 0600 in a folder with mode 0700; never over an old one.

    Raises:
        KeyUnusable: the file exists.
    """
    with storage_errors(path):
        make_folders(path.parent)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise KeyUnusable(f"{path}: a key is there already", hint="keys are never overwritten") from None
        try:
            with os.fdopen(fd, "w") as file:
                file.write(text.rstrip("\n") + "\n")
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            # A part of a key must not be in the way of the next try.
            path.unlink()
            raise
        # The name too: a ledger whose keys a power cut took would be lost.
        sync_names(path.parent)
