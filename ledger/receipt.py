"""Receipts (C2SP tlog-proof): an offline proof of one entry, its place in the log, and its author.

The proof's `extra` line carries what ties the entry to its author (docs/FORMAT.md, "Receipt").
"""

import base64
import binascii
from typing import NamedTuple, Self

import msgspec

from ledger import batch
from ledger.checkpoint import Checkpoint, Head
from ledger.merkle import inclusion_proof, leaf_hash, root_from_inclusion
from ledger.note import Note
from ledger.state import Recorded
from ledger.tiles import TileReader
from ledger.trust import Trust, read_trust
from schemas.entries import Known, Uninterpreted, decode
from schemas.errors import LedgerError, Malformed, NotSound
from store.folder import Folder
from store.signers import Verifier

HEADER = "c2sp.org/tlog-proof@v1"


class Extra(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ties an entry to its author.

    Attributes:
        entry: its bytes.
        signature: the signature leaf that closes its batch.
        proof: of the entry in the tree that the signature leaf signs.
        trust: the statement of trust in force there.
        serial: that statement's.
    """

    entry: bytes
    signature: bytes
    proof: list[bytes]
    trust: str
    serial: int


class Receipt(NamedTuple):
    """A receipt taken apart; nothing is checked yet.

    Attributes:
        proven: index of the entry.
        proof: of the entry in the tree of the checkpoint.
        checkpoint: verbatim.
    """

    extra: Extra
    proven: int
    proof: list[bytes]
    checkpoint: bytes

    def format(self) -> bytes:
        """Its bytes."""
        extra = base64.b64encode(msgspec.json.encode(self.extra)).decode()
        lines = [HEADER, f"extra {extra}", f"index {self.proven}", *(_b64(h) for h in self.proof), ""]
        return ("\n".join(lines) + "\n").encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads a receipt.

        Raises:
            Malformed: it is none.
        """
        try:
            head, _, checkpoint = data.partition(b"\n\n")
            lines = head.decode("ascii").split("\n")
            if lines[0] != HEADER or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
                raise Malformed("not a receipt of agent-ledger", hint="`ledger receipt INDEX` makes one")
            extra = msgspec.json.decode(base64.b64decode(lines[1][6:], validate=True), type=Extra)
            index = Head.parse(lines[2][6:], _b64(bytes(32))).size
            found = cls(extra, index, [_unb64(line) for line in lines[3:]], checkpoint)
        except (binascii.Error, msgspec.MsgspecError, IndexError, UnicodeDecodeError):
            raise Malformed("a receipt is torn", hint="was the file copied whole?") from None
        if found.format() != data:
            raise Malformed("a receipt is not in its only spelling")
        return found


class Checked(msgspec.Struct, frozen=True):
    """What a receipt proves."""

    index: int
    entry: Known | Uninterpreted
    author: str
    head: Head


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if len(raw) != 32:
        raise Malformed("a proof holds something that is no hash")
    return raw


def make(
    folder: Folder, recorded: Recorded, signed: int, signature: bytes, trust: Trust, published: Checkpoint
) -> Receipt:
    """A receipt for an entry.

    Args:
        folder: has the tiles for the checkpoint.
        signed, signature: index and bytes of the signature leaf that closes the entry's batch.
        trust: the statement in force there.
        published: a checkpoint that covers the signature leaf.

    Raises:
        NotSound: the tiles do not lead to the checkpoint (step 7).
    """
    index, size = recorded.index, published.head.size
    reader = TileReader(folder, size)
    proof = inclusion_proof(reader.read, index, size)
    if root_from_inclusion(leaf_hash(recorded.raw), index, size, proof) != published.head.root:
        raise NotSound("the tiles do not lead to the checkpoint", step=7, hint="ledger doctor --rebuild")
    signed_proof = inclusion_proof(reader.read, index, signed)
    extra = Extra(recorded.raw, signature, signed_proof, trust.raw, trust.note.serial)
    return Receipt(extra, index, proof, published.raw)


def check(receipt: Receipt, owner: Verifier) -> Checked:
    """Checks a receipt with nothing but the owner's key.

    Raises:
        NotSound: what does not hold, and by which step.
    """
    extra, index = receipt.extra, receipt.proven
    trust = read_trust(extra.trust, owner, owner.name, extra.serial)
    try:
        published = Checkpoint.parse(receipt.checkpoint, trust.log)
    except Malformed as error:
        raise NotSound(f"the checkpoint does not hold: {error.what}", step=4) from None
    if published.origin != owner.name:
        raise NotSound("the checkpoint is of another log", step=4)
    leaf = leaf_hash(extra.entry)
    if root_from_inclusion(leaf, index, published.head.size, receipt.proof) != published.head.root:
        raise NotSound(f"entry {index} is not in the tree of the checkpoint", step=4)
    entry = decode(extra.entry)
    signed, count = _signed_head(extra.signature)
    if not signed.size - count <= index < signed.size <= published.head.size:
        raise NotSound("the signature is of another batch", step=5)
    author = batch.check(extra.signature, owner.name, signed, count, trust.authors_at(signed.size))
    if root_from_inclusion(leaf, index, signed.size, extra.proof) != signed.root:
        raise NotSound("the author signed another entry at this index", step=5)
    return Checked(index, entry, author.name, published.head)


def _signed_head(leaf: bytes) -> tuple[Head, int]:
    """Head and count that a signature leaf states; `batch.check` then compares the text whole."""
    try:
        lines = Note.parse(leaf).text.split("\n")
        size, _, root = lines[2].partition(" ")
        return Head.parse(size, root), int(lines[3])
    except (LedgerError, IndexError, ValueError):
        raise NotSound("a signature leaf is malformed", step=5) from None
