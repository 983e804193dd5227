"""Signature leaves: an author signs the entries since the last one, and all history before them."""

import base64
from typing import NamedTuple

from ledger import note
from ledger.checkpoint import Head
from schemas.errors import Malformed, NotSound
from store.signers import Signer, Verifier

HEADER = "agent-ledger/batch@v1"


def text(origin: str, head: Head, count: int) -> str:
    """What the author signs.

    Args:
        head: the signature leaf's own index, and the root over all leaves before it.
        count: entries since the signature leaf before.
    """
    return f"{HEADER}\n{origin}\n{head.size} {base64.b64encode(head.root).decode()}\n{count}\n"


def sign(origin: str, head: Head, count: int, author: Signer) -> bytes:
    """The bytes of a signature leaf."""
    return note.sign(text(origin, head, count), author)


class Made(NamedTuple):
    """A signature leaf that this process has just signed itself."""

    raw: bytes
    author: Verifier


def check(
    raw: bytes, origin: str, head: Head, count: int, authors: list[Verifier], made: Made | None = None
) -> Verifier:
    """The author of a signature leaf at this place.

    The text is compared whole, so that it holds at one place of one log only. There is one signature line and
    one spelling: the last leaf of a log is covered by nothing later, and must not be malleable.

    Args:
        made: what need not be verified again: only its place and its author's right to sign there are looked at.

    Raises:
        NotSound: it is no signature leaf for this place, or of none of these authors (step 5).
    """
    if made is not None and raw == made.raw and raw.startswith(f"{text(origin, head, count)}\n".encode()):
        for author in authors:
            if (author.name, author.public) == (made.author.name, made.author.public):
                return author
    try:
        signed = note.Note.parse(raw)
        if signed.text != text(origin, head, count):
            raise NotSound("a signature leaf speaks of another place, log or history", step=5)
        found = signed.signed_by(authors)
    except Malformed as error:
        raise NotSound(f"a signature leaf does not hold: {error.what}", step=5) from None
    if not found:
        raise NotSound("a signature leaf is of no author who is trusted there", step=5)
    line = signed.signatures[0]
    if raw != f"{signed.text}\n{note.line_of(found[0], line.signature)}".encode():
        raise NotSound("a signature leaf is not in its only spelling", step=5)
    return found[0]
