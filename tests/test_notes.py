"""Signed notes, checkpoints, signature leaves and the keys behind them: what is refused, and what must not be."""

import base64
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import batch, checkpoint, note
from ledger.checkpoint import Checkpoint, Head
from ledger.merkle import EMPTY_ROOT
from ledger.note import Note
from schemas.errors import KeyUnusable, Malformed, NotSound
from store.signers import Signer, Verifier, key_id

# From C2SP signed-note, as published.
C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_TEXT = "This is an example message.\n"
C2SP_SIGNATURE = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
C2SP_NOTE = f"{C2SP_TEXT}\n— example.com/foo {C2SP_SIGNATURE}\n".encode()
C2SP_POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def signer(name: str, seed: str = "") -> Signer:
    return Signer(name, sha256((seed or name).encode()).digest())


ORIGIN = "log.example/a"
LOG = signer(ORIGIN)
AUTHOR = signer(f"{ORIGIN}/ci")
STRANGER = signer("stranger.example/x")
ROOT = sha256(b"root").digest()
HEAD = Head(5, ROOT)
GOOD = note.sign("a\nb\n", LOG)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ed25519(key: bytes) -> str:
    return b64(b"\x01" + key)


def line(name: str, data: bytes) -> str:
    return f"— {name} {b64(data)}\n"


def signed_line(by: Signer, text: str) -> str:
    return note.line_of(by.verifier, by.sign(text.encode()))


# Notes.


def test_the_note_of_c2sp_verifies() -> None:
    verifier = Verifier.parse(C2SP_VKEY)
    read = Note.parse(C2SP_NOTE)
    assert read.text == C2SP_TEXT
    assert read.signed_by([verifier]) == [verifier]


def test_an_empty_line_in_the_text_belongs_to_it() -> None:
    read = Note.parse(C2SP_POEM)
    assert read.text.endswith(":\n\ned è subito sera.\n")
    assert [s.name for s in read.signatures] == ["quasimodo.example/salvatore"]


@pytest.mark.parametrize(
    "text", ["a\n", "\n", "a\n\nb\n", "a\n\n\n", "—\n", "🧾\u00a0é\n", "— a b\n\n— c d\n", "a" * 9000 + "\n"]
)
def test_what_was_signed_is_read_back(text: str) -> None:
    read = Note.parse(note.sign(text, LOG, AUTHOR))
    assert read.text == text
    assert read.signed_by([AUTHOR.verifier, LOG.verifier]) == [LOG.verifier, AUTHOR.verifier]


def test_a_text_without_its_last_newline_is_not_signed() -> None:
    with pytest.raises(ValueError):
        note.sign("a", LOG)


def test_every_bit_of_a_note_counts() -> None:
    """However a note is changed, nothing but its own text ever passes as signed."""
    verifier = Verifier.parse(C2SP_VKEY)
    for at in range(len(C2SP_NOTE)):
        for bit in range(8):
            changed = C2SP_NOTE[:at] + bytes([C2SP_NOTE[at] ^ 1 << bit]) + C2SP_NOTE[at + 1 :]
            try:
                read = Note.parse(changed)
                assert not read.signed_by([verifier]) or read.text == C2SP_TEXT, (at, bit)
            except Malformed:
                pass


GREASE = {
    "another name": line("grease.example/key", b"\x01\x02\x03\x04" + bytes(64)),
    "the same name, another key id": line(ORIGIN, b"\x01\x02\x03\x04" + bytes(64)),
    "the same key id, another name": line("grease.example/key", LOG.verifier.key_id + bytes(64)),
    "a cosignature with its time": line("witness.example/w", b"wit1" + bytes(72)),
    "a post-quantum signature": line("pq.example/key", b"\xff\xff\xff\xff" + bytes(range(256)) * 19),
    "one byte of signature": line("grease.example/key", b"\x00\x00\x00\x00\x00"),
    "a name of other letters": line("žluťoučký.example/鍵", b"abcd" + bytes(64)),
    "a name of joined characters": line("👩\u200d💻.example/key", b"abcd" + bytes(64)),
    "a name of private characters": line("\ue000.example/key", b"abcd" + bytes(64)),
    "fifteen of them": "".join(line(f"grease.example/{i}", bytes([i]) * 68) for i in range(15)),
    "ninety-nine of them": "".join(line(f"grease.example/{i}", bytes([i]) * 68) for i in range(99)),
}


