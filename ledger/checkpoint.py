"""Checkpoints (C2SP tlog-checkpoint): the head of the log, signed by the log key."""

import base64
import binascii
import re
from typing import NamedTuple, Self

from ledger import note
from schemas.errors import Malformed
from store.signers import Signer, Verifier

_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


class Head(NamedTuple):
    """How many leaves, and the root over them."""

    size: int
    root: bytes

    def format(self) -> str:
        """Two lines: size, root in base64, as in a checkpoint."""
        return f"{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def one_line(self) -> str:
        """How people hand a head on."""
        return self.format().strip().replace("\n", " ")

    @classmethod
    def parse(cls, size: str, root: str) -> Self:
        """Reads both as they stand in text.

        Raises:
            Malformed: they are not in their only spelling.
        """
        try:
            raw = base64.b64decode(root, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if _SIZE.fullmatch(size) is None or len(raw) != 32 or base64.b64encode(raw).decode() != root:
            raise Malformed("a head is malformed", hint="a size and a root in base64")
        return cls(int(size), raw)


class Checkpoint(NamedTuple):
    """A checkpoint taken apart; its signature is checked by `parse`."""

    origin: str
    head: Head
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes, log: Verifier) -> Self:
        """Reads a checkpoint that this log key has signed; other signature lines are ignored.

        Raises:
            Malformed: it is none, or the log key has not signed it.
        """
        signed = note.Note.parse(raw)
        lines = signed.text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise Malformed("a checkpoint does not have three lines")
        found = cls(lines[0], Head.parse(lines[1], lines[2]), raw)
        if lines[0] != log.name:
            raise Malformed("a checkpoint is of another log")
        if not signed.signed_by([log]):
            raise Malformed("a checkpoint is not signed by the log key")
        return found


def sign(origin: str, head: Head, log: Signer) -> bytes:
    """A checkpoint signed by the log key."""
    return note.sign(f"{origin}\n{head.format()}", log)
