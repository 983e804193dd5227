"""The index: it answers what a plain fold over the entries answers, heals by itself, and shows nothing else."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

import ledger
from ledger import batch, homes, merkle
from ledger.audit.report import Report
from ledger.cli import main
from ledger.commit import Draft
from ledger.drafts import Detail
from ledger.index import segments
from ledger.index.reader import VIEWS, Log
from schemas.entries import Artifact, Erasure, kind_of
from schemas.errors import LedgerError, NotSound, UsageError
from store import pack
from store.signers import Signer
from tests.support import template
from tests.support.template import Template


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), _fill)


def _fill(path: Path) -> None:
    with ledger.open(path) as log:
        with log.run("done", stage="plan") as run:
            asked = run.prompt("asked", model="m-1")
            run.response("answered", to=asked)
            run.prompt("never answered")
            run.artifact(b"bytes of a file", name="made.bin")
        with pytest.raises(ZeroDivisionError), log.run("broken"):
            raise ZeroDivisionError
        log.run("open").artifact(b"bytes of a file")
        with log.run("gone") as run:
            run.artifact(b"bytes of a file", name="gone.bin")
            run.artifact(os.urandom(100_000))


@pytest.fixture(scope="module")
def made_grown(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """One with segments in the cache of its home."""

    def fill(path: Path) -> None:
        _fill(path)
        with ledger.open(path) as log:
            for seed in range(3):
                grow(log, random.Random(seed), 12)
                log.query("FROM runs")

    with pytest.MonkeyPatch.context() as patch:
        _make_small(patch)
        return template.make(tmp_path_factory.mktemp("grown"), fill)


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path) -> Path:
    return made.copy(home, tmp_path / "l")


@pytest.fixture
def grown(made_grown: Template, home: Path, tmp_path: Path, small: None) -> Path:
    path = made_grown.copy(home, tmp_path / "grown")
    assert len(files_in(path)) >= 4
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few rows, so that a small ledger has many."""
    _make_small(monkeypatch)


