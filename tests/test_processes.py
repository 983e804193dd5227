"""Many processes and threads append to one ledger at once: no loss, no duplicate, no gap, all signed."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import ledger
from ledger import govern, homes, state
from schemas.entries import Prompt
from schemas.errors import Malformed, UsageError
from store.datakeys import Keyring
from store.durable import Disk
from store.folder import Folder
from store.places import Places
from tests.support.machine import Place, new_ledger
from tests.support.proof import Promise, assert_survived, why_not_sound, why_not_sound_elsewhere

CROWD = Path(__file__).parent / "support" / "crowd.py"
ROOT = Path(__file__).parents[1]


class Made(NamedTuple):
    """An acknowledged entry, as a process of the crowd reports it."""

    index: int
    step: int
    run: str
    address: str
    digest: str

    @property
    def promise(self) -> Promise:
        return Promise(self.index, self.address, self.digest)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return new_ledger(tmp_path)


def crowd(place: Place, processes: int, entries: int, threads: int, run: str = "") -> list[Made]:
    """Lets processes loose at the same moment; all that they say was acknowledged."""
    barrier = place.path.parent / "go"
    command = [sys.executable, str(CROWD), str(place.path), str(barrier), str(entries), str(threads)]
    environment = place.machine.environment | {"PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        started = []
        for _ in range(processes):
            process = subprocess.Popen(
                [*command, *([run] if run else [])],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
                cwd=ROOT,
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            started.append(process)
        barrier.touch()
        found: list[Made] = []
        for process in started:
            output, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            found += [Made(*one) for one in json.loads(output)]
    return found


def assert_whole(place: Place, made: list[Made], entries: int) -> None:
    """What was acknowledged, and what lies in the ledger, are the same."""
    assert len(made) == entries
    assert len({one.index for one in made}) == entries
    with place.machine.here(), ledger.open(place.path) as log:
        lying = [(r.index, r.entry) for r in log.entries() if isinstance(r.entry, Prompt)]
        assert {(index, entry.step, entry.run, entry.content) for index, entry in lying} == {
            (one.index, one.step, one.run, one.address) for one in made
        }
        assert len(lying) == entries
        steps: dict[str, list[int]] = defaultdict(list)
        for recorded in log.entries():
            if recorded.entry.run:
                steps[recorded.entry.run].append(recorded.entry.step)
    for run, found in steps.items():
        assert found == list(range(1, len(found) + 1)), f"the steps of run {run} are not contiguous"
    assert why_not_sound(place) == ""
    assert why_not_sound_elsewhere(place) == ""


def test_eight_processes_lose_and_double_nothing(place: Place) -> None:
    made = crowd(place, processes=8, entries=625, threads=1)
    assert_whole(place, made, 5000)
    assert len({one.run for one in made}) == 8
    assert_survived(place, [one.promise for one in made])


def test_processes_with_threads_lose_and_double_nothing(place: Place) -> None:
    made = crowd(place, processes=4, entries=400, threads=8)
    assert_whole(place, made, 1600)
    assert len({one.run for one in made}) == 32


def test_processes_that_share_one_run_give_each_step_once(place: Place) -> None:
    with place.machine.here(), ledger.open(place.path) as log:
        run = log.run("shared").id
    made = crowd(place, processes=2, entries=400, threads=2, run=run)
    assert_whole(place, made, 800)
    assert sorted(one.step for one in made) == list(range(2, 802))
    with place.machine.here(), ledger.open(place.path) as log:
        assert log.resume(run).finish().step == 802


def test_a_run_that_another_process_finishes_is_closed_to_all(place: Place) -> None:
    """Decided at the commit: what comes after the end is refused, whoever sends it, and breaks no rule."""
    with place.machine.here(), ledger.open(place.path) as one, ledger.open(place.path) as other:
        mine = one.run("shared")
        other.chain.catch_up()
        its = other.resume(mine)
        its.prompt(b"while it is open")
        mine.finish()
        with pytest.raises(ledger.LedgerError, match="not open"):
            its.prompt(b"too late")
        with pytest.raises(ledger.LedgerError, match="not open"):
            its.finish()
    assert why_not_sound(place) == ""


def test_readers_see_only_what_is_whole_while_others_write(place: Place) -> None:
    stop = threading.Event()
    wrong: list[str] = []

    def audit() -> None:
        while not stop.is_set():
            wrong.append(why_not_sound(place))

    reader = threading.Thread(target=audit)
    with place.machine.here():
        reader.start()
        try:
            made = crowd(place, processes=2, entries=150, threads=1)
        finally:
            stop.set()
            reader.join()
    assert len(wrong) > 3
    assert set(wrong) == {""}
    assert_whole(place, made, 300)


def together(count: int, work: Callable[[int], None]) -> list[BaseException]:
    """Does work in threads that begin at the same moment; what they raised."""
    barrier = threading.Barrier(count)
    raised: list[BaseException] = []

    def one(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_the_first_appends_of_many_threads_do_not_run_over_each_other(place: Place) -> None:
    """What is made when it is first needed must be made once: two committers would each build the same pack."""
    promises: list[Promise] = []
    with place.machine.here():
        for _ in range(12):
            with ledger.open(place.path) as log:

                def append(number: int, log: ledger.Log = log) -> None:
                    content = os.urandom(30)
                    promises.append(Promise.of(log.run(f"{number}").prompt(content), content))

                assert together(16, append) == []
    assert len({promise.index for promise in promises}) == 12 * 16
    assert_survived(place, promises)


def test_verify_is_not_misled_by_a_checkpoint_that_is_published_meanwhile(place: Place) -> None:
    """Partial tiles go when their full tile is there: who read the checkpoint before finds the full one instead."""

    def append(count: int) -> None:
        with ledger.open(place.path) as log:
            log.run("r").append_many(ledger.Item(kind="prompt", content=f"{n}") for n in range(count))

    def meanwhile(done: int, total: int) -> None:
        if not told:
            told.append(done)
            append(300)

    told: list[int] = []
    with place.machine.here():
        append(20)
        report = ledger.verify(place.path, progress=meanwhile)
    assert told
    assert report.sound, report.findings


def test_the_publisher_never_meets_a_pack_that_is_half_taken_in(place: Place) -> None:
    """It works beside the committer, on the same chain; what it meets in between would end it."""
    failed: list[BaseException] = []
    stop = threading.Event()
    interval = sys.getswitchinterval()
    with place.machine.here(), ledger.open(place.path) as log:

        def publish() -> None:
            while not stop.is_set():
                try:
                    log.publisher.now()
                except BaseException as error:
                    failed.append(error)

        publisher = threading.Thread(target=publish)
        sys.setswitchinterval(1e-6)
        try:
            publisher.start()
            run = log.run("r")
            for number in range(250):
                run.append_many(ledger.Item(kind="prompt", content=f"{number} {n}") for n in range(100))
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            publisher.join()
    assert failed == []
    assert why_not_sound(place) == ""


def test_threads_that_sync_many_folders_do_not_take_each_others_handles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More folders than handles are kept for: who gives one back must not close it under another's sync.

    A closed handle fails the sync; a number that was given to another folder makes it sync the wrong one.
    """
    folders = [tmp_path / f"{number:03d}" for number in range(200)]
    for folder in folders:
        folder.mkdir()
    disk = Disk()
    failed: list[object] = []
    fsync = os.fsync

    def slow(fd: int) -> None:
        """As on a busy disk; and the handle must mean the same folder all the while."""
        before = os.readlink(f"/proc/self/fd/{fd}")
        time.sleep(0.002)
        fsync(fd)
        if os.readlink(f"/proc/self/fd/{fd}") != before:
            failed.append(f"the handle of {before} was given to another")

    def work(first: int) -> None:
        try:
            for turn in range(40):
                folder = str(folders[(first * 31 + turn * 7) % len(folders)])
                disk.open_folder(folder)
                disk.sync_folder(folder)
        except BaseException as error:
            failed.append(error)

    monkeypatch.setattr(os, "fsync", slow)
    threads = [threading.Thread(target=work, args=(first,)) for first in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.close()
    assert failed == []


def test_threads_read_what_others_append(place: Place) -> None:
    """One `Log`, shared: threads that read, two that append, and another process that appends as well."""
    with place.machine.here(), ledger.open(place.path) as log:
        run = log.run("shared")
        written = [(log.run("first").artifact(b"first"), b"first")]
        failed: list[str] = []
        stop = threading.Event()

        def reading(look: Callable[[int], object]) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                try:
                    look(turn)
                except Exception as error:
                    failed.append(f"{look.__name__}: {type(error).__name__}: {error}")
                    return

        def appending(name: str) -> None:
            for turn in range(60):
                content = f"{name} {turn}".encode()
                written.append((run.artifact(content), content))

        def read(turn: int) -> None:
            appended, content = written[turn % len(written)]
            assert log.read(appended.address) == content

        def unknown(turn: int) -> None:
            with pytest.raises(ledger.LedgerError, match="not in this ledger"):
                log.read("artifact://" + f"{turn:064x}")

        def entry(turn: int) -> None:
            appended, _ = written[turn % len(written)]
            assert getattr(log.entry(appended.index).entry, "content", "") == appended.address

        def entries(turn: int) -> None:
            known = {appended.index for appended, _ in list(written)}
            assert known <= {recorded.index for recorded in log.entries()}

        def query(turn: int) -> None:
            known = len(written)
            kinds = dict(log.query("SELECT kind, count(*) FROM entries GROUP BY kind").to_pydict().items())
            counts = dict(zip(*kinds.values(), strict=True))
            assert counts["artifact"] >= known

        def runs(turn: int) -> None:
            assert {"shared", "first"} <= {found.name for found in log.runs()}

        def find(turn: int) -> None:
            appended, content = written[turn % len(written)]
            assert appended.index in {recorded.index for recorded in log.find(content)}

        def receipt(turn: int) -> None:
            log.receipt(written[turn % len(written)][0].index)

        looks = (read, unknown, entry, entries, query, runs, find, receipt)
        threads = [threading.Thread(target=reading, args=(look,)) for look in looks]
        writers = [threading.Thread(target=appending, args=(name,)) for name in "ab"]
        for thread in threads + writers:
            thread.start()
        crowd(place, processes=1, entries=60, threads=2)
        for thread in writers:
            thread.join()
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(written) == 121
    assert why_not_sound(place) == ""


def test_no_thread_sees_a_state_between_two_packs(place: Place) -> None:
    """At each line by which a pack is proven: as many leaves as the packs that are counted hold, no more."""
    seen: set[tuple[int, int]] = set()

    def look(frame: FrameType, event: str, argument: object) -> Callable[..., object]:
        seen.add((reader.chain.state.packs, reader.chain.state.size))
        return look

    def enter(frame: FrameType, event: str, argument: object) -> Callable[..., object] | None:
        return look if frame.f_code is state.State.prove.__code__ else None

    with place.machine.here(), ledger.open(place.path) as log, ledger.open(place.path) as reader:
        before = (reader.chain.state.packs, reader.chain.state.size)
        log.run("r")
        before_tracing = sys.gettrace()
        sys.settrace(enter)
        try:
            reader.catch_up()
        finally:
            sys.settrace(before_tracing)
        assert seen == {before}
        assert reader.chain.state.size > before[1]


def test_a_damaged_table_of_places_is_made_again_once_for_all_threads(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that his content is missing while another makes the table again, nor is it made for strangers."""
    made_again: list[Places] = []
    replace = Places.replace

    def counting(places: Places, right: Places) -> None:
        made_again.append(right)
        time.sleep(0.05)
        replace(places, right)

    with place.machine.here():
        with ledger.open(place.path) as log:
            names = {f"run {number}" for number in range(5)}
            written = [(log.run(name).artifact(name, name=name).address, name.encode()) for name in names]
            assert log.read(written[0][0]) == written[0][1]
            log.places.save()
        for table in homes.cache(log.origin).rglob("*.places"):
            data = bytearray(table.read_bytes())
            for at in range(96 + 32 + 11, len(data), 48):
                data[at] ^= 1
            table.write_bytes(data)
        monkeypatch.setattr(Places, "replace", counting)
        with ledger.open(place.path) as log:

            def look(number: int) -> None:
                if number % 2:
                    assert [log.read(address) for address, _ in written] == [content for _, content in written]
                else:
                    assert {run.name for run in log.runs()} >= names

            assert together(6, look) == []
            for number in range(3):
                with pytest.raises(ledger.LedgerError, match="not in this ledger"):
                    log.read(f"artifact://{number:064x}")
    assert len(made_again) == 1


def test_nobody_relies_on_a_pack_whose_sync_has_not_returned(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads settle what another process committed: both must wait for the one sync, and learn if it fails."""
    began, go_on, went_on = threading.Event(), threading.Event(), threading.Event()

    def slow(folder: Folder, name: str) -> None:
        began.set()
        assert go_on.wait(10)

    def failing(folder: Folder, name: str) -> None:
        raise ledger.LedgerError("the disk failed")

    with place.machine.here(), ledger.open(place.path) as other, ledger.open(place.path) as log:

        def second() -> None:
            log.chain.settle()
            went_on.set()

        other.run("another's")
        log.catch_up()
        monkeypatch.setattr(Folder, "sync", failing)
        for _ in range(2):
            with pytest.raises(ledger.LedgerError, match="the disk failed"):
                log.chain.settle()
        monkeypatch.setattr(Folder, "sync", slow)
        threads = [threading.Thread(target=log.chain.settle), threading.Thread(target=second)]
        threads[0].start()
        assert began.wait(10)
        threads[1].start()
        assert not went_on.wait(0.2)
        go_on.set()
        for thread in threads:
            thread.join()
        monkeypatch.undo()
    assert went_on.is_set()


def test_a_reader_goes_on_when_somebody_else_was_revoked_meanwhile(place: Place, tmp_path: Path) -> None:
    """What is written after that needs a root which the reader has not seen."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    recipient = key.with_suffix(".pub").read_text()
    with place.machine.here(), ledger.open(place.path) as log, ledger.open(place.path) as reader:
        govern.grant(log, recipient)
        before = log.run("before").artifact("before").address
        assert reader.read(before) == b"before"
        govern.revoke(log, recipient)
        after = log.run("after").artifact("after").address
        assert reader.read(after) == b"after"
        assert reader.read(before) == b"before"


def test_threads_that_can_not_read_share_one_key_for_a_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure must know every key that this process has used."""
    make = Keyring.make

    def slow(keyring: Keyring, *args: object) -> object:
        time.sleep(0.02)
        return make(keyring, *args)  # type: ignore[arg-type]

    with place.machine.here():
        with ledger.open(place.path) as log:
            run = log.run("shared").id
            known = set(log.folder.list("keys/data"))
        monkeypatch.setattr(Keyring, "make", slow)
        with ledger.open(place.path, identity="file:/nowhere") as log:
            log.blobs.keyring.identity = ""
            assert together(8, lambda number: log.resume(run).artifact(f"{number}") and None) == []
            assert len(set(log.folder.list("keys/data")) - known) == 1


@pytest.mark.parametrize("turn", range(3))
def test_who_reads_while_a_log_is_closed_is_told_so_and_spoils_nothing(place: Place, turn: int) -> None:
    with place.machine.here():
        with ledger.open(place.path) as log:
            written = [(log.run(f"{n}").artifact(f"{n}").address, f"{n}".encode()) for n in range(20)]
        log = ledger.open(place.path)
        ended: list[BaseException] = []

        def look(number: int) -> None:
            if number == 0:
                time.sleep(0.02)
                log.close()
                return
            try:
                for _ in range(100):
                    for address, content in written:
                        assert log.read(address) == content
                    assert len(log.runs()) == 20
            except UsageError as error:
                ended.append(error)

        assert together(4, look) == []
        assert {str(error).splitlines()[0] for error in ended} == {"this ledger was closed"}
        with ledger.open(place.path) as log:
            assert [log.read(address) for address, _ in written] == [content for _, content in written]
            assert log._places_made_again is False


def test_an_interrupt_at_any_moment_stops_no_later_commit(place: Place) -> None:
    """Ctrl-C, over and over, wherever it strikes; then every thread still gets its turn."""
    code = """
import os, random, signal, sys, threading
import ledger

def strike(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, strike)
chance = random.Random(7)
with ledger.open(sys.argv[1]) as log:
    run = log.run("struck")
    kept = struck = 0
    while struck < 150:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.003))
            while True:
                run.artifact(b"%d" % kept)
                kept += 1
        except KeyboardInterrupt:
            struck += 1
        except ledger.LedgerError:
            struck += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    threads = [threading.Thread(target=lambda: run.artifact(b"after")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    run.artifact(b"at last")
    run.finish()
print("done", kept)
"""
    with place.machine.here():
        command = [sys.executable, "-c", code, str(place.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
        assert done.stdout.startswith("done"), done.stderr
        assert ledger.verify(place.path).findings == []


def test_a_ledger_opened_before_a_fork_is_refused_in_the_child_and_hangs_nobody(place: Place) -> None:
    code = """
import os, sys, time
import ledger

log = ledger.open(sys.argv[1])
run = log.run("parent")
for _ in range(20):
    run.artifact(b"busy")
    child = os.fork()
    if not child:
        try:
            run.artifact(b"of the child")
        except ledger.LedgerError as error:
            assert "fork" in str(error), error
            log.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
idle = os.fork()
if not idle:
    time.sleep(30)
    os._exit(0)
began = time.monotonic()
run.finish()
log.close()
assert time.monotonic() - began < 5, "an idle child keeps the lock"
os.kill(idle, 9)
print("done")
"""
    with place.machine.here():
        command = [sys.executable, "-W", "error", "-c", code, str(place.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert done.stdout == "done\n", done.stderr
        assert ledger.verify(place.path).findings == []


def test_what_one_thread_hands_in_wrong_is_refused_to_it_alone(place: Place) -> None:
    with place.machine.here(), ledger.open(place.path) as log, log.run("shared") as run:
        refused: list[Exception] = []
        barrier = threading.Barrier(6)

        def append(model: Any) -> None:
            barrier.wait()
            for _ in range(20):
                try:
                    run.prompt(b"asked", model=model)
                except Exception as error:
                    refused.append(error)

        threads = [threading.Thread(target=append, args=(model,)) for model in ("m", "m", object(), "m", "m", ["m"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 40
        assert all(isinstance(error, Malformed) for error in refused), refused
        assert len(log.chain.state.history.runs[run.id].prompts) == 80
