"""Disclosure: one content leaves the ledger, provably the one that was recorded, and nothing else with it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

import ledger
from ledger import homes
from ledger.disclose import Disclosure, check, disclose
from ledger.erase import erase
from ledger.log import system_clock
from schemas.entries import Disclosure as DisclosureEntry
from schemas.errors import CannotTell, Erased, KeyUnusable, LedgerError, Malformed, NotFound, NotSound, TooLarge
from schemas.ids import address, cid_of
from store import lists
from store.blobs import Prepared
from store.seal import MAX_PIECE, Blob, cid, unseal_disclosed
from store.signers import Verifier
from tests.support.machine import ORIGIN, Machine, Place, copied, new_ledger
from tests.support.verdicts import sound

ROOT = Path(__file__).parent.parent

CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "small": b"a small content",
    "large": os.urandom(100_000),
    "list": os.urandom(2_500_000),
    "other": b"another small content",
}


class Told(NamedTuple):
    """A ledger and the addresses of its contents, by name."""

    place: Place
    run: str
    at: dict[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Told:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        run = log.run("run")
        at = {name: run.artifact(content).address for name, content in CONTENTS.items()}
        words = [os.urandom(600).hex() for _ in range(6)]
        for turn in (3, 6):
            body = msgspec.json.encode({"model": "m", "instructions": "x" * 2000, "input": words[:turn]})
            CONTENTS[f"turn {turn}"] = body
            at[f"turn {turn}"] = run.prompt(body).address
        return Told(place, run.id, at)


@pytest.fixture
def told(made: Told, tmp_path: Path) -> Iterator[Told]:
    place = copied(made.place, tmp_path / "place")
    with place.machine.here():
        yield made._replace(place=place)


@pytest.fixture
def owner(told: Told) -> Verifier:
    return Verifier.parse(told.place.trust.owner)


def disclosed(told: Told, name: str) -> Disclosure:
    with ledger.open(told.place.path) as log:
        return disclose(log, told.at[name])


def refused(found: Disclosure, owner: Verifier, *steps: int) -> None:
    with pytest.raises(NotSound) as raised:
        check(Disclosure.parse(found.encode()), owner)
    assert raised.value.step in steps, raised.value


def content(found: Disclosure) -> bytes:
    return b"".join(found.pieces())


def changed(found: Disclosure, **changes: object) -> Disclosure:
    return msgspec.structs.replace(found, **changes)


@pytest.mark.parametrize("name", [*CONTENTS, "turn 3", "turn 6"])
def test_what_is_disclosed_is_what_was_recorded(told: Told, owner: Verifier, name: str) -> None:
    found = Disclosure.parse(disclosed(told, name).encode())
    checked, length = check(found, owner)
    assert length == len(CONTENTS[name])
    assert content(found) == CONTENTS[name]
    assert checked.author == f"{ORIGIN}/main"
    assert getattr(checked.entry, "content", "") == told.at[name]


def test_a_disclosure_holds_without_the_ledger_and_the_machine(told: Told, tmp_path: Path) -> None:
    file = tmp_path / "disclosure"
    file.write_bytes(disclosed(told, "small").encode())
    with Machine.under(tmp_path / "elsewhere").here():
        report = ledger.verify(file, trust=told.place.trust)
    assert report.sound
    assert report.what == "disclosure"


def test_that_something_was_disclosed_is_recorded(told: Told) -> None:
    disclosed(told, "small")
    with ledger.open(told.place.path) as log:
        last = list(log.entries())[-1].entry
    assert isinstance(last, DisclosureEntry)
    assert last.content == told.at["small"]
    sound(told.place.path, told.place.trust.owner)


def test_what_can_not_be_recorded_is_not_disclosed(told: Told, tmp_path: Path) -> None:
    [author] = told.place.machine.keys.rglob("author.key")
    author.unlink()
    with ledger.open(told.place.path) as log, pytest.raises(KeyUnusable):
        disclose(log, told.at["small"])


def test_its_keys_open_exactly_the_blobs_of_that_content(told: Told) -> None:
    found = disclosed(told, "list")
    with ledger.open(told.place.path) as log:
        log.catch_up_places()
        mine = {blob for blob, _ in lists.leaves(cid_of(told.at["list"]), log.blobs.get)}
        assert {bytes.fromhex(each) for each in found.keys} == mine
        others = {
            blob: data
            for name in told.at
            for blob, data in lists.leaves(cid_of(told.at[name]), log.blobs.get)
            if blob not in mine
        }
    assert len(others) > 5
    for data in others.values():
        for secret in found.keys.values():
            with pytest.raises(NotSound):
                unseal_disclosed(secret, data)


def test_it_carries_no_object_that_is_not_of_that_content(told: Told) -> None:
    found = disclosed(told, "turn 3")
    with ledger.open(told.place.path) as log:
        log.catch_up_places()
        needed: set[bytes] = set()

        def read(blob: bytes) -> bytes:
            needed.add(blob)
            return log.blobs.get(blob)

        assert list(lists.leaves(cid_of(told.at["turn 3"]), read))
    assert {cid(data) for data in found.objects} == needed


def test_the_data_key_is_not_in_it(told: Told) -> None:
    found = disclosed(told, "small")
    with ledger.open(told.place.path) as log:
        log.catch_up_places()
        parts = Blob.parse(log.blobs.get(cid_of(told.at["other"])))
        key = log.blobs.keyring.open(parts.key_id)
        assert key.blob_key(parts.header, parts.siv) not in found.keys.values()


# What is changed


def test_a_flipped_byte_is_never_accepted_with_another_content(told: Told, owner: Verifier) -> None:
    data = disclosed(told, "small").encode()
    right = check(Disclosure.parse(data), owner)
    refusals = 0
    for offset in range(0, len(data), 5):
        other = data[:offset] + bytes([data[offset] ^ 1 << offset % 7]) + data[offset + 1 :]
        try:
            assert check(Disclosure.parse(other), owner) == right
        except (NotSound, Malformed):
            refusals += 1
    assert refusals > 0.95 * len(range(0, len(data), 5))


def test_a_disclosure_that_was_cut_is_refused(told: Told, owner: Verifier) -> None:
    data = disclosed(told, "small").encode()
    for cut in range(0, len(data) - 1, 97):
        with pytest.raises(Malformed):
            Disclosure.parse(data[:cut])


def test_another_content_under_the_same_address_is_refused(told: Told, owner: Verifier) -> None:
    one, other = disclosed(told, "small"), disclosed(told, "other")
    refused(changed(one, objects=other.objects, keys=other.keys), owner, 6)


def test_another_address_than_the_entry_names_is_refused(told: Told, owner: Verifier) -> None:
    one, other = disclosed(told, "small"), disclosed(told, "other")
    refused(changed(one, address=other.address, objects=other.objects, keys=other.keys), owner, 6)
    refused(changed(one, receipt=other.receipt), owner, 6)


def test_a_piece_of_a_content_is_not_the_content(told: Told, owner: Verifier) -> None:
    found = disclosed(told, "list")
    piece = next(data for data in found.objects if not lists.is_list(data))
    refused(changed(found, address=address(cid(piece))), owner, 6)
    with ledger.open(told.place.path) as log, pytest.raises(NotFound):
        disclose(log, address(cid(piece)))


@pytest.mark.parametrize("name", ["small", "list", "turn 6"])
def test_a_missing_object_is_named(told: Told, owner: Verifier, name: str) -> None:
    found = disclosed(told, name)
    for position in range(len(found.objects)):
        refused(changed(found, objects=found.objects[:position] + found.objects[position + 1 :]), owner, 6)


def test_a_changed_object_is_refused(told: Told, owner: Verifier) -> None:
    found = disclosed(told, "small")
    [data] = found.objects
    for offset in range(0, len(data), 13):
        refused(changed(found, objects=[data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]]), owner, 6)


def test_a_missing_or_wrong_key_opens_nothing(told: Told, owner: Verifier) -> None:
    found, other = disclosed(told, "small"), disclosed(told, "other")
    [name] = found.keys
    [wrong] = other.keys.values()
    for keys in ({}, {name: wrong}, {name: b""}, {name: found.keys[name] + b"\0"}, {name.upper() + "0": b"x"}):
        refused(changed(found, keys=keys), owner, 10)


def test_a_list_in_another_order_is_refused(told: Told, owner: Verifier) -> None:
    found = disclosed(told, "list")
    pieces = [data for data in found.objects if not lists.is_list(data)]
    forged = lists.build([cid(data) for data in reversed(pieces)])
    refused(changed(found, objects=[forged.data, *pieces]), owner, 6)
    refused(changed(found, address=address(forged.cid), objects=[forged.data, *pieces]), owner, 6)


def test_a_list_that_never_ends_is_refused(told: Told, owner: Verifier) -> None:
    found = disclosed(told, "small")
    at, objects = cid_of(told.at["small"]), []
    for _ in range(5000):
        made = lists.build([at])
        objects.append(made.data)
        at = made.cid
    with pytest.raises(NotSound):
        list(changed(found, address=address(at), objects=[*objects, *found.objects]).pieces())


def test_objects_that_nobody_asked_for_change_nothing(told: Told, owner: Verifier) -> None:
    found, other = disclosed(told, "small"), disclosed(told, "other")
    grown = changed(found, objects=[*other.objects, *found.objects, b""], keys=found.keys | other.keys)
    check(grown, owner)
    assert content(grown) == CONTENTS["small"]


def test_a_disclosure_of_another_log_is_refused(told: Told, tmp_path: Path) -> None:
    stranger = new_ledger(tmp_path / "stranger")
    refused(disclosed(told, "small"), Verifier.parse(stranger.trust.owner), 5)


def test_a_disclosure_with_a_receipt_that_is_none_is_refused(told: Told, owner: Verifier) -> None:
    found = disclosed(told, "small")
    for text in ("", "c2sp.org/tlog-proof@v1\n", found.receipt[:-1], found.receipt + "\n"):
        with pytest.raises((Malformed, NotSound)):
            check(changed(found, receipt=text), owner)


@pytest.mark.parametrize("text", ["", "artifact://", "artifact://" + "0" * 63, "artifact://" + "Z" * 64])
def test_what_is_no_address_is_refused(told: Told, owner: Verifier, text: str) -> None:
    with ledger.open(told.place.path) as log, pytest.raises(Malformed):
        disclose(log, text)
    with pytest.raises(Malformed):
        check(changed(disclosed(told, "small"), address=text), owner)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"format":"agent-ledger/disclosure@v2"}', b"[" * 100_000, b'{"a":' * 9999],
)
def test_what_is_no_disclosure_is_refused(told: Told, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Malformed):
        Disclosure.parse(data)
    (tmp_path / "d").write_bytes(data)
    with suppress(LedgerError):
        assert not ledger.verify(tmp_path / "d", trust=told.place.trust).sound


def test_another_version_is_refused(told: Told) -> None:
    with pytest.raises(Malformed, match="another version"):
        Disclosure.parse(changed(disclosed(told, "small"), format="agent-ledger/disclosure@v2").encode())


def test_an_unknown_member_is_refused(told: Told) -> None:
    with pytest.raises(Malformed):
        Disclosure.parse(disclosed(told, "small").encode().replace(b'{"format"', b'{"more":1,"format"', 1))


# What can't be disclosed


def test_what_nobody_named_can_not_be_disclosed(told: Told) -> None:
    with ledger.open(told.place.path) as log, pytest.raises(NotFound):
        disclose(log, "artifact://" + "0" * 64)


def test_what_was_erased_can_not_be_disclosed(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        erase(log, told.run)
        size = log.chain.state.size
        with pytest.raises(Erased):
            disclose(log, told.at["small"])
        assert log.chain.state.size == size


def test_what_was_disclosed_stays_open_after_an_erasure(told: Told, owner: Verifier) -> None:
    # Nobody can call back what was handed out; documents say so.
    found = disclosed(told, "small")
    with ledger.open(told.place.path) as log:
        erase(log, told.run)
    check(found, owner)
    assert content(found) == CONTENTS["small"]


def test_who_can_not_read_can_not_disclose(told: Told) -> None:
    [identity] = told.place.machine.keys.rglob("identity.txt")
    identity.unlink()
    with ledger.open(told.place.path) as log:
        size = log.chain.state.size
        with pytest.raises(CannotTell):
            disclose(log, told.at["small"])
        assert log.chain.state.size == size


# What is made to explode


def bomb(told: Told, lists_deep: int) -> Disclosure:
    """A disclosure whose content is the same mebibyte of zeros, 4,096 times for each list, but validly signed."""
    with ledger.open(told.place.path) as log:
        run = log.run("bomb")
        sealed = log.blobs.prepare(log.writer.key(run.id), bytes(MAX_PIECE)).inside[0]
        made = [lists.build([sealed.cid] * lists.MAX_ADDRESSES)]
        for _ in range(lists_deep - 1):
            made.append(lists.build([made[-1].cid, *[sealed.cid] * (lists.MAX_ADDRESSES - 1)]))
        at = address(made[-1].cid)
        prepared = Prepared(at, "0" * 64, [sealed, *made], [], {}, log.writer.key(run.id))
        log.append_statements([DisclosureEntry(v=1, time=system_clock(), content=at)], [prepared])
        return disclose(log, at)


def test_a_content_that_repeats_itself_needs_no_memory(told: Told, owner: Verifier, tmp_path: Path) -> None:
    found = bomb(told, 1)
    file = tmp_path / "bomb"
    file.write_bytes(found.encode())
    assert file.stat().st_size < 1 << 20
    script = (
        "import sys, resource\n"
        "from pathlib import Path\n"
        "from ledger.audit.subject import check, disclosed\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "report = check(sys.argv[1], trust=sys.argv[2])\n"
        "assert report.sound and '4,294,967,296 bytes' in report.remarks[1], report\n"
        "assert next(disclosed(Path(sys.argv[1]), sys.argv[2])) == bytes(1 << 20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file), told.place.trust.owner], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_a_content_over_the_limit_is_refused_wherever_it_is_read(told: Told, owner: Verifier) -> None:
    found = bomb(told, 2)
    refused(found, owner, 10)
    with ledger.open(told.place.path) as log:
        with pytest.raises(NotSound, match="4 GiB"):
            for piece in log.blobs.pieces(found.address):
                assert len(piece) <= MAX_PIECE
        with pytest.raises(TooLarge):
            log.blobs.read(found.address, 3 << 20)


def test_a_damaged_table_of_places_is_overcome(told: Told, owner: Verifier) -> None:
    with ledger.open(told.place.path) as log:
        assert log.read(told.at["small"])
        log.places.save()
    for table in homes.cache(ORIGIN).rglob("*.places"):
        data = bytearray(table.read_bytes())
        for at in range(96 + 32 + 11, len(data), 48):
            data[at] ^= 1
        table.write_bytes(data)
    assert content(disclosed(told, "list")) == CONTENTS["list"]
