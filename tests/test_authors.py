"""Who may write: batches hold at one place of one log, and only the owner says whose they may be.

The attacker holds the storage and, where a test says so, an author's or the log's key. Both verifiers judge
every case, and must agree (`tests.support.verdicts`).
"""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pyrage
import pytest

import ledger
from ledger import checkpoint, govern, homes, note
from ledger.checkpoint import Head
from ledger.erase import erase
from ledger.log import system_clock
from ledger.merkle import Frontier, leaf_hash
from schemas.entries import KeysChanged, Known, RunFinished, RunStarted, TrustChanged, encode
from schemas.errors import Ambiguous, KeyUnusable, LedgerError, NotFound, NotSound, UsageError
from schemas.trust import Author, KeysNote, TrustNote
from store import secrets
from store.seal import seal
from store.signers import Signer, Verifier
from tests.support.forge import Forger, drop_derived, key, new_key, parsed
from tests.support.machine import ORIGIN, Place, copied, new_ledger
from tests.support.verdicts import judged, sound, unsound

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        with log.run("first") as run:
            run.prompt("asked")
            run.append_many([ledger.Item(kind="artifact", content=str(n)) for n in range(3)])
        log.run("second").artifact("more")
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


def is_sound(place: Place) -> list[str]:
    return sound(place.path, place.trust.owner).remarks


def is_refused(place: Place, *steps: int) -> str:
    return unsound(place.path, place.trust.owner, *steps).findings[0].what


def grows(place: Place) -> None:
    """An honest writer goes on."""
    with ledger.open(place.path) as log, log.run("after") as run:
        assert log.read(run.artifact("still written").address) == b"still written"


# Batches


def test_a_forged_pack_with_all_its_parts_right_is_sound(place: Place) -> None:
    Forger(place.path).entries(3).sign(key()).commit().entries().sign(key()).commit()
    is_sound(place)
    grows(place)


def test_a_batch_replayed_at_the_end_is_refused(place: Place) -> None:
    forger = Forger(place.path)
    forger.leaf(*forger.old[3].leaves).commit()
    assert "another place" in is_refused(place, 5)


def test_a_replayed_batch_of_a_pack_is_not_built_upon(place: Place) -> None:
    forger = Forger(place.path)
    forger.leaf(*forger.old[3].leaves).commit()
    with pytest.raises(NotSound, match="another place"):
        ledger.open(place.path)


def test_a_batch_moved_before_another_is_refused(place: Place) -> None:
    forger = Forger(place.path, keep=2)
    for number in (3, 2, 4, 5):
        forger.again(forger.old[number])
    is_refused(place, 5)


def test_a_batch_left_out_of_the_middle_is_refused(place: Place) -> None:
    forger = Forger(place.path, keep=2)
    for found in forger.old[3:]:
        forger.again(found)
    is_refused(place, 5)


def test_entries_reordered_within_a_batch_are_refused(place: Place) -> None:
    number = next(found.number for found in parsed(place.path) if len(found.leaves) == 4)
    forger = Forger(place.path, keep=number)
    first, second, *rest = forger.old[number].leaves
    forger.again(forger.old[number], [second, first, *rest])
    is_refused(place, 5)


def test_a_batch_spliced_from_two_is_refused(place: Place) -> None:
    forger = Forger(place.path, keep=3)
    one, other = forger.old[3].leaves, forger.old[4].leaves
    forger.leaf(*one[:-1], *other[:-1], other[-1]).commit()
    is_refused(place, 5)


def test_a_batch_of_another_log_of_the_same_author_name_is_refused(place: Place, tmp_path: Path) -> None:
    other = new_ledger(tmp_path / "other")
    forger = Forger(place.path)
    forger.leaf(*parsed(other.path)[0].leaves[1:]).commit()
    is_refused(place, 5)


def test_a_batch_signed_for_another_origin_is_refused(place: Place) -> None:
    Forger(place.path).entries().sign(key(), origin="test.example/other").commit()
    is_refused(place, 5)


@pytest.mark.parametrize("name", ["mallory", "main"])
def test_entries_signed_again_by_an_untrusted_key_are_refused(place: Place, name: str) -> None:
    forger = Forger(place.path, keep=5)
    forger.leaf(*forger.old[5].leaves[:-1]).sign(new_key(f"{ORIGIN}/{name}")).commit()
    assert "no author who is trusted" in is_refused(place, 5)


def test_a_strangers_key_with_a_trusted_key_id_is_refused(place: Place) -> None:
    # Key ids have 32 bits and can be found by trying; the line then names a known key, and fails.
    forger = Forger(place.path).entries()
    mine = new_key(f"{ORIGIN}/main")
    text = note.Note.parse(forger.signature(mine)).text
    forged = f"{text}\n{note.line_of(key().verifier, mine.sign(text.encode()))}".encode()
    forger.leaf(forged).commit()
    is_refused(place, 5)


