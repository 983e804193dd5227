"""Secrets by URI: `file:PATH`, `env:NAME`, `keyring:SERVICE/NAME`, `aws-sm:NAME[#MEMBER]`.

Errors name the URI, never the value; and what is no URI is not named either, for it may be the value.
"""

import os
import re
import stat
from pathlib import Path

from schemas.errors import KeyUnusable
from store.durable import make_folders, storage_errors, sync_names

KINDS = "file:PATH, env:NAME, keyring:SERVICE/NAME or aws-sm:NAME[#MEMBER]"

_SHAPES = {
    "file": re.compile(".+"),
    "env": re.compile("[A-Za-z_][A-Za-z0-9_]*"),
    "keyring": re.compile("[^/]+/.+"),
    "aws-sm": re.compile(r"[\w/+=.@:-]+(?:#.+)?", re.A),
    "pkcs11": re.compile(".+"),
}
"""What may follow each scheme. An API key has hyphens, a variable's name has none: `env:sk-…` is noticed."""

_OTHERS = ("vault", "aws-kms", "gcp-sm", "op", "http", "https", "ssh-agent")
"""Schemes that somebody may well try."""


def check(uri: str) -> str:
    """The URI again, if it is one of a secret or of a key on a token; the secret is not looked up.

    Raises:
        KeyUnusable: it is none. It may be the secret itself, put where its URI belongs, and is never repeated.
    """
    scheme, colon, rest = uri.partition(":")
    shape = _SHAPES.get(scheme) if colon else None
    if shape is None:
        # Not even what stands before a colon, unless it is a kind that others know: passwords have colons.
        what = f"{scheme}: no such kind of secret" if colon and scheme in _OTHERS else "not a secret's URI"
        hint = f"{KINDS}; a secret that was typed here is in the shell's history: replace it"
        raise KeyUnusable(what, hint=hint)
    if shape.fullmatch(rest) is None or not uri.isprintable():
        raise KeyUnusable(f"{scheme}: what follows names no secret", hint=KINDS)
    return uri


def load(uri: str) -> str:
    """The secret's text, without white space around it.

    Raises:
        KeyUnusable: it isn't there, others may read it, its store gives no answer, or the scheme is unknown.
    """
    scheme, _, rest = check(uri).partition(":")
    if scheme == "file":
        try:
            path = Path(rest).expanduser()
        except RuntimeError:
            raise KeyUnusable(f"{uri}: there is no such user", hint="check the path") from None
        value = _read(path, uri)
    elif scheme == "env":
        value, hint = os.environ.get(rest, ""), f"export {rest}, or name another secret"
        if not value.strip():
            raise KeyUnusable(f"{uri}: the variable is not set", hint=hint)
    elif scheme == "keyring":
        from store import keychain

        value = keychain.load(rest)
    elif scheme == "aws-sm":
        from store import aws

        value = aws.load(rest)
    else:
        raise KeyUnusable("pkcs11: a key that never leaves its token signs, and is no value", hint=KINDS)
    if not value.strip():
        raise KeyUnusable(f"{uri}: the secret is empty", hint="store it again")
    return value.strip()


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


def store(uri: str, text: str) -> None:
    """Puts a new secret where a URI points; never over an old one.

    Raises:
        KeyUnusable: one is there, or this kind of store is read only.
    """
    scheme, _, rest = check(uri).partition(":")
    if scheme == "file":
        save(Path(rest).expanduser(), text)
    elif scheme == "keyring":
        from store import keychain

        keychain.save(rest, text)
    else:
        raise KeyUnusable(f"{scheme}: nothing is written there from here", hint="file:PATH or keyring:SERVICE/NAME")


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
