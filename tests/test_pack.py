"""Packs: what is written is read, and nothing else is."""

import struct
from random import Random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import NotSound
from store import pack
from store.pack import FIRST, MAX_CHECKPOINT, MAX_LEAVES, MAX_PACK, Pack

SALT = b"salt of 16 bytes"
TRAILER = bytes(range(32))
FRONTIER = [b"x" * 32, b"y" * 32, b"z" * 32]
BLOBS = [(b"1" * 32, b"first blob"), (b"2" * 32, b""), (b"3" * 32, b"third " * 9)]
LARGE = [(b"4" * 32, 65_536), (b"5" * 32, 2**32 - 1)]
LEAVES = [b'{"kind":"a"}', b'{"kind":"b"}', b"signature"]
DATA = pack.build(5, 7, TRAILER, SALT, FRONTIER, b"a checkpoint", BLOBS, LARGE, LEAVES)
SMALLEST = pack.build(0, 0, FIRST, SALT, [], b"", [], [], [b"a", b"b"])


def sealed(body: bytes) -> bytes:
    """With the trailer that belongs to it: what somebody makes who knows the format."""
    return body + blake3(body).digest()


def again(found: Pack) -> bytes:
    blobs = list(zip(found.cids, found.blobs, strict=True))
    large = list(zip(found.large, found.large_sizes, strict=True))
    fields = (found.number, found.size, found.previous, found.salt, found.frontier, found.checkpoint)
    return pack.build(*fields, blobs, large, found.leaves)


def refused(data: bytes) -> bool:
    try:
        pack.parse(data)
    except NotSound as error:
        return error.step == 2
    return False


def test_a_pack_is_laid_out_as_the_book_says() -> None:
    body = DATA[:-32]
    assert body[:4] == bytes.fromhex("4c500100")
    assert struct.unpack_from("<QQ", body, 4) == (5, 7)
    assert (body[20:52], body[52:68]) == (TRAILER, SALT)
    assert struct.unpack_from("<4I", body, 68) == (12, 3, 2, 3)
    cids = b"".join(cid for cid, _ in [*BLOBS, *LARGE])
    sizes = struct.pack("<5I3H", 10, 0, 54, 65_536, 2**32 - 1, 12, 12, 9)
    rest = b"".join(data for _, data in BLOBS) + b"".join(LEAVES)
    assert body[84:] == b"".join(FRONTIER) + b"a checkpoint" + cids + sizes + rest
    assert DATA[-32:] == blake3(body).digest()


def test_a_pack_is_read_back() -> None:
    found = pack.parse(DATA)
    assert found == Pack(
        5,
        7,
        TRAILER,
        SALT,
        tuple(FRONTIER),
        b"a checkpoint",
        [cid for cid, _ in BLOBS],
        [data for _, data in BLOBS],
        [cid for cid, _ in LARGE],
        tuple(size for _, size in LARGE),
        LEAVES,
        DATA[-32:],
    )
    assert found.end == 10
    assert again(found) == DATA
    assert again(pack.parse(SMALLEST)) == SMALLEST
    assert pack.peek_size(DATA[:20]) == 7


def test_offsets_lead_to_blobs_and_leaves() -> None:
    found = pack.parse(DATA)
    pieces = [data for _, data in BLOBS] + LEAVES
    assert [DATA[at : at + len(piece)] for at, piece in zip(pack.offsets(found), pieces, strict=True)] == pieces


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "packs/0000000000/000.pack"),
        (255, "packs/0000000000/255.pack"),
        (256, "packs/0000000001/000.pack"),
        (2**32 + 7, "packs/0016777216/007.pack"),
    ],
)
def test_names(number: int, name: str) -> None:
    assert pack.name(number) == name