@pytest.mark.parametrize("wrong", [-1, 1, 1 << 40])
def test_a_wrong_count_is_refused(place: Place, wrong: int) -> None:
    Forger(place.path).entries(2).sign(key(), count=2 + wrong).commit()
    is_refused(place, 5)


@pytest.mark.parametrize("count", ["02", "+2", " 2", "2.0", "²"])
def test_a_count_in_another_spelling_is_refused(place: Place, count: str) -> None:
    forger = Forger(place.path).entries(2)
    text = note.Note.parse(forger.signature(key())).text.removesuffix("2\n") + count + "\n"
    forger.leaf(note.sign(text, key())).commit()
    is_refused(place, 5)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_signature_over_another_size_is_refused(place: Place, shift: int) -> None:
    forger = Forger(place.path).entries(2)
    forger.sign(key(), head=Head(forger.size + shift, forger.frontier.root())).commit()
    is_refused(place, 5)


def test_a_signature_over_another_history_is_refused(place: Place) -> None:
    forger = Forger(place.path).entries(2)
    forger.sign(key(), head=Head(forger.size, bytes(32))).commit()
    is_refused(place, 5)


def test_the_log_key_signs_no_batch(place: Place) -> None:
    Forger(place.path).entries().sign(key("log")).commit()
    is_refused(place, 5)


def test_the_owner_key_signs_no_batch(place: Place) -> None:
    Forger(place.path).entries().sign(key("owner")).commit()
    is_refused(place, 5)


def test_an_entry_that_claims_what_a_signature_leaf_says_is_an_entry(place: Place) -> None:
    forger = Forger(place.path).entries()
    text = note.Note.parse(forger.signature(key())).text
    forger.leaf(b'{"kind":"test.note","text":"' + base64.b64encode(text.encode()) + b'"}').sign(key()).commit()
    is_sound(place)


def test_an_unsigned_entry_at_the_end_of_a_pack_is_refused(place: Place) -> None:
    Forger(place.path).entries(2).sign(key()).entries().commit()
    is_refused(place, 2, 3, 5)


def test_a_pack_without_a_signature_is_refused(place: Place) -> None:
    Forger(place.path).entries(3).commit()
    is_refused(place, 2, 3, 5)


def test_a_leaf_that_is_neither_entry_nor_note_is_refused(place: Place) -> None:
    Forger(place.path).entries().leaf(b"agent-ledger/batch@v1").commit()
    is_refused(place, 3, 5)


def test_two_signature_leaves_in_a_row_are_refused(place: Place) -> None:
    Forger(place.path).entries().sign(key()).sign(key(), count=0).commit()
    is_refused(place, 3, 5)


def test_a_pack_of_only_signatures_is_refused(place: Place) -> None:
    Forger(place.path).sign(key(), count=0).sign(key(), count=0).commit()
    is_refused(place, 3, 5)


def test_a_pack_of_one_leaf_is_refused(place: Place) -> None:
    Forger(place.path).sign(key(), count=1).commit()
    is_refused(place, 2)


def _with_lines(place: Place, *lines: str) -> None:
    """A pack whose signature leaf bears more lines."""
    forger = Forger(place.path).entries()
    forger.leaf(forger.signature(key()) + "".join(lines).encode()).commit()


def _grease() -> list[str]:
    """Lines as C2SP has them come: witnesses, and algorithms that nobody knows yet."""
    grease = [note.line_of(new_key(name).verifier, b"x" * n) for n, name in enumerate(("a", "witness.example", "ü"), 1)]
    return [*grease, note.line_of(new_key(ORIGIN).verifier, b"x" * 64)]


def test_more_signature_lines_are_refused_in_a_batch(place: Place) -> None:
    # The last leaf is covered by nothing later: whoever holds the storage could add them.
    for position, line in enumerate([*_grease(), note.line_of(new_key(f"{ORIGIN}/main").verifier, b"x" * 64)]):
        other = copied(place, place.path.parent.parent / f"{position}")
        _with_lines(other, line)
        is_refused(other, 3, 5)


def test_a_signature_line_twice_is_refused_in_a_batch(place: Place) -> None:
    forger = Forger(place.path).entries()
    signed = forger.signature(key())
    forger.leaf(signed + signed.rpartition(b"\n\n")[2]).commit()
    is_refused(place, 3, 5)


