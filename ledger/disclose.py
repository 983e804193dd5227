"""Disclosing one content: its sealed blobs and the key of each, with the receipt of an entry that names it.

Each key opens its one blob and nothing else (docs/FORMAT.md, "Disclosure").
"""

from collections.abc import Callable, Iterator
from typing import Self

import msgspec

from ledger.log import Log, system_clock
from ledger.receipt import Checked, Receipt
from ledger.receipt import check as check_receipt
from schemas.entries import Disclosure as DisclosureEntry
from schemas.entries import references
from schemas.errors import Malformed, NotFound, NotSound
from schemas.ids import address, cid_of
from store import lists
from store.seal import Blob, cid, unseal_disclosed
from store.signers import Verifier

FORMAT = "agent-ledger/disclosure@v1"


class Disclosure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A content that leaves the ledger on purpose.

    Attributes:
        address: what is disclosed.
        objects: lists and sealed blobs that make it.
        keys: the key of each sealed blob, by its cid in hex.
        receipt: of an entry that names the address.
    """

    format: str
    address: str
    objects: list[bytes]
    keys: dict[str, bytes]
    receipt: str

    def encode(self) -> bytes:
        """Its bytes: one JSON object."""
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads a disclosure.

        Raises:
            Malformed: it is none.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Malformed("not a disclosure", hint="`ledger disclose ADDRESS` makes one") from None
        if found.format != FORMAT:
            raise Malformed(f"a disclosure of another version: {found.format[:60]!r}")
        return found

    def pieces(self) -> Iterator[bytes]:
        """What is disclosed, its blobs checked against the address: no more than a piece is in memory.

        Raises:
            NotSound: a blob is missing, changed, or does not open, or it is over 4 GiB (steps 6 and 10).
        """

        def open(blob: bytes, data: bytes) -> bytes:
            return unseal_disclosed(self.keys.get(blob.hex(), bytes(32)), data)

        length = 0
        for piece in lists.opened(cid_of(self.address), _reader(self.objects), open):
            length += len(piece)
            if length > lists.MAX_CONTENT:
                raise NotSound(f"{self.address} is over 4 GiB", step=10)
            yield piece


def _reader(objects: list[bytes]) -> Callable[[bytes], bytes]:
    by_cid = {cid(data): data for data in objects}

    def read(blob: bytes) -> bytes:
        if blob not in by_cid:
            raise NotSound(f"the disclosure lacks {address(blob)}", step=6)
        return by_cid[blob]

    return read


def disclose(log: Log, text: str) -> Disclosure:
    """Hands out one content. That it was is recorded first.

    Raises:
        NotFound: no entry names the address.
        CannotTell, Erased, Missing: it can't be read here.
    """
    log.catch_up_places()
    wanted = cid_of(text)
    found = next((r for r in log.entries() if wanted in references(r.entry, r.raw)), None)
    if found is None:
        raise NotFound(f"no entry names {text}", hint="`ledger show` prints addresses that entries name")
    objects, keys = _collect(log, wanted)
    log.append_statements([DisclosureEntry(v=1, time=system_clock(), content=text)], [])
    receipt = log.receipt(found.index).format().decode()
    return Disclosure(FORMAT, text, list(objects.values()), keys, receipt)


def _collect(log: Log, wanted: bytes) -> tuple[dict[bytes, bytes], dict[str, bytes]]:
    """The objects of a content by cid, and the key of each sealed blob among them."""
    objects: dict[bytes, bytes] = {}
    keys: dict[str, bytes] = {}

    def read(blob: bytes) -> bytes:
        if blob not in objects:
            objects[blob] = log.blobs.get(blob)
        return objects[blob]

    for blob, data in lists.leaves(wanted, read):
        if blob.hex() not in keys:
            parts = Blob.parse(data)
            keys[blob.hex()] = log.blobs.keyring.open(parts.key_id).blob_key(parts.header, parts.siv)
    return objects, keys


def check(disclosure: Disclosure, owner: Verifier) -> tuple[Checked, int]:
    """Checks a disclosure with nothing but the owner's key.

    Returns:
        What its receipt proves, and how many bytes the content has.

    Raises:
        NotSound: what does not hold, and by which step.
        Malformed: the receipt inside is none.
    """
    checked = check_receipt(Receipt.parse(disclosure.receipt.encode()), owner)
    entry = Receipt.parse(disclosure.receipt.encode()).extra.entry
    if cid_of(disclosure.address) not in references(checked.entry, entry):
        raise NotSound("the entry does not name what is disclosed", step=6)
    return checked, sum(map(len, disclosure.pieces()))