def _make_small(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(segments, "_ROWS", 20)
    patch.setattr(segments, "_SMALL", 4)


def index_of(path: Path) -> Path:
    """Where the segments lie."""
    with ledger.open(path) as log:
        return homes.cache(log.origin) / log.chain.state.owner.key_id.hex() / f"index-{segments.VERSION}"


def files_in(path: Path) -> list[Path]:
    return sorted(index_of(path).glob("*.parquet"))


def rows(log: Log, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = log.query(sql).to_pylist()
    return found


FIELDS = [
    "run",
    "step",
    "stage",
    "lane",
    "task",
    "imported",
    "content",
    "digest",
    "detail",
    "model",
    "to",
    "status",
    "request",
    "of",
    "action",
    "effect",
    "policy",
    "schema",
    "rule",
    "asked",
    "reason",
    "verdict",
    "denied",
    "subject",
    "requester",
    "nonce",
    "egress",
    "inputs",
    "outputs",
    "stdout",
    "stderr",
]
NUMBERS = ["step", "to", "decision", "continues", "attempt", "http", "input", "cached", "output", "reasoning", "cost"]
NUMBERS += ["reserved", "cap", "latency", "exit"]
FIELDS += NUMBERS[2:]


def folded(log: Log) -> list[dict[str, Any]]:
    """What `entries` must say, from the packs alone."""
    found = []
    for number in range(log.chain.state.packs):
        parsed = pack.parse(log.folder.get(pack.name(number)))
        for index, raw in enumerate(parsed.leaves, parsed.size):
            if raw[:1] == b"{":
                value = msgspec.json.decode(raw)
                empty = {
                    name: False if name in ("imported", "denied") else 0 if name in NUMBERS else "" for name in FIELDS
                }
                fixed = {
                    "index": index,
                    "pack": number,
                    "kind": value["kind"],
                    "time": datetime.fromisoformat(value["time"]),
                    "expires": datetime.fromisoformat(value["expires"]) if "expires" in value else None,
                }
                found.append(fixed | {name: value.get(name, empty[name]) for name in FIELDS})
    return found


def check(log: Log) -> None:
    """Entries, runs, calls and blobs equal a fold."""
    entries = folded(log)
    assert rows(log, 'SELECT * FROM entries ORDER BY "index"') == entries
    erased = {e["of"] for e in entries if e["kind"] == "erasure"}
    runs: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry["run"]:
            run = runs.setdefault(
                entry["run"],
                {
                    "index": entry["index"],
                    "started": entry["time"],
                    "finished": None,
                    "status": "open",
                    "kinds": Counter(),
                },
            )
            run["steps"] = entry["step"]
            run["kinds"][entry["kind"]] += 1
            if entry["kind"] == "run.finished":
                run |= {"finished": entry["time"], "status": entry["status"]}
    listed = log.runs()
    assert [r.id for r in listed] == sorted(runs, key=lambda id: -runs[id]["index"])
    for r in listed:
        want = runs[r.id]
        assert (r.index, r.started, r.finished, r.steps) == tuple(
            want[k] for k in ("index", "started", "finished", "steps")
        )
        assert r.status == ("erased" if r.id in erased else want["status"])
        assert (r.prompts, r.responses, r.artifacts) == tuple(
            want["kinds"][k] for k in ("prompt", "response", "artifact")
        )
    for r in listed[:1] + listed[-1:]:
        assert [e.index for e in log.entries(r.id)] == [e["index"] for e in entries if e["run"] == r.id]
    answers = {(e["to"], e["index"]) for e in entries if e["kind"] == "response" and e["to"]}
    prompts = {e["index"] for e in entries if e["kind"] == "prompt"}
    calls = {(c["prompt"], c["response"]) for c in rows(log, "FROM calls")}
    assert calls == answers | {(p, None) for p in prompts - {a for a, _ in answers}}
    blobs: Counter[tuple[str, int, int, bool]] = Counter()
    for number in range(log.chain.state.packs):
        parsed = pack.parse(log.folder.get(pack.name(number)))
        blobs.update(
            ("artifact://" + c.hex(), number, len(b), False) for c, b in zip(parsed.cids, parsed.blobs, strict=True)
        )
        blobs.update(
            ("artifact://" + c.hex(), number, s, True) for c, s in zip(parsed.large, parsed.large_sizes, strict=True)
        )
    assert Counter((b["address"], b["pack"], b["size"], b["outside"]) for b in rows(log, "FROM blobs")) == blobs


def grow(log: Log, chance: random.Random, packs: int) -> None:
    """Some commits of every kind that a writer makes."""
    runs = [log.run(f"r{chance.random()}", stage=chance.choice(["", "a", "b"]))]
    asked: list[tuple[ledger.Run, ledger.Appended]] = []
    for _ in range(packs):
        what = chance.randrange(12)
        run = chance.choice(runs)
        if what == 0:
            runs.append(log.run("", imported=True))
        elif what == 1 and len(runs) > 1:
            runs.remove(run)
            asked = [(r, a) for r, a in asked if r is not run]
            run.finish(chance.choice(["succeeded", "failed"]), reason="x" * chance.randrange(2))
        elif what < 5:
            asked.append((run, run.prompt(chance.randbytes(20), model=chance.choice(["", "m"]))))
        elif what < 7 and asked:
            run, appended = chance.choice(asked)
            run.response("answer", to=chance.choice([appended, None]))
        elif what == 7:
            run.append_many([ledger.Item(kind="artifact", content=str(n)) for n in range(chance.randrange(1, 30))])
        else:
            run.stage("s", task="t").artifact(chance.randbytes(chance.choice([0, 10, 100_000])), name="n")


# Right answers.


def test_a_new_index_equals_a_fold(path: Path) -> None:
    with ledger.open(path) as log:
        check(log)


@pytest.mark.parametrize("seed", range(2))
def test_a_growing_index_equals_a_fold(path: Path, small: None, seed: int) -> None:
    """Segments are written and merged while the log grows; readers come and stay."""
    chance = random.Random(seed)
    with ledger.open(path) as staying:
        for _ in range(3):
            with ledger.open(path) as log:
                grow(log, chance, 10)
                check(log)
                if chance.random() < 0.3:
                    ledger_erase(log, chance.choice([r.id for r in log.runs() if r.status != "erased"]))
                    check(log)
            staying.catch_up()
            check(staying)
    assert files_in(path)
    assert ledger.verify(path).sound


def ledger_erase(log: Log, run: str) -> int:
    from ledger.erase import erase

    return erase(log, run, "because")[0]


def test_many_small_segments_become_one(path: Path, small: None) -> None:
    with ledger.open(path) as log, log.run() as run:
        for _ in range(12):
            run.append_many([ledger.Item(kind="artifact", content="x")] * 19)
            log.query("FROM runs")
        check(log)
    spans = [tuple(map(int, file.stem.split("-")[1:3])) for file in files_in(path) if file.stem.startswith("entries")]
    assert len(spans) < 8
    assert [a for a, _ in sorted(spans)] == [0, *[b for _, b in sorted(spans)][:-1]]


_PROCESS = """
import random, sys, ledger
from ledger.index import segments
segments._ROWS, segments._SMALL = 20, 4
with ledger.open(sys.argv[1]) as log, log.run(sys.argv[2]) as run:
    for number in range(12):
        run.append_many([ledger.Item(kind="artifact", content=f"{sys.argv[2]} {number} {n}") for n in range(9)])
        mine = log.query(f"SELECT count(*) AS n FROM entries WHERE run = '{run.id}' AND kind = 'artifact'").to_pylist()
        assert mine == [{"n": 9 * (number + 1)}], (number, mine)
        twice = log.query('SELECT "index" FROM entries GROUP BY "index" HAVING count(*) > 1').to_pylist()
        assert not twice, twice
"""


def test_processes_share_an_index_at_once(path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", _PROCESS, str(path), str(n)], stderr=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    for child in children:
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0, said
    with ledger.open(path) as log:
        check(log)


def test_threads_do_not_write_to_each_others_staged_files(
    path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two logs of one process share the cache, as two processes do."""
    staged: dict[str, set[int]] = {}
    replace = os.replace

    def noting(source: str | Path, target: str | Path) -> None:
        staged.setdefault(str(source), set()).add(threading.get_ident())
        replace(source, target)

    def look() -> None:
        with ledger.open(path) as log:
            log.query("FROM runs")
            barrier.wait()

    with ledger.open(path) as log:
        grow(log, random.Random(1), 20)
    monkeypatch.setattr(segments.os, "replace", noting)
    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [threads for name, threads in staged.items() if "index-" in name]
    assert written
    assert all(len(threads) == 1 for threads in written)


def test_no_segment_is_merged_away_under_another_threads_question(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_ROWS": 1000, "_PACKS": 3, "_SMALL": 4}.items():
        monkeypatch.setattr(segments, name, value)
    asked = 0

    def question(connection: duckdb.DuckDBPyConnection) -> int:
        """As slow as it may be: meanwhile others append, ask, and would merge."""
        nonlocal asked
        asked += 1
        for seed in range(6):
            grow(log, random.Random(seed), 6)
            log.query("FROM runs")
        found = connection.execute("SELECT count(*) FROM entries").fetchone()
        assert found is not None
        return int(found[0])

    with ledger.open(path) as log:
        grow(log, random.Random(9), 4)
        before = rows(log, "SELECT count(*) AS n FROM entries")[0]["n"]
        few = len(files_in(path))
        assert few
        assert log._ask(question) == before
        assert asked == 1
        many = len(files_in(path))
        assert many >= few + 8
        check(log)
        assert len(files_in(path)) < many, "merged as soon as nobody asks"


def test_a_reader_is_right_after_somebody_removed_the_cache(path: Path, small: None) -> None:
    with ledger.open(path) as log:
        grow(log, random.Random(1), 15)
        check(log)
        assert files_in(path)
        shutil.rmtree(index_of(path).parent)
        check(log)
        grow(log, random.Random(2), 1)
        shutil.rmtree(index_of(path).parent)
        grow(log, random.Random(3), 1)
        check(log)


def test_a_reader_is_right_after_somebody_built_the_index_anew(
    path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another reader, with segments cut at other places."""
    with ledger.open(path) as log:
        grow(log, random.Random(1), 20)
        check(log)
        for rows_each in (7, 1000):
            shutil.rmtree(index_of(path))
            monkeypatch.setattr(segments, "_ROWS", rows_each)
            with ledger.open(path) as other:
                check(other)
            check(log)


# Damage.


@pytest.mark.parametrize("which", ["entries", "blobs"])
@pytest.mark.parametrize("how", ["deleted", "emptied", "cut", "zeroed", "garbage", "another's", "head", "tail"])
def test_a_damaged_segment_is_built_again(grown: Path, which: str, how: str) -> None:
    for file in [f for f in files_in(grown) if f.name.startswith(which)][1:2]:
        data = file.read_bytes()
        changed = {
            "emptied": b"",
            "cut": data[: len(data) // 2],
            "zeroed": bytes(len(data)),
            "garbage": random.Random(0).randbytes(len(data)),
            "head": b"XXXX" + data[4:],
            "tail": data[:-4] + b"XXXX",
        }
        if how == "deleted":
            file.unlink()
        elif how == "another's":
            twin = "blobs" if which == "entries" else "entries"
            [other] = file.parent.glob(f"{twin}-{'-'.join(file.stem.split('-')[1:3])}-*")
            shutil.copy(other, file)
        else:
            file.write_bytes(changed[how])
        with ledger.open(grown) as log:
            check(log)


def test_a_flipped_byte_in_a_segment_never_changes_an_answer(grown: Path) -> None:
    for file in files_in(grown)[:1] + files_in(grown)[-1:]:
        data = file.read_bytes()
        for offset in random.Random(7).sample(range(len(data)), 10):
            file.write_bytes(data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :])
            with ledger.open(grown) as log:
                check(log)
            file.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "entries-foo.parquet",
        "entries-0000000000.parquet",
        "entries-0000000000-0000000000.parquet",
        "entries-0000000003-0000000001.parquet",
        "entries-0000000000-9999999999.parquet",
        "entries-²-³.parquet",
        ".entries.1",
    ],
)
def test_a_stray_file_beside_the_segments_hurts_nobody(path: Path, small: None, name: str) -> None:
    with ledger.open(path) as log:
        check(log)
    index_of(path).mkdir(parents=True, exist_ok=True)
    (index_of(path) / name).write_bytes(b"stray")
    (index_of(path) / name.replace("entries", "blobs")).write_bytes(b"stray")
    for _ in range(2):
        with ledger.open(path) as log:
            check(log)


def test_an_index_of_another_version_is_left_alone_and_another_is_built(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = index_of(grown)
    monkeypatch.setattr(segments, "VERSION", segments.VERSION + 1)
    with ledger.open(grown) as log:
        check(log)
    assert index_of(grown) != old
    assert files_in(grown)


def test_an_index_that_knows_more_than_the_ledger_is_built_again(path: Path, small: None) -> None:
    """The cache of a machine that has seen a longer copy of this ledger."""
    shutil.copytree(path, longer := path.with_name("longer"))
    pins = path.with_name("pins")
    with ledger.open(path) as log:
        home = homes.pins(log.origin)
    shutil.copytree(home, pins)
    with ledger.open(longer) as log:
        grow(log, random.Random(5), 20)
        check(log)
    assert files_in(longer)
    shutil.rmtree(home)
    shutil.copytree(pins, home)
    with ledger.open(path) as log:
        check(log)
        grow(log, random.Random(9), 3)
        check(log)


@pytest.mark.parametrize("after", [0, 3, 40])
def test_an_index_of_another_history_is_built_again(path: Path, small: None, after: int) -> None:
    """A backup was restored, and its pin with it: the cache is of what came after that backup."""
    backup = shutil.copytree(path, path.with_name("backup"))
    with ledger.open(path) as log:
        pins = homes.pins(log.origin)
        grow(log, random.Random(5), 40)
        check(log)
    assert files_in(path)
    shutil.rmtree(pins)
    shutil.rmtree(path)
    shutil.copytree(backup, path)
    with ledger.open(path) as log:
        check(log)
        grow(log, random.Random(9), after)
        check(log)


def test_what_a_cache_of_another_history_calls_stored_is_stored_all_the_same(path: Path) -> None:
    """Else it is acknowledged, left out of the pack, and lost."""
    with ledger.open(path) as log:
        pins = homes.pins(log.origin)
        run = log.runs()[1].id
        log.places.save()
    backup = shutil.copytree(path, path.with_name("backup"))
    with ledger.open(path) as log:
        lost = log.resume(run).artifact("hello")
        assert log.read(lost.address) == b"hello"
        log.places.save()
    shutil.rmtree(pins)
    shutil.rmtree(path)
    shutil.copytree(backup, path)
    with ledger.open(path) as log:
        kept = log.resume(run).artifact("hello")
    assert kept.address == lost.address
    with ledger.open(path) as log:
        assert log.read(kept.address) == b"hello"
    assert ledger.verify(path).sound


@pytest.mark.parametrize("query", [True, False])
def test_a_pack_that_was_exchanged_is_not_taken_into_a_cache(path: Path, query: bool) -> None:
    """This machine goes on from its pin, and has not looked at what lies before it."""
    with ledger.open(path) as log:
        log.run("later").prompt("x")
        found = pack.parse(log.folder.get(pack.name(2)))
    data = pack.build(
        found.number,
        found.size,
        bytes(32),
        found.salt,
        found.frontier,
        b"",
        list(zip(found.cids, found.blobs, strict=True)),
        [],
        found.leaves,
    )
    shutil.rmtree(homes.cache(log.origin), ignore_errors=True)
    (path / pack.name(2)).unlink()
    (path / pack.name(2)).write_bytes(data)
    with ledger.open(path) as log, pytest.raises(NotSound, match="pack 2: does not link"):
        if query:
            log.query("FROM entries")
        else:
            log.catch_up_places()


def test_what_a_dead_process_left_half_written_is_removed(grown: Path) -> None:
    left, being_written = index_of(grown) / ".4711-1.entries", index_of(grown) / ".4712-1.blobs"
    for file in (left, being_written):
        file.write_bytes(b"half a segment")
    os.utime(left, (0, 0))
    with ledger.open(grown) as log:
        log.query("FROM runs")
    assert not left.exists()
    assert being_written.exists()


def test_a_cache_that_can_not_be_written_is_no_hindrance(path: Path, home: Path, small: None) -> None:
    (home / ".cache").mkdir(exist_ok=True)
    (home / ".cache" / "ledger").write_text("in the way")
    with ledger.open(path) as log:
        grow(log, random.Random(1), 20)
        check(log)
        grow(log, random.Random(2), 20)
        check(log)
        assert log.read(log.run().artifact("x").address) == b"x"
    assert (home / ".cache" / "ledger").read_text() == "in the way"


def test_a_cache_is_for_this_user_alone(path: Path, home: Path, small: None) -> None:
    """Whatever the umask."""
    shutil.rmtree(home / ".cache", ignore_errors=True)
    before = os.umask(0)
    try:
        with ledger.open(path) as log:
            grow(log, random.Random(1), 20)
            log.query("FROM runs")
            log.catch_up_places()
            log.places.save()
    finally:
        os.umask(before)
    made = list((home / ".cache" / "ledger").rglob("*"))
    assert {p.stat().st_mode & 0o777 for p in made if p.is_dir()} == {0o700}
    files = [p for p in made if p.is_file()]
    assert {p.suffix for p in files} == {".parquet", ".places"}
    assert {p.stat().st_mode & 0o777 for p in files} == {0o600}


def test_a_file_in_the_way_of_the_cache_is_no_hindrance(path: Path, small: None) -> None:
    index = index_of(path)
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text("in the way")
    with ledger.open(path) as log:
        grow(log, random.Random(1), 10)
        check(log)


def test_nothing_is_ever_written_in_the_ledger(path: Path, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with ledger.open(path) as log:
        grow(log, random.Random(1), 20)
    before = {p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")] if "tmp" not in p.relative_to(path).parts}
    monkeypatch.chdir(path)
    with ledger.open(path) as log:
        check(log)
        log.query("SELECT * FROM range(300000) a ORDER BY hash(a.range)")
        list(log.find(b"bytes of a file"))
    assert {
        p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")] if "tmp" not in p.relative_to(path).parts
    } == before


# What a query may do.

REFUSED = {
    "copy": "COPY (SELECT 1) TO '{out}'",
    "copy, explained": "EXPLAIN COPY (SELECT 1) TO '{out}'",
    "copy, executed by explain": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "copy into the index": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{index}/evil.parquet'",
    "copy into its temporary folder": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{cwd}/.tmp/evil.csv'",
    "attach": "ATTACH '{out}' AS x",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "set": "SET memory_limit = '1GB'",
    "set, the gate": "SET enable_external_access = true",
    "reset": "RESET lock_configuration",
    "pragma": "PRAGMA database_list",
    "call": "CALL pragma_version()",
    "create": "CREATE TABLE x AS SELECT 1",
    "create, explained": "EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1",
    "insert": "INSERT INTO entries VALUES (1)",
    "delete": "DELETE FROM entries_tail",
    "update": "UPDATE entries SET kind = ''",
    "drop": "DROP VIEW entries",
    "export": "EXPORT DATABASE '{out}'",
    "import": "IMPORT DATABASE '{out}'",
    "prepare": "PREPARE x AS SELECT 1",
    "begin": "BEGIN",
    "use": "USE memory",
    "checkpoint": "CHECKPOINT",
    "two": "SELECT 1; SELECT 2",
    "two, one harmless": "SELECT 1; SET memory_limit = '1GB'",
    "none": "",
    "a comment": "-- SELECT 1",
    "no sql": "what happened?",
    "a file, text": "SELECT * FROM read_text('{secret}')",
    "a file, bytes": "SELECT * FROM read_blob('{secret}')",
    "a file, csv": "SELECT * FROM read_csv('{secret}')",
    "a file, json": "SELECT * FROM read_json('{secret}')",
    "a file, by name": "SELECT * FROM '{secret}'",
    "a file, sniffed": "SELECT * FROM sniff_csv('{secret}')",
    "a system file": "SELECT * FROM read_text('/etc/passwd')",
    "a process's file": "SELECT * FROM read_text('/proc/self/environ')",
    "parquet outside": "SELECT * FROM read_parquet('{parquet}')",
    "parquet by a way around": "SELECT * FROM read_parquet('{index}/../../../../../{rest}')",
    "a listing": "SELECT * FROM glob('{cwd}/*')",
    "an environment variable": "SELECT getenv('HOME')",
    "http": "SELECT * FROM read_text('http://127.0.0.1:1/x')",
    "https parquet": "SELECT * FROM 'https://127.0.0.1:1/x.parquet'",
    "s3": "SELECT * FROM read_parquet('s3://bucket/x')",
    "secrets": "SELECT * FROM duckdb_secrets()",
    "python's variables": "SELECT * FROM sql_module",
    "query in query": "SELECT * FROM query('COPY (SELECT 1) TO ''{out}''')",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_query_reads_the_index_and_nothing_else(
    path: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARKER", "HUNTER2")
    (tmp_path / "secret.csv").write_text("a,b\nHUNTER2,1\n")
    pq.write_table(pa.table({"a": ["HUNTER2"]}), tmp_path / "outside.parquet")
    (tmp_path / ".tmp").mkdir()
    index = index_of(path)
    index.mkdir(parents=True, exist_ok=True)
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    sql = text.format(
        out=tmp_path / "out",
        index=index,
        cwd=tmp_path,
        secret=tmp_path / "secret.csv",
        parquet=tmp_path / "outside.parquet",
        rest="outside.parquet",
    )
    with ledger.open(path) as log:
        with pytest.raises(UsageError) as raised:
            log.query(sql)
        assert "HUNTER2" not in str(raised.value)
        assert raised.value.hint
        assert rows(log, "SELECT count(*) AS n FROM entries")[0]["n"] > 0
    after = {p for p in tmp_path.rglob("*") if p.is_file() and "home" not in p.relative_to(tmp_path).parts}
    assert after <= before
    assert not list(index.glob("evil*"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "FROM entries",
        "SELECT 1;",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "DESCRIBE entries",
        "VALUES (1)",
        "-- why\nFROM runs",
    ],
)
def test_what_only_reads_is_answered(path: Path, sql: str) -> None:
    with ledger.open(path) as log:
        assert log.query(sql).num_columns


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS a, 2 AS a",
        "SELECT e.*, r.* FROM entries e JOIN runs r USING (run)",
        "SELECT NULL",
        "SELECT [] AS a",
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_every_table_can_be_printed(path: Path, sql: str, form: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["query", sql, "--ledger", str(path), *form]) in (0, 2)
    assert "bug" not in capfd.readouterr().err


def test_each_view_that_help_names_is_there_and_no_name_of_a_column_is_surprising(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["query", "--help"]) == 0
    text = capfd.readouterr().out
    named = text.partition("Views: ")[2].partition(".")[0].replace("\n", " ").split(", ")
    assert [n.strip() for n in named] == list(VIEWS)
    with ledger.open(path) as log:
        for view in VIEWS:
            assert log.query(f"SELECT * FROM {view}").num_columns
        for line in text.splitlines():
            if line.strip().startswith("ledger query"):
                assert log.query(line.split('"')[1]).num_columns


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'infinity'::DATE",
        "SELECT '-infinity'::TIMESTAMP",
        "SELECT TIMESTAMP '290000-01-01'",
        "SELECT '2026-01-01 00:00:00.123456789'::TIMESTAMP_NS",
        "FROM test_all_types()",
        "SELECT INTERVAL 1 DAY",
        "SELECT map {[1]: 2}",
        "SELECT 'nan'::FLOAT, uuid(), 'x'::BLOB, 1::UHUGEINT",
        "SELECT '\udcff'",
        "SELECT no_such_column FROM entries",
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_what_can_not_be_printed_is_said(
    path: Path, sql: str, form: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    status = main.run(["query", sql, "--ledger", str(path), *form])
    said = capfd.readouterr().err
    assert status in (0, 2)
    assert status == 0 or "hint: " in said
    assert "bug" not in said


def test_a_users_error_is_not_asked_twice(path: Path) -> None:
    asked = 0

    def question(connection: duckdb.DuckDBPyConnection) -> None:
        nonlocal asked
        asked += 1
        connection.execute("SELECT error('wrong')")

    with ledger.open(path) as log, pytest.raises(duckdb.Error):
        log._ask(question)
    assert asked == 1


def test_an_interrupt_ends_a_query(path: Path) -> None:
    sql = "SELECT sum(a.range * b.range) FROM range(2000000) a, range(2000000) b"
    asking = subprocess.Popen(
        [sys.executable, "-m", "ledger.cli.main", "query", sql, "--ledger", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    time.sleep(3)
    assert asking.poll() is None
    asking.send_signal(signal.SIGINT)
    _, said = asking.communicate(timeout=20)
    assert asking.returncode == 130
    assert "interrupted" in said


def test_a_stray_file_among_data_keys_is_no_key(path: Path) -> None:
    (path / "keys" / "data" / "notes.age").write_bytes(b"stray")
    (path / "keys" / "data" / "00" / "notes.age").write_bytes(b"stray")
    with ledger.open(path) as log:
        assert len(list(log.find(b"bytes of a file"))) == 3


# Views.


def test_runs_and_calls_say_how_things_ended(path: Path) -> None:
    with ledger.open(path) as log:
        ids = {run.name: run.id for run in log.runs()}
        ledger_erase(log, ids["gone"])
        status = {row["run"]: row["status"] for row in rows(log, "FROM runs")}
        assert {name: status[id] for name, id in ids.items()} == {
            "done": "succeeded",
            "broken": "failed",
            "open": "open",
            "gone": "erased",
        }
        calls = rows(log, "SELECT * FROM calls ORDER BY prompt")
        assert [c["response"] is None for c in calls] == [False, True]
        assert calls[0]["model"] == "m-1"
        assert log.read(calls[0]["asked"]) == b"asked"
        assert log.read(calls[0]["answered"]) == b"answered"
        assert calls[0]["started"] <= calls[0]["ended"]
        gone = next(run for run in log.runs() if run.id == ids["gone"])
        assert gone.name == ""


def test_runs_since(path: Path) -> None:
    with ledger.open(path) as log:
        every = log.runs()
        assert log.runs(since=every[1].started) == every[:2]
        assert log.runs(since=datetime(2000, 1, 1, tzinfo=UTC)) == every
        assert log.runs(since=datetime(2999, 1, 1, tzinfo=UTC)) == []


def test_find_sees_equal_bytes_in_every_run_that_can_be_read(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes of a file")
    (tmp_path / "empty").touch()
    with ledger.open(path) as log:
        names = {run.id: run.name for run in log.runs()}

        def where(source: Path | bytes) -> list[str]:
            return [names[r.entry.run] for r in log.find(source)]

        assert where(tmp_path / "file") == where(b"bytes of a file") == ["done", "open", "gone"]
        assert where(b"asked") == ["done"]
        assert where(b"bytes of a fil") == []
        assert where(tmp_path / "empty") == []
        ledger_erase(log, next(id for id, name in names.items() if name == "gone"))
        assert where(b"bytes of a file") == ["done", "open"]
    with ledger.open(path) as log:
        assert len(list(log.find(b"bytes of a file"))) == 2
        with pytest.raises(UsageError, match="nowhere"):
            list(log.find(tmp_path / "nowhere"))
        with pytest.raises(LedgerError):
            list(log.find(tmp_path))


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 << 20])
def test_find_sees_a_file_of_any_size(path: Path, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    with ledger.open(path) as log:
        appended = log.run().artifact(tmp_path / "file")
        assert appended.index in [r.index for r in log.find(tmp_path / "file")]


# Entries that this version does not know, or that a faulty author wrote.


def append_raw(path: Path, *leaves: bytes) -> int:
    """A pack with these entries, validly signed; returns the index of the first."""
    with ledger.open(path) as log:
        state = log.chain.state
        author = Signer.load(f"file:{homes.keys(log.origin) / 'author.key'}")
        frontier = state.frontier.copy()
        for leaf in leaves:
            frontier.append(merkle.leaf_hash(leaf))
        from ledger.checkpoint import Head

        signed = batch.sign(log.origin, Head(frontier.size, frontier.root()), len(leaves), author)
        data = pack.build(
            state.packs,
            state.size,
            state.trailer,
            os.urandom(16),
            state.frontier.hashes,
            b"",
            [],
            [],
            [*leaves, signed],
        )
        first = state.size
        assert log.folder.create(pack.name(state.packs), data)
        return first


def audited(path: Path) -> Report:
    return ledger.verify(path)


UNKNOWN = {
    "nothing else": b'{"kind":"call.made"}',
    "with what all have": b'{"kind":"call.made","v":1,"time":"2026-11-22T10:00:00Z","stage":"x"}',
    "members of other types": b'{"kind":"call.made","v":2,"time":5,"stage":{},"to":[1],"status":null,"content":7}',
    "white space": b'{"kind":"call.made", "v": 2,\t"time": "2026-11-22T10:00:00Z" }',
    "a time in words": b'{"kind":"call.made","v":2,"time":"soon"}',
    "a time without a zone": b'{"kind":"call.made","v":2,"time":"2026-11-22T10:00:00"}',
    "a time in nanoseconds": b'{"kind":"call.made","v":2,"time":"2026-11-22T10:00:00.123456789Z"}',
    "a time far away": b'{"kind":"call.made","v":2,"time":"999999-01-01T00:00:00Z"}',
    "a number past 64 bits": b'{"kind":"call.made","v":2,"time":"2026-11-22T10:00:00Z","to":99999999999999999999}',
    "a number below zero": b'{"kind":"call.made","v":2,"time":"2026-11-22T10:00:00Z","to":-5}',
    "large": b'{"kind":"call.made","v":2,"time":"2026-11-22T10:00:00Z","stage":"' + b"x" * 60_000 + b'"}',
    "unicode": '{"kind":"call.made","v":2,"time":"2026-11-22T10:00:00Z","stage":"ü→\U0001f600"}'.encode(),
}


@pytest.mark.parametrize("leaf", UNKNOWN.values(), ids=UNKNOWN)
def test_an_entry_of_an_unknown_kind_is_listed_and_disturbs_nothing(
    path: Path, leaf: bytes, small: None, capfd: pytest.CaptureFixture[str]
) -> None:
    index = append_raw(path, leaf)
    report = audited(path)
    assert report.sound, report.findings
    assert "1 entry of kind call.made not interpreted" in report.remarks
    with ledger.open(path) as log:
        assert kind_of(log.entry(index).entry) == "call.made"
        names = [run.name for run in log.runs() if run.name]
        assert names == ["gone", "open", "broken", "done"]
        grow(log, random.Random(3), 10)
        found = rows(log, "SELECT \"index\", kind FROM entries WHERE kind = 'call.made'")
        assert found == [{"index": index, "kind": "call.made"}]
        assert rows(log, "SELECT count(*) AS n FROM entries")[0]["n"] == len(list(log.entries()))
    for args in (["log"], ["log", "open"], ["show", str(index)], ["find", str(path / "ledger.toml")], ["verify"]):
        assert main.run([*args, "--ledger", str(path)]) in (0, 1)
    assert "bug" not in capfd.readouterr().err


def test_an_unknown_entry_in_a_run_is_a_step_of_it(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with ledger.open(path) as log:
        run = log.runs()[1].id
    time = b'"time":"2026-11-22T10:00:00Z"'
    index = append_raw(path, b'{"kind":"call.made","v":2,' + time + b',"run":"' + run.encode() + b'","step":3}')
    with ledger.open(path) as log:
        assert [r.index for r in log.entries(run)][2:] == [index]
        assert log.runs()[1].steps == 3
        assert log.resume(run).prompt("goes on").step == 4
    for args in (["log", run], ["show", f"{run}:3"], ["show", str(index)], ["receipt", str(index)], ["verify"]):
        assert main.run([*args, "--ledger", str(path)]) == 0, args
    assert "bug" not in capfd.readouterr().err
    assert ledger.verify(path).sound


MALFORMED = {
    "no json": b"{",
    "no object": b"{}",
    "no kind": b'{"v":1}',
    "bytes that are no text": b'{"kind":"prompt","stage":"\xff\xfe"}',
    "two lines": b'{"kind":"a","time":"2026-11-22T10:00:00Z"}\n{"kind":"b","time":"2026-11-22T10:00:00Z"}',
    "an empty line": b'{"kind":"a","time":"2026-11-22T10:00:00Z"}\n\n',
    "a known kind, cut": b'{"kind":"prompt","v":1,"time":"2026-11-22T10:00:00Z","run":"x"',
    "a known kind, a bad time": b'{"kind":"prompt","v":1,"time":"soon"}',
    "a step past 64 bits": b'{"kind":"a","run":"01a204a4-0746-7e7b-8a01-648e767e93d0","step":99999999999999999999}',
    "a run that is none": b'{"kind":"a","time":"2026-11-22T10:00:00Z","run":"elsewhere","step":7}',
    "half a character": b'{"kind":"a","time":"2026-11-22T10:00:00Z","stage":"\\ud800"}',
    "deep": b'{"kind":"a","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("leaf", MALFORMED.values(), ids=MALFORMED)
def test_one_malformed_entry_of_a_trusted_author_does_not_stop_the_index(path: Path, leaf: bytes, small: None) -> None:
    append_raw(path, leaf)
    assert [finding.step for finding in audited(path).findings] == [3]
    with ledger.open(path) as log:
        assert [run.name for run in log.runs()] == ["gone", "open", "broken", "done"]
        run = log.runs()[1].id
        assert [r.entry.step for r in log.entries(run)] == [1, 2]
        assert len(list(log.find(b"bytes of a file"))) == 3
        log.run("after").prompt("goes on")
        assert log.runs()[0].name == "after"


ROGUE = {
    "one object over two leaves, two in a third": [
        b'{"kind":"a","x":',
        b'{"y":1}}',
        b'{"kind":"b"}\n{"kind":"c"}',
    ],
    "two objects in one leaf, one in none": [b'{"kind":"b"}\n{"kind":"c"}', b"{"],
    "line ends of other kinds": [b'{"kind":"b"}\r{"kind":"c"}', b'{"kind":"b"}\r\n', b'\n{"kind":"b"}'[1:] + b"\n"],
}


@pytest.mark.parametrize("leaves", ROGUE.values(), ids=ROGUE)
def test_a_row_stands_for_the_leaf_that_it_comes_from(path: Path, leaves: list[bytes]) -> None:
    first = append_raw(path, *leaves)
    with ledger.open(path) as log:
        after = log.run("after").prompt("x", model="m")
        found = rows(log, f'SELECT "index", kind FROM entries WHERE "index" >= {first} ORDER BY "index"')
        assert found[: len(leaves)] == [{"index": first + i, "kind": "malformed"} for i in range(len(leaves))]
        assert found[-1] == {"index": after.index, "kind": "prompt"}
        assert [kind_of(r.entry) for r in log.entries()] == [
            row["kind"] for row in rows(log, 'SELECT kind FROM entries ORDER BY "index"')
        ]


@pytest.mark.parametrize("space", ['"erasure", "v":1', '"erasure" ,"v":1', '"erasure","v": 1'])
def test_an_erasure_in_another_spelling_is_none(path: Path, space: str) -> None:
    """Verify does not take it for one either."""
    with ledger.open(path) as log:
        run = log.runs()[0]
    append_raw(path, f'{{"kind":{space},"time":"2026-11-22T10:00:00Z","of":"{run.id}","keys":[]}}'.encode())
    with ledger.open(path) as log:
        assert log.runs()[0].status == run.status == "succeeded"
        assert rows(log, 'SELECT kind FROM entries ORDER BY "index" DESC LIMIT 1') == [{"kind": "malformed"}]


def test_a_time_before_all_times_is_none(path: Path) -> None:
    with ledger.open(path) as log:
        run = log.runs()[1].id
    leaf = '{"kind":"call.made","time":"0001-01-01T00:00:00+14:00","run":"' + run + '","step":3}'
    append_raw(path, leaf.encode())
    with ledger.open(path) as log:
        assert [r.name for r in log.runs()] == ["gone", "open", "broken", "done"]


def test_a_detail_that_is_none_stops_nobody(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A signed entry's: its name is empty, and verify says why."""
    with ledger.open(path) as log:
        run = log.run("named")
        key = log.writer.key(run.id)
        for content in (b"no json", b"[1]", b'{"name":7}', b"\xff", b"[" * 100_000, bytes(17 << 20)):
            detail = log.blobs.prepare(key, content)
            made = log.blobs.prepare(key, b"content")
            entry = Artifact(
                v=1,
                time=datetime(2026, 11, 22, tzinfo=UTC),
                run=run.id,
                content=made.address,
                digest=made.digest,
                detail=detail.address,
            )
            log.writer.commit(Draft([entry], [made, detail], [made.address]))
            assert log.detail(detail.address) == Detail()
    for args in (["log"], ["log", "named"], ["show", "named:2"], ["find", str(path / "ledger.toml")]):
        assert main.run([*args, "--ledger", str(path)]) in (0, 1), args
    assert "bug" not in capfd.readouterr().err


def test_an_erasure_is_found_in_the_index_by_its_run(path: Path) -> None:
    with ledger.open(path) as log:
        run = log.runs()[0].id
        index = ledger_erase(log, run)
        assert rows(log, 'SELECT "index" FROM entries WHERE kind = \'erasure\' AND "of" = \'' + run + "'") == [
            {"index": index}
        ]
        assert isinstance(log.entry(index).entry, Erasure)