def test_more_signature_lines_are_tolerated_in_checkpoints(place: Place) -> None:
    file = place.path / "checkpoint"
    file.write_bytes(file.read_bytes() + "".join(_grease()).encode())
    _embed(place, checkpoint.sign(ORIGIN, _roots(place.path)[3], key("log")) + "".join(_grease()).encode())
    is_sound(place)
    grows(place)


def test_more_signature_lines_are_tolerated_in_statements(place: Place) -> None:
    trust, _ = _state(place)
    signed = note.sign(_changed(trust, serial=1).format(), key("owner")) + "".join(_grease()).encode()
    Forger(place.path).leaf(_trust_entry(signed)).sign(key()).commit()
    is_sound(place)
    grows(place)


def test_a_failing_line_of_the_log_key_is_refused_in_a_checkpoint(place: Place) -> None:
    file = place.path / "checkpoint"
    text, _, lines = file.read_text().rpartition("\n\n")
    file.write_text(f"{text}\n\n{note.line_of(key('log').verifier, bytes(64))}{lines}")
    is_refused(place, 4)


def test_a_failing_signature_of_a_known_key_is_refused(place: Place) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
    _with_lines(place, note.line_of(key("ci").verifier, bytes(64)))
    is_refused(place, 5)


def test_a_failing_signature_before_the_right_one_of_the_same_key_is_refused(place: Place) -> None:
    forger = Forger(place.path).entries()
    text, _, line = forger.signature(key()).decode().rpartition("\n\n")
    forger.leaf(f"{text}\n\n{note.line_of(key().verifier, bytes(64))}{line}".encode()).commit()
    is_refused(place, 5)


def test_a_signature_of_another_length_by_a_known_key_is_refused(place: Place) -> None:
    forger = Forger(place.path).entries()
    text = note.Note.parse(forger.signature(key())).text
    line = note.line_of(key().verifier, key().sign(text.encode()) + b"\0")
    forger.leaf(f"{text}\n{line}".encode()).commit()
    is_refused(place, 5)


@pytest.mark.parametrize("count", [99, 100])
def test_no_more_than_a_hundred_signature_lines(place: Place, count: int) -> None:
    file = place.path / "checkpoint"
    file.write_bytes(file.read_bytes() + "".join(_grease()[:1] * count).encode())
    if count == 99:
        is_sound(place)
    else:
        is_refused(place, 4)


@pytest.mark.parametrize("line", ["", "\n", "— a AAAAAAA\n", "- a AAAAAAAA\n", "— a+b AAAAAAAA\n", "— a AAAAAA==\n"])
def test_a_malformed_signature_line_is_refused(place: Place, line: str) -> None:
    if line:
        _with_lines(place, line)
    else:
        forger = Forger(place.path).entries()
        forger.leaf(forger.signature(key())[:-1]).commit()
    is_refused(place, 3, 5)


