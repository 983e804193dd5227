"""`ledger doctor`: what is derived is made again, what is left over goes, what is true stays."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

import ledger
from ledger import doctor, homes
from ledger.cli import main
from ledger.erase import erase
from ledger.index.reader import Log
from schemas.errors import KeyUnusable
from tests.support import ledgers, shell, template
from tests.support.template import Template


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), _fill)


def _fill(path: Path) -> None:
    """Enough leaves for a full tile, a partial one, and one of the next level; large blobs in two runs."""
    with ledger.open(path) as log:
        with log.run("kept") as run:
            run.append_many([ledger.Item(kind="artifact", content=f"{n}") for n in range(600)])
            run.artifact(os.urandom(100_000), name="kept blob")
            run.artifact(os.urandom(3 << 20), name="kept list")
        with log.run("gone") as run:
            run.prompt("forget me")
            run.artifact(os.urandom(100_000), name="gone blob")
            run.artifact(os.urandom(3 << 20), name="gone list")
            run.artifact(os.urandom(20_000) * 200, name="gone list, parts equal")


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path) -> Path:
    return made.copy(home, tmp_path / "l")


def derived(path: Path) -> dict[str, bytes]:
    """Tiles and checkpoint."""
    files = [*(path / "tile").rglob("*"), path / "checkpoint"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files if p.is_file()}


def needed(path: Path) -> dict[str, bytes]:
    """The same, without the partial tiles of earlier checkpoints, which nobody needs."""
    found = derived(path)
    widest: dict[str, int] = {}
    for name in found:
        if ".p/" in name:
            stem, _, width = name.partition(".p/")
            widest[stem] = max(int(width), widest.get(stem, 0))
    return {
        n: data
        for n, data in found.items()
        if ".p/" not in n or int(n.partition(".p/")[2]) == widest[n.partition(".p/")[0]]
    }


def rebuild(path: Path) -> None:
    with ledger.open(path) as log:
        doctor.rebuild(log)


def collect(path: Path) -> tuple[int, int]:
    with ledger.open(path) as log:
        return doctor.collect(log)


def age(*files: Path, days: float = 2) -> None:
    then = time.time() - days * 86_400
    for file in files:
        os.utime(file, (then, then))


def blobs(path: Path) -> list[Path]:
    return [p for p in (path / "blobs").rglob("*") if p.is_file()]


def examined(path: Path) -> dict[str, bool]:
    with ledger.open(path) as log:
        return {found.what: found.ok for found in doctor.examine(log)}


# What is derived.


def test_a_healthy_ledger_has_nothing_wrong(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert all(examined(path).values())
    assert main.run(["doctor", "--ledger", str(path)]) == 0
    out = capfd.readouterr().out
    assert "!!" not in out
    assert "doctor --" not in out, "what is in order needs no remedy"


@pytest.mark.parametrize("what", ["tile", "checkpoint", "both"])
def test_what_is_derived_is_made_again_to_the_byte(path: Path, what: str) -> None:
    before = needed(path)
    for name in ("tile", "checkpoint"):
        if what in (name, "both"):
            target = path / name
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    rebuild(path)
    after = needed(path)
    assert after.keys() == before.keys()
    assert after == before  # Ed25519 is deterministic: the checkpoint too.
    assert ledger.verify(path).sound


def test_every_damaged_tile_is_made_again(path: Path) -> None:
    before = needed(path)
    for turn, name in enumerate(before):
        if name != "checkpoint":
            data = bytearray(before[name])
            data[len(data) // 2] ^= 1
            (path / name).write_bytes([bytes(data), b"", bytes(data[:-1]), bytes(data) + b"x"][turn % 4])
    assert {f.step for f in ledger.verify(path).findings} == {7}
    rebuild(path)
    assert needed(path) == before
    assert ledger.verify(path).sound


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff" * 500])
def test_a_damaged_checkpoint_is_made_again(path: Path, data: bytes) -> None:
    before = needed(path)
    (path / "checkpoint").write_bytes(data)
    assert not ledger.verify(path).sound
    rebuild(path)
    assert needed(path) == before
    assert ledger.verify(path).sound


def test_a_checkpoint_that_is_gone_is_noticed_and_the_next_close_makes_it(path: Path) -> None:
    (path / "checkpoint").unlink()
    with ledger.open(path) as log:
        assert any(not found.ok and "checkpoint" in found.what for found in doctor.examine(log))
    assert (path / "checkpoint").exists()
    assert ledger.verify(path).sound


@pytest.mark.parametrize("how", ["deleted", "flipped", "cut", "garbage"])
def test_damaged_caches_are_made_again(path: Path, how: str) -> None:
    with ledger.open(path) as log:
        run = next(r for r in log.runs() if r.name == "kept")
        entries = [r for r in log.entries(run.id) if hasattr(r.entry, "content")]
        want = [log.read(r.entry.content) for r in entries]
        log.places.save()
        cache = homes.cache(log.origin)
    files = [p for p in cache.rglob("*") if p.is_file()]
    assert files
    for file in files:
        data = bytearray(file.read_bytes())
        if how == "deleted":
            file.unlink()
        elif how == "flipped":
            for at in range(0, len(data), 64):
                data[at] ^= 1
            file.write_bytes(data)
        else:
            file.write_bytes(data[: len(data) // 2] if how == "cut" else os.urandom(len(data)))
    rebuild(path)
    with ledger.open(path) as log:
        assert [log.read(r.entry.content) for r in entries] == want
        assert [r.name for r in log.runs()] == ["gone", "kept"]
    assert ledger.verify(path).sound


def test_a_flipped_byte_in_the_places_cache_is_overcome_or_named_as_ours(path: Path) -> None:
    """The ledger is whole: an error must not send people to look for damage in it."""
    with ledger.open(path) as log:
        log.catch_up_places()
        log.places.save()
        entries = [r for r in log.entries() if hasattr(r.entry, "content")]
        [file] = homes.cache(log.origin).rglob("*.places")
    data = bytearray(file.read_bytes())
    for at in range(96, len(data), 48):
        data[at + 33 + at % 15] ^= 1
    file.write_bytes(data)
    with ledger.open(path) as log:
        for recorded in entries[:20]:
            assert _hint_of_reading(log, recorded.entry.content) in ("", "ledger doctor --rebuild")


def _hint_of_reading(log: ledger.Log, address: str) -> str:
    try:
        log.read(address)
    except ledger.LedgerError as error:
        return error.hint
    return ""


def test_rebuilding_writes_no_entry_and_changes_no_pack(path: Path) -> None:
    before = {
        p: p.read_bytes() for p in [*(path / "packs").rglob("*.pack"), *blobs(path), *(path / "keys").rglob("*.age")]
    }
    rebuild(path)
    after = {
        p: p.read_bytes() for p in [*(path / "packs").rglob("*.pack"), *blobs(path), *(path / "keys").rglob("*.age")]
    }
    assert after == before


def test_rebuilding_twice_is_rebuilding_once(path: Path) -> None:
    rebuild(path)
    before = derived(path)
    rebuild(path)
    assert derived(path) == before


def test_rebuilding_while_another_writer_appends(path: Path) -> None:
    with ledger.open(path) as writer, writer.run("meanwhile") as run:
        for number in range(5):
            run.prompt(f"{number}")
            rebuild(path)
    assert ledger.verify(path).sound
    with ledger.open(path) as log:
        assert log.runs()[0].prompts == 5


def test_without_the_log_key_tiles_are_left_as_they_are(path: Path) -> None:
    before = derived(path)
    (homes.keys(template.ORIGIN) / "log.key").unlink()
    with pytest.raises(KeyUnusable, match="no log key"):
        rebuild(path)
    assert derived(path) == before
    with ledger.open(path) as log:
        assert log.read(next(r.entry.content for r in log.entries() if hasattr(r.entry, "content"))) == b"0"


def test_a_damaged_pack_is_none_of_the_doctors_business(path: Path) -> None:
    """What is true is never touched, and a tree over something else is never published."""
    ledgers.flip(ledgers.packs(path)[2], 500)
    before = derived(path)
    assert main.run(["doctor", "--rebuild", "--ledger", str(path)]) == 1
    assert derived(path)["checkpoint"] == before["checkpoint"]
    assert not ledger.verify(path).sound


# Leftovers.


def test_leftovers_of_dead_writers_go_when_they_are_a_day_old(path: Path) -> None:
    old, young = path / "tmp" / "0", path / "tmp" / "1"
    orphans = [path / "blobs" / "aa" / ("aa" * 32), path / "blobs" / "bb" / ("bb" * 32)]
    for file in (old, young, *orphans):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 100)
    age(old, orphans[0])
    assert examined(path)["2 leftovers"] is False
    assert collect(path) == (2, 200)
    assert [f.exists() for f in (old, young, *orphans)] == [False, True, False, True]
    assert collect(path) == (0, 0)
    assert ledger.verify(path).sound


@pytest.mark.parametrize("days", [-400, 0, 0.99])
def test_what_is_younger_than_a_day_stays(path: Path, days: float) -> None:
    (path / "tmp").mkdir(exist_ok=True)
    (path / "tmp" / "x").touch()
    age(path / "tmp" / "x", days=days)
    assert collect(path) == (0, 0)
    assert (path / "tmp" / "x").exists()


def test_nothing_that_an_entry_needs_is_ever_removed(path: Path) -> None:
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file() and "tmp" not in p.relative_to(path).parts}
    age(*before, days=1000)
    assert collect(path) == (0, 0)
    assert {p: p.read_bytes() for p in before} == before
    assert ledger.verify(path).sound


def test_locks_stay_however_old(path: Path) -> None:
    locks = [p for p in (path / "tmp").iterdir() if p.suffix == ".lock"]
    assert locks
    age(*locks)
    assert collect(path) == (0, 0)
    assert all(lock.exists() for lock in locks)


def test_an_erasure_that_is_under_way_is_not_a_leftover(path: Path) -> None:
    with ledger.open(path) as log:
        run = next(r.id for r in log.runs() if r.name == "gone")
        marker = path / "keys" / "data" / run[:2] / f"{run.replace('-', '')}.erasing"
    marker.touch()
    age(marker)
    assert collect(path) == (0, 0)
    assert marker.exists()


# Erased blobs.


def _erase(path: Path, name: str) -> None:
    with ledger.open(path) as log:
        erase(log, next(r.id for r in log.runs() if r.name == name), "because")


def test_large_blobs_of_an_erased_run_are_collected_and_the_ledger_stays_sound(path: Path) -> None:
    with ledger.open(path) as log:
        kept = next(r.id for r in log.runs() if r.name == "kept")
        addresses = [r.entry.content for r in log.entries(kept) if hasattr(r.entry, "content")]
        want = [log.read(address) for address in addresses]
    count, space = len(blobs(path)), sum(f.stat().st_size for f in blobs(path))
    _erase(path, "gone")
    assert collect(path) == (0, 0), "they are not a day old"
    age(*blobs(path))
    removed, size = collect(path)
    assert removed > 3
    assert size > 100_000 + (3 << 20)
    assert (len(blobs(path)), sum(f.stat().st_size for f in blobs(path))) == (count - removed, space - size)
    report = ledger.verify(path)
    assert report.sound, report.findings[:3]
    identity = f"file:{homes.keys(template.ORIGIN)}/identity.txt"
    assert ledger.verify(path, identity=identity).sound
    with ledger.open(path) as log:
        assert [log.read(address) for address in addresses] == want
        log.run("afterwards").artifact(os.urandom(100_000))
    assert ledger.verify(path).sound


def test_a_blob_that_is_collected_wrongly_is_found_by_verify(path: Path) -> None:
    """The forgiveness for erased runs covers no other run's blobs."""
    _erase(path, "gone")
    with ledger.open(path) as log:
        kept = next(r.id for r in log.runs() if r.name == "kept").replace("-", "")
    for file in blobs(path):
        if file.read_bytes()[4:20].hex() == kept:
            data = file.read_bytes()
            file.unlink()
            assert {f.step for f in ledger.verify(path).findings} == {6}
            file.write_bytes(data)


