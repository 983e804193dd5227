"""Lists at verify, as one makes them who may write: each is found without a key, and both verifiers agree."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger
from ledger.log import system_clock
from schemas.entries import Artifact, encode
from schemas.ids import address
from store import lists
from store.blobs import large_name
from store.seal import cid
from tests.support.forge import Forger, key
from tests.support.machine import Place, copied, new_ledger
from tests.support.verdicts import sound, unsound


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        log.run("open").artifact("a content")
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(made, tmp_path / "place")
    with found.machine.here():
        yield found


def with_lists(place: Place, first: bytes, made: list[tuple[bytes, bytes]], *, apart: bool = False) -> None:
    """An entry that names `first`, and these objects, in the same pack or each in its own."""
    with ledger.open(place.path) as log:
        run, opened = next(iter(log.chain.state.history.runs.items()))
    entry = Artifact(v=1, time=system_clock(), run=run, step=opened.step + 1, content=address(first), digest="0" * 64)
    forger = Forger(place.path)
    if apart:
        for blob in made:
            forger.entries().sign(key()).commit(blobs=[blob])
        made = []
    forger.leaf(encode(entry)).sign(key()).commit(blobs=made)


def as_blob(cids: list[bytes]) -> tuple[bytes, bytes]:
    made = lists.build(cids)
    return made.cid, made.data


def as_it_is(data: bytes) -> tuple[bytes, bytes]:
    return cid(data), data


def sealed_there(place: Place) -> bytes:
    """A sealed blob of the ledger."""
    found = [blob for each in Forger(place.path).old for blob in zip(each.cids, each.blobs, strict=True)]
    return next(blob for blob, data in found if not lists.is_list(data))


APART = pytest.mark.parametrize("apart", [False, True])


@APART
def test_a_good_list_of_a_rogue_author_is_sound(place: Place, apart: bool) -> None:
    there = sealed_there(place)
    inner = as_blob([there, there])
    outer = as_blob([inner[0], there])
    with_lists(place, outer[0], [inner, outer], apart=apart)
    sound(place.path, place.trust.owner)


@APART
def test_a_list_whose_member_is_not_there_is_found_without_a_key(place: Place, apart: bool) -> None:
    for members in ([bytes(32)], [sealed_there(place), bytes(32)], [bytes(32), sealed_there(place)]):
        other = copied(place, place.path.parent.parent / members[0].hex()[:8])
        made = as_blob(members)
        with_lists(other, made[0], [made], apart=apart)
        report = unsound(other.path, place.trust.owner, 6)
        assert any("is missing" in finding.what for finding in report.findings)
        shutil.rmtree(other.path.parent)


def test_a_member_of_a_list_that_nothing_refers_to_must_be_there_too(place: Place) -> None:
    Forger(place.path).entries().sign(key()).commit(blobs=[as_blob([bytes(32)])])
    unsound(place.path, place.trust.owner, 6)


@APART
def test_a_list_that_names_an_absent_list_is_found(place: Place, apart: bool) -> None:
    absent = as_blob([sealed_there(place)])
    outer = as_blob([absent[0], sealed_there(place)])
    with_lists(place, outer[0], [outer], apart=apart)
    unsound(place.path, place.trust.owner, 6)


@APART
def test_a_list_elsewhere_than_first_is_found(place: Place, apart: bool) -> None:
    there = sealed_there(place)
    inner = as_blob([there])
    for members in ([there, inner[0]], [inner[0], inner[0]], [inner[0], there, inner[0]]):
        other = copied(place, place.path.parent.parent / "other")
        outer = as_blob(members)
        with_lists(other, outer[0], [inner, outer], apart=apart)
        unsound(other.path, place.trust.owner, 6)
        shutil.rmtree(other.path.parent)


@pytest.mark.parametrize("depth", [4096, 4097])
@pytest.mark.parametrize("packs", [1, 3])
def test_a_chain_over_4096_lists_is_found(place: Place, depth: int, packs: int) -> None:
    chain = [as_blob([sealed_there(place)])]
    while len(chain) < depth:
        chain.append(as_blob([chain[-1][0]]))
    forger = Forger(place.path)
    for part in range(1, packs):
        forger.entries().sign(key()).commit(blobs=chain[part::packs])
    with_lists(place, chain[-1][0], chain[0::packs])
    if depth == 4096:
        sound(place.path, place.trust.owner)
    else:
        report = unsound(place.path, place.trust.owner, 6)
        assert any("deeper than 4,096" in finding.what for finding in report.findings)


HEAD = b"LL\x01\x00"
MALFORMED = {
    "empty": HEAD,
    "nothing at all": b"",
    "half an address": HEAD + bytes(16),
    "a byte more": HEAD + bytes(33),
    "4,097 addresses": HEAD + bytes(32 * 4097),
    "version 2": b"LL\x02\x00" + bytes(32),
}


@pytest.mark.parametrize("what", MALFORMED)
@APART
def test_a_malformed_list_is_found(place: Place, what: str, apart: bool) -> None:
    bad = as_it_is(MALFORMED[what])
    with_lists(place, bad[0], [bad], apart=apart)
    report = unsound(place.path, place.trust.owner, 2, 6)
    assert report.findings


@pytest.mark.parametrize("what", ["empty", "half an address", "a byte more", "4,097 addresses"])
def test_a_malformed_list_outside_of_packs_is_found(place: Place, what: str) -> None:
    name, data = as_it_is(MALFORMED[what])
    file = place.path / large_name(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    Forger(place.path).entries().sign(key()).commit(large=[(name, len(data))])
    unsound(place.path, place.trust.owner, 6)


def test_a_list_that_is_too_deep_stops_nobody(place: Place) -> None:
    """Found by verify; the log goes on, and who reads it is told."""
    chain = [as_blob([sealed_there(place)])]
    while len(chain) < 4097:
        chain.append(as_blob([chain[-1][0]]))
    with_lists(place, chain[-1][0], chain)
    with ledger.open(place.path) as log:
        with pytest.raises(ledger.NotSound):
            log.read(address(chain[-1][0]))
        log.run("after").artifact("still written")
    unsound(place.path, place.trust.owner, 6)
