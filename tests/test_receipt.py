"""Receipts: an offline proof of one entry and its author, for who holds nothing but the owner's line."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from nacl.signing import VerifyKey

import ledger
from ledger import batch, checkpoint, govern, note
from ledger.checkpoint import Head
from ledger.merkle import Frontier, leaf_hash
from ledger.receipt import Receipt, check
from schemas.errors import CannotTell, Malformed, NotFound, NotSound, UsageError
from schemas.trust import TrustNote
from store.signers import Verifier
from tests.support.forge import key, new_key, parsed
from tests.support.machine import ORIGIN, Machine, Place, copied, new_ledger


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log, log.run("run") as run:
        run.append_many([ledger.Item(kind="artifact", content=str(n)) for n in range(20)])
        for number in range(5):
            run.artifact(f"alone {number}")
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


@pytest.fixture
def owner(place: Place) -> Verifier:
    return Verifier.parse(place.trust.owner)


def leaves(place: Place) -> list[bytes]:
    return [leaf for found in parsed(place.path) for leaf in found.leaves]


def entries(place: Place) -> list[int]:
    return [index for index, leaf in enumerate(leaves(place)) if leaf[:1] == b"{"]


def receipt(place: Place, index: int) -> Receipt:
    with ledger.open(place.path) as log:
        return log.receipt(index)


def refused(found: Receipt, owner: Verifier, *steps: int) -> None:
    with pytest.raises(NotSound) as raised:
        check(Receipt.parse(found.format()), owner)
    assert raised.value.step in steps, raised.value


def with_extra(found: Receipt, **changes: object) -> Receipt:
    return found._replace(extra=msgspec.structs.replace(found.extra, **changes))


# What holds


def test_every_entry_has_a_receipt_that_names_its_author(place: Place, owner: Verifier) -> None:
    every = leaves(place)
    for index in entries(place):
        found = Receipt.parse(receipt(place, index).format())
        checked = check(found, owner)
        assert (checked.index, checked.author, found.extra.entry) == (index, f"{ORIGIN}/main", every[index])


def test_a_receipt_holds_without_the_ledger_and_the_machine(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "receipt"
    file.write_bytes(receipt(place, 5).format())
    with Machine.under(tmp_path / "elsewhere").here():
        report = ledger.verify(file, trust=place.trust)
        assert report.sound
        assert report.what == "receipt"
        assert any("what the owner stated later" in what for what in report.unchecked)


def _walk(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """RFC 6962, 2.1.1, from the definition: the path is the sibling at each split, leaf upward."""
    if size == 1:
        assert not proof
        return leaf
    half = 1
    while half * 2 < size:
        half *= 2
    *rest, sibling = proof
    if index < half:
        return sha256(b"\1" + _walk(leaf, index, half, rest) + sibling).digest()
    return sha256(b"\1" + sibling + _walk(leaf, index - half, size - half, rest)).digest()


def test_an_independent_reader_of_tlog_proofs_accepts_it(place: Place) -> None:
    every, log = leaves(place), key("log").verifier
    for index in entries(place)[::4]:
        text = receipt(place, index).format().decode()
        found = re.fullmatch(
            r"c2sp\.org/tlog-proof@v1\n(?:extra ([A-Za-z0-9+/]+=*)\n)?index (0|[1-9][0-9]*)\n"
            r"((?:[A-Za-z0-9+/]{43}=\n)*)\n((?s:.*))",
            text,
        )
        assert found is not None
        assert int(found[2]) == index
        body, _, signature = found[4].partition("\n\n")
        origin, size, root = body.split("\n")
        assert origin == ORIGIN
        line = re.fullmatch(rf"— {re.escape(ORIGIN)} ([A-Za-z0-9+/]+=*)\n", signature)
        assert line is not None
        raw = base64.b64decode(line[1])
        assert raw[:4] == sha256(f"{ORIGIN}\n".encode() + b"\1" + log.public).digest()[:4]
        VerifyKey(log.public).verify(f"{body}\n".encode(), raw[4:])
        proof = [base64.b64decode(each) for each in found[3].splitlines()]
        leaf = sha256(b"\0" + every[index]).digest()
        assert _walk(leaf, index, int(size), proof) == base64.b64decode(root)
        assert base64.b64decode(json.loads(base64.b64decode(found[1]))["entry"]) == every[index]


def test_a_receipt_from_before_an_author_was_ended_holds(place: Place, owner: Verifier) -> None:
    with ledger.open(place.path) as log:
        _, path = govern.add_author(log, "ci")
    with ledger.open(place.path, signer=f"file:{path}") as log, log.run() as run:
        index = run.artifact("by ci").index
    before = receipt(place, index)
    with ledger.open(place.path) as log:
        govern.end_author(log, "ci")
    after = receipt(place, index)
    for found in (before, after):
        assert check(found, owner).author == f"{ORIGIN}/ci"


# What is cut, changed or swapped


def test_a_flipped_byte_is_never_accepted_as_something_else(place: Place, owner: Verifier) -> None:
    found = receipt(place, 7)
    data, right = found.format(), check(found, owner)
    for offset in range(0, len(data), 7):
        for mask in (1, 32, 128):
            changed = data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]
            try:
                other = Receipt.parse(changed)
                assert check(other, owner) == right
            except (NotSound, Malformed):
                continue
            assert other.extra == found.extra
            raise AssertionError(f"accepted with byte {offset} changed: {changed[max(0, offset - 20) : offset + 20]!r}")


def test_a_receipt_that_was_cut_or_grew_is_refused(place: Place, owner: Verifier) -> None:
    data = receipt(place, 7).format()
    for cut in range(0, len(data), 11):
        with pytest.raises((NotSound, Malformed)):
            check(Receipt.parse(data[:cut]), owner)
    for more in (b"\n", b"x", data):
        with pytest.raises((NotSound, Malformed)):
            check(Receipt.parse(data + more), owner)


def test_a_receipt_of_another_entry_is_refused(place: Place, owner: Verifier) -> None:
    one, other = receipt(place, 7), receipt(place, 8)
    refused(with_extra(one, entry=other.extra.entry), owner, 4)
    refused(one._replace(proven=8), owner, 4, 5)
    refused(one._replace(proof=other.proof), owner, 4)
    refused(with_extra(one, proof=other.extra.proof), owner, 5)


def test_an_entry_that_is_not_in_the_log_is_refused(place: Place, owner: Verifier) -> None:
    refused(with_extra(receipt(place, 7), entry=b'{"kind":"test.note"}'), owner, 4)


def test_a_signature_leaf_is_no_entry(place: Place, owner: Verifier) -> None:
    # Its place in the tree can be proven; it is not what a receipt speaks of.
    every = leaves(place)
    index = next(i for i, leaf in enumerate(every) if leaf[:1] != b"{")
    with ledger.open(place.path) as log, pytest.raises(NotFound):
        log.receipt(index)
    refused(with_extra(receipt(place, 7), entry=every[index])._replace(proven=index), owner, 3, 4)


@pytest.mark.parametrize("index", [-1, 10_000, 1 << 60])
def test_there_is_no_receipt_outside_of_the_log(place: Place, index: int) -> None:
    with ledger.open(place.path) as log, pytest.raises(NotFound):
        log.receipt(index)


CUTS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "shortened": lambda proof: proof[:-1],
    "begun later": lambda proof: proof[1:],
    "empty": lambda proof: [],
    "lengthened": lambda proof: [*proof, bytes(32)],
    "doubled": lambda proof: [*proof, proof[-1]],
    "turned around": lambda proof: proof[::-1],
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_changed_proof_is_refused(place: Place, owner: Verifier, cut: str) -> None:
    found = receipt(place, 7)
    refused(found._replace(proof=CUTS[cut](found.proof)), owner, 4)
    with pytest.raises(NotSound):
        check(with_extra(found, proof=CUTS[cut](found.extra.proof)), owner)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_proof_of_something_that_is_no_hash_is_refused(place: Place, owner: Verifier, length: int) -> None:
    found = receipt(place, 7)
    with pytest.raises((NotSound, Malformed)):
        check(Receipt.parse(found._replace(proof=[*found.proof[:-1], bytes(length)]).format()), owner)
    with pytest.raises((NotSound, Malformed)):
        check(Receipt.parse(with_extra(found, proof=[bytes(length)]).format()), owner)


# Other signers, other logs


def test_a_checkpoint_of_another_size_is_refused(place: Place, owner: Verifier) -> None:
    old = (place.path / "checkpoint").read_bytes()
    before = receipt(place, 7)
    with ledger.open(place.path) as log, log.run() as run:
        run.artifact("more")
    after = receipt(place, 7)
    assert after.checkpoint != old
    refused(before._replace(checkpoint=after.checkpoint), owner, 4)
    refused(after._replace(checkpoint=old), owner, 4)


@pytest.mark.parametrize("who", ["author", "owner", "stranger"])
def test_a_checkpoint_by_another_key_is_refused(place: Place, owner: Verifier, who: str) -> None:
    found = receipt(place, 7)
    head = check(found, owner).head
    signer = new_key(ORIGIN) if who == "stranger" else key(who)
    refused(found._replace(checkpoint=checkpoint.sign(ORIGIN, head, signer)), owner, 4)


def test_a_checkpoint_of_another_log_under_the_same_key_is_refused(place: Place, owner: Verifier) -> None:
    found = receipt(place, 7)
    head = check(found, owner).head
    refused(found._replace(checkpoint=checkpoint.sign("test.example/other", head, key("log"))), owner, 4)


def test_a_receipt_of_another_log_is_refused(place: Place, tmp_path: Path, owner: Verifier) -> None:
    other = new_ledger(tmp_path / "other")
    with other.machine.here():
        found = receipt(other, 0)
        assert check(found, Verifier.parse(other.trust.owner)).index == 0
    refused(found, owner, 5)
    refused(receipt(place, 0), Verifier.parse(other.trust.owner), 5)


def test_a_receipt_whose_parts_are_of_two_logs_is_refused(place: Place, tmp_path: Path, owner: Verifier) -> None:
    other = new_ledger(tmp_path / "other")
    with other.machine.here():
        theirs = receipt(other, 0)
    mine = receipt(place, 0)
    refused(mine._replace(checkpoint=theirs.checkpoint), owner, 4)
    refused(theirs._replace(checkpoint=mine.checkpoint), owner, 5)
    refused(with_extra(theirs, trust=mine.extra.trust), owner, 4)
    refused(with_extra(mine, signature=theirs.extra.signature), owner, 5)


def test_an_authors_signature_of_another_batch_is_refused(place: Place, owner: Verifier) -> None:
    one = receipt(place, 7)
    for index in entries(place):
        other = receipt(place, index)
        if other.extra.signature != one.extra.signature:
            refused(with_extra(one, signature=other.extra.signature), owner, 5)
            refused(with_extra(one, signature=other.extra.signature, proof=other.extra.proof), owner, 5)


@pytest.mark.parametrize("who", ["log", "owner", "mallory", "main"])
def test_a_signature_by_no_author_is_refused(place: Place, owner: Verifier, who: str) -> None:
    found = receipt(place, 7)
    signer = key(who) if who in ("log", "owner") else new_key(f"{ORIGIN}/{who}")
    text = note.Note.parse(found.extra.signature).text
    refused(with_extra(found, signature=note.sign(text, signer)), owner, 5)


def test_an_author_can_not_claim_an_entry_of_another_by_signing_another_tree(place: Place, owner: Verifier) -> None:
    # The author lies about the history before the entry; the tree of the log says otherwise.
    found = receipt(place, 7)
    frontier = Frontier()
    for number in range(8):
        frontier.append(leaf_hash(b"%d" % number))
    lie = batch.sign(ORIGIN, Head(8, frontier.root()), 1, key())
    refused(with_extra(found, signature=lie, proof=[bytes(32)] * 3), owner, 5)


@pytest.mark.parametrize("lines", ["", "x", "1 AAAA\n1\n", "agent-ledger/batch@v1\n"])
def test_a_malformed_signature_leaf_is_refused(place: Place, owner: Verifier, lines: str) -> None:
    refused(with_extra(receipt(place, 7), signature=lines.encode()), owner, 5)
    refused(with_extra(receipt(place, 7), signature=note.sign(lines + "\n", key())), owner, 5)


def test_a_statement_that_is_not_the_owners_is_refused(place: Place, owner: Verifier) -> None:
    found = receipt(place, 7)
    text = note.Note.parse(found.extra.trust.encode()).text
    for signer in (key(), key("log"), new_key(ORIGIN)):
        refused(with_extra(found, trust=note.sign(text, signer).decode()), owner, 5)
    refused(with_extra(found, serial=1), owner, 5)
    refused(with_extra(found, trust=""), owner, 5)


def test_a_statement_for_another_log_is_refused(place: Place, owner: Verifier) -> None:
    found = receipt(place, 7)
    other = msgspec.structs.replace(
        TrustNote.parse(note.Note.parse(found.extra.trust.encode()).text), origin="test.example/other"
    )
    refused(with_extra(found, trust=note.sign(other.format(), key("owner")).decode()), owner, 5)


def test_what_an_author_signed_after_his_end_is_refused(place: Place, owner: Verifier) -> None:
    # A thief of author's and log key; the reader is handed the statement that ends the author.
    with ledger.open(place.path) as log:
        _, path = govern.add_author(log, "ci")
        at = log.chain.state.size
    with ledger.open(place.path, signer=f"file:{path}") as log, log.run() as run:
        index = run.artifact("by the thief").index
    found = receipt(place, index)
    with ledger.open(place.path) as log:
        govern.end_author(log, "ci", at=at)
        state = log.chain.state.trusted()
    refused(with_extra(found, trust=state.raw, serial=state.note.serial), owner, 5)


# The file


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"{}",
        b"c2sp.org/tlog-proof@v1",
        b"c2sp.org/tlog-proof@v1\nindex 0\n\n",
        b"\xff" * 100,
        b"{" * 9999,
    ],
)
def test_what_is_no_receipt_is_refused(place: Place, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Malformed):
        Receipt.parse(data)
    file = tmp_path / "receipt"
    file.write_bytes(data)
    with suppress(UsageError):
        assert not ledger.verify(file, trust=place.trust).sound


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("index 7", "index 07"),
        lambda text: text.replace("index 7", "index +7"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("index 7\n", "index 7\n\n", 1),
        lambda text: text.replace("extra ", "extra  "),
        lambda text: re.sub(r"extra (.*)\nindex 7", r"index 7\nextra \1", text),
        lambda text: re.sub("extra .*\n", "", text),
    ],
)
def test_a_receipt_has_one_spelling(place: Place, owner: Verifier, change: Callable[[str], str]) -> None:
    text = receipt(place, 7).format().decode()
    assert change(text) != text
    with pytest.raises((Malformed, NotSound)):
        check(Receipt.parse(change(text).encode()), owner)


def test_unknown_members_of_what_is_extra_are_refused(place: Place) -> None:
    text = receipt(place, 7).format().decode()
    extra = re.search("extra (.*)\n", text)
    assert extra is not None
    grown = base64.b64encode(base64.b64decode(extra[1])[:-1] + b',"more":1}').decode()
    with pytest.raises(Malformed):
        Receipt.parse(text.replace(extra[1], grown).encode())


@pytest.mark.parametrize("origin", ["../../evil", "{here}/evil", "..", "evil"])
def test_a_receipt_does_not_say_where_its_trust_root_lies(place: Place, tmp_path: Path, origin: str) -> None:
    # The stranger who sends it sends a folder with his own trust root as well.
    name = origin.format(here=tmp_path)
    mallory = new_key(name)
    for folder in (tmp_path / "evil", tmp_path, place.machine.keys.parent / "evil"):
        folder.mkdir(exist_ok=True)
        (folder / "trust").write_text(mallory.verifier.vkey)
    found = receipt(place, 7)
    forged = found._replace(checkpoint=checkpoint.sign(name, Head(9, bytes(32)), mallory))
    file = tmp_path / "receipt"
    file.write_bytes(forged.format())
    with suppress(CannotTell):
        assert not ledger.verify(file).sound
