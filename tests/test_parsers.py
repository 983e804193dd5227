"""Whatever bytes come, a parser refuses them with an error of ours, or reads them as what writes the same bytes."""

import base64
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ledger
from ledger import homes, pins, tiles
from ledger.checkpoint import Checkpoint
from ledger.disclose import Disclosure, disclose
from ledger.locate import read_origin
from ledger.locate import settings as settings_of
from ledger.note import Note
from ledger.receipt import Receipt
from policies import sshsig
from schemas.errors import LedgerError
from schemas.trust import KeysNote, TrustNote
from store.datakeys import read_tombstone, tombstone
from store.folder import Folder
from store.places import Places
from store.signers import Verifier
from tests.support import shell
from tests.support.machine import ORIGIN, Place, new_ledger

Read = Callable[[bytes], bytes | None]
"""The bytes that what was read writes, or None where it says nothing of them: then it must not fail otherwise."""


class Parser(NamedTuple):
    """A valid sample, and the way there and back."""

    sample: bytes
    again: Read


def text_of(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise LedgerError("refused before it is parsed") from None


def note_again(raw: bytes) -> bytes:
    read = Note.parse(raw)
    lines = [f"— {s.name} {base64.b64encode(s.key_id + s.signature).decode()}\n" for s in read.signatures]
    return f"{read.text}\n{''.join(lines)}".encode()


def ssh_string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def sshsig_again(raw: bytes) -> bytes:
    read = sshsig.SshSignature.parse(raw)
    fields = (read.key, read.namespace.encode(), b"", read.hash.encode(), read.signature)
    return b"SSHSIG\x00\x00\x00\x01" + b"".join(map(ssh_string, fields))


def armor_again(raw: bytes) -> None:
    # Line ends and white space are nobody's business; the binary form is held by the parser of that.
    sshsig.unarmor(raw)


def disclosure_again(raw: bytes) -> bytes | None:
    # JSON as others may write it: what counts is what it says, and that its parts hold (`check`).
    read = Disclosure.parse(raw)
    assert Disclosure.parse(read.encode()) == read
    return None


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parser]:
    """A sample of each from a real ledger."""
    base = tmp_path_factory.mktemp("samples")
    place = new_ledger(base)
    scratch = base / "scratch"
    scratch.mkdir()
    with place.machine.here():
        with ledger.open(place.path) as log:
            run = log.run("samples")
            made = run.prompt({"input": ["words " * 300] * 4})
            run.append_many([ledger.Item(kind="artifact", content=b"%d" % n) for n in range(20)])
            receipt = log.receipt(made.index).format()
            disclosed = disclose(log, made.address).encode()
            trust, keys = log.chain.state.trusted(), log.chain.state.readable()
            log.catch_up_places()
            log.places.save()
        return _parsers(place, scratch, receipt, disclosed, trust.raw.encode(), keys.raw.encode(), trust.note.log)


