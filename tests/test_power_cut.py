"""The power goes, at any moment: what was acknowledged is there, all is sound, and appending goes on.

Real writers work on a simulated disk (`tests/support/lossy.py`). What survives is laid down as real files, and
judged there by an auditor who never saw the ledger and by the writer's machine with its pins.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from ledger import homes, pins
from ledger.chain import find_end
from ledger.log import Log
from ledger.publisher import Publisher
from ledger.run import Run
from ledger.state import State
from schemas.errors import LedgerError, OutcomeUnknown, StorageFailed
from store.durable import Disk
from store.folder import Folder
from store.signers import Signer, Verifier
from tests.support.lossy import SYNCS, Fault, Image, LossyDisk, Platter, cuts, read_image, write_image
from tests.support.machine import ORIGIN, Place, new_ledger
from tests.support.proof import Promise, assert_kept, assert_survived

SEEDS = 5
"""Ways in which each cut is survived: nothing, everything, and three mixtures."""


class Kept(NamedTuple):
    """An acknowledgement: after how many steps of the disk it was given, and what the machine may pin by then."""

    steps: int
    promise: Promise
    pin: pins.Pin


class Process:
    """A writer's process: a real `Log` over its own way to the simulated disk.

    The background publisher only pins; another one publishes where a test wants it, so that steps come in the
    same order each time.
    """

    def __init__(self, place: Place, platter: Platter, kept: list[Kept], fault: Fault | None = None) -> None:
        self.platter = platter
        self.kept = kept
        self.disk = LossyDisk(platter)
        with place.machine.here():
            keys = homes.keys(ORIGIN)
            state = State(Verifier.parse(place.trust.owner))
            identity, author = f"file:{keys / 'identity.txt'}", f"file:{keys / 'author.key'}"
            self.log = Log(Folder(platter.base, self.disk), state, identity, author, None)
            signer = Signer.load(f"file:{keys / 'log.key'}")
        self.log.chain.open()
        self.publisher = Publisher(self.log.chain, threading.Lock(), Path(platter.base) / "pins", signer)
        self.disk.fault = fault

    def start(self) -> Run:
        run = self.log.run("nightly")
        self._keep(Promise(self.log.chain.state.history.runs[run.id].started))
        return run

    def prompt(self, run: Run, content: bytes) -> None:
        self._keep(Promise.of(run.prompt(content), content))

    def artifact(self, run: Run, content: bytes) -> None:
        self._keep(Promise.of(run.artifact(content, name="out.bin"), content))

    def finish(self, run: Run) -> None:
        self._keep(Promise(run.finish().index))

    def publish(self) -> None:
        self.publisher.now()

    def _keep(self, promise: Promise) -> None:
        self.kept.append(Kept(len(self.platter.steps), promise, pins.of(self.log.chain.state)))


def work(process: Process) -> None:
    """Two runs with small and large contents, and checkpoints in between."""
    random = Random(1)
    first = process.start()
    process.prompt(first, b"write a parser")
    process.artifact(first, random.randbytes(70_000))
    process.publish()
    process.prompt(first, b"another one")
    second = process.start()
    process.artifact(second, random.randbytes(300))
    process.finish(first)
    process.publish()
    process.prompt(second, b"the last")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return new_ledger(tmp_path_factory.mktemp("seedling"))


@pytest.fixture(scope="module")
def image(place: Place) -> Image:
    return read_image(place.path)


Check = Callable[[Place, list[Promise]], None]


class Court:
    """Judges what survived; the same survivors are judged once."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.judged: set[bytes] = set()

    def judge(self, disk: Platter, seed: int, kept: list[Kept], check: Check = assert_survived) -> None:
        """Cuts the power now, and lays what survives down on a machine with the highest pin that it may have kept."""
        image = disk.survivors(seed)
        digest = hashlib.sha256(repr((sorted(image.items()), len(kept))).encode()).digest()
        if digest in self.judged:
            return
        self.judged.add(digest)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        write_image(image, self.folder / "ledger")
        place = Place(self.folder / "ledger", self.place.machine.forgetful(self.folder / "home"), self.place.trust)
        if kept:
            with place.machine.here():
                pins.save(homes.pins(ORIGIN), Verifier.parse(place.trust.owner), kept[-1].pin)
        try:
            check(place, [k.promise for k in kept])
        except (AssertionError, LedgerError) as error:
            step = disk.steps[-1] if disk.steps else None
            where = f"{step.kind} of {step.path.removeprefix(disk.base)}" if step else "the beginning"
            error.add_note(f"cut after step {len(disk.steps)}, {where}; seed {seed}; {len(kept)} acknowledged")
            raise


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of files are laid down and judged."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def court(place: Place, quick: Path) -> Court:
    return Court(place, quick / "court")


