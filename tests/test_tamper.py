"""Attacks on a ledger at rest. Each is found by `verify`, at the step that docs/FORMAT.md says, or is derived."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import pyrage
import pytest

import ledger
from ledger import govern, homes
from ledger.audit.report import Report
from ledger.erase import erase
from tests.support import ledgers
from tests.support.machine import ORIGIN, Place, copied, new_ledger
from tests.support.verdicts import judged, stranger


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One small ledger for all attacks; it is made in a home of its own and only copied."""
    base = tmp_path_factory.mktemp("made")
    code = (
        f"from pathlib import Path; from tests.support import ledgers; print(ledgers.make(Path({str(base / 'l')!r})))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "LEDGER"))} | {"HOME": str(base)}
    root = Path(__file__).parent.parent
    vkey = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True, cwd=root).strip()
    return base / "l", vkey


@pytest.fixture
def target(made: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    return ledgers.copy(made[0], tmp_path / "l"), made[1]


def rejected(path: Path, vkey: str, steps: set[int]) -> Report:
    report = ledger.verify(path, trust=vkey)
    assert not report.sound
    assert {f.step for f in report.findings} <= steps, report.findings
    sound, said = stranger(path, vkey)
    assert not sound, said
    return report


def test_an_untouched_ledger_is_sound(target: tuple[Path, str]) -> None:
    assert ledger.verify(target[0], trust=target[1]).sound
    assert stranger(*target)[0]


def _files(path: Path) -> list[Path]:
    """All that is the ledger's."""
    found = [file for file in path.rglob("*") if file.is_file() and file.name != ".gitignore"]
    return sorted(file for file in found if file.relative_to(path).parts[0] != "tmp")


def _ours(path: Path, vkey: str) -> Report:
    return ledger.verify(path, trust=vkey)


def _flips(path: Path, vkey: str, every: int) -> list[tuple[str, int]]:
    """Where a changed byte was not noticed."""
    missed, kinds = [], set[str]()
    for file in _files(path):
        data, name = file.read_bytes(), file.relative_to(path).as_posix()
        for offset in range(0, len(data), every):
            kinds.add(name.partition("/")[0])
            file.write_bytes(data[:offset] + bytes([data[offset] ^ 1 << offset % 8]) + data[offset + 1 :])
            try:
                # Where each byte is tried, the other verifier, a process each time, is asked of some.
                judge = judged if offset % max(1, 41 // every) == 0 else _ours
                if judge(path, vkey).sound:
                    missed.append((name, offset))
            except ledger.LedgerError:
                assert name == "ledger.toml"
                assert not stranger(path, vkey)[0]
        file.write_bytes(data)
    assert kinds == {"checkpoint", "keys", "ledger.toml", "packs", "tile"}
    return missed


_AGE = len(b"age-encryption.org/v1\n")


def _only_inside_age_files(missed: list[tuple[str, int]]) -> bool:
    # What age has encrypted is checked by who can decrypt it (step 10), its first line by everybody.
    return all(name.startswith("keys/") and offset >= _AGE for name, offset in missed)


def test_flipped_bytes_are_found(target: tuple[Path, str]) -> None:
    _drop_partial_tiles_of_earlier_checkpoints(target[0])
    assert _only_inside_age_files(_flips(*target, every=41))


def test_every_flipped_byte_of_the_first_line_of_a_key_is_found(target: tuple[Path, str]) -> None:
    path, vkey = target
    for file in [file for file in _files(path) if file.relative_to(path).parts[0] == "keys"]:
        data = file.read_bytes()
        assert len(data) > _AGE
        for offset in range(0, _AGE, 3):
            ledgers.flip(file, offset, 1 << offset % 8)
            assert {finding.step for finding in judged(path, vkey).findings} == {6}
            file.write_bytes(data)


def test_flipped_bytes_of_keys_are_found_with_an_identity(place: Place) -> None:
    """Every key and root, in its header as in what is encrypted."""
    identity = f"file:{homes.keys(ORIGIN) / 'identity.txt'}"
    for file in [file for file in objects(place, "roots") + objects(place, "data keys") if file.suffix == ".age"]:
        data = file.read_bytes()
        for offset in range(0, len(data), 13):
            ledgers.flip(file, offset, 1 << offset % 8)
            report = ledger.verify(place.path, trust=place.trust, identity=identity)
            unread = [what for what in report.unchecked if what.startswith("contents") or "identities" in what]
            assert not report.sound or unread, (file, offset)
        file.write_bytes(data)


@pytest.mark.soak
def test_every_flipped_byte_is_found(target: tuple[Path, str]) -> None:
    _drop_partial_tiles_of_earlier_checkpoints(target[0])
    assert _only_inside_age_files(_flips(*target, every=1))


def test_a_flipped_byte_names_pack_offset_and_entry(target: tuple[Path, str]) -> None:
    path, vkey = target
    pack = ledgers.packs(path)[4]
    data = pack.read_bytes()
    ledgers.flip(pack, data.index(b'"kind":"artifact"') + 20)
    [finding] = rejected(path, vkey, {2}).findings
    assert "pack 4, offset" in finding.what
    assert "(artifact, run" in finding.what
    assert finding.what.endswith("changed")


def test_each_file_truncated_or_removed_is_found(target: tuple[Path, str]) -> None:
    path, vkey = target
    _drop_partial_tiles_of_earlier_checkpoints(path)
    assert ledger.verify(path, trust=vkey).sound
    shutil.rmtree(os.environ["HOME"])
    for file in _files(path):
        data = file.read_bytes()
        for cut in (0, len(data) // 2, len(data) - 1):
            file.write_bytes(data[:cut])
            derived = file.name in ("ledger.toml",)
            try:
                inside = file.relative_to(path).parts[0] == "keys" and cut >= _AGE
                assert not judged(path, vkey).sound or inside, (file, cut)
            except ledger.LedgerError:
                assert derived
                assert not stranger(path, vkey)[0]
        file.unlink()
        try:
            report = judged(path, vkey)
            gone = not report.sound or any("not published" in r for r in report.remarks)
            assert gone, file
        except ledger.LedgerError:
            assert file.name == "ledger.toml"
            assert not stranger(path, vkey)[0]
        file.write_bytes(data)


def _drop_partial_tiles_of_earlier_checkpoints(path: Path) -> None:
    """They are not needed for the newest: shown by taking them away."""
    for partials in (path / "tile").rglob("*.p"):
        for older in sorted(partials.iterdir(), key=lambda p: int(p.name))[:-1]:
            older.unlink()


def test_swapped_packs_are_found(target: tuple[Path, str]) -> None:
    path, vkey = target
    a, b = ledgers.packs(path)[2:4]
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    rejected(path, vkey, {2})


def test_a_duplicated_pack_is_found(target: tuple[Path, str]) -> None:
    path, vkey = target
    packs = ledgers.packs(path)
    shutil.copy(packs[-1], packs[-1].with_name(f"{len(packs):03d}.pack"))
    rejected(path, vkey, {2})


# Each kind of object, of which one may take another's place.


KINDS = {
    "packs": "packs/*/*.pack",
    "blobs": "blobs/*/*",
    "roots": "keys/root/*.age",
    "data keys": "keys/data/*/*",
    "tiles": "tile/[0-9]/**/*",
    "bundles": "tile/entries/**/*",
}
READABLE = {"roots", "data keys"}
"""What age has encrypted says nothing to who can't decrypt it: a swap shows with an identity (step 10)."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two of each kind at least: runs, large blobs, roots, full tiles beside partial ones, a tombstone."""
    place = new_ledger(tmp_path_factory.mktemp("full"))
    with place.machine.here(), ledger.open(place.path) as log:
        first, second, gone = log.run("first"), log.run("second"), log.run("gone")
        for run in (first, second, gone):
            run.artifact(os.urandom(70_000))
        first.append_many([ledger.Item(kind="artifact", content=b"%d" % n) for n in range(300)])
        reader = str(pyrage.x25519.Identity.generate().to_public())
        govern.grant(log, reader)
        govern.revoke(log, reader)
        log.run("under the second root").artifact(os.urandom(80_000))
        erase(log, gone.id)
    return place


@pytest.fixture
def place(full: Place, tmp_path: Path) -> Iterator[Place]:
    found = copied(full, tmp_path / "place")
    with found.machine.here():
        yield found


def objects(place: Place, kind: str) -> list[Path]:
    return sorted(file for file in place.path.glob(KINDS[kind]) if file.is_file())


def verdicts(place: Place) -> set[int]:
    """Steps at which it is refused, with an identity where nobody without one sees anything wrong."""
    report = judged(place.path, place.trust.owner)
    if report.sound:
        identity = f"file:{homes.keys(ORIGIN) / 'identity.txt'}"
        report = ledger.verify(place.path, trust=place.trust, identity=identity)
        assert {finding.step for finding in report.findings} <= {10}
        if not report.sound or any(what.startswith("contents") for what in report.unchecked):
            return {10}
    return {finding.step for finding in report.findings}


STEPS = {"packs": {2, 4}, "blobs": {6}, "roots": {10}, "data keys": {6, 10}, "tiles": {7}, "bundles": {7}}


@pytest.mark.parametrize("kind", KINDS)
def test_two_objects_of_a_kind_swapped_are_found(place: Place, kind: str) -> None:
    assert verdicts(place) == set()
    files = objects(place, kind)
    pairs = [pair for pair in combinations(files, 2) if _counts(pair, files)]
    assert pairs
    for one, other in pairs[:: max(1, len(pairs) // 12)]:
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
        found = verdicts(place)
        assert found, (one, other)
        assert found <= STEPS[kind], (one, other, found)
        one.write_bytes(first)
        other.write_bytes(second)
    assert verdicts(place) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_copied_over_another_of_its_kind_is_found(place: Place, kind: str) -> None:
    files = objects(place, kind)
    pairs = [pair for pair in pairwise(files) if _counts(pair, files)]
    for one, other in pairs[:: max(1, len(pairs) // 12)]:
        before = other.read_bytes()
        other.write_bytes(one.read_bytes())
        found = verdicts(place)
        assert found, (one, other)
        assert found <= STEPS[kind], (one, other, found)
        other.write_bytes(before)
    assert verdicts(place) == set()


def _counts(pair: tuple[Path, ...], files: list[Path]) -> bool:
    """Whether a change of it changes anything: of the partial tiles of a tile, the last alone counts."""
    return all(
        not file.parent.name.endswith(".p")
        or file == max((f for f in files if f.parent == file.parent), key=lambda f: int(f.name))
        for file in pair
    ) and len({file.read_bytes() for file in pair}) == len(pair)


@pytest.mark.parametrize("kind", ["blobs", "tiles", "bundles", "data keys", "roots"])
def test_an_object_under_one_more_name_changes_nothing(place: Place, kind: str) -> None:
    """Nobody asked for it: what it says is not believed, and it hides nothing."""
    [*_, file] = objects(place, kind)
    number = {"tiles": "003", "bundles": "003", "roots": "9.age", "data keys": "0" * 31 + "7.age"}.get(kind, "0" * 64)
    other = file.parent.parent if file.parent.name.endswith(".p") else file.parent
    shutil.copy(file, other / number)
    assert judged(place.path, place.trust.owner).sound


def test_a_gap_is_found(target: tuple[Path, str]) -> None:
    path, vkey = target
    ledgers.packs(path)[2].unlink()
    report = rejected(path, vkey, {2})
    assert "002.pack is missing" in report.findings[0].what


def test_a_tail_cut_without_the_checkpoint_is_found_by_the_checkpoint(target: tuple[Path, str]) -> None:
    path, vkey = target
    ledgers.packs(path)[-1].unlink()
    rejected(path, vkey, {4})


def _cut_and_rebuild(path: Path, vkey: str) -> None:
    """What a thief of the storage can do without any key: removes the newest pack, and all that was derived."""
    ledgers.packs(path)[-1].unlink()
    shutil.rmtree(path / "tile")
    (path / "checkpoint").unlink()


def test_a_tail_cut_without_a_pin_is_named_as_unchecked(target: tuple[Path, str]) -> None:
    path, vkey = target
    _cut_and_rebuild(path, vkey)
    report = ledger.verify(path, trust=vkey)
    assert report.sound
    assert any("the end was not cut off" in what for what in report.unchecked)


def test_a_tail_cut_is_found_by_the_pin_of_this_machine(target: tuple[Path, str]) -> None:
    path, vkey = target
    assert ledger.verify(path, trust=vkey).sound
    _cut_and_rebuild(path, vkey)
    [finding] = ledger.verify(path, trust=vkey).findings
    assert finding.step == 8
    assert "cut off" in finding.what


def test_a_tail_cut_is_found_by_a_head_that_the_auditor_knows(
    target: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, vkey = target
    head = ledger.verify(path, trust=vkey).head
    assert head is not None
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    assert ledger.verify(path, trust=vkey, since=head.one_line()).sound
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "yet another machine"))
    _cut_and_rebuild(path, vkey)
    [finding] = ledger.verify(path, trust=vkey, since=head.one_line()).findings
    assert finding.step == 8


def test_a_ledger_of_another_owner_with_the_same_name_is_refused(made: tuple[Path, str], tmp_path: Path) -> None:
    origin = made[1].partition("+")[0]
    ledgers.make(tmp_path / "forged", origin=origin)
    rejected(tmp_path / "forged", made[1], {5})


def test_a_pack_of_another_ledger_is_refused(target: tuple[Path, str], tmp_path: Path) -> None:
    path, vkey = target
    ledgers.make(tmp_path / "other")
    shutil.copy(ledgers.packs(tmp_path / "other")[3], ledgers.packs(path)[3])
    rejected(path, vkey, {2})


def test_an_older_checkpoint_is_counted_as_lag_and_its_tiles_still_hold(target: tuple[Path, str]) -> None:
    path, vkey = target
    shutil.rmtree(path / "tile")
    (path / "checkpoint").unlink()
    report = ledger.verify(path, trust=vkey)
    assert report.sound
    assert any("leaves not published" in remark for remark in report.remarks)


def test_a_strangers_checkpoint_is_refused(target: tuple[Path, str], tmp_path: Path) -> None:
    path, vkey = target
    ledgers.make(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "checkpoint", path / "checkpoint")
    rejected(path, vkey, {4})


def test_a_data_key_deleted_without_an_entry_is_found(target: tuple[Path, str]) -> None:
    path, vkey = target
    for key in (path / "keys" / "data").rglob("*.age"):
        if not key.stem.startswith("000000"):
            key.unlink()
    report = rejected(path, vkey, {6})
    assert "no entry erased it" in report.findings[0].what


def test_verify_never_writes_under_the_path_it_is_given(target: tuple[Path, str]) -> None:
    path, vkey = target
    before = {p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")]}
    assert ledger.verify(path, trust=vkey).sound
    assert {p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")]} == before


def test_without_a_trust_root_there_is_no_verdict(target: tuple[Path, str]) -> None:
    with pytest.raises(ledger.LedgerError) as raised:
        ledger.verify(target[0])
    assert raised.value.exit_status == 3
