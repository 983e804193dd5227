"""`ledger.verify`: what is to be verified, told apart by what it is."""

import os
from pathlib import Path

from ledger.audit.audit import Progress, audit
from ledger.audit.report import Report
from ledger.checkpoint import Head
from ledger.locate import locate, read_origin
from ledger.log import own_trust
from ledger.note import Note
from schemas.errors import LedgerError, Malformed, NotFound, UsageError
from schemas.trust import TrustRoot
from store.folder import Folder
from store.signers import Verifier


def check(
    where: str | Path | None = None,
    *,
    trust: TrustRoot | str | None = None,
    since: Head | str | None = None,
    identity: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verifies a ledger: the steps of docs/FORMAT.md, in order.

    Args:
        where: its folder; else `LEDGER`, else `.ledger` here or above.
        trust: the owner's vkey, a file that holds it, or None for what this machine trusts.
        since: a head known from elsewhere, `SIZE ROOT`, or a file with a checkpoint.
        identity: URI of an identity, to open contents as well.
        progress: told bytes done and bytes in all.

    Raises:
        CannotTell: there is no trust root.
        NotFound: there is nothing to verify.
        UsageError: an argument is malformed.
    """
    path = locate(where)
    if path.is_file():
        raise UsageError(f"{path} is nothing that can be verified", hint="name a ledger's folder")
    origin = read_origin(Folder(path))
    root = read_root(trust) if trust is not None else own_trust(origin)
    return audit(path, root, read_head(since) if since is not None else None, identity or "", progress)


def read_root(text: TrustRoot | str) -> TrustRoot:
    """A trust root, from itself, its line, or a file.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(text, TrustRoot):
        return text
    root = TrustRoot.parse(_file_or_text(text))
    try:
        Verifier.parse(root.owner)
    except Malformed as error:
        raise UsageError(f"not a trust root: {error.what}", hint="was the owner's line copied whole?") from None
    return root


def read_head(text: Head | str) -> Head:
    """A head, from itself, `SIZE ROOT`, or a file with that or with a checkpoint.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(text, Head):
        return text
    found = _file_or_text(text).strip()
    try:
        if "\n" in found:
            lines = Note.parse((found + "\n").encode()).text.split("\n")
            return Head.parse(lines[1], lines[2])
        size, _, root = found.removeprefix("head ").partition(" ")
        return Head.parse(size, root.strip())
    except (LedgerError, IndexError):
        raise UsageError(
            f"not a head: {text[:80]!r}", hint="SIZE ROOT, as verify prints it, or a checkpoint's file"
        ) from None


def _file_or_text(text: str) -> str:
    if not text or "\n" in text or not os.path.exists(text):
        return text
    try:
        return Path(text).read_text()
    except (OSError, UnicodeDecodeError):
        raise NotFound(f"{text} can't be read", hint="check the path") from None
