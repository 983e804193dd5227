"""Tiles and entry bundles (C2SP tlog-tiles): names, contents, going on from them, and torn ones."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest

from ledger.merkle import consistency_proof, inclusion_proof, leaf_hash
from ledger.tiles import (
    WIDTH,
    Builder,
    TileReader,
    bundle,
    bundle_name,
    number,
    parse_bundle,
    parse_tile,
    tile_name,
)
from schemas.errors import Missing, NotSound
from store.folder import Folder
from tests import naive_tree as naive

MOST = 70_000
LEAVES = [b"leaf %d" % i for i in range(MOST)]
SIZES = [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 1000, 65_535, 65_536, 65_537, 65_792, MOST]


@cache
def level_hashes(level: int) -> list[bytes]:
    """Roots of all complete subtrees of 256^level leaves."""
    if level == 0:
        return [leaf_hash(leaf) for leaf in LEAVES]
    below = level_hashes(level - 1)
    return [naive.root(below[i : i + 256]) for i in range(0, len(below) - 255, 256)]


@cache
def root_at(size: int) -> bytes:
    return naive.root(level_hashes(0)[:size])


def path_of(prefix: str, index: int, width: int) -> str:
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    name = "/".join([prefix, *("x" + g for g in groups[:-1]), groups[-1]])
    return name if width == 256 else f"{name}.p/{width}"


@cache
def expected(size: int) -> Mapping[str, bytes]:
    """Every object that C2SP asks for at a size, from the leaves alone."""
    found: dict[str, bytes] = {}
    level = 0
    while size >> 8 * level:
        count = size >> 8 * level
        for index in range(-(-count // 256)):
            hashes = level_hashes(level)[index * 256 : min(count, index * 256 + 256)]
            found[path_of(f"tile/{level}", index, len(hashes))] = b"".join(hashes)
        level += 1
    for index in range(-(-size // 256)):
        leaves = LEAVES[index * 256 : min(size, index * 256 + 256)]
        found[path_of("tile/entries", index, len(leaves))] = b"".join(
            len(leaf).to_bytes(2, "big") + leaf for leaf in leaves
        )
    return MappingProxyType(found)


def write(folder: Path, objects: Mapping[str, bytes]) -> Folder:
    for name, data in objects.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Folder(folder)


def edge(size: int) -> dict[str, bytes]:
    """The partial tiles of a size: all that `Builder.load` may need."""
    return {name: data for name, data in expected(size).items() if ".p/" in name}


def grow(builder: Builder, size: int) -> Builder:
    hashes = level_hashes(0)
    while builder.size < size:
        builder.append(LEAVES[builder.size], hashes[builder.size])
    return builder


NUMBERS = [
    (0, "000"),
    (7, "007"),
    (273, "273"),
    (999, "999"),
    (1000, "x001/000"),
    (1067, "x001/067"),
    (999_999, "x999/999"),
    (1_000_000, "x001/x000/000"),
    (1_234_067, "x001/x234/067"),
    (2**53, "x009/x007/x199/x254/x740/992"),
]


@pytest.mark.parametrize(("index", "path"), NUMBERS)
def test_numbers_are_in_groups_of_three(index: int, path: str) -> None:
    assert number(index) == path
    assert tile_name(0, index) == f"tile/0/{path}"
    assert tile_name(5, index, 255) == f"tile/5/{path}.p/255"
    assert bundle_name(index) == f"tile/entries/{path}"
    assert bundle_name(index, 1) == f"tile/entries/{path}.p/1"


def test_the_objects_of_a_log_of_70000_leaves() -> None:
    """The example of C2SP tlog-tiles."""
    objects = grow(Builder(), MOST).flush()
    names = {name for name in objects if not name.startswith("tile/entries")}
    assert sum(name.startswith("tile/0/") for name in names) == 274
    assert {name for name in names if ".p/" in name or not name.startswith("tile/0")} == {
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    }
    assert len([name for name in objects if name.startswith("tile/entries")]) == 274
    assert "tile/entries/273.p/112" in objects


@pytest.mark.parametrize("size", SIZES)
def test_objects_equal_the_definition(size: int) -> None:
    builder = grow(Builder(), size)
    assert builder.root() == root_at(size)
    assert builder.flush() == expected(size)


def test_every_size_to_600_step_by_step() -> None:
    """Whatever is published on the way, the objects that a size asks for are there, and tell one root."""
    builder, seen = Builder(), {}
    for size in range(601):
        grow(builder, size)
        seen |= builder.flush()
        assert builder.root() == root_at(size)
        wanted = expected(size)
        assert {name: seen.get(name) for name in wanted} == wanted
    assert set(builder.filled) == {name for name in expected(600) if ".p/" not in name}


def test_an_empty_log_has_no_tiles() -> None:
    assert Builder().flush() == {}
    assert Builder().root() == naive.root([])


@pytest.mark.parametrize("size", SIZES)
def test_a_builder_goes_on_from_the_edge(size: int, tmp_path: Path) -> None:
    builder = Builder.load(write(tmp_path, edge(size)), size)
    assert (builder.size, builder.root()) == (size, root_at(size))
    more = min(MOST, size + 300)
    new = grow(builder, more).flush()
    assert new.items() >= {k: v for k, v in expected(more).items() if k not in expected(size)}.items()
    assert builder.root() == root_at(more)


@pytest.mark.parametrize("size", [1, 255, 257, 65_537, MOST])
def test_a_builder_without_one_of_its_tiles_rejected(size: int, tmp_path: Path) -> None:
    for i, missing in enumerate(edge(size)):
        folder = write(tmp_path / str(i), {k: v for k, v in edge(size).items() if k != missing})
        with pytest.raises(Missing):
            Builder.load(folder, size)


def torn(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 64 * 32
    return {
        "empty": b"",
        "cut by a byte": data[:-1],
        "cut to one byte": data[:1],
        "cut by a hash": data[:-32],
        "longer by a byte": data + b"\x00",
        "longer by a hash": data + bytes(32),
        "zeros": bytes(len(data)),
        "a bit flipped at the beginning": bytes([data[0] ^ 1]) + data[1:],
        "a bit flipped at the end": data[:-1] + bytes([data[-1] ^ 0x80]),
        "its halves exchanged": data[middle:] + data[:middle],
    }


TORN = list(torn(bytes(range(64))))


@pytest.mark.parametrize("how", TORN)
@pytest.mark.parametrize("size", [3, 255, 257, 65_537, MOST])
def test_a_builder_from_a_torn_tile_rejected(size: int, how: str, tmp_path: Path) -> None:
    """Either it does not load, or its root tells; the caller compares that."""
    for i, (name, data) in enumerate(edge(size).items()):
        if torn(data)[how] == data:
            continue
        folder = write(tmp_path / str(i), edge(size) | {name: torn(data)[how]})
        try:
            root = Builder.load(folder, size).root()
        except NotSound:
            continue
        assert root != root_at(size), name


def test_a_bundle_that_is_not_its_tile_rejected(tmp_path: Path) -> None:
    """Tile and bundle each whole, but of different leaves."""
    objects = edge(7) | {"tile/entries/000.p/7": bundle(LEAVES[1:8])}
    with pytest.raises(NotSound) as error:
        Builder.load(write(tmp_path, objects), 7)
    assert error.value.step == 7


BUNDLE = bundle([b"a", b"", b"bc" * 300, b"\x00\x01x"])


def test_a_bundle_is_read_back() -> None:
    assert BUNDLE[:6] == b"\x00\x01a\x00\x00\x02"
    assert parse_bundle(BUNDLE) == [b"a", b"", b"bc" * 300, b"\x00\x01x"]
    assert parse_bundle(b"") == []
    assert parse_bundle(bundle([b"x" * 65_535])) == [b"x" * 65_535]


@pytest.mark.parametrize("cut", [1, 2, 4, 6, 7, 100, len(BUNDLE) - 6, len(BUNDLE) - 4, len(BUNDLE) - 1])
def test_a_torn_bundle_rejected(cut: int) -> None:
    with pytest.raises(NotSound) as error:
        parse_bundle(BUNDLE[:cut])
    assert error.value.step == 7


def test_a_leaf_too_long_for_a_bundle_is_never_written() -> None:
    with pytest.raises(OverflowError):
        bundle([b"x" * 65_536])


@pytest.mark.parametrize("length", [1, 31, 33, 63, 32 * 256 - 1, 32 * 256 + 1, 32 * 257])
def test_a_torn_tile_rejected(length: int) -> None:
    with pytest.raises(NotSound) as error:
        parse_tile(bytes(length))
    assert error.value.step == 7


# Reading: proofs from tiles.


@pytest.mark.parametrize("size", [1, 5, 255, 256, 257, 700])
def test_every_complete_subtree_is_read_from_tiles(size: int, tmp_path: Path) -> None:
    reader = TileReader(write(tmp_path, expected(size)), size)
    for level in range(size.bit_length()):
        for position in range(size >> level):
            leaves = level_hashes(0)[position << level : (position + 1) << level]
            assert reader.read(level, position) == naive.root(leaves)
    assert [reader.leaf(i) for i in range(size)] == LEAVES[:size]


@pytest.mark.parametrize("size", [65_537, MOST])
def test_proofs_from_tiles_equal_the_definition(size: int, tmp_path: Path) -> None:
    reader, hashes = TileReader(write(tmp_path, expected(size)), size), level_hashes(0)[:size]
    for index in (0, 255, 256, 65_535, 65_536, size - 1):
        assert inclusion_proof(reader.read, index, size) == naive.path(index, hashes)
    for old in (1, 256, 65_536, size - 1):
        assert consistency_proof(reader.read, old, size) == naive.proof(old, hashes)


def test_a_full_tile_stands_in_for_its_partial_one(tmp_path: Path) -> None:
    """Partial tiles may go once the full one is there."""
    objects = {**expected(300), **expected(512)}
    del objects["tile/0/001.p/44"], objects["tile/entries/001.p/44"]
    reader = TileReader(write(tmp_path, objects), 300)
    assert inclusion_proof(reader.read, 299, 300) == naive.path(299, level_hashes(0)[:300])
    assert reader.leaf(299) == LEAVES[299]


def test_a_missing_tile_is_named(tmp_path: Path) -> None:
    objects = dict(expected(300))
    del objects["tile/0/001.p/44"], objects["tile/entries/001.p/44"]
    reader = TileReader(write(tmp_path, objects), 300)
    with pytest.raises(Missing, match="tile/0/001"):
        reader.read(0, 299)
    with pytest.raises(Missing, match="tile/entries/001"):
        reader.leaf(299)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 43 * 32, 44 * 32 - 1])
def test_a_proof_from_a_short_tile_rejected(length: int, tmp_path: Path) -> None:
    objects = dict(expected(300))
    objects["tile/0/001.p/44"] = objects["tile/0/001.p/44"][:length]
    reader = TileReader(write(tmp_path, objects), 300)
    with pytest.raises(NotSound) as error:
        inclusion_proof(reader.read, 0, 300)
    assert error.value.step == 7


@pytest.mark.parametrize("count", [0, 1, 43])
def test_a_leaf_from_a_short_bundle_rejected(count: int, tmp_path: Path) -> None:
    objects = dict(expected(300)) | {"tile/entries/001.p/44": bundle(LEAVES[256 : 256 + count])}
    with pytest.raises(NotSound) as error:
        TileReader(write(tmp_path, objects), 300).leaf(299)
    assert error.value.step == 7


def test_the_width_of_a_tile() -> None:
    assert WIDTH == 256
