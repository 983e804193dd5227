"""`make bench`: every figure of docs/BENCHMARKS.md, in one run.

Ratios are formed within a round, ceiling and product in turn, so that a machine whose speed drifts does not
decide; the median of the rounds counts.
"""

import argparse
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from bench import gateway, redaction

GROUP = 256
PAYLOAD = 2048


class Row(NamedTuple):
    """One line of the table."""

    what: str
    value: str
    target: str
    ok: bool | None
    raw: Any


ROWS: list[Row] = []


def report(what: str, value: str, target: str = "", ok: bool | None = None, raw: Any = None) -> None:
    ROWS.append(Row(what, value, target, ok, raw))
    mark = "" if ok is None else "ok" if ok else "MISSED"
    print(f"{what:<58} {value:>22}  {target:<26} {mark}", flush=True)


def payloads(count: int, seed: int) -> list[bytes]:
    """Text of 2 KiB that compresses like prose does, about by half: words drawn by a seed."""
    import random

    chance = random.Random(seed)
    words = ["".join(chance.choices("etaoinshrdlucmfwypvbgkqjxz", k=chance.randint(2, 9))) for _ in range(4000)]
    return [" ".join(chance.choices(words, k=420)).encode()[:PAYLOAD] for _ in range(count)]


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def fresh(base: Path, name: str) -> Path:
    import ledger

    path = base / name
    shutil.rmtree(path, ignore_errors=True)
    ledger.init(path)
    return path


def ceiling_groups(folder: Path, data: list[bytes]) -> None:
    """The bare calls of a group: compress, keyed hashes, seal, hash, one signature, one file, one sync."""
    import msgspec
    import zstandard
    from blake3 import blake3
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_sign, crypto_sign_seed_keypair

    key, nonce = bytes(32), bytes(24)
    compress = zstandard.ZstdCompressor(level=1).compress
    encode = msgspec.json.Encoder().encode
    _, secret = crypto_sign_seed_keypair(bytes(32))
    header = bytes(20)
    record = {"kind": "artifact", "v": 1, "content": "artifact://" + "0" * 64, "digest": "0" * 64, "run": "0" * 36}
    handle = os.open(folder, os.O_RDONLY)
    for start in range(0, len(data), GROUP):
        parts = []
        for content in data[start : start + GROUP]:
            message = compress(content)
            message = message.ljust(len(message) + 60, b"\0")
            siv = blake3(header + message, key=key).digest()
            expanded = blake3(blake3(header + siv, key=key).digest(), derive_key_context="expand").digest(64)
            sealed = header + siv + expanded[32:]
            sealed += crypto_aead_xchacha20poly1305_ietf_encrypt(message, header, nonce, expanded[:32])
            blake3(sealed, derive_key_context="cid").digest()
            blake3(content, key=key).hexdigest()
            leaf = encode(record)
            node = sha256(b"\0" + leaf).digest()
            sha256(b"\1" + node + node).digest()
            parts += [sealed, leaf]
        crypto_sign(b"head", secret)
        body = b"".join(parts)
        body += blake3(body).digest()
        path = folder / f"{start}.tmp"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, body)
        os.fsync(fd)
        os.close(fd)
        os.link(path, folder / f"{start}.pack")
        os.fsync(handle)
        os.unlink(path)
    os.close(handle)


def append_groups(path: Path, data: list[bytes]) -> None:
    import ledger

    with ledger.open(path) as log:
        run = log.run()
        for start in range(0, len(data), GROUP):
            run.append_many([ledger.Item(kind="artifact", content=c) for c in data[start : start + GROUP]])


def bench_append(base: Path, rounds: int, count: int) -> None:
    import ledger

    ratios, speeds = [], []
    for number in range(rounds):
        data = payloads(count, number)
        folder = base / f"ceiling{number}"
        folder.mkdir()
        bare = timed(lambda folder=folder, data=data: ceiling_groups(folder, data))
        path = fresh(base, f"append{number}")
        with ledger.open(path) as log:
            run = log.run()
            items = [
                [ledger.Item(kind="artifact", content=c) for c in data[i : i + GROUP]] for i in range(0, count, GROUP)
            ]
            ours = timed(lambda run=run, items=items: [run.append_many(group) for group in items])
        ratios.append(bare / ours)
        speeds.append(count / ours)
    ratio, speed = statistics.median(ratios), statistics.median(speeds)
    report("append, groups of 256, one process", f"{speed:,.0f} entries/s", "", None, speeds)
    report("  of the ceiling of bare calls", f"{ratio:.2f}", ">= 0.6", ratio >= 0.6, ratios)


