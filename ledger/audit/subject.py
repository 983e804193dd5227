"""`ledger.verify`: what is to be verified, told apart by what it is."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from ledger import disclose, receipt
from ledger.audit.audit import Progress, audit
from ledger.audit.report import Finding, Report
from ledger.checkpoint import Head
from ledger.locate import locate, read_origin
from ledger.log import own_trust
from ledger.note import Note
from ledger.state import describe
from schemas.errors import KeyUnusable, LedgerError, Malformed, NotFound, NotSound, UsageError
from schemas.ids import check_origin
from schemas.trust import TrustRoot
from store.datakeys import load_identity
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
    """Verifies a ledger (the steps of docs/FORMAT.md, in order), a receipt or a disclosure.

    Args:
        where: its folder, or the file; else `LEDGER`, else `.ledger` here or above.
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
        return _document(path, trust)
    origin = read_origin(Folder(path))
    root = read_root(trust) if trust is not None else own_trust(origin)
    if identity:
        try:
            load_identity(identity)
        except KeyUnusable as error:
            raise UsageError(error.what, hint=error.hint) from None
    return audit(path, root, read_head(since) if since is not None else None, identity or "", progress)


def _document(path: Path, trust: TrustRoot | str | None) -> Report:
    """A receipt or a disclosure: told apart by how it begins."""
    began = time.monotonic()
    try:
        data = path.read_bytes()
    except OSError:
        raise NotFound(f"{path} can't be read", hint="check the path") from None
    disclosed = data.startswith(b"{")
    if not disclosed and not data.startswith(receipt.HEADER.encode()):
        raise UsageError(f"{path} is nothing that can be verified", hint="a ledger's folder, a receipt or a disclosure")
    report = Report("disclosure" if disclosed else "receipt", "")
    try:
        document = disclose.Disclosure.parse(data) if disclosed else None
        found = receipt.Receipt.parse(document.receipt.encode() if document else data)
        report.origin, owner = _owner(found, trust)
        if document is not None:
            checked, length = disclose.check(document, owner)
            report.remarks.append(f"{document.address}, {length:,} bytes: ledger cat {path.name} writes them")
        else:
            checked = receipt.check(found, owner)
        report.head, report.entries = checked.head, 1
        report.remarks.insert(0, f"{describe(checked.index, checked.entry)}, signed by {checked.author}")
    except (NotSound, Malformed) as error:
        report.findings.append(Finding(error.step if isinstance(error, NotSound) else 3, error.what, error.hint))
    report.unchecked.append("what the owner stated later, such as the end of the author's key")
    report.unchecked.append("the rest of the log")
    report.seconds = time.monotonic() - began
    return report


def disclosed(path: Path, trust: TrustRoot | str | None = None) -> Iterator[bytes]:
    """The content of a disclosure, piece by piece; the first comes when the whole proof holds.

    Raises:
        Malformed: it is no disclosure.
        NotSound: it does not hold, and by which step.
        CannotTell: there is no trust root.
    """
    document = disclose.Disclosure.parse(path.read_bytes())
    _, owner = _owner(receipt.Receipt.parse(document.receipt.encode()), trust)
    disclose.check(document, owner)
    return document.pieces()


def _owner(found: receipt.Receipt, trust: TrustRoot | str | None) -> tuple[str, Verifier]:
    """The log that a receipt is of, and whom the reader trusts for it."""
    origin = check_origin(Note.parse(found.checkpoint).text.partition("\n")[0])
    root = read_root(trust) if trust is not None else own_trust(origin)
    return origin, Verifier.parse(root.owner)


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
