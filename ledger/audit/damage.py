"""Names the place of a damage: which blob or entry of a pack is not what it was."""

from ledger import tiles
from ledger.merkle import leaf_hash
from ledger.state import describe
from schemas.entries import Known, Uninterpreted, decode, references
from schemas.errors import LedgerError, NotSound
from schemas.ids import address
from store import pack
from store.folder import Folder
from store.seal import cid


def locate(folder: Folder, number: int, data: bytes, published: int, error: NotSound) -> NotSound:
    """The same error, as precise as what is left allows.

    Args:
        published: size of the tree whose tiles are there to compare with; they are only asked, not trusted.
    """
    where = f"pack {number}"
    try:
        found = pack.take_apart(data)
    except NotSound as structure:
        return NotSound(f"{where}: {structure.what}", step=structure.step)
    offsets = pack.offsets(found)
    for position, (blob, sealed) in enumerate(zip(found.cids, found.blobs, strict=True)):
        if cid(sealed) != blob:
            owner = _referrer(found, blob) or address(blob)
            return NotSound(f"{where}, offset {offsets[position]:,}: content of {owner} changed", step=error.step)
    reader = tiles.TileReader(folder, published)
    for position, leaf in enumerate(found.leaves):
        index = found.size + position
        if index >= published:
            break
        try:
            if reader.read(0, index) == leaf_hash(leaf):
                continue
            before = reader.leaf(index)
        except (LedgerError, IndexError):
            continue
        offset = offsets[len(found.blobs) + position]
        return NotSound(f"{where}, offset {offset:,}: {_name(index, before)} changed", step=error.step)
    return NotSound(f"{where}: {error.what}", step=error.step)


def _name(index: int, leaf: bytes) -> str:
    try:
        return describe(index, decode(leaf))
    except NotSound:
        return f"leaf {index} (a signature)"


def _referrer(found: pack.Pack, blob: bytes) -> str | None:
    for position, leaf in enumerate(found.leaves):
        try:
            entry: Known | Uninterpreted = decode(leaf)
            if blob in references(entry, leaf):
                return describe(found.size + position, entry)
        except NotSound:
            continue
    return None
