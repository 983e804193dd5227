"""Signed notes (C2SP signed-note): a text and signature lines below it."""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from schemas.errors import Malformed
from store.signers import Signer, Verifier

MAX_NOTE = 1 << 20
_MAX_SIGNATURES = 100
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f]")


class Signature(NamedTuple):
    """One signature line: whose it says it is, and what it holds after the key id."""

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """A note taken apart. Nothing is checked yet; see `signed_by`."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Reads a note.

        Raises:
            Malformed: it is none.
        """
        try:
            whole = raw.decode() if len(raw) <= MAX_NOTE else ""
        except UnicodeDecodeError:
            whole = ""
        text, separator, lines = whole.rpartition("\n\n")
        if not separator or not lines.endswith("\n"):
            raise Malformed("not a signed note")
        # What a person reads is what was signed.
        if _CONTROL.search(whole):
            raise Malformed("a signed note holds a control character")
        signatures = tuple(_signature(line) for line in lines[:-1].split("\n"))
        if len(signatures) > _MAX_SIGNATURES:
            raise Malformed("a signed note has too many signatures")
        return cls(text + "\n", signatures)

    def signed_by(self, verifiers: Iterable[Verifier]) -> list[Verifier]:
        """Which of these keys have signed the text; lines of other keys are ignored.

        Raises:
            Malformed: a line names one of these keys and its signature fails.
        """
        known = {(v.name, v.key_id): v for v in verifiers}
        found: dict[tuple[str, bytes], Verifier] = {}
        message = self.text.encode()
        for line in self.signatures:
            key = (line.name, line.key_id)
            verifier = known.get(key)
            if verifier is None:
                continue
            if not verifier.verify(message, line.signature):
                raise Malformed(f"the signature of {line.name} is wrong")
            found[key] = verifier
        return list(found.values())


def _signature(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if dash != "—" or len(raw) < 5 or base64.b64encode(raw).decode() != encoded:
        raise Malformed("a signature line of a note is malformed")
    # Names of other keys may hold what ours may not.
    if not name or "+" in name or any(c.isspace() for c in name):
        raise Malformed("a signature line of a note is malformed")
    return Signature(name, raw[:4], raw[4:])


def sign(text: str, *signers: Signer) -> bytes:
    """A note with a signature line for each signer."""
    if not text.endswith("\n"):
        raise ValueError("the text of a note ends with a newline")
    message = text.encode()
    lines = [line_of(s.verifier, s.sign(message)) for s in signers]
    return f"{text}\n{''.join(lines)}".encode()


def line_of(verifier: Verifier, signature: bytes) -> str:
    """One signature line, its newline included."""
    return f"— {verifier.name} {base64.b64encode(verifier.key_id + signature).decode()}\n"