blobs = st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.binary(max_size=80)), max_size=5)
large = st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1)), max_size=5)
leaf_lists = st.lists(st.binary(max_size=80), min_size=2, max_size=8)
sizes = st.integers(0, 2**53 - 1)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**64 - 1), sizes, st.binary(max_size=50), blobs, large, leaf_lists)
def test_any_pack_is_read_back(
    number: int,
    size: int,
    checkpoint: bytes,
    inside: list[tuple[bytes, bytes]],
    outside: list[tuple[bytes, int]],
    leaves: list[bytes],
) -> None:
    frontier = [bytes([i]) * 32 for i in range(size.bit_count())]
    data = pack.build(number, size, TRAILER, SALT, frontier, checkpoint, inside, outside, leaves)
    found = pack.parse(data)
    assert again(found) == data
    assert (found.number, found.size, found.checkpoint, found.leaves) == (number, size, checkpoint, leaves)
    assert list(zip(found.cids, found.blobs, strict=True)) == inside
    assert list(zip(found.large, found.large_sizes, strict=True)) == outside
    assert len(data) <= pack.overhead(len(leaves), len(inside) + len(outside)) + sum(
        map(len, [checkpoint, *leaves, *(blob for _, blob in inside)])
    )


def test_every_bit_of_a_pack_counts() -> None:
    for at in range(len(DATA)):
        for bit in range(8):
            assert refused(DATA[:at] + bytes([DATA[at] ^ 1 << bit]) + DATA[at + 1 :]), (at, bit)


def test_every_truncation_rejected() -> None:
    for length in range(len(DATA)):
        assert refused(DATA[:length]), length
        assert length == len(DATA) - 32 or refused(sealed(DATA[:length])), length
        assert refused(DATA[length + 1 :]), length


@pytest.mark.parametrize("tail", [b"\x00", bytes(32), b"x" * 100, DATA[-32:], DATA])
def test_a_pack_with_more_behind_it_rejected(tail: bytes) -> None:
    assert refused(DATA + tail)
    assert refused(sealed(DATA[:-32] + tail))


@pytest.mark.parametrize("at", [0, 1, 20, 84, 84 + 96, 84 + 96 + 12, len(DATA) - 40, len(DATA) - 33])
def test_a_pack_with_bytes_between_rejected(at: int) -> None:
    for more in (b"\x00", b"\x00\x00\x00\x00", bytes(32)):
        assert refused(sealed(DATA[:at] + more + DATA[at:-32]))
        assert refused(sealed(DATA[:at] + DATA[at + len(more) : -32]))


def altered(offset: int, form: str, value: int, data: bytes = DATA) -> bytes:
    changed = bytearray(data[:-32])
    struct.pack_into(form, changed, offset, value)
    return sealed(bytes(changed))


