"""Sealed blobs: what opens, what must not, and that one ciphertext never opens to two texts."""

import os
from math import floor, log2
from random import Random

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt
from nacl.exceptions import CryptoError

from schemas.errors import KeyUnusable, NotSound, TooLarge
from store import seal
from store.seal import MAX_PIECE, OVERHEAD, Blob, DataKey, Sealed, cid, padme, unseal, unseal_disclosed
from tests import two_keys
from tests import zstd_frames as zstd

SECRET = bytes(range(32))
KEY = DataKey(b"0123456789abcdef", SECRET)
OTHER = DataKey(KEY.id, b"another secret of 32 bytes......")
CONTEXT = "agent-ledger 2026-11 v1 "
SIZES = [0, 1, 2, 8, 9, 100, 246, 247, 248, 255, 256, 257, 1000, 65_535, 65_536, 65_537, MAX_PIECE - 1, MAX_PIECE]


def contents(size: int) -> dict[str, bytes]:
    return {"random": Random(size).randbytes(size), "text": (b"a prompt, and its answer\n" * size)[:size]}


def blob_key(data: bytes, key: DataKey = KEY) -> bytes:
    blob = Blob.parse(data)
    return key.blob_key(blob.header, blob.siv)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["random", "text"])
def test_what_was_sealed_opens(size: int, kind: str) -> None:
    content = contents(size)[kind]
    sealed = seal.seal(KEY, content)
    assert unseal(KEY, sealed.data) == content
    assert unseal_disclosed(blob_key(sealed.data), sealed.data) == content
    assert sealed.cid == cid(sealed.data) == blake3(sealed.data, derive_key_context=CONTEXT + "blob cid").digest()


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=2000), st.binary(min_size=32, max_size=32))
def test_any_content_opens_under_any_key(content: bytes, secret: bytes) -> None:
    key = DataKey(bytes(16), secret)
    assert unseal(key, seal.seal(key, content).data) == content


def by_the_book(content: bytes) -> bytes:
    """docs/FORMAT.md, "Sealed blob", read without our code; codec raw."""

    def derive(purpose: str, key: bytes, length: int = 32) -> bytes:
        return blake3(key, derive_key_context=CONTEXT + purpose).digest(length)

    body = b"\x00" + len(content).to_bytes(4, "little") * 2 + content
    m = body + bytes(padded(len(body)) - len(body))
    hdr = bytes.fromhex("4c420100") + KEY.id
    siv = blake3(hdr + m, key=derive("blob siv", SECRET)).digest()
    bk = blake3(hdr + siv, key=derive("blob seal", SECRET)).digest()
    both = derive("blob expand", bk, 64)
    return hdr + siv + both[32:] + encrypt(m, hdr, bytes(24), both[:32])