def bench_two_processes(base: Path, rounds: int, count: int) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bench.__main__ import payloads, GROUP; import ledger\n"
        "data = payloads(int(sys.argv[2]), int(sys.argv[3]))\n"
        "with ledger.open(Path(sys.argv[1])) as log:\n"
        "    run = log.run()\n"
        "    items = [ledger.Item(kind='artifact', content=c) for c in data]\n"
        "    items = [items[i : i + GROUP] for i in range(0, len(data), GROUP)]\n"
        "    print('ready', flush=True); sys.stdin.readline(); began = time.perf_counter()\n"
        "    for group in items: run.append_many(group)\n"
        "    print(time.perf_counter() - began, flush=True)\n"
    )

    def run(paths: list[Path]) -> float:
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(p), str(count), str(i)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for i, p in enumerate(paths)
        ]
        for process in started:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        longest = max(float(p.stdout.readline()) for p in started if p.stdout)
        for process in started:
            process.communicate()
        return len(paths) * count / longest

    ratios = []
    for number in range(rounds):
        one = run([fresh(base, f"one{number}")])
        two = run([fresh(base, f"two{number}a"), fresh(base, f"two{number}b")])
        ratios.append(two / one)
    ratio = statistics.median(ratios)
    report("append, two processes on two ledgers, of one", f"{ratio:.2f} x", ">= 1.6 x", ratio >= 1.6, ratios)


