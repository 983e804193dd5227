"""RFC 6962's tree against its definition, and every way to spoil a proof."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest

from ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    check_consistency,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    range_root,
    root_from_inclusion,
    root_of,
)
from schemas.errors import NotSound
from tests import naive_tree as naive

EXHAUSTIVE = 65
LARGE = (127, 128, 129, 256, 257, 1000)
LEAVES = [leaf_hash(b"leaf %d" % i) for i in range(1000)]


@cache
def root_at(size: int) -> bytes:
    return naive.root(LEAVES[:size])


@cache
def read(level: int, position: int) -> bytes:
    """What a store of complete subtrees answers."""
    leaves = LEAVES[position << level : (position + 1) << level]
    assert len(leaves) == 1 << level, "asked for a subtree that is not complete"
    return naive.root(leaves)


def reader_of(size: int) -> Callable[[int, int], bytes]:
    def within(level: int, position: int) -> bytes:
        assert (position + 1) << level <= size, "asked for leaves behind the end"
        return read(level, position)

    return within


# The tree of the Certificate Transparency reference implementation: leaves, roots and proofs as published.
CT_LEAVES = [
    bytes.fromhex(x)
    for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION = {
    (0, 8): "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7 "
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e "
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    (5, 8): "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b "
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0 "
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    (2, 3): "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    (1, 5): "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d "
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e "
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
}
CT_CONSISTENCY = {
    (1, 1): "",
    (1, 8): CT_INCLUSION[0, 8],
    (6, 8): "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a "
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0 "
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    (2, 5): "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e "
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    (6, 7): "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a "
    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f "
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
}


def ct_read(level: int, position: int) -> bytes:
    return naive.root([leaf_hash(x) for x in CT_LEAVES[position << level : (position + 1) << level]])


def hashes_of(text: str) -> list[bytes]:
    return [bytes.fromhex(x) for x in text.split()]


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert root_of([leaf_hash(x) for x in CT_LEAVES[:size]]).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("index", "size"), CT_INCLUSION)
def test_published_inclusion_proofs(index: int, size: int) -> None:
    proof = inclusion_proof(ct_read, index, size)
    assert proof == hashes_of(CT_INCLUSION[index, size])
    assert root_from_inclusion(leaf_hash(CT_LEAVES[index]), index, size, proof).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("old", "size"), CT_CONSISTENCY)
def test_published_consistency_proofs(old: int, size: int) -> None:
    proof = consistency_proof(ct_read, old, size)
    assert proof == hashes_of(CT_CONSISTENCY[old, size])
    check_consistency(old, bytes.fromhex(CT_ROOTS[old]), size, bytes.fromhex(CT_ROOTS[size]), proof)


def test_roots_and_frontiers_equal_the_definition() -> None:
    grown = Frontier()
    assert grown.root() == EMPTY_ROOT
    for size in range(131):
        assert grown.size == size
        assert grown.root() == root_at(size) == root_of(LEAVES[:size])
        assert grown.hashes == naive.frontier(LEAVES[:size])
        grown.append(LEAVES[size])


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 63, 64, 100])
def test_a_frontier_goes_on_from_its_hashes(size: int) -> None:
    frontier = Frontier(size, naive.frontier(LEAVES[:size]))
    for leaf in LEAVES[size:130]:
        frontier.append(leaf)
    assert frontier.root() == root_at(130)


def test_a_copy_is_independent() -> None:
    first = Frontier(3, naive.frontier(LEAVES[:3]))
    second = first.copy()
    second.append(LEAVES[3])
    assert (first.size, first.root()) == (3, root_at(3))
    assert (second.size, second.root()) == (4, root_at(4))


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 8, 64, 100])
def test_leaves_added_together_make_the_tree_of_leaves_added_one_by_one(start: int) -> None:
    for end in range(start, 131):
        frontier = Frontier(start, naive.frontier(LEAVES[:start]))
        frontier.extend(LEAVES[start:end])
        assert (frontier.size, frontier.hashes) == (end, naive.frontier(LEAVES[:end]))


def test_complete_subtrees_of_256_leaves_are_told_once_each_however_leaves_come() -> None:
    leaves = [leaf_hash(n.to_bytes(3, "big")) for n in range(70_000)]
    for step in (70_000, 4_096, 777):
        frontier, told = Frontier(), []
        for at in range(0, len(leaves), step):
            told += frontier.extend(leaves[at : at + step])
        tiles = [root_of(leaves[at : at + 256]) for at in range(0, 69_888, 256)]
        assert [node for level, node in told if level == 8] == tiles
        assert [node for level, node in told if level == 16] == [root_of(leaves[:65_536])]
        assert {level for level, _ in told} == {8, 16}


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 0), (1, 2), (2, 2), (3, 1), (7, 2), (7, 4), (8, 3), (8, 0)])
def test_a_frontier_of_the_wrong_length_rejected(size: int, count: int) -> None:
    with pytest.raises(NotSound) as error:
        Frontier(size, LEAVES[:count])
    assert error.value.step == 4


def test_a_leaf_is_no_node() -> None:
    """Second preimage: the bytes of two child hashes, taken as a leaf, do not hash as their node."""
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])
    assert root_of([leaf_hash(LEAVES[0] + LEAVES[1])]) != root_at(2)


# Proofs: every pair to 65, and some beyond.


def places() -> Iterator[tuple[int, int]]:
    yield from ((index, size) for size in range(1, EXHAUSTIVE + 1) for index in range(size))
    yield from ((index, size) for size in LARGE for index in sorted({0, 1, size // 2, size - 2, size - 1}))


def pairs() -> Iterator[tuple[int, int]]:
    yield from ((old, size) for size in range(1, EXHAUSTIVE + 1) for old in range(1, size + 1))
    yield from ((old, size) for size in LARGE for old in sorted({1, 2, size // 2, size // 2 + 1, size - 1, size}))


def spoiled(proof: Sequence[bytes]) -> Iterator[list[bytes]]:
    """A proof with one bit flipped, a hash dropped, added, exchanged, cut or lengthened, or all in reverse."""
    proof = list(proof)
    for i, hash in enumerate(proof):
        for at in (0, i % 32, 31):
            yield [*proof[:i], hash[:at] + bytes([hash[at] ^ 1 << i % 8]) + hash[at + 1 :], *proof[i + 1 :]]
        yield proof[:i] + proof[i + 1 :]
        yield [*proof[:i], hash[:-1], *proof[i + 1 :]]
        yield [*proof[:i], hash + b"\x00", *proof[i + 1 :]]
        yield [*proof[:i], b"", *proof[i + 1 :]]
        yield [*proof[:i], hash, *proof[i:]]
        yield from ([*proof[:i], proof[j], *proof[i + 1 : j], hash, *proof[j + 1 :]] for j in range(i + 1, len(proof)))
    for extra in (bytes(32), LEAVES[0], LEAVES[-1]):
        yield [*proof, extra]
        yield [extra, *proof]
    if proof:
        yield []


def includes(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    try:
        return root_from_inclusion(leaf, index, size, proof) == root
    except NotSound as error:
        if error.step != 4:
            raise
        return False


def consistent(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    try:
        check_consistency(old, old_root, size, root, proof)
    except NotSound as error:
        if error.step != 8:
            raise
        return False
    return True


def test_inclusion_proofs_equal_the_definition() -> None:
    for index, size in places():
        proof = inclusion_proof(reader_of(size), index, size)
        assert proof == naive.path(index, LEAVES[:size]), (index, size)
        assert includes(index, size, LEAVES[index], root_at(size), proof), (index, size)


def test_consistency_proofs_equal_the_definition() -> None:
    for old, size in pairs():
        proof = consistency_proof(reader_of(size), old, size)
        assert proof == naive.proof(old, LEAVES[:size]), (old, size)
        assert consistent(old, root_at(old), size, root_at(size), proof), (old, size)


def test_a_spoiled_inclusion_proof_rejected() -> None:
    for index, size in places():
        for proof in spoiled(inclusion_proof(read, index, size)):
            assert not includes(index, size, LEAVES[index], root_at(size), proof), (index, size)


def test_a_spoiled_consistency_proof_rejected() -> None:
    for old, size in pairs():
        for proof in spoiled(consistency_proof(read, old, size)):
            assert not consistent(old, root_at(old), size, root_at(size), proof), (old, size)


def test_every_bit_of_a_proof_counts() -> None:
    inclusion, consistency = inclusion_proof(read, 37, 70), consistency_proof(read, 37, 70)
    for bit in range(256):
        for i in range(len(inclusion)):
            assert not includes(37, 70, LEAVES[37], root_at(70), flipped(inclusion, i, bit))
        for i in range(len(consistency)):
            assert not consistent(37, root_at(37), 70, root_at(70), flipped(consistency, i, bit))


def flipped(proof: list[bytes], i: int, bit: int) -> list[bytes]:
    changed = (int.from_bytes(proof[i], "big") ^ 1 << bit).to_bytes(32, "big")
    return [*proof[:i], changed, *proof[i + 1 :]]


def test_inclusion_at_another_index_rejected() -> None:
    for size in range(1, 40):
        for index in range(size):
            proof = inclusion_proof(read, index, size)
            for other in [*range(-1, index), *range(index + 1, size + 2)]:
                assert not includes(other, size, LEAVES[index], root_at(size), proof), (index, other, size)


def test_inclusion_under_another_head_rejected() -> None:
    for size in range(1, 40):
        for index in range(size):
            proof = inclusion_proof(read, index, size)
            for other in [*range(size), *range(size + 1, 42)]:
                assert not includes(index, other, LEAVES[index], root_at(other), proof), (index, size, other)


def test_inclusion_of_another_leaf_rejected() -> None:
    for index, size in places():
        proof = inclusion_proof(read, index, size)
        assert not includes(index, size, LEAVES[(index + 1) % 1000], root_at(size), proof)
        assert not includes(index, size, root_at(size) if size > 1 else LEAVES[1], root_at(size), proof)


def test_consistency_between_other_heads_rejected() -> None:
    for size in range(1, 40):
        for old in range(1, size + 1):
            proof = consistency_proof(read, old, size)
            others = [(old + 1, size), (old - 1, size), (old, size + 1), (old, size - 1), (size, old), (0, size)]
            for a, b in others:
                if (a, b) != (old, size) and a != b:
                    assert not consistent(a, root_at(a), b, root_at(b), proof), (old, size, a, b)
            assert old == size or not consistent(old, root_at(size), size, root_at(old), proof)


def test_a_rewritten_history_rejected() -> None:
    """The new tree has another leaf in place of an old one: no proof of either tree links it to the old head."""
    for size in range(2, 40):
        for old in range(1, size):
            forged = [*LEAVES[: old - 1], leaf_hash(b"rewritten"), *LEAVES[old:size]]
            for proof in (naive.proof(old, forged), naive.proof(old, LEAVES[:size])):
                assert not consistent(old, root_at(old), size, naive.root(forged), proof), (old, size)


def test_equal_sizes_with_other_roots_rejected() -> None:
    assert consistent(5, root_at(5), 5, root_at(5), [])
    assert not consistent(5, root_at(5), 5, root_at(6), [])
    assert not consistent(5, root_at(5), 5, root_at(5), [root_at(5)])


@pytest.mark.parametrize(("old", "size"), [(0, 0), (0, 5), (-1, 5), (6, 5), (1, 0)])
def test_consistency_of_impossible_sizes_rejected(old: int, size: int) -> None:
    assert not consistent(old, EMPTY_ROOT, size, root_at(max(size, 0)), [])
    with pytest.raises(ValueError):
        consistency_proof(read, old, size)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (6, 5), (-1, 5), (0, -1)])
def test_inclusion_outside_of_the_tree_rejected(index: int, size: int) -> None:
    assert not includes(index, size, LEAVES[0], LEAVES[0], [])
    with pytest.raises(ValueError):
        inclusion_proof(read, index, size)


@pytest.mark.parametrize("size", [2**53 - 1, 2**60, 2**63])
def test_a_proof_without_end_rejected(size: int) -> None:
    """Sizes that no log has: the loop ends with the proof, not with memory."""
    assert not includes(size - 1, size, LEAVES[0], LEAVES[0], [LEAVES[1]] * 200)
    assert not includes(0, size, LEAVES[0], LEAVES[0], [LEAVES[1]] * 3)
    assert not consistent(size - 1, LEAVES[0], size, LEAVES[0], [LEAVES[1]] * 200)


def test_ranges_split_where_the_rfc_splits() -> None:
    for size in range(1, EXHAUSTIVE):
        assert range_root(read, 0, size) == root_at(size)
        assert range_root(read, 64, 64 + size) == naive.root(LEAVES[64 : 64 + size])