@pytest.fixture
def platter(image: Image, quick: Path) -> Platter:
    return Platter(quick, image)


# One writer


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_cut_loses_what_was_acknowledged(
    place: Place, image: Image, platter: Platter, court: Court, seed: int
) -> None:
    kept: list[Kept] = []
    work(Process(place, platter, kept))
    for done, disk in cuts(platter.base, image, platter.steps):
        promised = [k for k in kept if k.steps <= done]
        court.judge(disk, seed if seed < 2 else seed * 10_000 + done, promised)


@pytest.mark.parametrize("forgotten", ["sync", "sync_folder"])
def test_the_simulated_disk_shows_a_forgotten_sync(
    place: Place, image: Image, platter: Platter, court: Court, forgotten: str
) -> None:
    kept: list[Kept] = []
    work(Process(place, platter, kept))
    cut = Platter(platter.base, image)
    for step in platter.steps:
        if step.kind != forgotten:
            cut.apply(step)
    with pytest.raises((AssertionError, LedgerError)):
        court.judge(cut, 0, kept, assert_kept)
    court.judge(cut, 1, kept, assert_kept)


# Several processes


@pytest.fixture(scope="module")
def long(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A ledger whose next commit but one needs a new folder of packs: 255 of the first folder's 256 are there."""
    folder = tmp_path_factory.mktemp("long")
    path = folder / "ledger"
    shutil.copytree(place.path, path)
    with place.machine.forgetful(folder).here(), Log.open(path) as log:
        run = log.run("to the edge")
        for number in range(find_end(log.folder), 255):
            run.prompt(f"{number}")
    return read_image(path)


@pytest.mark.parametrize("seed", range(3))
def test_no_cut_loses_what_two_processes_wrote_in_turn(
    place: Place, long: Image, court: Court, quick: Path, seed: int
) -> None:
    kept: list[Kept] = []
    platter = Platter(quick, long)
    one, other = Process(place, platter, kept), Process(place, platter, kept)
    mine, its = one.start(), other.start()
    for turn in range(2):
        one.prompt(mine, b"mine %d" % turn)
        other.prompt(its, b"its %d" % turn)
    other.publish()
    one.artifact(mine, Random(2).randbytes(70_000))
    one.publish()
    for done, disk in cuts(platter.base, long, platter.steps):
        if (done + seed) % 9:
            continue
        promised = [k for k in kept if k.steps <= done]
        court.judge(disk, seed if seed < 2 else seed * 10_000 + done, promised)


def killed_after(place: Place, image: Image, base: Path, do: Callable[[Process], None]) -> Iterator[Platter]:
    """The disk as a process that was killed leaves it to others, wherever a name that counts was made or synced."""
    platter = Platter(base, image)
    do(Process(place, platter, []))
    steps = list(platter.steps)
    for done, step in enumerate(steps, 1):
        if step.kind in {"mkdir", "link", "sync_folder"}:
            left = Platter(base, image)
            for earlier in steps[:done]:
                left.apply(earlier)
            yield left


def commit(process: Process) -> None:
    process.prompt(process.start(), b"by the one that was killed")


def inherit(place: Place, left: Platter) -> list[Kept]:
    """Another process goes on where one was killed."""
    kept: list[Kept] = []
    heir = Process(place, left, kept)
    heir.artifact(heir.start(), Random(3).randbytes(70_000))
    heir.publish()
    return kept


def test_no_cut_loses_what_was_built_on_a_killed_writers_pack(
    place: Place, image: Image, court: Court, quick: Path
) -> None:
    for left in killed_after(place, image, quick, commit):
        killed = len(left.steps)
        kept = inherit(place, left)
        for done, disk in cuts(quick, image, left.steps):
            promised = [k for k in kept if k.steps <= done]
            if done <= killed:
                continue
            # Between a link and its sync two names are in the air: the heir's, and the one that it built on.
            seeds = range(2, 8) if disk.steps[-1].kind == "link" else (2,) if (done + killed) % 5 == 0 else ()
            if seeds or done == len(left.steps):
                for seed in (0, *seeds):
                    court.judge(disk, seed and 10_000 * killed + 10 * done + seed, promised)


def test_no_cut_loses_what_was_built_in_a_folder_that_a_killed_writer_made(
    place: Place, long: Image, court: Court, quick: Path
) -> None:
    for left in killed_after(place, long, quick, commit):
        killed = len(left.steps)
        kept = inherit(place, left)
        for seed in (0, 10_000 + killed)[: 1 + killed % 2]:
            court.judge(left, seed, kept)


@pytest.mark.parametrize("what", ["checkpoint", "pin"])
def test_a_checkpoint_or_pin_never_outlives_the_packs_that_it_names(
    place: Place, image: Image, court: Court, quick: Path, what: str
) -> None:
    """A writer was killed between naming its pack and syncing the name; a reader comes by; the power goes."""
    for left in killed_after(place, image, quick, lambda process: process.prompt(process.start(), b"unsynced")):
        reader = Process(place, left, [])
        if what == "checkpoint":
            reader.publish()
            court.judge(left, 0, [])
        else:
            machine = place.machine.forgetful(quick / f"home-{len(left.steps)}")
            with machine.here():
                reader.log.publisher.home = homes.pins(ORIGIN)
                reader.log.close()
            survived = quick / f"survived-{len(left.steps)}"
            write_image(left.survivors(0), survived)
            assert_survived(Place(survived, machine, place.trust), [])


def test_a_pack_that_a_cut_took_back_leaves_no_places_behind(place: Place, image: Image, quick: Path) -> None:
    """Else the same content, appended again, is taken for stored, and is not."""
    platter = Platter(quick, image)
    run = Process(place, platter, []).start().id
    begun = platter.survivors(0)
    content = b"the same once more"
    for left in killed_after(place, begun, quick, lambda process: process.prompt(process.log.resume(run), content)):
        done = len(left.steps)
        machine = place.machine.forgetful(quick / f"home-{done}")
        reader = Process(place._replace(machine=machine), left, [])
        for recorded in reader.log.entries(run):
            if address := getattr(recorded.entry, "content", ""):
                assert reader.log.read(address) == content
        reader.log.places.save(reader.log.chain.settle)
        survived = Place(quick / f"survived-{done}", machine, place.trust)
        write_image(left.survivors(0), survived.path)
        with machine.here(), Log.open(survived.path) as log:
            made = log.resume(run).prompt(content)
        assert_survived(survived, [Promise.of(made, content)])


# Failing disks

FAULTS = [(errno.EIO, False), (errno.ENOSPC, False), (errno.EIO, True)]
NAMES = {errno.EIO: "EIO", errno.ENOSPC: "ENOSPC"}


class Attempt(NamedTuple):
    """What became of a piece of work on a failing disk."""

    process: Process
    kept: list[Kept]
    error: LedgerError | None


def attempt(place: Place, platter: Platter, fault: Fault) -> Attempt:
    kept: list[Kept] = []
    process = Process(place, platter, kept, fault)
    try:
        work(process)
    except LedgerError as error:
        return Attempt(process, kept, error)
    return Attempt(process, kept, None)


@pytest.mark.parametrize(("error", "late"), FAULTS, ids=["EIO", "ENOSPC", "EIO-though-done"])
def test_no_failing_step_loses_what_was_acknowledged(
    place: Place, image: Image, court: Court, quick: Path, error: int, late: bool
) -> None:
    at = 0
    while True:
        at += 1
        platter = Platter(quick, image)
        process, kept, raised = attempt(place, platter, Fault(at, error, late))
        if process.disk.faulty is None:
            assert raised is None
            break
        assert isinstance(raised, StorageFailed | OutcomeUnknown | None)
        if process.disk.faulty.kind in SYNCS:
            assert raised is not None, f"{process.disk.faulty} failed, and nobody was told"
        # A machine that reads on without a cut, and one that was cut at once.
        court.judge(platter, 1, kept)
        court.judge(platter, 0, kept)
        court.judge(platter, at % 3 and at + 2, kept)
    assert at > 60


@pytest.mark.parametrize("kind", SYNCS)
def test_a_failed_sync_ends_the_use_of_the_handle(place: Place, image: Image, quick: Path, kind: str) -> None:
    at = 0
    while True:
        at += 1
        platter = Platter(quick, image)
        process, _, raised = attempt(place, platter, Fault(at, errno.EIO))
        faulty = process.disk.faulty
        if faulty is None:
            break
        if faulty.kind != kind:
            continue
        assert raised is not None
        before = list(platter.steps)
        for _ in range(2):
            with pytest.raises(StorageFailed):
                process.log.run("again")
        with suppress(StorageFailed):
            process.publish()
        assert platter.steps == before
    assert at > 60


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_a_refused_write_leaves_the_handle_of_use(
    place: Place, image: Image, court: Court, quick: Path, error: int
) -> None:
    at = 0
    while True:
        at += 1
        platter = Platter(quick, image)
        process, kept, _ = attempt(place, platter, Fault(at, error))
        faulty = process.disk.faulty
        if faulty is None:
            break
        if faulty.kind in SYNCS:
            continue
        process.prompt(process.start(), b"space was freed")
        process.publish()
        court.judge(platter, 0, kept)


@pytest.mark.parametrize(("error", "late"), FAULTS, ids=["EIO", "ENOSPC", "EIO-though-done"])
def test_what_may_still_be_there_is_never_reported_as_failed(
    place: Place, image: Image, quick: Path, error: int, late: bool
) -> None:
    """An error other than OutcomeUnknown says that the entry is not there, and never will be."""
    at = 0
    while True:
        at += 1
        platter = Platter(quick, image)
        process, kept, raised = attempt(place, platter, Fault(at, error, late))
        faulty = process.disk.faulty
        if faulty is None:
            break
        acknowledged = {k.promise.index for k in kept}
        landed = [r for r in Process(place, platter, []).log.entries() if r.index > 2 and r.index not in acknowledged]
        if not isinstance(raised, OutcomeUnknown):
            assert not landed, f"step {at}, {faulty.kind} of {faulty.path}: {raised!r}, but {landed[0].describe()}"


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_a_refused_write_leaves_no_rubbish(place: Place, image: Image, quick: Path, error: int) -> None:
    """On a full disk, what was staged in vain must not keep its space."""
    at = 0
    while True:
        at += 1
        platter = Platter(quick, image)
        process, _, _ = attempt(place, platter, Fault(at, error))
        faulty = process.disk.faulty
        if faulty is None:
            break
        if faulty.kind not in (*SYNCS, "unlink"):
            left = {name for name, _ in process.disk.listdir(f"{platter.base}/tmp")}
            assert left <= {"publisher.lock"}, f"step {at}, {faulty.kind} of {faulty.path}"


def test_the_simulated_disk_answers_as_a_real_one(tmp_path: Path) -> None:
    base = tmp_path / "real"
    base.mkdir()
    real = Disk()
    simulated = LossyDisk(Platter("/simulated", {}))
    assert answers(simulated, "/simulated") == answers(real, str(base))
    real.close()


def answers(disk: Disk, base: str) -> list[object]:
    """What a disk returns or raises, call by call."""

    def told(call: Callable[..., object], *args: object) -> object:
        try:
            return call(*args)
        except (LedgerError, OSError) as error:
            return type(error).__name__

    return [
        told(disk.mkdir, f"{base}/a"),
        told(disk.mkdir, f"{base}/a"),
        told(disk.mkdir, f"{base}/no/a"),
        told(disk.write, f"{base}/a/x", b"12345"),
        told(disk.write, f"{base}/a/x", b"again"),
        told(disk.write, f"{base}/no/x", b""),
        told(disk.link, f"{base}/a/x", f"{base}/y"),
        told(disk.link, f"{base}/a/x", f"{base}/y"),
        told(disk.link, f"{base}/no", f"{base}/z"),
        told(disk.rename, f"{base}/y", f"{base}/a/y"),
        told(disk.rename, f"{base}/y", f"{base}/a/y"),
        told(disk.unlink, f"{base}/a/y"),
        told(disk.unlink, f"{base}/a/y"),
        told(disk.open_folder, f"{base}/a"),
        told(disk.open_folder, f"{base}/no"),
        told(disk.sync_folder, f"{base}/a"),
        told(disk.read, f"{base}/a/x"),
        told(disk.read, f"{base}/a/x", 1, 2),
        told(disk.read, f"{base}/a/x", 4, 9),
        told(disk.read, f"{base}/a/y"),
        told(disk.read, f"{base}/a/x/y"),
        told(disk.size, f"{base}/a/x"),
        told(disk.size, f"{base}/a/y"),
        told(disk.size, f"{base}/a/x/y"),
        told(disk.listdir, base),
        told(disk.listdir, f"{base}/no"),
    ]


def test_a_table_of_places_that_a_cut_garbled_is_built_again(place: Place, tmp_path: Path) -> None:
    """Caches are not synced: their records may be zeros under a whole head."""
    path = tmp_path / "ledger"
    shutil.copytree(place.path, path)
    with place.machine.forgetful(tmp_path).here():
        with Log.open(path) as log:
            made = log.run("r").prompt(b"keep me")
            assert log.read(made.address) == b"keep me"
            log.places.save()
        tables = list((tmp_path / "cache").rglob("*.places"))
        assert tables
        for table in tables:
            data = table.read_bytes()
            table.write_bytes(data[:96] + bytes(len(data) - 96))
        with Log.open(path) as log:
            assert log.read(made.address) == b"keep me"