def _other_spelling(signature: bytes) -> bytes:
    """The same bytes in base64 whose unused bits are not zero."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    assert signature.endswith(b"=\n")
    assert not signature.endswith(b"==\n")
    last = alphabet.index(signature[-3])
    assert last & 3 == 0
    return signature[:-3] + alphabet[last + 1 : last + 2] + b"=\n"


def test_base64_in_another_spelling_is_refused_in_a_batch(place: Place) -> None:
    forger = Forger(place.path).entries()
    forger.leaf(_other_spelling(forger.signature(key()))).commit()
    is_refused(place, 3, 5)


def test_base64_in_another_spelling_is_refused_in_the_checkpoint(place: Place) -> None:
    found = place.path / "checkpoint"
    found.write_bytes(_other_spelling(found.read_bytes()))
    is_refused(place, 4)


# Links and heads


def _header(place: Place, **changes: object) -> Place:
    """The last pack again, its header changed, its trailer right."""
    last = len(parsed(place.path)) - 1
    forger = Forger(place.path, keep=last)
    forger.again(forger.old[last], None, **changes)
    return place


def test_a_changed_frontier_with_a_valid_trailer_is_refused(place: Place) -> None:
    frontier = list(parsed(place.path)[-1].frontier)
    frontier[0] = bytes(32)
    is_refused(_header(place, frontier=frontier), 4)


def test_a_frontier_in_another_order_is_refused(place: Place) -> None:
    frontier = list(parsed(place.path)[-1].frontier)
    assert len(frontier) > 1
    is_refused(_header(place, frontier=frontier[::-1]), 4)


def test_a_changed_size_with_a_valid_trailer_is_refused(place: Place) -> None:
    found = parsed(place.path)[-1]
    other = next(n for n in range(found.size + 1, 99) if n.bit_count() == found.size.bit_count())
    is_refused(_header(place, size=other), 4)


def test_a_changed_link_with_all_trailers_recomputed_is_refused(place: Place) -> None:
    packs = parsed(place.path)
    forger = Forger(place.path, keep=3)
    forger.again(packs[3], None, previous=packs[1].trailer)
    for found in packs[4:]:
        forger.again(found)
    is_refused(place, 2)


def test_a_pack_with_another_number_is_refused(place: Place) -> None:
    is_refused(_header(place, number=99), 2)


def test_a_first_pack_that_begins_somewhere_else_is_refused(place: Place) -> None:
    packs = parsed(place.path)
    forger = Forger(place.path, keep=0)
    forger.again(packs[0], None, previous=packs[3].trailer)
    for found in packs[1:]:
        forger.again(found)
    is_refused(place, 2)


def test_another_salt_changes_nothing_that_was_signed_but_the_pins_notice(place: Place) -> None:
    with ledger.open(place.path):
        pass
    is_sound(_header(place, salt=bytes(16)))
    with pytest.raises(ledger.LedgerError, match="contradicts"):
        ledger.open(place.path)


def _roots(path: Path) -> list[Head]:
    """Heads at the ends of packs, the empty one first."""
    frontier, found = Frontier(), [Head(0, Frontier().root())]
    for each in parsed(path):
        for leaf in each.leaves:
            frontier.append(leaf_hash(leaf))
        found.append(Head(frontier.size, frontier.root()))
    return found


def _embed(place: Place, *checkpoints: bytes) -> Place:
    forger = Forger(place.path)
    for embedded in checkpoints:
        forger.entries().sign(key()).commit(checkpoint=embedded)
    return place


def test_a_true_embedded_checkpoint_is_sound(place: Place) -> None:
    for head in _roots(place.path):
        _embed(place, checkpoint.sign(ORIGIN, head, key("log")))
    is_sound(place)


def test_a_false_embedded_checkpoint_is_refused(place: Place) -> None:
    head = _roots(place.path)[3]
    is_refused(_embed(place, checkpoint.sign(ORIGIN, Head(head.size, bytes(32)), key("log"))), 4)


@pytest.mark.parametrize("false_first", [True, False])
def test_a_false_embedded_checkpoint_beside_a_true_one_of_its_size_is_refused(place: Place, false_first: bool) -> None:
    # Two heads of one size under one log key: the very proof of a fork.
    head = _roots(place.path)[3]
    both = [checkpoint.sign(ORIGIN, h, key("log")) for h in (Head(head.size, bytes(32)), head)]
    is_refused(_embed(place, *(both if false_first else both[::-1])), 4)


def test_a_false_embedded_checkpoint_of_no_leaves_is_refused(place: Place) -> None:
    is_refused(_embed(place, checkpoint.sign(ORIGIN, Head(0, bytes(32)), key("log"))), 4)


@pytest.mark.parametrize("who", ["author", "owner"])
def test_an_embedded_checkpoint_by_another_key_is_refused(place: Place, who: str) -> None:
    is_refused(_embed(place, checkpoint.sign(ORIGIN, _roots(place.path)[3], key(who))), 4)


def test_an_embedded_checkpoint_of_a_stranger_is_refused(place: Place) -> None:
    is_refused(_embed(place, checkpoint.sign(ORIGIN, _roots(place.path)[3], new_key(ORIGIN))), 4)


def test_an_embedded_checkpoint_of_another_origin_is_refused(place: Place) -> None:
    is_refused(_embed(place, checkpoint.sign("test.example/other", _roots(place.path)[3], key("log"))), 4)


def test_a_published_checkpoint_of_another_origin_is_refused(place: Place) -> None:
    (place.path / "checkpoint").write_bytes(checkpoint.sign("test.example/other", _roots(place.path)[-1], key("log")))
    is_refused(place, 4)


def test_an_embedded_checkpoint_in_the_middle_of_a_pack_is_refused(place: Place) -> None:
    heads = _roots(place.path)
    size = next(head.size + 1 for head in heads if head.size + 1 not in {h.size for h in heads})
    is_refused(_embed(place, checkpoint.sign(ORIGIN, Head(size, bytes(32)), key("log"))), 4)


def test_an_embedded_checkpoint_larger_than_its_tree_is_refused(place: Place) -> None:
    forger = Forger(place.path).entries().sign(key())
    own = checkpoint.sign(ORIGIN, Head(forger.size, forger.frontier.root()), key("log"))
    forger.commit(checkpoint=own).entries().sign(key()).commit()
    is_refused(place, 4)


def test_an_embedded_checkpoint_that_is_garbage_is_refused(place: Place) -> None:
    is_refused(_embed(place, b"garbage"), 4)


def test_a_published_checkpoint_between_packs_is_refused(place: Place) -> None:
    forger = Forger(place.path).entries(4).sign(key())
    inner = forger.before.size + 2
    frontier = forger.before.copy()
    for leaf in forger.leaves[:2]:
        frontier.append(leaf_hash(leaf))
    forger.commit()
    drop_derived(place.path)
    (place.path / "checkpoint").write_bytes(checkpoint.sign(ORIGIN, Head(inner, frontier.root()), key("log")))
    is_refused(place, 4, 7)


# The owner's statements


def _state(place: Place) -> tuple[TrustNote, KeysNote]:
    with ledger.open(place.path) as log:
        return log.chain.state.trusted().note, log.chain.state.readable().note


def _trust_entry(signed: bytes) -> bytes:
    return encode(TrustChanged(v=1, time=system_clock(), note=signed.decode()))


def _keys_entry(signed: bytes) -> bytes:
    return encode(KeysChanged(v=1, time=system_clock(), note=signed.decode()))


def _old_statements(place: Place) -> list[bytes]:
    return [leaf for found in parsed(place.path) for leaf in found.leaves if b".changed" in leaf[:30]]


def _changed(statement: TrustNote, **changes: object) -> TrustNote:
    return msgspec.structs.replace(statement, **changes)


def as_author(log: str) -> str:
    """The log's key under an author's name."""
    return Verifier(f"{ORIGIN}/ci", Verifier.parse(log).public).vkey


BAD_STATEMENTS: dict[str, Callable[[TrustNote, Signer], tuple[TrustNote, Signer]]] = {
    "a skipped serial": lambda t, o: (_changed(t, serial=2), o),
    "the same serial": lambda t, o: (t, o),
    "another origin": lambda t, o: (_changed(t, serial=1, origin="test.example/other"), o),
    "signed by an author": lambda t, o: (_changed(t, serial=1), key()),
    "signed by the log key": lambda t, o: (_changed(t, serial=1), key("log")),
    "signed by a stranger of the owner's name": lambda t, o: (_changed(t, serial=1), new_key(ORIGIN)),
    "the log key an author": lambda t, o: (
        _changed(t, serial=1, authors=(Author(as_author(t.log), 0),)),
        o,
    ),
    "no key at all": lambda t, o: (_changed(t, serial=1, log="none"), o),
    "a log key of another name": lambda t, o: (_changed(t, serial=1, log=new_key("test.example/x").verifier.vkey), o),
    "an author of another log": lambda t, o: (
        _changed(t, serial=1, authors=(*t.authors, Author(new_key("test.example/other/ci").verifier.vkey, 0))),
        o,
    ),
    "an author without a name": lambda t, o: (
        _changed(t, serial=1, authors=(*t.authors, Author(new_key(ORIGIN).verifier.vkey, 0))),
        o,
    ),
    "a negative end": lambda t, o: (_changed(t, serial=1, authors=(Author(t.authors[0].vkey, 0, -1),)), o),
}


@pytest.mark.parametrize("what", BAD_STATEMENTS)
def test_a_bad_statement_is_found_and_stops_nobody(place: Place, what: str) -> None:
    trust, _ = _state(place)
    statement, signer = BAD_STATEMENTS[what](trust, key("owner"))
    Forger(place.path).leaf(_trust_entry(note.sign(statement.format(), signer))).sign(key()).commit()
    is_refused(place, 5)
    grows(place)
    assert _state(place)[0] == trust
    assert {f.step for f in judged(place.path, place.trust.owner).findings} == {5}


def test_an_old_statement_put_back_is_found(place: Place) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
    is_sound(place)
    with ledger.open(place.path) as log:
        govern.end_author(log, "ci")
    for statement in [s for s in _old_statements(place) if b'"trust.changed"' in s]:
        Forger(place.path).leaf(statement).sign(key()).commit()
    assert "was put back" in is_refused(place, 5)
    assert [a.until is None for a in _state(place)[0].authors] == [True, False]
    grows(place)


def test_an_old_statement_of_keys_put_back_is_found(place: Place) -> None:
    old = [s for s in _old_statements(place) if b'"keys.changed"' in s]
    Forger(place.path).leaf(*old).sign(key()).commit()
    is_refused(place, 5)
    grows(place)


def test_a_statement_of_keys_by_an_author_is_found_and_not_believed(place: Place) -> None:
    _, keys = _state(place)
    own = str(pyrage.x25519.Identity.generate().to_public())
    forged = msgspec.structs.replace(keys, serial=1, recipient=own)
    Forger(place.path).leaf(_keys_entry(note.sign(forged.format(), key()))).sign(key()).commit()
    is_refused(place, 5)
    assert _state(place)[1] == keys
    grows(place)


def test_a_statement_of_trust_is_no_statement_of_keys(place: Place) -> None:
    trust, keys = _state(place)
    forger = Forger(place.path)
    forger.leaf(_keys_entry(note.sign(_changed(trust, serial=1).format(), key("owner")))).sign(key()).commit()
    is_refused(place, 5)
    assert _state(place) == (trust, keys)


def test_a_malformed_entry_of_an_author_is_found_and_stops_nobody(place: Place) -> None:
    Forger(place.path).leaf(b'{"kind":"artifact","v":1}').sign(key()).commit()
    is_refused(place, 3)
    grows(place)
    with ledger.open(place.path) as log:
        assert log.runs()[0].name == "after"


def test_a_malformed_entry_of_an_author_stops_no_reader(place: Place) -> None:
    Forger(place.path).leaf(b'{"kind":"artifact","v":1}').sign(key()).commit()
    with ledger.open(place.path) as log:
        with log.run("after") as run:
            index = run.artifact("x").index
        assert [r.index for r in log.entries(run)][1] == index
        assert any(r.index == index for r in log.entries())
        log.receipt(index)
        erase(log, run.id, "why")


def test_a_malformed_entry_and_a_missing_blob_are_both_reported(place: Place) -> None:
    with ledger.open(place.path) as log:
        log.run("large").artifact(os.urandom(100_000))
    Forger(place.path).leaf(b'{"kind":"artifact","v":1}').sign(key()).commit()
    shutil.rmtree(place.path / "blobs")
    assert {f.step for f in unsound(place.path, place.trust.owner, 3, 6).findings} == {3, 6}


def test_a_bad_statement_of_an_author_leaves_receipts_possible(place: Place) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
    trust, _ = _state(place)
    forged = note.sign(_changed(trust, serial=2).format(), key("ci"))
    Forger(place.path).leaf(_trust_entry(forged)).sign(key("ci")).commit()
    with ledger.open(place.path) as log, log.run("after") as run:
        log.receipt(run.artifact("x").index)


def test_a_log_that_does_not_begin_with_the_owners_statement_is_refused(place: Place) -> None:
    old = _old_statements(place)
    Forger(place.path, keep=0).leaf(old[1], old[0]).sign(key()).commit()
    is_refused(place, 3, 5)


def test_a_log_begun_again_by_an_author_without_a_statement_of_keys_is_judged_not_failed_on(place: Place) -> None:
    # The first statement is public: who holds an author's key can begin another log with it.
    first = _old_statements(place)[0]
    Forger(place.path, keep=0).leaf(first).sign(key()).commit()
    is_refused(place, 5, 6)


# Who may write, over time


def test_an_author_who_is_added_later_may_not_sign_what_was_before(place: Place) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
    forger = Forger(place.path, keep=len(parsed(place.path)) - 1)
    added = forger.old[-1]
    forger.entries().sign(key("ci")).commit().again(added)
    is_refused(place, 5)


def test_an_author_may_not_sign_the_entry_that_adds_him_from_later_on(place: Place) -> None:
    trust, _ = _state(place)
    ci = new_key(f"{ORIGIN}/ci")
    size = Forger(place.path).size
    for since in (size + 1, size + 2):
        folder = copied(place, place.path.parent.parent / f"from {since}")
        authors = (*trust.authors, Author(ci.verifier.vkey, since))
        signed = note.sign(_changed(trust, serial=1, authors=authors).format(), key("owner"))
        Forger(folder.path).leaf(_trust_entry(signed)).sign(ci).commit()
        if since == size + 1:
            is_sound(folder)
        else:
            is_refused(folder, 5)


def test_an_author_who_was_ended_may_not_sign(place: Place) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
        govern.end_author(log, "ci")
    Forger(place.path).entries().sign(key("ci")).commit()
    is_refused(place, 5)


def test_an_ended_author_does_not_sign_beside_a_trusted_one(place: Place) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
        govern.end_author(log, "ci")
    forger = Forger(place.path).entries()
    text = note.Note.parse(forger.signature(key())).text
    forger.leaf(note.sign(text, key("ci"), key())).commit()
    is_refused(place, 3, 5)


def test_both_verifiers_agree_on_a_failing_line_of_an_ended_author(place: Place) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
        govern.end_author(log, "ci")
    _with_lines(place, note.line_of(key("ci").verifier, bytes(64)))
    judged(place.path, place.trust.owner)


APPEND = """
import sys, ledger
with ledger.open(sys.argv[1]) as log, log.run(sys.argv[2]) as run:
    for number in range(int(sys.argv[3])):
        run.artifact(f"{sys.argv[2]} {number}")