def bench_single(base: Path, rounds: int, count: int) -> None:
    import ledger

    ratios, each = [], []
    for number in range(rounds):
        folder = base / f"single{number}"
        folder.mkdir()
        handle = os.open(folder, os.O_RDONLY)
        body = os.urandom(1600)

        def bare(folder: Path = folder, handle: int = handle, body: bytes = body) -> None:
            for i in range(count):
                fd = os.open(folder / f"{i}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(fd, body)
                os.fsync(fd)
                os.close(fd)
                os.link(folder / f"{i}.tmp", folder / f"{i}")
                os.fsync(handle)

        path = fresh(base, f"alone{number}")
        data = payloads(count, number)
        with ledger.open(path) as log:
            run = log.run()
            ceiling = timed(bare)
            ours = timed(lambda run=run, data=data: [run.artifact(c) for c in data])
        os.close(handle)
        ratios.append(ours / ceiling)
        each.append(ours / count * 1000)
    ratio = statistics.median(ratios)
    report("append, one entry alone, open process", f"{statistics.median(each):.2f} ms", "", None, each)
    report("  of (write, fsync, link, fsync of the folder)", f"{ratio:.2f} x", "<= 1.5 x", ratio <= 1.5, ratios)


def bench_verify(base: Path, rounds: int, count: int) -> None:
    import ledger
    from ledger import homes
    from ledger.audit import span
    from ledger.audit.audit import _Audit
    from ledger.audit.subject import read_root

    path = fresh(base, "verify")
    for start in range(0, count, 50_000):
        append_groups(path, payloads(min(50_000, count - start), start))
    origin = ledger.open(path).origin
    vkey = (homes.keys(origin) / "trust").read_text().strip()
    identity = f"file:{homes.keys(origin) / 'identity.txt'}"

    def one_core(identity: str = "") -> None:
        audit = _Audit(path, read_root(vkey), None, identity, None)
        audit._trust_root()
        audit._fix_end()
        audit._join(span.check(audit._task(0, 1)))
        audit._read_published()
        for task in audit._tasks():
            audit._join(span.check(task))

    single, both, opened, opened_both = [], [], [], []
    for _ in range(rounds):
        single.append(count / timed(one_core))
        opened.append(count / timed(lambda: one_core(identity)))
        both.append(count / timed(lambda: ledger.verify(path, trust=vkey)))
        opened_both.append(count / timed(lambda: ledger.verify(path, trust=vkey, identity=identity)))
    speed, with_contents, all_cores, all_opened = map(statistics.median, (single, opened, both, opened_both))
    cores = len(os.sched_getaffinity(0))
    report("verify, keyless, one core", f"{speed:,.0f} entries/s", ">= 120,000", speed >= 120_000, single)
    report("verify, keyless, whole command's work, all cores", f"{all_cores:,.0f} entries/s", "", None, both)
    report("  of one core", f"{all_cores / speed:.2f} x", f"> 1 on {cores} cores", all_cores > speed, None)
    report(
        "verify, with decryption, one core",
        f"{with_contents:,.0f} entries/s",
        ">= 40,000",
        with_contents >= 40_000,
        opened,
    )
    report("verify, with decryption, all cores", f"{all_opened:,.0f} entries/s", "", None, opened_both)


def bench_memory(base: Path, count: int) -> None:
    path = fresh(base, "million")
    for start in range(0, count, 65_536):
        import ledger

        with ledger.open(path) as log:
            run = log.run()
            for at in range(start, min(start + 65_536, count), GROUP):
                run.append_many([ledger.Item(kind="artifact", content=b"%d" % n) for n in range(at, at + GROUP)])
    script = (
        "import ledger, resource, sys\n"
        f"r = ledger.verify({str(path)!r}); assert r.sound\n"
        "own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(own, children, r.seconds)\n"
    )
    own, children, seconds = map(float, subprocess.check_output([sys.executable, "-c", script], text=True).split())
    peak = max(own, children) / 1024
    report(
        f"verify, {count:,} entries: peak memory, largest process",
        f"{peak:,.0f} MB",
        "< 300 MB",
        peak < 300,
        [own, children],
    )
    report(f"verify, {count:,} entries", f"{seconds:.1f} s", "", None, seconds)
    bench_index(path, count)


def bench_index(path: Path, count: int) -> None:
    import ledger

    with ledger.open(path) as log:
        import duckdb  # noqa: F401 - its import is reported apart
        import pyarrow  # noqa: F401

        built = timed(lambda: log.query("SELECT 1"))
        grouped = [
            timed(lambda: log.query("SELECT kind, run, count(*) FROM entries GROUP BY ALL")) * 1000 for _ in range(7)
        ]
        addresses = [
            r["content"] for r in log.query("SELECT content FROM entries USING SAMPLE 500").to_pylist() if r["content"]
        ]
        log.catch_up_places()
        from schemas.ids import cid_of

        cids = [cid_of(a) for a in addresses]
        looked = timed(lambda: [log.places.find(c) for c in cids]) / len(cids) * 1000
    speed, query = count / built, statistics.median(grouped)
    report("index, built", f"{speed:,.0f} entries/s", ">= 200,000", speed >= 200_000, speed)
    report(f"index, grouped query over {count:,} entries", f"{query:.0f} ms", "<= 100 ms", query <= 100, grouped)
    report(f"address to place, {count:,} blobs", f"{looked:.3f} ms", "<= 1 ms", looked <= 1, looked)


def bench_conversation(base: Path) -> None:
    import ledger

    text = payloads(400, 7)
    tools = [{"type": "function", "name": f"t{i}", "description": text[i].decode()[:700]} for i in range(44)]
    request: dict[str, Any] = {"model": "m", "instructions": text[50].decode() * 4, "tools": tools, "input": []}
    path = fresh(base, "conversation")
    unique = len(json.dumps({**request, "input": []}))
    with ledger.open(path) as log:
        run = log.run()
        for turn in range(100):
            new = [
                {"role": r, "content": text[100 + (3 * turn + k) % 300].decode()[:640] + str(turn)}
                for k, r in enumerate(("user", "assistant", "tool"))
            ]
            request["input"] += new
            unique += len(json.dumps(new))
            run.prompt(json.dumps(request).encode())
        stored = sum(p.stat().st_size for p in (path / "packs").rglob("*.pack"))
        stored += sum(p.stat().st_size for p in (path / "blobs").rglob("*") if p.is_file())
    ratio = stored / unique
    report("conversation of 100 turns, stored of its unique bytes", f"{ratio:.2f} x", "<= 1.3 x", ratio <= 1.3, ratio)


def bench_start(base: Path, rounds: int) -> None:
    path = fresh(base, "start")
    file = base / "file.txt"
    file.write_bytes(payloads(1, 1)[0])
    ledger_command = [str(Path(sys.executable).parent / "ledger")]
    environment = {**os.environ, "LEDGER": str(path)}
    run = subprocess.check_output([*ledger_command, "start"], text=True, env=environment).strip()
    environment["LEDGER_RUN"] = run

    def process(command: list[str]) -> float:
        return timed(lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL))

    bare, shown, appended, imported = [], [], [], []
    for _ in range(rounds):
        bare.append(process([sys.executable, "-c", "pass"]))
        shown.append(process([*ledger_command, "--help"]))
        bare.append(process([sys.executable, "-c", "pass"]))
        appended.append(process([*ledger_command, "append", "artifact", str(file)]))
        imported.append(
            process([sys.executable, "-c", "import ledger.cli.append, ledger.cli.names, ledger.log, ledger.drafts"])
        )
    base_time = statistics.median(bare)
    help_ratio, append_ratio = statistics.median(shown) / base_time, statistics.median(appended) / base_time
    report("python -c pass", f"{base_time * 1000:.0f} ms", "", None, bare)
    report("ledger --help", f"{help_ratio:.1f} x", "<= 8 x", help_ratio <= 8, shown)
    report("ledger append of one file", f"{append_ratio:.1f} x", "<= 12 x", append_ratio <= 12, appended)
    report("  of which imports", f"{statistics.median(imported) / base_time:.1f} x", "", None, imported)