def padded(length: int) -> int:
    """Padmé as docs/FORMAT.md defines it."""
    length = max(256, length)
    e = floor(log2(length))
    s = floor(log2(e)) + 1
    return -(-length // 2 ** (e - s)) * 2 ** (e - s)


def test_padding_is_that_of_the_book() -> None:
    for length in [*range(5000), *range(65_000, 66_000), *range(MAX_PIECE - 100, MAX_PIECE + 100)]:
        assert padme(length) == padded(length)
        assert max(256, length) <= padme(length) <= max(256, length * 1.12)


@pytest.mark.parametrize("size", [0, 1, 247, 248, 3000])
def test_a_blob_is_that_of_the_book(size: int) -> None:
    content = contents(size)["random"]
    assert seal.seal(KEY, content).data == by_the_book(content)


def test_digest_and_commitment_are_those_of_the_book() -> None:
    k3 = blake3(SECRET, derive_key_context=CONTEXT + "content digest").digest()
    assert KEY.digest(b"content") == blake3(b"content", key=k3).hexdigest()
    assert KEY.commitment == blake3(SECRET, derive_key_context=CONTEXT + "data key commitment").hexdigest()
    hasher = KEY.hasher()
    hasher.update(b"con")
    hasher.update(b"tent")
    assert hasher.hexdigest() == KEY.digest(b"content")


def test_equal_content_is_one_blob_and_unequal_never() -> None:
    assert seal.seal(KEY, b"a") == seal.seal(KEY, b"a")
    others = [seal.seal(KEY, b"b"), seal.seal(OTHER, b"a"), seal.seal(DataKey(bytes(16), SECRET), b"a")]
    assert len({seal.seal(KEY, b"a").cid, *(s.cid for s in others)}) == 4


def test_lengths_near_one_another_look_alike() -> None:
    random = Random(1)
    assert {len(seal.seal(KEY, random.randbytes(size)).data) for size in range(248)} == {OVERHEAD + 256}
    assert len({len(seal.seal(KEY, random.randbytes(size)).data) for size in range(4096)}) < 70


def test_more_than_a_mebibyte_is_not_sealed() -> None:
    with pytest.raises(TooLarge):
        seal.seal(KEY, bytes(MAX_PIECE + 1))


@pytest.mark.parametrize(("id", "secret"), [(15, 32), (17, 32), (0, 32), (16, 31), (16, 33), (16, 0)])
def test_a_data_key_of_another_length_rejected(id: int, secret: int) -> None:
    with pytest.raises(KeyUnusable):
        DataKey(bytes(id), bytes(secret))


def test_repr_shows_no_secret() -> None:
    shown = f"{KEY!r} {KEY} {[KEY]} {seal.seal(KEY, b'content')!r}"
    derived = [
        blake3(SECRET, derive_key_context=CONTEXT + p).digest() for p in ("blob siv", "blob seal", "content digest")
    ]
    for secret in (SECRET, *derived):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    assert b"content" not in seal.seal(KEY, b"content").data


# What lies on disk, changed.


@pytest.mark.parametrize("content", [b"", b"short", b"compressible " * 90], ids=["empty", "raw", "compressed"])
def test_every_bit_of_a_blob_counts(content: bytes) -> None:
    data = seal.seal(KEY, content).data
    key = blob_key(data)
    for at in range(len(data)):
        for bit in range(8):
            changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            assert cid(changed) != cid(data)
            with pytest.raises((NotSound, KeyUnusable)) as error:
                unseal(KEY, changed)
            # Another data key's id is the only thing that is no damage to be seen.
            assert isinstance(error.value, KeyUnusable) is (4 <= at < 20)
            if not 20 <= at < 52:  # The siv is not covered where only this blob's key is known; its cid is.
                with pytest.raises(NotSound) as error:
                    unseal_disclosed(key, changed)
                assert error.value.step == 10


def test_every_truncation_rejected() -> None:
    data = seal.seal(KEY, b"a prompt").data
    for length in range(len(data)):
        with pytest.raises(NotSound) as error:
            unseal(KEY, data[:length])
        assert error.value.step == 10
    for tail in (b"\x00", bytes(16), data):
        with pytest.raises(NotSound):
            unseal(KEY, data + tail)


@pytest.mark.parametrize(
    "data",
    [b"", b"LB\x01\x00", b"LL\x01\x00" + bytes(32), bytes(400), b"LB\x02\x00" + bytes(400), b"LB\x01\x01" + bytes(400)],
)
def test_another_object_is_no_blob(data: bytes) -> None:
    with pytest.raises(NotSound) as error:
        Blob.parse(data)
    assert error.value.step == 10


def test_the_wrong_key_rejected() -> None:
    data = seal.seal(KEY, b"a prompt").data
    with pytest.raises(NotSound, match="another key"):
        unseal(OTHER, data)
    with pytest.raises(KeyUnusable, match=KEY.id.hex()):
        unseal(DataKey(bytes(16), SECRET), data)


def test_a_disclosed_key_opens_one_blob_only() -> None:
    first, second = seal.seal(KEY, b"a"), seal.seal(KEY, b"b")
    assert unseal_disclosed(blob_key(first.data), first.data) == b"a"
    with pytest.raises(NotSound, match="another key"):
        unseal_disclosed(blob_key(first.data), second.data)
    for key in (SECRET, bytes(32), blob_key(first.data)[:31]):
        with pytest.raises(NotSound):
            unseal_disclosed(key, first.data)


def test_parts_of_two_blobs_joined_rejected() -> None:
    a, b = (Blob.parse(seal.seal(KEY, c).data) for c in (b"a", b"b"))
    for mixed in (a._replace(ciphertext=b.ciphertext), a._replace(siv=b.siv), a._replace(commitment=b.commitment)):
        with pytest.raises(NotSound):
            unseal(KEY, b"".join(mixed))


# Two keys, one ciphertext.


def two_key_blob() -> tuple[bytes, bytes, bytes, bytes]:
    """A header, a siv, and a ciphertext that opens under the blob keys of KEY and of OTHER alike."""
    header, siv = seal.MAGIC + KEY.id, b"chosen by somebody who forges..."
    keys = [seal._expand(key.blob_key(header, siv))[0] for key in (KEY, OTHER)]
    wanted = b"\x00" + (247).to_bytes(4, "little") * 2 + b"pay".ljust(7) + bytes(32) + b"nobody".ljust(208)
    stream = bytes(a ^ b for a, b in zip(wanted, encrypt(wanted, header, bytes(24), keys[0]), strict=False))
    wanted_sealed = bytes(a ^ b for a, b in zip(wanted, stream, strict=True))
    return header, siv, two_keys.collide(*keys, bytes(24), wanted_sealed, header, block=1), wanted


def test_the_tag_of_the_book() -> None:
    """The forgery's Poly1305 is the real one."""
    for key, message in ((bytes(32), b""), (SECRET, b"x" * 33), (blob_key(seal.seal(KEY, b"a").data), bytes(256))):
        sealed = encrypt(message, b"ad", bytes(range(24)), key)
        assert two_keys.tag(key, bytes(range(24)), sealed[:-16], b"ad") == sealed[-16:]


def test_one_ciphertext_for_two_keys_rejected() -> None:
    header, siv, ciphertext, wanted = two_key_blob()
    (first, first_commitment), (second, second_commitment) = (
        seal._expand(key.blob_key(header, siv)) for key in (KEY, OTHER)
    )
    # The bare AEAD is content with both keys, and shows two texts.
    texts = [decrypt(ciphertext, header, bytes(24), key) for key in (first, second)]
    assert texts[0] != texts[1]
    assert (texts[0][:16], texts[0][48:]) == (wanted[:16], wanted[48:])
    with pytest.raises(CryptoError):
        decrypt(ciphertext, header, bytes(24), seal._expand(bytes(32))[0])

    # The commitment lets it open under one of them at most.
    forged = header + siv + first_commitment + ciphertext
    assert unseal_disclosed(KEY.blob_key(header, siv), forged).startswith(b"pay")
    with pytest.raises(NotSound, match="another key"):
        unseal_disclosed(OTHER.blob_key(header, siv), forged)
    with pytest.raises(NotSound, match="another key"):
        unseal(OTHER, forged)
    # Who has the data key sees by the siv that sealing never made it.
    with pytest.raises(NotSound, match="siv"):
        unseal(KEY, forged)

    other_way = header + siv + second_commitment + ciphertext
    for opens in (lambda: unseal(KEY, other_way), lambda: unseal_disclosed(KEY.blob_key(header, siv), other_way)):
        with pytest.raises(NotSound, match="another key"):
            opens()


# Messages that sealing never makes, by somebody who has the data key.


def message(codec: int, raw_length: int, body: bytes, *, length: int | None = None, padding: bytes = b"") -> bytes:
    made = bytes([codec]) + raw_length.to_bytes(4, "little")
    made += (len(body) if length is None else length).to_bytes(4, "little") + body + padding
    return made.ljust(padme(len(made)), b"\x00")


def opened(made: bytes) -> bytes:
    sealed: Sealed = seal._seal_message(KEY, made)
    return unseal(KEY, sealed.data)


RUN = b"x" * 300
FRAME = zstd.frame(zstd.run(b"x", 300), 300)
HALVES = zstd.run(b"x", 150, last=False) + zstd.run(b"x", 150)
EMPTY = zstd.frame(zstd.raw(b""), 0)
LINES = b"".join(b"line %d of a prompt\n" % i for i in range(40))
# As libzstd 1.5.7 wrote them.
COMPRESSED = bytes.fromhex(
    "28b52ffd60160225040094036c696e652030206f6620612070726f6d70740a31323334353637383931313131313131313132323232323232"
    "32323233333333333333333333282080a3d203b224376189482e6113494ec212915cc224925cc226929c842572724b13a63491a4c9214dd8"
    "d1448c265734614413199a80107d1ee389773ce609ef3ce649f7dbda1806"
)
CHECKED = bytes.fromhex("28b52ffd642c004d00001078780100272ac002bfd50fc8")
GOOD_FRAMES = {
    "a run": (300, FRAME, RUN),
    "two blocks": (300, zstd.frame(HALVES, 300), RUN),
    "a run and bytes": (303, zstd.frame(zstd.run(b"x", 300, last=False) + zstd.raw(b"end"), 303), RUN + b"end"),
    "an empty last block": (300, zstd.frame(zstd.run(b"x", 300, last=False) + zstd.raw(b""), 300), RUN),
    "one byte shorter": (14, zstd.frame(zstd.run(b"x", 14), 14), b"x" * 14),
    "a mebibyte": (MAX_PIECE, zstd.frame(zstd.runs(b"x", MAX_PIECE), MAX_PIECE), b"x" * MAX_PIECE),
    "compressed": (len(LINES), COMPRESSED, LINES),
    "with a checksum": (300, CHECKED, RUN),
}


@pytest.mark.parametrize(("length", "body", "content"), GOOD_FRAMES.values(), ids=GOOD_FRAMES)
def test_a_frame_of_another_compressor_opens(length: int, body: bytes, content: bytes) -> None:
    assert opened(message(1, length, body)) == content


@pytest.mark.parametrize("level", [-5, 1, 3, 19, 22])
def test_a_frame_of_any_level_opens(level: int) -> None:
    assert opened(message(1, len(LINES), zstandard.ZstdCompressor(level=level).compress(LINES))) == LINES


BOMB = zstd.frame(zstd.runs(b"\x00", 64 << 20), 64 << 20)
BAD_FRAMES = {
    "declares less than the header": (300, zstd.frame(zstd.run(b"x", 299), 299)),
    "declares more than the header": (300, zstd.frame(zstd.run(b"x", 301), 301)),
    "declares less, and holds what the header says": (300, zstd.frame(zstd.run(b"x", 300), 299)),
    "holds less than it declares": (300, zstd.frame(zstd.run(b"x", 299), 300)),
    "holds more than it declares": (300, zstd.frame(zstd.run(b"x", 301), 300)),
    "holds nothing of what it declares": (300, zstd.frame(zstd.raw(b""), 300)),
    "declares nothing": (300, zstd.frame(zstd.run(b"x", 300), 0)),
    "declares nothing, and the header neither": (0, zstd.frame(zstd.run(b"x", 300), 0)),
    "declares no size": (300, zstd.nameless(zstd.run(b"x", 300))),
    "declares no size, and the header nothing": (0, zstd.nameless(zstd.run(b"x", 300))),
    "one byte over a mebibyte": (MAX_PIECE + 1, zstd.frame(zstd.runs(b"x", MAX_PIECE + 1), MAX_PIECE + 1)),
    "a bomb that says so": (64 << 20, BOMB),
    "a bomb in a small header": (300, BOMB),
    "a bomb in a small frame": (1 << 16, zstd.frame(zstd.runs(b"\x00", 64 << 20), 1 << 16)),
    "a byte behind": (300, FRAME + b"\x00"),
    "bytes behind": (300, FRAME + b"and more"),
    "two frames": (300, FRAME + FRAME),
    "two frames, both counted": (600, FRAME + FRAME),
    "an empty frame behind": (300, FRAME + EMPTY),
    "an empty frame before": (300, EMPTY + FRAME),
    "a skippable frame alone": (300, zstd.skippable(RUN[:200])),
    "a skippable frame before": (300, zstd.skippable(b"x") + FRAME),
    "a skippable frame behind": (300, FRAME + zstd.skippable(b"x")),
    "an empty skippable frame behind": (300, FRAME + zstd.skippable(b"")),
    "an empty frame": (0, EMPTY),
    "an empty frame and bytes": (0, EMPTY + b"and more"),
    "an empty frame and another": (0, EMPTY + FRAME),
    "an empty skippable frame": (0, zstd.skippable(b"")),
    "no frame": (0, b""),
    "no frame for a content": (300, b""),
    "no frame, but bytes": (300, RUN[:200]),
    "as long as the content": (13, zstd.frame(zstd.run(b"x", 13), 13)),
    "longer than the content": (5, zstd.frame(zstd.raw(b"hello"), 5)),
    "the magic number alone": (300, zstd.MAGIC),
    "a header alone": (300, FRAME[:9]),
    "no last block": (300, zstd.frame(zstd.run(b"x", 300, last=False), 300)),
    "blocks behind the last": (300, zstd.frame(zstd.run(b"x", 300) + zstd.run(b"x", 300), 300)),
    "cut": (300, FRAME[:-1]),
    "a block of the reserved kind": (300, zstd.frame((300 << 3 | 3 << 1 | 1).to_bytes(3, "little") + b"x", 300)),
    "a checksum that fails": (300, zstd.frame(zstd.run(b"x", 300), 300, flags=4) + b"\x00\x00\x00\x00"),
    "a checksum that fails by a bit": (300, CHECKED[:-1] + bytes([CHECKED[-1] ^ 1])),
    "a checksum that is missing": (300, zstd.frame(zstd.run(b"x", 300), 300, flags=4)),
    "a dictionary": (300, zstd.MAGIC + b"\xa1\x07\x2c\x01\x00\x00" + zstd.run(b"x", 300)),
    "a reserved bit": (300, zstd.frame(zstd.run(b"x", 300), 300, flags=8)),
}


@pytest.mark.parametrize(("length", "body"), BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_frame_that_is_not_one_honest_frame_rejected(length: int, body: bytes) -> None:
    with pytest.raises(NotSound) as error:
        opened(message(1, length, body))
    assert error.value.step == 10


WORDS = b"hello"
BAD_MESSAGES = {
    "codec 2": message(2, 5, WORDS),
    "codec 255": message(255, 5, WORDS),
    "codec 2 with a frame": message(2, 300, FRAME),
    "raw, of a smaller length": message(0, 4, WORDS),
    "raw, of a greater length": message(0, 6, WORDS),
    "raw, of no length": message(0, 0, WORDS),
    "raw, over a mebibyte": message(0, MAX_PIECE + 1, bytes(MAX_PIECE + 1)),
    "raw, of the greatest length": message(0, 2**32 - 1, WORDS),
    "a body that ends behind the message": message(0, 500, WORDS, length=500),
    "a body that ends one byte behind the message": message(0, 248, bytes(247), length=248),
    "a body over a mebibyte": message(1, MAX_PIECE, bytes(MAX_PIECE + 1)),
    "the greatest body": message(0, 2**32 - 1, WORDS, length=2**32 - 1),
    "a frame that ends behind the message": message(1, 300, FRAME, length=400),
    "padding of one": message(0, 5, WORDS, padding=b"\x01"),
    "padding that ends with one": message(0, 5, WORDS)[:-1] + b"\x01",
    "padding of 128": message(0, 5, WORDS)[:-1] + b"\x80",
    "padding of spaces": message(0, 5, WORDS).replace(b"\x00" * 9, b" " * 9),
    "padding behind a frame": message(1, 300, FRAME, padding=b"\x00\x01"),
    "a byte of padding too much": message(0, 5, WORDS) + b"\x00",
    "padding to the next step": message(0, 5, WORDS).ljust(264, b"\x00"),
    "twice the padding": message(0, 5, WORDS).ljust(512, b"\x00"),
    "a mebibyte of padding": message(0, 5, WORDS).ljust(MAX_PIECE, b"\x00"),
    "a byte of padding too little": message(0, 300, bytes(300))[:-1],
    "no padding": message(0, 300, bytes(300))[:309],
}


@pytest.mark.parametrize("made", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_message_that_sealing_never_makes_rejected(made: bytes) -> None:
    with pytest.raises(NotSound) as error:
        opened(made)
    assert error.value.step == 10


def test_every_place_of_the_padding_counts() -> None:
    good = message(0, 5, WORDS)
    assert opened(good) == WORDS
    for at in range(14, len(good)):
        with pytest.raises(NotSound, match="padding"):
            opened(good[:at] + b"\x01" + good[at + 1 :])


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 255), st.integers(0, 400), st.integers(0, 400), st.binary(max_size=300))
def test_whatever_opens_is_what_its_header_says(codec: int, raw_length: int, length: int, body: bytes) -> None:
    made = message(codec, raw_length, body, length=length)
    try:
        content = opened(made)
    except NotSound as error:
        if error.step != 10:
            raise
    else:
        assert len(content) == raw_length
        assert made == message(codec, raw_length, made[9 : 9 + length])


@pytest.mark.parametrize("length", [0, 1, 255, 4096, 1 << 20])
def test_the_cipher_is_that_of_the_public_binding(length: int) -> None:
    from nacl.bindings import (
        crypto_aead_xchacha20poly1305_ietf_decrypt,
        crypto_aead_xchacha20poly1305_ietf_encrypt,
    )
    from nacl.exceptions import CryptoError

    from store import aead

    message, header, key = os.urandom(length), os.urandom(20), os.urandom(32)
    sealed = aead.encrypt(message, header, key)
    assert sealed == crypto_aead_xchacha20poly1305_ietf_encrypt(message, header, bytes(24), key)
    assert crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, header, bytes(24), key) == message
    assert aead.decrypt(sealed, header, key) == message
    changed = bytes([sealed[0] ^ 1]) + sealed[1:]
    for text, said, secret in (
        (changed, header, key),
        (sealed[:-1], header, key),
        (sealed[:15], header, key),
        (b"", header, key),
        (sealed, header[:-1], key),
        (sealed, header, bytes(32)),
        (sealed, header, key[:31]),
        (sealed, header, key + b"x"),
    ):
        with pytest.raises(CryptoError):
            aead.decrypt(text, said, secret)
    with pytest.raises(CryptoError):
        aead.encrypt(message, header, key[:31])