def _parsers(
    place: Place, scratch: Path, receipt: bytes, disclosed: bytes, trust: bytes, keys: bytes, log: str
) -> dict[str, Parser]:
    person = shell.new_person(scratch, "ada")
    (scratch / "request").write_bytes(b"may it be?")
    armored = shell.sign(person, scratch / "request").read_bytes()
    tile = max((place.path / "tile" / "0" / "000.p").iterdir(), key=lambda file: int(file.name)).read_bytes()
    bundle = max((place.path / "tile" / "entries" / "000.p").iterdir(), key=lambda file: int(file.name)).read_bytes()
    [pin] = homes.pins(ORIGIN).glob("*.pin")
    [table] = homes.cache(ORIGIN).rglob("*.places")
    owner = Verifier.parse(place.trust.owner)

    def pin_again(raw: bytes) -> bytes:
        (scratch / pin.name).write_bytes(raw)
        state = pins.load(scratch, owner)
        assert state is not None
        return raw if pins._decode(raw) == pins.of(state) else b""

    def table_again(raw: bytes) -> bytes | None:
        (scratch / "places").mkdir(exist_ok=True)
        (scratch / "places" / table.name).write_bytes(raw)
        places = Places(scratch / "places")
        if not places.covered:
            raise LedgerError("dropped, as a cache is")
        # Its head is whole: then it is ours, and of this length; records are compared with the packs when read.
        assert raw[:96] == table_raw[:96]
        assert len(raw) == len(table_raw)
        return None

    table_raw = table.read_bytes()

    def settings_again(raw: bytes) -> bytes:
        (scratch / "ledger.toml").write_bytes(raw)
        return settings_of(read_origin(Folder(scratch)))

    def tombstone_again(raw: bytes) -> bytes:
        entry = read_tombstone(raw, ORIGIN)
        if entry is None:
            raise LedgerError("none of this log")
        return tombstone(ORIGIN, entry)

    return {
        "note": Parser(trust, note_again),
        "checkpoint": Parser(
            (place.path / "checkpoint").read_bytes(), lambda raw: Checkpoint.parse(raw, Verifier.parse(log)).raw
        ),
        "vkey": Parser(log.encode(), lambda raw: Verifier.parse(text_of(raw)).vkey.encode()),
        "receipt": Parser(receipt, lambda raw: Receipt.parse(raw).format()),
        "disclosure": Parser(disclosed, disclosure_again),
        "trust": Parser(Note.parse(trust).text.encode(), lambda raw: TrustNote.parse(text_of(raw)).format().encode()),
        "keys": Parser(Note.parse(keys).text.encode(), lambda raw: KeysNote.parse(text_of(raw)).format().encode()),
        "SSHSIG": Parser(sshsig.unarmor(armored), sshsig_again),
        "armor": Parser(armored, armor_again),
        "signed document": Parser(b"a request\n" + armored, signed_again),
        "bundle": Parser(bundle, lambda raw: tiles.bundle(tiles.parse_bundle(raw))),
        "tile": Parser(tile, lambda raw: b"".join(tiles.parse_tile(raw))),
        "pin": Parser(pin.read_bytes(), pin_again),
        "tombstone": Parser(tombstone(ORIGIN, 1234), tombstone_again),
        "ledger.toml": Parser(settings_of(ORIGIN), settings_again),
        "table of places": Parser(table_raw, table_again),
    }


NAMES = ["note", "checkpoint", "vkey", "receipt", "disclosure", "trust", "keys", "SSHSIG", "armor", "signed document",
         "bundle", "tile", "pin", "tombstone", "ledger.toml", "table of places"]  # fmt: skip


def signed_again(raw: bytes) -> None:
    """What stands before the signature is free, and white space within it."""
    sshsig.split(raw)


def read(parser: Parser, raw: bytes) -> bool:
    """Whether it was read; and then it is what was written."""
    try:
        again = parser.again(raw)
    except LedgerError:
        return False
    assert again is None or again == raw
    return True


def mutated(sample: bytes, chance: random.Random) -> bytes:
    """One to three changes, as damage and attackers make them."""
    data = bytearray(sample)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(data) + 1)
        how = chance.randrange(8)
        if how == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif how == 1:
            del data[at:]
        elif how == 2:
            data[at:at] = chance.randbytes(chance.choice((1, 2, 40)))
        elif how == 3:
            data[at:at] = chance.choice(
                (b"\n", b"\x00", b" ", b"\r", b"+", b"=", b'"', "é".encode(), b"\xff", b"-", b"0")
            )
        elif how == 4:
            del data[at : at + chance.choice((1, 2, 33))]
        elif how == 5:
            lines = bytes(data).split(b"\n")
            line = chance.randrange(len(lines))
            lines.insert(chance.randrange(len(lines) + 1), lines[line])
            data = bytearray(b"\n".join(lines))
        elif how == 6:
            lines = bytes(data).split(b"\n")
            chance.shuffle(lines)
            data = bytearray(b"\n".join(lines))
        elif data:
            data[at % len(data)] = chance.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_sample_is_read(parsers: dict[str, Parser], name: str) -> None:
    assert set(NAMES) == set(parsers)
    assert read(parsers[name], parsers[name].sample)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_changed_bytes_are_refused_or_read_as_they_are(parsers: dict[str, Parser], name: str, seed: int) -> None:
    read(parsers[name], mutated(parsers[name].sample, random.Random(seed)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), keep=st.integers(0, 60))
def test_random_bytes_are_refused_or_read_as_they_are(
    parsers: dict[str, Parser], name: str, data: bytes, keep: int
) -> None:
    read(parsers[name], data)
    read(parsers[name], parsers[name].sample[:keep] + data)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_cut_anywhere_is_refused_or_read_as_it_is(parsers: dict[str, Parser], name: str) -> None:
    sample = parsers[name].sample
    for cut in range(0, len(sample), max(1, len(sample) // 300)):
        read(parsers[name], sample[:cut])