"""


def _append(place: Place, name: str, signer: str, count: int) -> subprocess.Popen[bytes]:
    environment = place.machine.environment | {"LEDGER_SIGNER": signer, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", APPEND, str(place.path), name, str(count)], env=environment)


def test_two_authors_write_side_by_side(place: Place) -> None:
    with ledger.open(place.path) as log:
        _, path = govern.add_author(log, "ci")
        before = log.chain.state.size
    writers = [_append(place, "ci", f"file:{path}", 25), _append(place, "main", "", 25)]
    assert [writer.wait() for writer in writers] == [0, 0]
    is_sound(place)
    names = [leaf for p in parsed(place.path) if p.size >= before for leaf in p.leaves if leaf[:1] != b"{"]
    signers = [note.Note.parse(leaf).signatures[0].name for leaf in names]
    assert set(signers) == {f"{ORIGIN}/main", f"{ORIGIN}/ci"}


def test_an_ended_authors_process_is_refused_and_does_no_harm(place: Place) -> None:
    with ledger.open(place.path) as log:
        _, path = govern.add_author(log, "ci")
        govern.end_author(log, "ci")
    with pytest.raises(KeyUnusable), ledger.open(place.path, signer=f"file:{path}") as log:
        log.run("too late")
    is_sound(place)
    grows(place)


def test_an_author_ended_while_his_process_is_open_is_refused_and_does_no_harm(place: Place) -> None:
    with ledger.open(place.path) as log:
        _, path = govern.add_author(log, "ci")
        with ledger.open(place.path, signer=f"file:{path}") as other:
            run = other.run("in time")
            govern.end_author(log, "ci")
            with pytest.raises(KeyUnusable):
                run.artifact("too late")
    is_sound(place)
    grows(place)


def test_a_key_that_was_never_added_is_refused_and_does_no_harm(place: Place, tmp_path: Path) -> None:
    secrets.save(tmp_path / "k", Signer.format(f"{ORIGIN}/mallory", bytes(32)))
    with pytest.raises(KeyUnusable), ledger.open(place.path, signer=f"file:{tmp_path / 'k'}") as log:
        log.run("never")
    is_sound(place)
    grows(place)


def test_the_log_key_given_as_signer_is_refused_and_does_no_harm(place: Place) -> None:
    uri = f"file:{homes.keys(ORIGIN) / 'log.key'}"
    with pytest.raises(KeyUnusable), ledger.open(place.path, signer=uri) as log:
        log.run("never")
    is_sound(place)


def test_who_ends_himself_while_others_write_does_no_harm(place: Place) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
    with ledger.open(place.path) as log:
        grows(place)
        with suppress(Ambiguous):
            govern.end_author(log, "main")
    is_sound(place)


def test_the_last_author_can_not_be_ended(place: Place) -> None:
    with ledger.open(place.path) as log, pytest.raises(UsageError):
        govern.end_author(log, "main")
    grows(place)


@pytest.mark.parametrize("at", [-1, 1 << 54])
def test_an_author_is_not_ended_at_an_impossible_index(place: Place, at: int) -> None:
    with ledger.open(place.path) as log:
        govern.add_author(log, "ci")
        with pytest.raises(UsageError):
            govern.end_author(log, "ci", at)
    is_sound(place)


def test_nobody_adds_the_log_key_as_an_author(place: Place) -> None:
    with ledger.open(place.path) as log, pytest.raises(LedgerError):
        govern.add_author(log, "ci", as_author(log.chain.state.trusted().note.log))
    is_sound(place)


@pytest.mark.parametrize("text", ["ssh-ed25519 !!!", "ssh-ed25519 AAAA", "ssh-ed25519 " + "A" * 68])
def test_nobody_adds_an_approver_with_a_malformed_key(place: Place, text: str) -> None:
    with ledger.open(place.path) as log, pytest.raises(LedgerError):
        govern.add_approver(log, "ada", text)
    is_sound(place)


def test_who_is_not_the_owner_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with ledger.open(place.path) as log:
        for other in ("log", "author"):
            monkeypatch.setenv("LEDGER_OWNER", f"file:{homes.keys(ORIGIN) / other}.key")
            with pytest.raises(KeyUnusable, match="not the owner's key"):
                govern.add_author(log, "ci")
    is_sound(place)


def test_an_unknown_author_can_not_be_ended(place: Place) -> None:
    with ledger.open(place.path) as log, pytest.raises(NotFound):
        govern.end_author(log, "nobody")


def test_what_a_stolen_key_signed_is_disowned(place: Place) -> None:
    with ledger.open(place.path) as log:
        _, path = govern.add_author(log, "ci")
        stolen_at = log.chain.state.size
    with ledger.open(place.path, signer=f"file:{path}") as log, log.run("by the thief") as run:
        run.artifact("x")
    with ledger.open(place.path) as log:
        assert govern.end_author(log, "ci", at=stolen_at).until == stolen_at
    assert any("disowned" in remark and "ci" in remark for remark in is_sound(place))
    with pytest.raises(KeyUnusable), ledger.open(place.path, signer=f"file:{path}") as log:
        log.run("again")
    remarks = is_sound(place)
    grows(place)
    assert any("disowned" in remark for remark in remarks)


def test_nobody_disowns_himself(place: Place) -> None:
    with ledger.open(place.path) as log, pytest.raises(UsageError, match="disown himself"):
        govern.end_author(log, "main", at=3)
    is_sound(place)


def test_who_ends_himself_signs_one_last_time(place: Place) -> None:
    with ledger.open(place.path) as log:
        _, path = govern.add_author(log, "ci")
        govern.end_author(log, "main")
    assert not any("disowned" in remark for remark in is_sound(place))
    with pytest.raises(KeyUnusable), ledger.open(place.path) as log:
        log.run("too late")
    is_sound(place)
    with ledger.open(place.path, signer=f"file:{path}") as log:
        log.run("by the other")
    is_sound(place)


def leaves(forger: Forger, *entries: Known) -> Forger:
    return forger.leaf(*(encode(entry) for entry in entries)).sign(key())


def test_a_run_that_finished_is_not_started_again_however_far_away(place: Place) -> None:
    """A run that both starts and ends in a later stretch of an audit leaves no trace at the stretch's end."""
    with place.machine.here():
        with ledger.open(place.path) as log:
            run = log.run("once")
            run.finish()
        forger = Forger(place.path)
        for _ in range(140):
            forger.leaf(b'{"kind":"test.filler","fill":"' + b"x" * 60_000 + b'"}').sign(key()).commit()
        started = RunStarted(v=1, time=system_clock(), run=run.id, step=1, key="0" * 64)
        finished = RunFinished(v=1, time=system_clock(), run=run.id, step=2, status="succeeded")
        leaves(forger, started, finished).commit()
        assert "started twice" in unsound(place.path, place.trust.owner, 11).findings[0].what