def test_an_erasure_that_did_not_end_loses_no_blob(path: Path) -> None:
    """The entry is there, the key too: until there is a tombstone nothing of the run is removed."""
    with ledger.open(path) as log:
        run = next(r.id for r in log.runs() if r.name == "gone").replace("-", "")
    key = path / "keys" / "data" / run[:2] / f"{run}.age"
    data = key.read_bytes()
    _erase(path, "gone")
    key.write_bytes(data)
    age(*blobs(path))
    assert collect(path) == (0, 0)


# Permissions and keys.


def test_a_ledger_that_others_can_enter_is_reported(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path.chmod(0o755)
    assert examined(path)[f"{path} is open to other users"] is False
    assert main.run(["doctor", "--ledger", str(path)]) == 1
    out = capfd.readouterr().out
    assert "!!" in out
    assert f"chmod -R go= {path}" in out
    path.chmod(0o700)
    assert all(examined(path).values())


def test_a_folder_of_keys_that_others_can_enter_is_reported(path: Path) -> None:
    home = homes.keys(template.ORIGIN)
    home.chmod(0o750)
    assert examined(path)[f"{home} is open to other users"] is False


@pytest.mark.parametrize("name", ["owner.key", "author.key", "log.key", "identity.txt"])
def test_a_private_key_that_others_may_read_is_reported(
    path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (homes.keys(template.ORIGIN) / name).chmod(0o644)
    assert main.run(["doctor", "--ledger", str(path)]) == 1
    assert name in "".join(capfd.readouterr())


def test_a_missing_key_is_said_and_is_no_fault(path: Path) -> None:
    for name in ("owner.key", "identity.txt"):
        (homes.keys(template.ORIGIN) / name).unlink()
    found = examined(path)
    assert found["no owner.key on this machine"]
    assert found["no identity.txt on this machine"]


def test_a_damaged_identity_is_a_fault(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (homes.keys(template.ORIGIN) / "identity.txt").write_text("garbage")
    assert main.run(["doctor", "--ledger", str(path)]) == 1
    assert "garbage" not in "".join(capfd.readouterr())


def test_a_root_that_is_gone_is_a_fault(path: Path) -> None:
    (path / "keys" / "root" / "0.age").unlink()
    assert not all(examined(path).values())


def test_erased_keys_are_mentioned_with_what_to_think_of(path: Path) -> None:
    _erase(path, "gone")
    with ledger.open(path) as log:
        [found] = [f for f in doctor.examine(log) if "erased" in f.what]
    assert "backups" in found.hint


def test_the_cache_of_another_ledger_below_this_ones_name_survives(path: Path, tmp_path: Path) -> None:
    """`acme.example/a` and `acme.example/a/b` are two logs."""
    ledger.init(tmp_path / "below", origin=template.ORIGIN + "/below")
    with ledger.open(tmp_path / "below") as log:
        assert isinstance(log, Log)
        log.catch_up_places()
        log.places.save()
        other = homes.cache(log.origin)
    before = {p: p.read_bytes() for p in other.rglob("*.places")}
    assert before
    rebuild(path)
    assert {p: p.read_bytes() for p in other.rglob("*.places")} == before


def test_the_readable_log_key_is_a_finding_like_any_other(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (homes.keys(template.ORIGIN) / "log.key").chmod(0o644)
    assert main.run(["doctor", "--ledger", str(path)]) == 1
    said = capfd.readouterr()
    assert "log.key: others may read this key   chmod 600" in said.out
    assert said.err == ""


def test_an_identity_that_fails_is_listed_once(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (homes.keys(template.ORIGIN) / "identity.txt").chmod(0o644)
    assert main.run(["doctor", "--ledger", str(path)]) == 1
    assert capfd.readouterr().out.count("identity.txt: ") == 1


def test_how_many_roots_the_identity_opens(path: Path) -> None:
    assert examined(path)["the identity opens 1 of 1 root"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_cannot_be_written_is_a_finding(made: Template) -> None:
    with tempfile.TemporaryDirectory() as top:
        base = Path(top)
        base.chmod(0o755)
        shutil.copytree(made.home, base / "home")
        shutil.copytree(made.ledger, base / "l")
        for file in [*base.rglob("*")]:
            os.chown(file, 65534, 65534)
        (base / "l").chmod(0o500)
        said = shell.as_nobody("doctor", "--ledger", base / "l", home=base / "home")
        assert said.status == 1
        assert f"{base}/l can't be written" in said.out
