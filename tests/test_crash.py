"""Real processes are killed, stopped, and refused by the system at chosen calls; nothing acknowledged is lost.

An appender (`tests/support/appender.py`) says what was acknowledged. Afterwards the ledger is judged as it lies,
without a repair, and appended to.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import ledger
from ledger.log import Log
from ledger.publisher import NotPublished
from schemas.errors import LedgerError, OutcomeUnknown, StorageFailed
from store import secrets
from store.signers import Signer
from tests.support.machine import ORIGIN, Machine, Place, new_ledger
from tests.support.proof import Promise, assert_kept, assert_survived, why_not_sound_elsewhere
from tests.support.strace import (
    CALLS,
    Outcome,
    append,
    append_under,
    count_calls,
    go,
    started,
    traced,
)

FAULTS = {"EIO": "error=EIO", "ENOSPC": "error=ENOSPC", "KILL": "signal=KILL"}
REFUSALS = {"", "StorageFailed", "OutcomeUnknown", "KeyUnusable", "CannotTell"}
"""What a failing disk may be reported as; the last two where it fails for a key or for the trust root."""

NO_STRIKES = {("close", "EIO"), ("close", "ENOSPC"), ("read", "ENOSPC"), ("unlink", "ENOSPC")}
"""What does not come to pass; and a close that fails is another matter, see below."""

STRIKES = [(call, fault) for call in CALLS for fault in FAULTS if (call, fault) not in NO_STRIKES]

APPENDS = 4
SAMPLE = 4
"""Occurrences of each call at which each fault is injected in the normal run; `make soak` takes them all."""

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def seedling(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return new_ledger(tmp_path_factory.mktemp("seedling"))


def copy(place: Place, folder: Path) -> Place:
    """The same ledger, keys, pins and caches, once more."""
    shutil.copytree(place.path.parent, folder)
    moved = place.machine._make(folder / path.relative_to(place.path.parent) for path in place.machine)
    return place._replace(path=folder / place.path.name, machine=moved)


@pytest.fixture
def place(seedling: Place, tmp_path: Path) -> Place:
    return copy(seedling, tmp_path / "place")


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that an appender says."""
    assert process.stdout is not None
    return process.stdout.readline()


def rest_of(process: subprocess.Popen[str]) -> str:
    """All that an appender has still said, when it has ended."""
    assert process.stdout is not None
    return process.stdout.read()


# Faults in system calls