@pytest.mark.parametrize("grease", GREASE.values(), ids=GREASE)
def test_lines_of_unknown_keys_are_ignored(grease: str) -> None:
    own = signed_line(LOG, "a\nb\n")
    for lines in (grease + own, own + grease):
        read = Note.parse(f"a\nb\n\n{lines}".encode())
        assert read.signed_by([LOG.verifier, AUTHOR.verifier]) == [LOG.verifier]
    assert Note.parse(f"a\nb\n\n{grease}".encode()).signed_by([LOG.verifier]) == []


MALFORMED = {
    "nothing": b"",
    "text alone": b"a\n",
    "no empty line": b"a\n" + signed_line(LOG, "a\n").encode(),
    "signature lines alone": signed_line(LOG, "").encode(),
    "no text before the empty line's newline": b"\n" + signed_line(LOG, "\n").encode(),
    "no signature line": b"a\n\n",
    "an empty line behind the signatures": GOOD + b"\n",
    "text behind the signatures": GOOD + b"\nmore\n",
    "the last newline is missing": GOOD[:-1],
    "cut within the signature": GOOD[:-9],
    "CRLF": GOOD.replace(b"\n", b"\r\n"),
    "CRLF in the text only": b"a\r\nb\n\n" + signed_line(LOG, "a\r\nb\n").encode(),
    "CRLF at the end only": GOOD[:-1] + b"\r\n",
    "CR alone": GOOD.replace(b"\n", b"\r"),
    "a hyphen for the dash": GOOD.replace("—".encode(), b"-"),
    "an en dash for the dash": GOOD.replace("—".encode(), "–".encode()),
    "no dash": GOOD.replace("— ".encode(), b""),
    "no space behind the dash": GOOD.replace("— ".encode(), "—".encode()),
    "two spaces behind the dash": GOOD.replace("— ".encode(), "—  ".encode()),
    "a space before the dash": GOOD.replace("— ".encode(), " — ".encode()),
    "no name": f"a\n\n— {b64(bytes(68))}\n".encode(),
    "an empty name": f"a\n\n—  {b64(bytes(68))}\n".encode(),
    "a name with a plus": line("a+b", bytes(68)).join(["a\n\n", ""]).encode(),
    "a name with a no-break space": line("a\u00a0b", bytes(68)).join(["a\n\n", ""]).encode(),
    "a name with a line separator": line("a\u2028b", bytes(68)).join(["a\n\n", ""]).encode(),
    "no signature": b"a\n\n" + f"— {ORIGIN}\n".encode(),
    "an empty signature": b"a\n\n" + f"— {ORIGIN} \n".encode(),
    "a key id alone": b"a\n\n" + line(ORIGIN, LOG.verifier.key_id).encode(),
    "half a key id": b"a\n\n" + line(ORIGIN, b"ab").encode(),
    "a space at the end of a line": GOOD[:-1] + b" \n",
    "a second word behind the signature": GOOD[:-1] + b" x\n",
    "base64 with a space": GOOD[:-20] + b" " + GOOD[-20:],
    "base64 of the other alphabet": b"a\n\n"
    + line(ORIGIN, b"\xff\xef\xbe" * 24).replace("/", "_").replace("+", "-").encode(),
    "no UTF-8": b"\xff\n\n" + signed_line(LOG, "a\n").encode(),
    "UTF-8 longer than it need be": b"\xc0\xaf\n\n" + signed_line(LOG, "a\n").encode(),
    "half of a surrogate pair": b"\xed\xa0\x80\n\n" + signed_line(LOG, "a\n").encode(),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "one line of a hundred malformed": b"a\n\n"
    + line("x", bytes(68)).encode() * 50
    + b"x\n"
    + line("x", bytes(68)).encode(),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_note_rejected(raw: bytes) -> None:
    with pytest.raises(Malformed):
        Note.parse(raw)


@pytest.mark.parametrize("code", [*range(10), *range(11, 32), 127])
def test_a_control_character_rejected(code: int) -> None:
    """A terminal would show something other than what was signed."""
    for text in (f"a{chr(code)}b\n", f"{chr(code)}\n", f"a\n{chr(code)}"):
        with pytest.raises(Malformed):
            Note.parse(note.sign(text if text.endswith("\n") else text + "\n", LOG))
    with pytest.raises(Malformed):
        Note.parse(b"a\n\n" + line(f"a{chr(code)}b", bytes(68)).encode())


def test_more_than_a_hundred_signatures_rejected() -> None:
    lines = "".join(line(f"grease.example/{i}", bytes(68)) for i in range(101))
    Note.parse(f"a\n\n{lines.removesuffix(line('grease.example/100', bytes(68)))}".encode())
    with pytest.raises(Malformed):
        Note.parse(f"a\n\n{lines}".encode())


def test_a_note_over_one_mebibyte_rejected() -> None:
    tail = b"\n\n" + signed_line(LOG, "").encode()
    Note.parse(b"a" * ((1 << 20) - len(tail)) + tail)
    with pytest.raises(Malformed):
        Note.parse(b"a" * ((1 << 20) - len(tail) + 1) + tail)


def respelled(encoded: str) -> list[str]:
    """The same bytes of base64, spelled otherwise: unused bits set, padding too long."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body, pad = encoded.rstrip("="), encoded.count("=")
    last = letters.index(body[-1])
    return [body[:-1] + letters[last + extra] + "=" * pad for extra in range(1, 4**pad)] + [
        encoded + "=" * n for n in (1, 2, 3)
    ]


@pytest.mark.parametrize("spelling", respelled(C2SP_SIGNATURE))
def test_a_signature_in_another_spelling_of_base64_rejected(spelling: str) -> None:
    with pytest.raises(Malformed):
        Note.parse(f"{C2SP_TEXT}\n— example.com/foo {spelling}\n".encode()).signed_by([Verifier.parse(C2SP_VKEY)])


def test_a_signature_without_its_padding_rejected() -> None:
    with pytest.raises(Malformed):
        Note.parse(C2SP_NOTE.replace(b"=\n", b"\n"))


def test_signatures_moved_into_the_text_are_text() -> None:
    """A note with lines of a stranger behind another empty line says all of it was signed, by the stranger alone."""
    wrapped = GOOD + b"\n" + signed_line(STRANGER, GOOD.decode()).encode()
    read = Note.parse(wrapped)
    assert read.text == GOOD.decode()
    assert read.signed_by([LOG.verifier]) == []
    assert read.signed_by([LOG.verifier, STRANGER.verifier]) == [STRANGER.verifier]


def changed_signatures(text: str) -> dict[str, bytes]:
    good = LOG.sign(text.encode())
    r, s = good[:32], int.from_bytes(good[32:], "little")
    return {
        "malleable: S plus the order": r + (s + ED25519_ORDER).to_bytes(32, "little"),
        "malleable: S plus twice the order": r + (s + 2 * ED25519_ORDER).to_bytes(32, "little"),
        "malleable: minus S": r + (ED25519_ORDER - s).to_bytes(32, "little"),
        "R with its sign changed": r[:31] + bytes([r[31] ^ 0x80]) + good[32:],
        "R and S exchanged": good[32:] + r,
        "zeros": bytes(64),
        "R is the neutral point, S is 0": b"\x01" + bytes(63),
        "of another text": LOG.sign(b"another\n"),
        "of the text without its newline": LOG.sign(text.encode()[:-1]),
        "of the text and the empty line": LOG.sign(text.encode() + b"\n"),
        "of another key": STRANGER.sign(text.encode()),
        "one byte short": good[:-1],
        "one byte more": good + b"\x00",
        "twice": good + good,
        "of one byte": good[:1],
    }


BAD_SIGNATURES = changed_signatures("a\nb\n")


@pytest.mark.parametrize("signature", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES)
def test_a_failing_signature_of_a_known_key_rejected(signature: bytes) -> None:
    read = Note.parse(f"a\nb\n\n{note.line_of(LOG.verifier, signature)}".encode())
    with pytest.raises(Malformed, match="wrong"):
        read.signed_by([LOG.verifier])
    assert read.signed_by([AUTHOR.verifier]) == []
    assert not LOG.verifier.verify(b"a\nb\n", signature)


@pytest.mark.parametrize("first", ["good", "bad"])
@pytest.mark.parametrize("other", [LOG, AUTHOR], ids=["of the same key", "of another known key"])
def test_a_failing_signature_beside_a_good_one_rejected(other: Signer, first: str) -> None:
    good, bad = signed_line(LOG, "a\n"), note.line_of(other.verifier, bytes(64))
    read = Note.parse(("a\n\n" + (good + bad if first == "good" else bad + good)).encode())
    with pytest.raises(Malformed):
        read.signed_by([LOG.verifier, AUTHOR.verifier])


def test_a_note_signed_by_nobody_known_names_nobody() -> None:
    assert Note.parse(GOOD).signed_by([]) == []
    assert Note.parse(GOOD).signed_by([signer(ORIGIN, "another seed").verifier]) == []


SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_a_key_of_small_order_signs_nothing(public: str) -> None:
    """Under such a key one signature would fit many texts."""
    verifier = Verifier(ORIGIN, bytes.fromhex(public))
    for r in SMALL_ORDER:
        assert not any(verifier.verify(b"%d\n" % i, bytes.fromhex(r) + bytes(32)) for i in range(64))


# Keys as text.


def vkey(name: str, material: bytes, id: bytes | None = None) -> str:
    digest = sha256(name.encode() + b"\n" + material).digest()[:4]
    return f"{name}+{(id if id is not None else digest).hex()}+{b64(material)}"


PUBLIC = LOG.verifier.public
SHORT_VKEY = f"{ORIGIN}+{LOG.verifier.key_id.hex()}"
BAD_VKEYS = {
    "nothing": "",
    "a name alone": ORIGIN,
    "no key": f"{ORIGIN}+{LOG.verifier.key_id.hex()}",
    "an empty key": f"{ORIGIN}+{LOG.verifier.key_id.hex()}+",
    "the key id of another name": vkey("log.example/b", b"\x01" + PUBLIC).replace("example/b", "example/a"),
    "the key id of another key": vkey(ORIGIN, b"\x01" + PUBLIC, STRANGER.verifier.key_id),
    "no key id": f"{ORIGIN}++{ed25519(PUBLIC)}",
    "a key id in capitals": re.sub(r"\+([0-9a-f]{8})\+", lambda m: m[0].upper(), LOG.verifier.vkey),
    "a key id of three bytes": vkey(ORIGIN, b"\x01" + PUBLIC, LOG.verifier.key_id[:3]),
    "a key id of five bytes": vkey(ORIGIN, b"\x01" + PUBLIC, LOG.verifier.key_id + b"\x00"),
    "algorithm 0": vkey(ORIGIN, b"\x00" + PUBLIC),
    "algorithm 2, ECDSA": vkey(ORIGIN, b"\x02" + PUBLIC),
    "algorithm 4, a cosigner's": vkey(ORIGIN, b"\x04" + PUBLIC),
    "algorithm 255": vkey(ORIGIN, b"\xff" + PUBLIC),
    "no algorithm": vkey(ORIGIN, PUBLIC),
    "a key of 31 bytes": vkey(ORIGIN, b"\x01" + PUBLIC[:31]),
    "a key of 33 bytes": vkey(ORIGIN, b"\x01" + PUBLIC + b"\x00"),
    "an empty name": vkey("", b"\x01" + PUBLIC),
    "a name with a space": vkey("log example", b"\x01" + PUBLIC),
    "a name with a tab": vkey("log\texample", b"\x01" + PUBLIC),
    "a name with a newline": vkey("log\nexample", b"\x01" + PUBLIC),
    "a name with a no-break space": vkey("log\u00a0example", b"\x01" + PUBLIC),
    "a name that turns the writing": vkey("log\u202eexample", b"\x01" + PUBLIC),
    "a name with a plus": vkey("log+example", b"\x01" + PUBLIC),
    "a newline behind": LOG.verifier.vkey + "\n",
    "a space before": " " + LOG.verifier.vkey,
    "something behind": LOG.verifier.vkey + "+x",
    "a private key": Signer.format(ORIGIN, bytes(32)),
    **{f"spelled otherwise, {i}": f"{SHORT_VKEY}+{key}" for i, key in enumerate(respelled(ed25519(PUBLIC)))},
}


@pytest.mark.parametrize("text", BAD_VKEYS.values(), ids=BAD_VKEYS)
def test_a_malformed_vkey_rejected(text: str) -> None:
    with pytest.raises(Malformed):
        Verifier.parse(text)


def test_a_vkey_is_read_back() -> None:
    assert Verifier.parse(C2SP_VKEY).vkey == C2SP_VKEY
    assert Verifier.parse(C2SP_VKEY).key_id == key_id("example.com/foo", Verifier.parse(C2SP_VKEY).public)
    assert Verifier.parse(LOG.verifier.vkey).public == PUBLIC


SEED = sha256(b"a secret seed").digest()
PRIVATE = Signer.format(ORIGIN, SEED)


def from_file(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    return f"file:{path}"


def test_a_private_key_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", PRIVATE + "\n")
    for uri in (from_file(tmp_path, PRIVATE + "\n"), "env:A_KEY"):
        loaded = Signer.load(uri)
        assert loaded.verifier.vkey == Signer(ORIGIN, SEED).verifier.vkey
        assert loaded.verifier.verify(b"x", loaded.sign(b"x"))


BAD_PRIVATE = {
    "a vkey": LOG.verifier.vkey,
    "no prefix": PRIVATE.removeprefix("PRIVATE+KEY+"),
    "the key id of another key": PRIVATE.replace(Signer(ORIGIN, SEED).verifier.key_id.hex(), "00000000"),
    "the name of another key": PRIVATE.replace("log.example/a", "log.example/b"),
    "algorithm 4": f"PRIVATE+KEY+{ORIGIN}+{Signer(ORIGIN, SEED).verifier.key_id.hex()}+" + b64(b"\x04" + SEED),
    "a seed of 31 bytes": f"PRIVATE+KEY+{ORIGIN}+00000000+{ed25519(SEED[:31])}",
    "a seed of 64 bytes": f"PRIVATE+KEY+{ORIGIN}+00000000+{ed25519(SEED * 2)}",
    "no base64": f"PRIVATE+KEY+{ORIGIN}+00000000+{ed25519(SEED)[:-1]}!",
    "half of it": PRIVATE[: len(PRIVATE) - 20],
}


@pytest.mark.parametrize("text", BAD_PRIVATE.values(), ids=BAD_PRIVATE)
def test_a_malformed_private_key_rejected_without_showing_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable) as error:
        Signer.load(from_file(tmp_path, text))
    shown = f"{error.value} {error.value!r} {error.value.__cause__!r}"
    assert not any(part in shown for part in (b64(b"\x01" + SEED)[4:20], SEED.hex(), repr(SEED)[2:-1]))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
def test_a_private_key_that_others_may_read_rejected(mode: int, tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="others may read"):
        Signer.load(from_file(tmp_path, PRIVATE, mode))


@pytest.mark.parametrize("uri", ["", "file:/nowhere/at/all", "env:NOT_SET_ANYWHERE", "ftp:x", "PRIVATE+KEY+x"])
def test_a_key_that_is_not_there_rejected(uri: str) -> None:
    with pytest.raises(KeyUnusable):
        Signer.load(uri)


def test_repr_shows_no_secret() -> None:
    shown = repr(Signer(ORIGIN, SEED)) + str(Signer(ORIGIN, SEED))
    assert SEED.hex() not in shown
    assert b64(SEED)[:40] not in shown
    assert b64(b"\x01" + SEED) not in shown


# Checkpoints.


def log_note(text: str, *others: Signer) -> bytes:
    return note.sign(text, LOG, *others)


@pytest.mark.parametrize("head", [Head(0, EMPTY_ROOT), Head(1, ROOT), HEAD, Head(2**53 - 1, ROOT)])
def test_a_checkpoint_is_read_back(head: Head) -> None:
    raw = checkpoint.sign(ORIGIN, head, LOG)
    assert raw.startswith(f"{ORIGIN}\n{head.size}\n{b64(head.root)}\n\n— {ORIGIN} ".encode())
    read = Checkpoint.parse(raw, LOG.verifier)
    assert (read.origin, read.head, read.raw) == (ORIGIN, head, raw)


@pytest.mark.parametrize("grease", GREASE.values(), ids=GREASE)
def test_a_checkpoint_with_other_signatures_is_read(grease: str) -> None:
    raw = checkpoint.sign(ORIGIN, HEAD, LOG)
    assert Checkpoint.parse(raw + grease.encode(), LOG.verifier).head == HEAD


SIZES = ["", "05", "00", "+5", "-5", "-0", " 5", "5 ", "5.0", "5e0", "0x5", "5_0", "٥", "５", "five", "10" * 9]


@pytest.mark.parametrize("size", SIZES)
def test_a_checkpoint_with_a_size_in_another_spelling_rejected(size: str) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(log_note(f"{ORIGIN}\n{size}\n{b64(ROOT)}\n"), LOG.verifier)
    with pytest.raises(Malformed):
        Head.parse(size, b64(ROOT))


ROOTS = {
    "nothing": "",
    "31 bytes": b64(ROOT[:31]),
    "33 bytes": b64(ROOT + b"\x00"),
    "hex": ROOT.hex(),
    "no padding": b64(ROOT).rstrip("="),
    "the other alphabet": b64(b"\xff" * 32).replace("/", "_"),
    "a space before": " " + b64(ROOT),
    "a space behind": b64(ROOT) + " ",
    "two roots": b64(ROOT) + b64(ROOT),
    **{f"spelled otherwise, {i}": s for i, s in enumerate(respelled(b64(ROOT)))},
}


@pytest.mark.parametrize("root", ROOTS.values(), ids=ROOTS)
def test_a_checkpoint_with_a_malformed_root_rejected(root: str) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(log_note(f"{ORIGIN}\n5\n{root}\n"), LOG.verifier)
    with pytest.raises(Malformed):
        Head.parse("5", root)


CHECKPOINTS = {
    "an extension line": f"{ORIGIN}\n5\n{b64(ROOT)}\nextension\n",
    "two extension lines": f"{ORIGIN}\n5\n{b64(ROOT)}\na\nb\n",
    "an empty extension line": f"{ORIGIN}\n5\n{b64(ROOT)}\n\n",
    "no root": f"{ORIGIN}\n5\n",
    "no size": f"{ORIGIN}\n{b64(ROOT)}\n",
    "the origin alone": f"{ORIGIN}\n",
    "an empty line first": f"\n{ORIGIN}\n5\n{b64(ROOT)}\n",
    "an empty line between": f"{ORIGIN}\n\n5\n{b64(ROOT)}\n",
    "another order": f"{ORIGIN}\n{b64(ROOT)}\n5\n",
    "size and root on one line": f"{ORIGIN}\n5 {b64(ROOT)}\n",
    "no origin": f"\n5\n{b64(ROOT)}\n",
    "the origin of another log": f"log.example/b\n5\n{b64(ROOT)}\n",
    "an origin that goes on": f"{ORIGIN}/b\n5\n{b64(ROOT)}\n",
    "an origin with a space": f"{ORIGIN} \n5\n{b64(ROOT)}\n",
    "a signature leaf": batch.text(ORIGIN, HEAD, 1),
}


@pytest.mark.parametrize("text", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_another_text_signed_by_the_log_key_is_no_checkpoint(text: str) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(log_note(text), LOG.verifier)


@pytest.mark.parametrize(
    "by",
    [
        STRANGER,
        AUTHOR,
        signer(ORIGIN, "another key of the same name"),
        Signer("log.example/b", sha256(ORIGIN.encode()).digest()),
    ],
    ids=["a stranger", "an author", "the same name", "the same key under another name"],
)
def test_a_checkpoint_signed_by_somebody_else_rejected(by: Signer) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(checkpoint.sign(ORIGIN, HEAD, by), LOG.verifier)


@pytest.mark.parametrize("signature", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES)
def test_a_checkpoint_with_a_failing_signature_rejected(signature: bytes) -> None:
    text = f"{ORIGIN}\n{HEAD.format()}"
    with pytest.raises(Malformed):
        Checkpoint.parse(f"{text}\n{note.line_of(LOG.verifier, signature)}".encode(), LOG.verifier)


def test_a_checkpoint_changed_after_signing_rejected() -> None:
    raw = checkpoint.sign(ORIGIN, HEAD, LOG)
    for old, new in ((b"\n5\n", b"\n6\n"), (b64(ROOT).encode(), b64(ROOT[::-1]).encode()), (b"a\n5", b"b\n5")):
        with pytest.raises(Malformed):
            Checkpoint.parse(raw.replace(old, new), LOG.verifier)


# Signature leaves.

LEAF = batch.sign(ORIGIN, HEAD, 3, AUTHOR)


def test_a_signature_leaf_names_its_author() -> None:
    assert LEAF.startswith(f"agent-ledger/batch@v1\n{ORIGIN}\n5 {b64(ROOT)}\n3\n\n— {ORIGIN}/ci ".encode())
    assert batch.check(LEAF, ORIGIN, HEAD, 3, [signer(f"{ORIGIN}/dev").verifier, AUTHOR.verifier]) is AUTHOR.verifier


def own_line(leaf: bytes) -> tuple[str, str]:
    """The text with its empty line, and the signature in base64."""
    text, _, line = leaf.decode().rpartition("— ")
    return text, line.split()[1]


MALLEATED = {
    "a stranger's line behind": LEAF + GREASE["another name"].encode(),
    "a stranger's line before": LEAF.replace("— ".encode(), GREASE["another name"].encode() + "— ".encode()),
    "its line twice": LEAF + ("— " + LEAF.decode().rpartition("— ")[2]).encode(),
    "another author's line behind": LEAF + signed_line(signer(f"{ORIGIN}/dev"), batch.text(ORIGIN, HEAD, 3)).encode(),
    **{
        f"base64 spelled otherwise, {i}": f"{own_line(LEAF)[0]}— {AUTHOR.name} {spelling}\n".encode()
        for i, spelling in enumerate(respelled(own_line(LEAF)[1]))
    },
}


@pytest.mark.parametrize("raw", MALLEATED.values(), ids=MALLEATED)
def test_a_signature_leaf_in_another_spelling_rejected(raw: bytes) -> None:
    """Nothing later covers the last leaf: else anybody could turn it, and the head, into another."""
    assert raw != LEAF
    with pytest.raises(NotSound) as error:
        batch.check(raw, ORIGIN, HEAD, 3, [AUTHOR.verifier, signer(f"{ORIGIN}/dev").verifier])
    assert error.value.step == 5


ELSEWHERE = {
    "in another log": ("log.example/b", HEAD, 3),
    "at a later index": (ORIGIN, Head(6, ROOT), 3),
    "at an earlier index": (ORIGIN, Head(4, ROOT), 3),
    "after another history": (ORIGIN, Head(5, sha256(b"another").digest()), 3),
    "for fewer entries": (ORIGIN, HEAD, 2),
    "for more entries": (ORIGIN, HEAD, 4),
    "for none": (ORIGIN, HEAD, 0),
}


@pytest.mark.parametrize(("origin", "head", "count"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_signature_leaf_in_another_place_rejected(origin: str, head: Head, count: int) -> None:
    with pytest.raises(NotSound) as error:
        batch.check(LEAF, origin, head, count, [AUTHOR.verifier])
    assert error.value.step == 5


BATCH_TEXT = batch.text(ORIGIN, HEAD, 3)
TEXTS = {
    "another version": BATCH_TEXT.replace("@v1", "@v2"),
    "no header": BATCH_TEXT.partition("\n")[2],
    "a leading zero in the size": BATCH_TEXT.replace("\n5 ", "\n05 "),
    "a leading zero in the count": BATCH_TEXT.replace("\n3\n", "\n03\n"),
    "a sign before the count": BATCH_TEXT.replace("\n3\n", "\n+3\n"),
    "a line more": BATCH_TEXT + "x\n",
    "an empty line more": BATCH_TEXT + "\n",
    "a line less": BATCH_TEXT.removesuffix("3\n"),
    "two spaces": BATCH_TEXT.replace("5 ", "5  "),
    "a root without padding": BATCH_TEXT.replace("=\n", "\n"),
    "a root in hex": BATCH_TEXT.replace(b64(ROOT), ROOT.hex()),
    "the text twice": BATCH_TEXT * 2,
    "a checkpoint": f"{ORIGIN}\n{HEAD.format()}",
    "a statement": f"agent-ledger/trust@v1\n{ORIGIN}\n0\nlog {LOG.verifier.vkey}\n",
    "an entry": '{"kind":"x"}\n',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_another_text_signed_by_an_author_is_no_signature_leaf(text: str) -> None:
    with pytest.raises(NotSound) as error:
        batch.check(note.sign(text, AUTHOR), ORIGIN, HEAD, 3, [AUTHOR.verifier])
    assert error.value.step == 5


SIGNED_BY: dict[str, Callable[[], bytes]] = {
    "the log key": lambda: batch.sign(ORIGIN, HEAD, 3, LOG),
    "a stranger": lambda: batch.sign(ORIGIN, HEAD, 3, STRANGER),
    "another key of the author's name": lambda: batch.sign(ORIGIN, HEAD, 3, signer(AUTHOR.name, "x")),
    "the author under another name": lambda: batch.sign(ORIGIN, HEAD, 3, signer(f"{ORIGIN}/other", AUTHOR.name)),
    "nobody": lambda: f"{BATCH_TEXT}\n".encode(),
    "the author, wrongly": lambda: f"{BATCH_TEXT}\n{note.line_of(AUTHOR.verifier, bytes(64))}".encode(),
    "the author, as a checkpoint": lambda: checkpoint.sign(ORIGIN, HEAD, AUTHOR),
}


@pytest.mark.parametrize("make", SIGNED_BY.values(), ids=SIGNED_BY)
def test_a_signature_leaf_by_somebody_else_rejected(make: Callable[[], bytes]) -> None:
    with pytest.raises(NotSound) as error:
        batch.check(make(), ORIGIN, HEAD, 3, [AUTHOR.verifier])
    assert error.value.step == 5


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_signature_leaf_rejected(raw: bytes) -> None:
    with pytest.raises(NotSound) as error:
        batch.check(raw, ORIGIN, HEAD, 3, [AUTHOR.verifier])
    assert error.value.step == 5


def test_a_signature_leaf_without_authors_rejected() -> None:
    with pytest.raises(NotSound):
        batch.check(LEAF, ORIGIN, HEAD, 3, [])
