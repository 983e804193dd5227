"""Attacks on a ledger at rest. Each is found by `verify`, at the step that docs/FORMAT.md says, or is derived."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ledger
from ledger.audit.report import Report
from tests.support import ledgers
from tests.support.verdicts import stranger


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


def _flips(path: Path, vkey: str, every: int) -> list[tuple[str, int]]:
    """Where a changed byte was not noticed."""
    missed = []
    for file in sorted(p for p in path.rglob("*") if p.is_file() and "tmp" not in p.parts and p.name != ".gitignore"):
        data = file.read_bytes()
        for offset in range(0, len(data), every):
            file.write_bytes(data[:offset] + bytes([data[offset] ^ 1 << offset % 8]) + data[offset + 1 :])
            if ledger.verify(path, trust=vkey).sound:
                missed.append((file.relative_to(path).as_posix(), offset))
        file.write_bytes(data)
    return missed


def _only_inside_age_files(missed: list[tuple[str, int]]) -> bool:
    # What age has encrypted is checked by who can decrypt it (step 10), its first line by everybody.
    return all(name.startswith("keys/") for name, _ in missed)


def test_flipped_bytes_are_found(target: tuple[Path, str]) -> None:
    assert _only_inside_age_files(_flips(*target, every=41))


@pytest.mark.soak
def test_every_flipped_byte_is_found(target: tuple[Path, str]) -> None:
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
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in (".gitignore", "publisher.lock")):
        data = file.read_bytes()
        for cut in (0, len(data) // 2, len(data) - 1):
            file.write_bytes(data[:cut])
            derived = file.name in ("ledger.toml",)
            try:
                assert not ledger.verify(path, trust=vkey).sound or ("keys" in file.parts and cut), (file, cut)
            except ledger.LedgerError:
                assert derived
        file.unlink()
        try:
            report = ledger.verify(path, trust=vkey)
            gone = not report.sound or any("not published" in r for r in report.remarks)
            assert gone, file
        except ledger.LedgerError:
            assert file.name == "ledger.toml"
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
