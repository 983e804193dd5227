"""What is proven of a log, pack by pack: steps 2 to 5 of verify as one pure function.

Writers build only on a state that was proven so; the auditor's workers prove spans of packs with the same
function. What breaks the hash chain or a signature ends the proof. What a trusted author wrote against the
rules does not, or one author could stop the log for all: it is listed, and an audit fails by it.
"""

from hashlib import sha256
from typing import NamedTuple

import msgspec

from ledger import batch
from ledger.checkpoint import Head
from ledger.merkle import Frontier
from ledger.trust import Keys, Trust, read_keys, read_trust
from policies import sshsig
from policies.history import History
from policies.requests import Told
from schemas.entries import (
    Approval,
    ApprovalBreakGlass,
    KeysChanged,
    Known,
    TrustChanged,
    Uninterpreted,
    decode,
    kind_of,
)
from schemas.errors import Malformed, NotSound
from store.pack import FIRST, Pack, offsets
from store.signers import Verifier


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An entry in its place."""

    index: int
    entry: Known | Uninterpreted
    raw: bytes

    def describe(self) -> str:
        """`entry 519 (artifact, run c41f9e02)`."""
        return describe(self.index, self.entry)


class Batch(msgspec.Struct, frozen=True, gc=False):
    """A signature leaf in its place: whose key signed, and how many entries."""

    index: int
    vkey: str
    count: int


class Problem(msgspec.Struct, frozen=True, gc=False):
    """A rule that an entry breaks, though it is validly signed."""

    step: int
    index: int
    what: str


class Proven(NamedTuple):
    """A pack that continues the log.

    Attributes:
        hashes: of its leaves.
        nodes: hashes of complete subtrees of 256, 65,536, … leaves that end in it, with their level.
        told: what the fold of its entries must be told.
    """

    pack: Pack
    hashes: list[bytes]
    nodes: list[tuple[int, bytes]]
    entries: list[Recorded]
    batches: list[Batch]
    problems: list[Problem]
    told: Told


class State:
    """A log up to a number of packs.

    Attributes:
        origin: the log's name.
        owner: the key that the reader trusts.
        packs: how many are proven.
        frontier: the tree over their leaves.
        trailer: of the last pack.
        trust, keys: the owner's statements in force; None before the first pack.
        history: open runs; folded by who needs it (`Proven` leaves it alone).
    """

    def __init__(self, owner: Verifier) -> None:
        self.origin = owner.name
        self.owner = owner
        self.packs = 0
        self.frontier = Frontier()
        self.trailer = FIRST
        self.trust: Trust | None = None
        self.keys: Keys | None = None
        self.history = History(origin=owner.name)

    def copy(self) -> "State":
        """Another state to try a pack on; the history is shared."""
        found = State(self.owner)
        found.packs, found.frontier, found.trailer = self.packs, self.frontier, self.trailer
        found.trust, found.keys, found.history = self.trust, self.keys, self.history
        return found

    @property
    def size(self) -> int:
        """Leaves."""
        return self.frontier.size

    @property
    def head(self) -> Head:
        """Size and root."""
        frontier = self.frontier
        return Head(frontier.size, frontier.root())

    def trusted(self) -> Trust:
        """The statement of trust in force.

        Raises:
            NotSound: there is none, so the log is empty (step 5).
        """
        if self.trust is None:
            raise NotSound("the log does not begin with its owner's statement of trust", step=5)
        return self.trust

    def readable(self) -> Keys:
        """The statement of keys in force.

        Raises:
            NotSound: there is none (step 5).
        """
        if self.keys is None:
            raise NotSound("the log has no statement of keys by its owner", step=5)
        return self.keys

    def prove(self, pack: Pack, made: batch.Made | None = None) -> Proven:
        """Takes in the next pack, or leaves the state as it was and raises.

        Args:
            made: the signature leaf of a pack that this process is about to create.

        Raises:
            NotSound: the pack does not continue this log (steps 2 to 5), naming the place.
        """
        self._check_links(pack)
        frontier = self.frontier.copy()
        trust, keys = self.trust, self.keys
        entries: list[Recorded] = []
        batches: list[Batch] = []
        problems: list[Problem] = []
        told = Told.nothing()
        hashes = [sha256(b"\x00" + raw).digest() for raw in pack.leaves]
        nodes: list[tuple[int, bytes]] = []
        signed, first = -1, pack.size
        for position, raw in enumerate(pack.leaves):
            index = first + position
            if raw[:1] == b"{":
                try:
                    recorded = Recorded(index, decode(raw), raw)
                except NotSound:
                    recorded, problem = read(index, raw)
                    problems += [problem] if problem else []
                entries.append(recorded)
                if type(recorded.entry) in _STATEMENTS:
                    try:
                        trust, keys = self._statement(index, recorded.entry, trust, keys, told)
                    except NotSound as error:
                        problems.append(Problem(error.step, index, error.what))
                if trust is None:
                    raise NotSound("pack 0: entry 0 is not its owner's statement of trust", step=5)
                continue
            if trust is None or position - signed < 2:
                raise at(pack, position, NotSound("a signature leaf signs no entry", step=5))
            nodes += frontier.extend(hashes[max(0, signed) : position])
            try:
                count = position - signed - 1
                head = Head(index, frontier.root())
                author = batch.check(raw, self.origin, head, count, trust.authors_at(index), made)
            except NotSound as error:
                raise at(pack, position, error) from None
            batches.append(Batch(index, author.vkey, count))
            signed = position
        if signed != len(pack.leaves) - 1:
            raise NotSound(f"pack {pack.number}: its last entries are not signed", step=5)
        nodes += frontier.extend(hashes[signed:])
        self.trust, self.keys, self.frontier = trust, keys, frontier
        self.packs, self.trailer = pack.number + 1, pack.trailer
        return Proven(pack, hashes, sorted(nodes, key=_level), entries, batches, problems, told)

    def tell(self, index: int, entry: Known) -> None:
        """Takes in an entry that is to be committed next: what the owner states in it, or an approver signed.

        Raises:
            NotSound: it does not hold (steps 5 and 11).
        """
        if type(entry) in _STATEMENTS:
            self.trust, self.keys = self._statement(index, entry, self.trust, self.keys, self.history.told)

    def _statement(
        self, index: int, entry: Known | Uninterpreted, trust: Trust | None, keys: Keys | None, told: Told
    ) -> tuple[Trust | None, Keys | None]:
        """Takes in what the owner states, and checks what an approver signed."""
        if isinstance(entry, TrustChanged):
            serial, log = (trust.note.serial + 1, trust.note.log) if trust else (0, "")
            trust = read_trust(entry.note, self.owner, self.origin, serial, log)
            told.approvers[index] = trust.note.approvers
            return trust, keys
        if isinstance(entry, KeysChanged):
            found = read_keys(entry.note, self.owner, self.origin, keys.note.serial + 1 if keys else 0)
            if found.note.root not in ((keys.note.root, keys.note.root + 1) if keys else (0,)):
                raise NotSound("a statement of keys leaves out a root", step=5)
            return trust, found
        if isinstance(entry, Approval | ApprovalBreakGlass):
            told.signers[index] = signer_of(entry, index, trust)
        return trust, keys

    def check_number(self, pack: Pack) -> None:
        """Refuses a pack that is not the next by its number (step 2)."""
        if pack.number != self.packs:
            raise NotSound(f"pack {self.packs}: bears number {pack.number}: put in place of another", step=2)

    def _check_links(self, pack: Pack) -> None:
        self.check_number(pack)
        where = f"pack {self.packs}"
        if pack.previous != self.trailer:
            raise NotSound(f"{where}: does not link to the pack before it", step=2)
        if pack.size != self.frontier.size or pack.frontier != tuple(self.frontier.hashes):
            raise NotSound(f"{where}: states another tree before it than the packs make", step=4)


_STATEMENTS = frozenset((TrustChanged, KeysChanged, Approval, ApprovalBreakGlass))


def _level(node: tuple[int, bytes]) -> int:
    return node[0]


def read(index: int, raw: bytes) -> tuple[Recorded, Problem | None]:
    """An entry in its place; what a trusted author spelled wrong is kept uninterpreted, and said."""
    try:
        return Recorded(index, decode(raw), raw), None
    except NotSound as error:
        return Recorded(index, Uninterpreted("malformed", {}), raw), Problem(3, index, error.what)


def check_approval(entry: Approval | ApprovalBreakGlass, index: int, trust: Trust | None) -> str:
    """The name of the approver who signed.

    Raises:
        NotSound: nobody who may approve at this index did (step 11).
    """
    key = signer_of(entry, index, trust)
    return trust.approvers_at(index)[key] if trust else ""


def signer_of(entry: Approval | ApprovalBreakGlass, index: int, trust: Trust | None) -> str:
    """The SSH key of the approver who signed.

    Raises:
        NotSound: nobody who may approve at this index did (step 11).
    """
    import base64

    try:
        blob = base64.b64decode(entry.signature, validate=True)
        if base64.b64encode(blob).decode() != entry.signature:
            raise Malformed("its base64 has another spelling")
        approvers = trust.approvers_at(index) if trust else {}
        return sshsig.verify(blob, bytes.fromhex(entry.sha512), list(approvers))
    except ValueError:
        raise NotSound("an approval's signature is not in base64", step=11) from None
    except Malformed as error:
        raise NotSound(f"an approval does not hold: {error.what}", step=11, hint=error.hint) from None


def at(pack: Pack, position: int, error: NotSound) -> NotSound:
    """The same error, naming pack and offset of a leaf."""
    offset = offsets(pack)[len(pack.blobs) + position]
    return NotSound(f"pack {pack.number}, offset {offset:,}: {error.what}", step=error.step, hint=error.hint)


def describe(index: int, entry: Known | Uninterpreted) -> str:
    """`entry 519 (artifact, run c41f9e02)`."""
    run = f", run {entry.run[-8:]}" if entry.run else ""
    return f"entry {index} ({kind_of(entry)}{run})"
