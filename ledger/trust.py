"""Who is trusted at which index: the owner's statements, in the order in which entries carry them."""

from typing import NamedTuple

from ledger.note import Note
from schemas.errors import Malformed, NotSound
from schemas.trust import KeysNote, TrustNote
from store.signers import Verifier


class Trust(NamedTuple):
    """The statement of trust in force, its keys read.

    Attributes:
        note: the statement.
        log: checks checkpoints.
        authors: with the index from which, and the index before which, each may sign.
        raw: the signed note, to be kept.
    """

    note: TrustNote
    log: Verifier
    authors: tuple[tuple[Verifier, int, int | None], ...]
    raw: str

    def authors_at(self, index: int) -> list[Verifier]:
        """Keys that may sign a batch whose signature leaf has this index."""
        return [v for v, since, until in self.authors if since <= index and (until is None or index < until)]

    def approvers_at(self, index: int) -> dict[str, str]:
        """Names of approvers by SSH key, for an approval at this index."""
        return {a.key: a.name for a in reversed(self.note.approvers) if a.holds(index, index)}


class Keys(NamedTuple):
    """The statement of keys in force."""

    note: KeysNote
    raw: str


def _owner_text(raw: str, owner: Verifier) -> str:
    note = Note.parse(raw.encode())
    if not note.signed_by([owner]):
        raise Malformed("a statement is not signed by the owner")
    return note.text


def read_trust(raw: str, owner: Verifier, origin: str, serial: int, log: str = "") -> Trust:
    """Reads a statement of trust.

    Args:
        serial: the number that it must have.
        log: the log key that the statement before names; it never changes.

    Raises:
        NotSound: not the owner's, not for this log, or out of order (step 5).
    """
    try:
        found = TrustNote.parse(_owner_text(raw, owner))
        if log and found.log != log:
            raise Malformed("it names another log key, which means another log")
        log_key = Verifier.parse(found.log)
        authors = tuple((Verifier.parse(a.vkey), a.since, a.until) for a in found.authors)
        if log_key.name != origin or any(not v.name.startswith(f"{origin}/") for v, _, _ in authors):
            raise Malformed("a key is named for another log")
        if any(v.public == log_key.public for v, _, _ in authors):
            raise Malformed("log key and author key are the same")
    except Malformed as error:
        raise NotSound(f"a statement of trust does not hold: {error.what}", step=5) from None
    if found.origin != origin or found.serial != serial:
        raise NotSound("a statement of trust is for another log, or was put back", step=5)
    return Trust(found, log_key, authors, raw)


def read_keys(raw: str, owner: Verifier, origin: str, serial: int) -> Keys:
    """Reads a statement of keys.

    Raises:
        NotSound: not the owner's, not for this log, or out of order (step 5).
    """
    try:
        found = KeysNote.parse(_owner_text(raw, owner))
    except Malformed as error:
        raise NotSound(f"a statement of keys does not hold: {error.what}", step=5) from None
    if found.origin != origin or found.serial != serial:
        raise NotSound("a statement of keys is for another log, or was put back", step=5)
    return Keys(found, raw)