def bench_others(base: Path, count: int) -> None:
    """What a team would write itself, on the same data, with the same durability per group."""
    from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

    data = payloads(count, 0)
    _, secret = crypto_sign_seed_keypair(bytes(32))
    connection = sqlite3.connect(base / "own.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, body BLOB, hash BLOB, signature BLOB)")

    def own() -> None:
        previous = bytes(32)
        for start in range(0, count, GROUP):
            connection.execute("BEGIN")
            for content in data[start : start + GROUP]:
                previous = sha256(previous + content).digest()
                signature = crypto_sign(previous, secret)[:64]
                connection.execute(
                    "INSERT INTO log (body, hash, signature) VALUES (?,?,?)", (content, previous, signature)
                )
            connection.execute("COMMIT")

    spent = timed(own)
    connection.close()
    size = (base / "own.db").stat().st_size / count
    report(
        "own SQLite table: hash chain, a signature a row, no encryption",
        f"{count / spent:,.0f} entries/s",
        "",
        None,
        spent,
    )
    report("  stored", f"{size:,.0f} bytes/entry", "", None, size)
    repository = base / "git"
    repository.mkdir()
    git = ["git", "-c", "user.name=b", "-c", "user.email=b@localhost", "-c", "core.fsync=all", "-c", "gc.auto=0"]
    subprocess.run([*git, "init", "-q"], cwd=repository, check=True)

    def commits() -> None:
        for start in range(0, count, GROUP):
            for number, content in enumerate(data[start : start + GROUP], start):
                (repository / f"{number}.txt").write_bytes(content)
            subprocess.run([*git, "add", "."], cwd=repository, check=True)
            subprocess.run([*git, "commit", "-q", "-m", "group"], cwd=repository, check=True)

    spent = timed(commits)
    report("git, one commit a group, no encryption, unsigned", f"{count / spent:,.0f} entries/s", "", None, spent)
    path = fresh(base, "beside")
    spent = timed(lambda: append_groups(path, data))
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) / count
    report(
        "agent-ledger on the same data, tiles and closing included", f"{count / spent:,.0f} entries/s", "", None, spent
    )
    report("  stored, encrypted, with tiles", f"{size:,.0f} bytes/entry", "", None, size)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer entries; for a look, not for the table")
    parser.add_argument(
        "--only",
        default="",
        help="one of: append single two verify million conversation start others gateway redaction",
    )
    parser.add_argument("--json", type=Path, help="write raw figures here")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    with tempfile.TemporaryDirectory(prefix="ledger-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        base = Path(name)
        for kind in ("CONFIG", "STATE", "CACHE"):
            os.environ[f"XDG_{kind}_HOME"] = str(base / kind.lower())
        parts: dict[str, Callable[[], None]] = {
            "append": lambda: bench_append(base, options.rounds, 25_600 // scale),
            "single": lambda: bench_single(base, options.rounds, 400 // scale),
            "two": lambda: bench_two_processes(base, options.rounds, 25_600 // scale),
            "verify": lambda: bench_verify(base, options.rounds, 204_800 // scale),
            "million": lambda: bench_memory(base, 1 << 20 if scale == 1 else 1 << 17),
            "conversation": lambda: bench_conversation(base),
            "start": lambda: bench_start(base, 4 * options.rounds),
            "others": lambda: bench_others(base, 12_800 // scale),
            "gateway": lambda: gateway.bench(report, base, options.rounds, quick=options.quick),
            "redaction": lambda: redaction.bench(report, base, options.rounds, quick=options.quick),
        }
        for part, call in parts.items():
            if options.only in ("", part):
                call()
    if options.json:
        figures = {row.what: {"value": row.value, "target": row.target, "ok": row.ok, "raw": row.raw} for row in ROWS}
        options.json.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=1, default=str))


def machine() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


if __name__ == "__main__":
    main()