HOSTILE = {
    "another magic": altered(0, "<B", 0x4B),
    "version 2": altered(2, "<B", 2),
    "version 1.1": altered(3, "<B", 1),
    "a size of 2^53": altered(12, "<Q", 2**53),
    "the greatest size": altered(12, "<Q", 2**64 - 1),
    "a size with fewer hashes": altered(12, "<Q", 3),
    "a size with more hashes": altered(12, "<Q", 15),
    "a longer checkpoint": altered(68, "<I", 13),
    "a shorter checkpoint": altered(68, "<I", 11),
    "the longest checkpoint": altered(68, "<I", 2**32 - 1),
    "a blob more": altered(72, "<I", 4),
    "a blob less": altered(72, "<I", 2),
    "the most blobs": altered(72, "<I", 2**32 - 1),
    "the most blobs outside": altered(76, "<I", 2**32 - 1),
    "the most of both": altered(76, "<I", 2**32 - 1, altered(72, "<I", 2**32 - 1)),
    "a blob outside more": altered(76, "<I", 3),
    "a blob outside less": altered(76, "<I", 1),
    "a leaf more": altered(80, "<I", 4),
    "a leaf less": altered(80, "<I", 2),
    "one leaf": altered(80, "<I", 1),
    "no leaf": altered(80, "<I", 0),
    "the most leaves": altered(80, "<I", 2**32 - 1),
    "a longer blob": altered(84 + 96 + 12 + 160, "<I", 11),
    "the longest blob": altered(84 + 96 + 12 + 160, "<I", 2**32 - 1),
    "a longer leaf": altered(84 + 96 + 12 + 160 + 20, "<H", 13),
    "the longest leaf": altered(84 + 96 + 12 + 160 + 20, "<H", 65_535),
    "nothing": b"",
    "a trailer alone": sealed(b""),
    "a head alone": sealed(DATA[:84]),
    "zeros": sealed(bytes(500)),
    "one leaf, all else right": pack.build(0, 0, FIRST, SALT, [], b"", [], [], [b"a"]),
    "no leaf, all else right": pack.build(0, 0, FIRST, SALT, [], b"", [], [], []),
    "too many leaves, all else right": pack.build(0, 0, FIRST, SALT, [], b"", [], [], [b""] * (MAX_LEAVES + 1)),
    "a checkpoint too long, all else right": pack.build(
        0, 0, FIRST, SALT, [], bytes(MAX_CHECKPOINT + 1), [], [], [b"a", b"b"]
    ),
    "a frontier too long": pack.build(0, 0, FIRST, SALT, [bytes(32)], b"", [], [], [b"a", b"b"]),
    "a frontier too short": pack.build(0, 1, FIRST, SALT, [], b"", [], [], [b"a", b"b"]),
    "the trailer of another hash": DATA[:-32] + bytes(32),
    "the trailer of another pack": DATA[:-32] + SMALLEST[-32:],
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pack_rejected(data: bytes) -> None:
    assert refused(data)


def test_a_pack_over_64_mebibytes_rejected() -> None:
    room = MAX_PACK - len(SMALLEST) - 36
    most = pack.build(0, 0, FIRST, SALT, [], b"", [(bytes(32), bytes(room))], [], [b"a", b"b"])
    assert len(most) == MAX_PACK
    assert len(pack.parse(most).blobs[0]) == room
    assert refused(pack.build(0, 0, FIRST, SALT, [], b"", [(bytes(32), bytes(room + 1))], [], [b"a", b"b"]))


def test_as_many_leaves_and_as_long_a_checkpoint_as_may_be() -> None:
    most = pack.build(0, 0, FIRST, SALT, [], bytes(MAX_CHECKPOINT), [], [], [b"x"] * MAX_LEAVES)
    assert pack.parse(most).end == MAX_LEAVES


@pytest.mark.parametrize("head", [b"", DATA[:19], b"LP\x02\x00" + bytes(16), bytes(20), b"LB\x01\x00" + bytes(16)])
def test_a_head_that_begins_no_pack_rejected(head: bytes) -> None:
    with pytest.raises(NotSound) as error:
        pack.peek_size(head)
    assert error.value.step == 2


def test_a_damage_is_named_though_the_trailer_is_wrong() -> None:
    """`take_apart` gives the place of a damage; it checks all but the trailer."""
    changed = DATA[:-40] + b"?" + DATA[-39:]
    assert refused(changed)
    assert pack.take_apart(changed).leaves[-1] != LEAVES[-1]


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_a_pack(body: bytes) -> None:
    assert refused(body)
    for data in (sealed(body), sealed(DATA[:84] + body), sealed(SMALLEST[:68] + body)):
        assert refused(data) or again(pack.parse(data)) == data


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**32))
def test_a_changed_pack_is_refused_or_another_pack(seed: int) -> None:
    """Whatever passes has one spelling: nothing hides between the lines."""
    random = Random(seed)
    body = bytearray(random.choice([DATA, SMALLEST])[:-32])
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(body))
        change = random.randrange(4)
        if change == 0:
            body[at] = random.randrange(256)
        elif change == 1:
            del body[at : at + random.randrange(1, 40)]
        elif change == 2:
            body[at:at] = random.randbytes(random.randrange(1, 40))
        else:
            body[at] = (body[at] + random.choice([-1, 1])) % 256
        if not body:
            return
    data = sealed(bytes(body))
    assert refused(data) or again(pack.parse(data)) == data