UNKNOWN = {
    "white space before the kind": b'{ "kind": "next.thing" }',
    "an escape in the kind": b'{"kind":"next\\u002ething"}',
    "a run that is null": b'{"kind":"next.thing","run":null}',
    "a run that is a number": b'{"kind":"next.thing","run":5,"step":1}',
    "a step alone": b'{"kind":"next.thing","step":5}',
    "a step alone that is false": b'{"kind":"next.thing","step":false}',
    "a step of zero with a fraction": b'{"kind":"next.thing","run":"","step":0.0}',
    "no run, and a step": b'{"kind":"next.thing","run":"","step":5}',
    "nested too deep": b'{"kind":"next.thing","a":' + b"[" * 64 + b"]" * 64 + b"}",
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_both_verifiers_refuse_an_unknown_kind_of_another_form(place: Place, what: str) -> None:
    with place.machine.here():
        Forger(place.path).leaf(UNKNOWN[what]).sign(key()).commit()
        unsound(place.path, place.trust.owner, 3)


@pytest.mark.parametrize("raw", [b'{"kind":"next.thing","a":' + b"[" * 63 + b"]" * 63 + b"}",
                                 b'{"kind":"next.thing","run":"","step":0}',
                                 b'{"kind":"next.thing","step":0}',
                                 b'{"kind":"next.thing","run":""}',
                                 b'{"kind":"next.thing", "b" : 1 }'])  # fmt: skip
def test_both_verifiers_accept_an_unknown_kind(place: Place, raw: bytes) -> None:
    with place.machine.here():
        Forger(place.path).leaf(raw).sign(key()).commit()
        sound(place.path, place.trust.owner)


def test_a_blob_that_another_only_claims_to_hold_is_stored_again(place: Place) -> None:
    """Who may write names a blob that is not there, or is another, so that an honest writer would leave it out."""
    with place.machine.here():
        with ledger.open(place.path) as log:
            run = log.run("honest")
            secret = log.writer.key(run.id)
        texts = [b"tests are green", b"tests are red", os.urandom(100_000)]
        inside, outside, large = (seal(secret, text) for text in texts)
        forger = Forger(place.path).entries().sign(key())
        forger.commit(blobs=[(inside.cid, outside.data)], large=[(b.cid, len(b.data)) for b in (outside, large)])
        with ledger.open(place.path) as log:
            kept = [log.resume(run.id).artifact(text) for text in texts]
            assert [log.read(one.address) for one in kept] == texts
        with ledger.open(place.path) as log:
            assert [log.read(one.address) for one in kept] == texts