@pytest.fixture(scope="module")
def counted(seedling: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often the appender makes each call once it works."""
    folder = tmp_path_factory.mktemp("counted")
    trace = folder / "trace"
    calls = "trace=" + ",".join(CALLS.values())
    outcome = append_under(copy(seedling, folder / "place"), APPENDS, "-e", calls, "-o", str(trace))
    assert outcome.status == 0
    assert len(outcome.kept) == APPENDS
    return count_calls(trace)


def strike(seedling: Place, folder: Path, call: str, fault: str, occurrence: int) -> bool:
    """One fault at one occurrence of a call, and the judgement; whether the fault was met."""
    place = copy(seedling, folder)
    inject = f"inject={CALLS[call]}:{FAULTS[fault]}:when={occurrence}"
    outcome = append_under(place, APPENDS, "-e", f"trace={CALLS[call]}", "-e", inject, "-o", str(folder / "trace"))
    judge(place, outcome, f"{fault} at {call} number {occurrence}")
    met = "INJECTED" in (folder / "trace").read_text() or outcome.status != 0
    shutil.rmtree(folder)
    return met


def judge(place: Place, outcome: Outcome, where: str) -> None:
    """What an appender left, after a fault."""
    assert not outcome.leaked, f"{where}: {outcome.leaked}"
    assert outcome.status in (0, -signal.SIGKILL), where
    assert outcome.refused.partition(" ")[0] in REFUSALS, f"{where}: {outcome.refused}"
    try:
        assert_survived(place, outcome.kept)
    except (AssertionError, LedgerError) as error:
        raise AssertionError(f"{where}: {error}") from error


@needs_strace
@pytest.mark.parametrize(("call", "fault"), STRIKES)
def test_a_failing_call_loses_nothing(
    seedling: Place, counted: dict[str, int], tmp_path: Path, call: str, fault: str
) -> None:
    last = counted[call]
    # From the first to the last, and another spread for each fault.
    shift = list(FAULTS).index(fault)
    step = max(1, last // SAMPLE)
    chosen = sorted({min(last, 1 + shift * step // len(FAULTS) + i * step) for i in range(SAMPLE)})
    met = [strike(seedling, tmp_path / f"{at}", call, fault, at) for at in chosen]
    assert any(met)


@needs_strace
@pytest.mark.soak
@pytest.mark.parametrize(("call", "fault"), STRIKES)
def test_no_failing_call_loses_anything(
    seedling: Place, counted: dict[str, int], tmp_path: Path, call: str, fault: str
) -> None:
    for occurrence in range(1, counted[call] + 3):
        strike(seedling, tmp_path / f"{occurrence}", call, fault, occurrence)


@pytest.mark.parametrize("part", range(3))
def test_a_close_that_reports_an_error_loses_nothing(seedling: Place, tmp_path: Path, part: int) -> None:
    for occurrence in range(1 + part, 22, 3):
        place = copy(seedling, tmp_path / f"{occurrence}")
        judge(place, append(place, APPENDS, CLOSE_FAILS=str(occurrence)), f"close number {occurrence}")


@needs_strace
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_a_failure_is_told_to_the_caller(seedling: Place, counted: dict[str, int], tmp_path: Path, call: str) -> None:
    """These calls stand in the way of each commit: when the middle one fails, somebody must hear of it."""
    place = copy(seedling, tmp_path / "place")
    inject = f"inject={CALLS[call]}:error=EIO:when={counted[call] // 2}"
    outcome = append_under(place, APPENDS, "-e", f"trace={CALLS[call]}", "-e", inject, "-o", os.devnull)
    assert outcome.refused.split()[0] in {StorageFailed.__name__, OutcomeUnknown.__name__}
    assert len(outcome.kept) < APPENDS


# Kills


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_ten_times(place: Place, seed: int) -> None:
    """One ledger, whose writers are killed again and again; each goes on from what the one before left."""
    chance = random.Random(seed)
    promises: list[Promise] = []
    for _ in range(10):
        with started(place, 0) as process:
            go(process)
            before = [line_of(process) for _ in range(chance.randrange(8))]
            time.sleep(chance.uniform(0.0, 0.02))
            process.kill()
            promises += Outcome.of("".join(before) + rest_of(process), 0).kept
        assert_kept(place, promises)
    assert len(promises) > 20
    assert_survived(place, promises)
    assert why_not_sound_elsewhere(place) == ""


# Stalls


@pytest.mark.parametrize("seed", range(2))
def test_a_stopped_writer_neither_loses_nor_commits_in_the_past(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    ours: list[Promise] = []
    lines: list[str] = []
    inside = 0
    with started(place, 0) as process:
        go(process)
        with place.machine.here(), ledger.open(place.path) as log:
            run = log.run("the one that is awake")
            for _ in range(25):
                lines.append(line_of(process))
                time.sleep(chance.uniform(0.0, 0.01))
                process.send_signal(signal.SIGSTOP)
                inside += len(list((place.path / "tmp").iterdir())) > 1
                for _ in range(2):
                    content = os.urandom(30)
                    ours.append(Promise.of(run.prompt(content), content))
                process.send_signal(signal.SIGCONT)
        process.kill()
        theirs = Outcome.of("".join(lines) + rest_of(process), 0).kept
    assert inside, "it was never stopped in the middle of a commit"
    assert len(theirs) > 20
    assert [p.index for p in theirs] == sorted(p.index for p in theirs)
    assert_survived(place, [*ours, *theirs])


@needs_strace
@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_writer_that_stalls_inside_a_call_comes_after_who_did_not(place: Place, tmp_path: Path, call: str) -> None:
    """Held for a second before its pack is named, or before the name is synced, while another process commits."""
    trace = tmp_path / "trace"
    # The calls before, in the thread that commits: the start of the run.
    occurrence = {"link": 2, "fsync": 4}[call]
    inject = f"inject={CALLS[call]}:delay_enter=1000000:when={occurrence}"
    ours: list[Promise] = []
    with (
        started(place, APPENDS) as process,
        traced(process, "-e", f"trace={CALLS[call]}", "-e", inject, "-o", str(trace)),
    ):
        go(process)
        begun = line_of(process)
        time.sleep(0.2)
        with place.machine.here(), ledger.open(place.path) as log:
            run = log.run("the one that is awake")
            for number in range(5):
                content = b"%d" % number
                ours.append(Promise.of(run.prompt(content), content))
        theirs = Outcome.of(begun + rest_of(process), 0).kept
        assert process.wait() == 0
    assert len(theirs) == APPENDS
    assert "DELAYED" in trace.read_text()
    assert_survived(place, [*ours, *theirs])
    if call == "link":
        assert theirs[0].index > ours[-1].index


# Disks that refuse


def _mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let us mount: {done.stderr.strip()}")


@pytest.fixture
def read_only(place: Place) -> Iterator[Place]:
    """A ledger with entries, on a file system that became read-only."""
    with place.machine.here(), ledger.open(place.path) as log, log.run("before") as run:
        run.prompt(b"before")
    if os.geteuid() != 0:
        modes = {path: path.stat().st_mode for path in place.path.rglob("*") if path.is_dir()}
        for path in [place.path, *modes]:
            path.chmod(0o500)
        yield place
        for path in [place.path, *modes]:
            path.chmod(0o700)
        return
    _mount("--bind", str(place.path), str(place.path))
    try:
        _mount("-o", "remount,bind,ro", str(place.path))
        yield place
    finally:
        subprocess.run(["umount", str(place.path)], check=False)


def test_a_read_only_ledger_is_read_and_verified(read_only: Place, tmp_path: Path) -> None:
    """By its owner's machine, and by one that must prove all anew and has the log key: nothing is published."""
    for machine in (read_only.machine, read_only.machine.forgetful(tmp_path / "fresh")):
        with machine.here():
            with ledger.open(read_only.path) as log:
                assert [log.read(r.entry.content) for r in log.entries() if hasattr(r.entry, "content")] == [b"before"]
            assert ledger.verify(read_only.path).sound
    assert why_not_sound_elsewhere(read_only) == ""


def test_a_read_only_ledger_refuses_entries_with_our_error(read_only: Place) -> None:
    with read_only.machine.here(), ledger.open(read_only.path) as log, pytest.raises(StorageFailed):
        log.run("refused")
    assert_kept(read_only, [])


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Place]:
    """A ledger on a file system of half a megabyte; the keys lie elsewhere."""
    folder = tmp_path / "small"
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", "size=512k", "none", str(folder))
    try:
        place = new_ledger(tmp_path / "elsewhere")
        shutil.move(place.path, folder / "ledger")
        yield place._replace(path=folder / "ledger")
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def soon(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold: the publisher works in the background, and stages its files where we look."""
    for _ in range(100):
        if holds():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("size", [300, 20_000, 70_000])
def test_a_full_disk_refuses_and_goes_on_when_there_is_space_again(small: Place, size: int) -> None:
    promises: list[Promise] = []

    def append() -> None:
        content = os.urandom(size)
        promises.append(Promise.of(run.artifact(content), content))

    filler = small.path.parent / "filler"
    filler.write_bytes(bytes(100_000))
    with small.machine.here(), ledger.open(small.path) as log:
        run = log.run("fills the disk")
        for _ in range(3):
            with pytest.raises(StorageFailed, match="no space"):
                for _ in range(10_000):
                    append()
        assert promises
        assert soon(lambda: {path.name for path in (small.path / "tmp").iterdir()} <= {"publisher.lock"}), (
            "what was staged in vain keeps space on a full disk"
        )
        # Proven as it lies, on the full disk; the copy of it is what is appended to.
        assert why_not_sound_elsewhere(small) == ""
        filler.unlink()
        append()
    shutil.copytree(small.path, small.machine.keys.parent / "copy")
    assert_survived(small._replace(path=small.machine.keys.parent / "copy"), promises)


# What init relies on


# What no writer may do to the others


def test_a_key_that_is_not_trusted_cannot_stop_the_log(place: Place, tmp_path: Path) -> None:
    """A wrong LEDGER_SIGNER must be refused before the pack is named: a pack can't be taken back."""
    stranger = tmp_path / "stranger.key"
    secrets.save(stranger, Signer.format(f"{ORIGIN}/stranger", os.urandom(32)))
    with place.machine.here(), suppress(LedgerError), Log.open(place.path, signer=f"file:{stranger}") as log:
        log.run("by a stranger")
    assert_survived(place, [])


def test_an_error_of_the_caller_is_not_hidden_by_one_of_the_closing(place: Place) -> None:
    with place.machine.here():
        with (
            pytest.raises(RuntimeError, match="the caller's") as raised,
            ledger.open(place.path) as log,
            log.run("fails") as run,
        ):
            run.artifact(b"kept")
            log.folder.disk.failed = StorageFailed("the disk failed")
            raise RuntimeError("the caller's")
        assert any("could not be finished: the disk failed" in note for note in raised.value.__notes__)

        with (
            pytest.warns(NotPublished, match="durable, but could not be published"),
            pytest.raises(RuntimeError, match="the caller's"),
            ledger.open(place.path) as log,
        ):
            log.run("published late")
            shutil.rmtree(place.machine.state)
            place.machine.state.write_text("no folder")
            raise RuntimeError("the caller's")
        place.machine.state.unlink()


@pytest.mark.parametrize("what", ["tiles", "pin"])
def test_what_could_not_be_published_is_a_warning_and_no_error(place: Place, what: str) -> None:
    with place.machine.here():
        with pytest.warns(NotPublished), ledger.open(place.path) as log:
            run = log.run("kept").id
            log.publisher.close()
            log.publisher._committed = True
            log.run("kept too")
            if what == "tiles":
                shutil.rmtree(place.path / "tile")
                (place.path / "tile").write_text("no folder")
            else:
                shutil.rmtree(place.machine.state)
                place.machine.state.write_text("no folder")
        (place.path / "tile" if what == "tiles" else place.machine.state).unlink()
        with ledger.open(place.path) as log:
            assert log.chain.state.history.runs[run].step == 1
    assert why_not_sound_elsewhere(place) == ""


def test_work_goes_on_when_the_folder_of_temporary_files_was_cleaned_away(place: Place) -> None:
    with place.machine.here(), ledger.open(place.path) as log, log.run("long") as run:
        kept = []
        for content in (b"small", os.urandom(200_000), b"small again", os.urandom(200_000)):
            kept.append((run.artifact(content), content))
            # What cleans up by age meets, as this does, names that others remove meanwhile.
            shutil.rmtree(place.path / "tmp", ignore_errors=True)
        for appended, content in kept:
            assert log.read(appended.address) == content
    assert why_not_sound_elsewhere(place) == ""


@needs_strace
def test_what_init_made_survives_a_power_cut(tmp_path: Path) -> None:
    """Every name and every byte of the keys is synced before the ledger exists."""
    trace = tmp_path / "trace"
    machine = Machine.under(tmp_path / "home")
    command = ["strace", "-f", "-y", "-e", "trace=openat,fsync,mkdir,link,rename", "-o", str(trace)]
    command += [sys.executable, "-m", "ledger.cli.main", "init", str(tmp_path / "ledger")]
    subprocess.run(command, check=True, env=machine.environment, cwd=Path(__file__).parents[1], capture_output=True)
    lines = trace.read_text().splitlines()
    committed = next(i for i, line in enumerate(lines) if "link(" in line and ".pack" in line)
    synced = {match[1] for line in lines[:committed] if (match := re.search(r"fsync\(\d+<([^>]+)>", line))}
    folder = next(path.parent for path in machine.keys.rglob("owner.key"))
    for name in ("owner.key", "log.key", "author.key", "identity.txt", "trust"):
        assert str(folder / name) in synced, name
    made = [folder, *folder.parents]
    for path in made[: made.index(tmp_path) + 1]:
        assert str(path) in synced, path
