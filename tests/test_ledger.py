"""Writing and reading back: what is acknowledged is there, under its address, and stays in its run."""

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

import ledger
from schemas.entries import Prompt, RunStarted
from schemas.errors import Malformed, Missing, NotFound, RunClosed, TooLarge, UsageError
from schemas.ids import run_key_id
from store.seal import DataKey, cid, seal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger.init(tmp_path / "l")
    return tmp_path / "l"


@pytest.mark.parametrize(
    "content",
    [b"", b"x", "text", "ünï→code", {"input": [1]}, os.urandom(70_000), os.urandom(3 << 20), b"z" * (5 << 20)],
    ids=["empty", "byte", "text", "unicode", "object", "large blob", "list", "compressible list"],
)
def test_contents_come_back_exactly(path: Path, content: bytes | str | dict[str, object]) -> None:
    with ledger.open(path) as log, log.run() as run:
        address = run.artifact(content).address
    expected = content if isinstance(content, bytes) else str(content).encode()
    if isinstance(content, dict):
        expected = json.dumps(content, separators=(",", ":")).encode()
    with ledger.open(path) as log:
        assert log.read(address) == expected
    assert ledger.verify(path).sound


def test_a_file_comes_back_and_keeps_its_name_sealed(path: Path, tmp_path: Path) -> None:
    source = tmp_path / "secret-name.bin"
    source.write_bytes(os.urandom(2_500_000))
    with ledger.open(path) as log, log.run("secret-run") as run:
        address = run.artifact(source).address
        assert log.read(address) == source.read_bytes()
        assert log.runs()[0].name == "secret-run"
    everything = b"".join(p.read_bytes() for p in path.rglob("*") if p.is_file())
    assert b"secret-name" not in everything
    assert b"secret-run" not in everything


def test_equal_contents_of_a_run_are_stored_once(path: Path) -> None:
    with ledger.open(path) as log, log.run() as run:
        first, second = run.artifact(b"same" * 500), run.artifact(b"same" * 500)
        assert first.address == second.address
        size = sum(p.stat().st_size for p in (path / "packs").rglob("*.pack"))
        run.artifact(b"same" * 500)
        assert sum(p.stat().st_size for p in (path / "packs").rglob("*.pack")) - size < 1500


def test_equal_contents_of_two_runs_do_not_show_that_they_are_equal(path: Path) -> None:
    with ledger.open(path) as log, log.run() as one, log.run() as other:
        assert one.artifact(b"same").address != other.artifact(b"same").address


def test_a_guess_can_not_be_tested_against_an_address(path: Path) -> None:
    """Who has the storage, and guesses a content right, finds nothing there that he could have computed."""
    guess = b"the answer is 42"
    with ledger.open(path) as log:
        made = [log.run("one").prompt(guess), log.run("two").prompt(guess)]
        entries = [log.entry(one.index) for one in made]
        runs = [run_key_id(recorded.entry.run) for recorded in entries]
        commitments = [r.entry.key for r in log.entries() if isinstance(r.entry, RunStarted)]
    stored = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    public = [
        bytes(32),
        blake3(path.name.encode()).digest(),
        *map(bytes.fromhex, commitments),
        *(id * 2 for id in runs),
    ]
    keys = [DataKey(id, secret) for id in (*runs, bytes(16)) for secret in public]
    sealed = [seal(key, guess) for key in keys]
    known = [cid(guess), sha256(guess).digest(), blake3(guess).digest(), *(blob.cid for blob in sealed)]
    known += [bytes.fromhex(key.digest(guess)) for key in keys]
    assert not [one for one in known if one in stored or one.hex().encode() in stored]
    assert not [blob for blob in sealed if blob.data in stored]
    assert guess not in stored
    # Nor are two contents seen to be equal, in two runs: neither by their addresses nor by their digests.
    [first, second] = [recorded.entry for recorded in entries]
    assert isinstance(first, Prompt)
    assert isinstance(second, Prompt)
    assert first.content != second.content
    assert first.digest != second.digest


def test_an_exception_finishes_the_run_failed_and_goes_on(path: Path) -> None:
    with ledger.open(path) as log:
        with pytest.raises(ZeroDivisionError), log.run() as run:
            run.prompt("x")
            raise ZeroDivisionError("a secret message")
        assert log.runs()[0].status == "failed"
        assert log.detail(list(log.entries(run))[-1].entry.detail).reason == "ZeroDivisionError"
    assert b"secret message" not in b"".join(p.read_bytes() for p in path.rglob("*") if p.is_file())


def test_a_finished_run_takes_nothing_more(path: Path) -> None:
    with ledger.open(path) as log:
        with log.run() as run:
            run.prompt("x")
        with pytest.raises(RunClosed):
            run.prompt("y")
        with pytest.raises(RunClosed):
            log.resume(run.id)
    with ledger.open(path) as log, pytest.raises(RunClosed):
        log.resume(run.id)


def test_a_run_goes_on_in_another_process_of_the_same_user(path: Path) -> None:
    with ledger.open(path) as log:
        run = log.run("long")
        run.prompt("first")
    with ledger.open(path) as log:
        appended = log.resume(run.id).response("second")
        assert appended.step == 3
        assert [r.entry.step for r in log.entries(run.id)] == [1, 2, 3]


@pytest.mark.parametrize("text", ["0", "not-a-run", "01a2046a-ea3e-4c9d-912e-576ba0bf8e78", ""])
def test_what_is_no_run_id_is_refused(path: Path, text: str) -> None:
    with ledger.open(path) as log, pytest.raises(UsageError):
        log.resume(text)


def test_a_response_to_another_runs_prompt_is_refused(path: Path) -> None:
    with ledger.open(path) as log, log.run() as one, log.run() as other:
        asked = one.prompt("x")
        with pytest.raises(Malformed, match="no prompt of this run"):
            other.response("y", to=asked)
    assert ledger.verify(path).sound


@pytest.mark.parametrize("address", ["", "artifact://", "artifact://" + "0" * 63, "artifact://" + "G" * 64])
def test_what_is_no_address_is_refused(path: Path, address: str) -> None:
    with ledger.open(path) as log, pytest.raises(Malformed):
        log.read(address)


def test_an_unknown_address_is_missing(path: Path) -> None:
    with ledger.open(path) as log, pytest.raises(Missing):
        log.read("artifact://" + "0" * 64)


def test_many_items_at_once_keep_their_order(path: Path) -> None:
    items = [ledger.Item(kind="artifact", content=str(n)) for n in range(3000)]
    with ledger.open(path) as log, log.run() as run:
        appended = run.append_many(items)
        assert [a.step for a in appended] == list(range(2, 3002))
        assert log.read(appended[1234].address) == b"1234"
    report = ledger.verify(path)
    assert report.sound
    assert report.entries == 2 + 1 + 3000 + 1


def test_threads_share_commits(path: Path) -> None:
    with ledger.open(path) as log:
        runs = [log.run(str(n)) for n in range(16)]
        before = log.chain.state.packs

        def work(run: ledger.Run) -> None:
            for number in range(20):
                run.artifact(f"{run.id} {number}")

        threads = [threading.Thread(target=work, args=(run,)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Sixteen callers at a time wait while one pack is being synced, so that far fewer packs than entries appear.
        assert log.chain.state.packs - before < 320 / 2
        for run in runs:
            assert [r.entry.step for r in log.entries(run)] == list(range(1, 22))
    assert ledger.verify(path).sound


def test_a_growing_conversation_costs_what_is_new(path: Path) -> None:
    filler = [{"type": "function", "name": f"tool{n}", "description": os.urandom(60).hex()} for n in range(100)]
    request: dict[str, object] = {"model": "m", "instructions": os.urandom(2000).hex(), "tools": filler}
    items: list[object] = []
    with ledger.open(path) as log, log.run() as run:
        for _ in range(20):
            items += [{"role": "user", "content": os.urandom(400).hex()} for _ in range(3)]
            body = json.dumps({**request, "input": items}).encode()
            appended = run.prompt(body)
        assert log.read(appended.address) == body
    stored = sum(p.stat().st_size for p in (path / "packs").rglob("*.pack"))
    assert stored < 2 * len(body)
    assert ledger.verify(path).sound


def _request(turns: int) -> bytes:
    items = [{"role": "user", "content": f"{n} " + "x" * 3000} for n in range(turns)]
    return json.dumps({"model": "m", "instructions": "y" * 9000, "input": items}).encode()


def test_what_a_conversation_says_again_is_not_sealed_again_and_reads_the_same(path: Path) -> None:
    with ledger.open(path) as log, log.run() as run, log.run() as other:
        key = log.writer.key(run.id)
        for turns in range(1, 8):
            asked = run.prompt(_request(turns))
            assert log.read(asked.address) == _request(turns)
        again = log.blobs.prepare(key, _request(7), request=True)
        assert (again.address, again.inside, again.outside) == (asked.address, [], [])
        # Under another run's key it is another content.
        assert len(log.blobs.prepare(log.writer.key(other.id), _request(7), request=True).inside) > 7
    assert ledger.verify(path).sound


def test_what_was_sealed_and_never_committed_is_sealed_again(path: Path) -> None:
    with ledger.open(path) as log, log.run() as run:
        key = log.writer.key(run.id)
        first, second = (log.blobs.prepare(key, _request(5), request=True) for _ in range(2))
        assert first.inside == second.inside
        assert len(first.inside) > 5
        read = log.read(run.prompt(_request(5)).address)
        assert read == _request(5)


def test_a_process_that_only_writes_gives_places_to_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.log.MANY", 50)
    monkeypatch.setattr("ledger.publisher.INTERVAL", 0.01)
    monkeypatch.setattr("ledger.log.WORTH", 1)
    with ledger.open(path) as log, log.run() as run:
        made = [run.artifact(f"content {n}") for n in range(300)]
        ends = time.monotonic() + 20
        while log.places.unsaved >= 50:
            assert time.monotonic() < ends
            time.sleep(0.02)
        assert list(log.places.folder.glob("*.places"))  # type: ignore[union-attr]
        assert [log.read(one.address) for one in made[::50]] == [b"content %d" % n for n in range(0, 300, 50)]


def test_init_refuses_a_folder_in_use(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a ledger already"):
        ledger.init(path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match="in use"):
        ledger.init(tmp_path / "other")


@pytest.mark.parametrize("origin", ["", "..", "a/../b", "/abs", "A", "a b", "a+b", "a//b", "x" * 129, "a/"])
def test_an_origin_that_is_no_safe_path_is_refused(tmp_path: Path, origin: str) -> None:
    if origin:
        with pytest.raises(Malformed):
            ledger.init(tmp_path / "n", origin=origin)
        assert not (tmp_path / "n").exists()


def test_the_ledger_is_found_upward_like_git(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / "deep" / "er").mkdir(parents=True)
    ledger.init(project / ".ledger")
    monkeypatch.chdir(project / "deep" / "er")
    with ledger.open() as log:
        assert log.path == project / ".ledger"
    monkeypatch.setenv("LEDGER", str(path))
    with ledger.open() as log:
        assert log.path == path


def test_no_ledger_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match="ledger init"):
        ledger.open()


def test_everything_in_a_ledger_is_closed_to_other_users(path: Path) -> None:
    with ledger.open(path) as log, log.run() as run:
        run.artifact(os.urandom(100_000))
    for found in [path, *path.rglob("*")]:
        assert found.stat().st_mode & 0o077 == 0, found


def test_items_that_overfill_a_pack_together_are_spread_over_several(path: Path) -> None:
    items = [ledger.Item(kind="artifact", content=os.urandom(60_000)) for _ in range(1100)]
    with ledger.open(path) as log, log.run() as run:
        appended = run.append_many(items)
        assert log.read(appended[-1].address) == items[-1].content
    assert max(p.stat().st_size for p in (path / "packs").rglob("*.pack")) < 64 << 20
    assert ledger.verify(path).sound


def test_what_is_no_content_is_refused_before_it_is_written(path: Path) -> None:
    with ledger.open(path) as log, log.run() as run:
        before = log.chain.state.size
        wrong: list[Callable[[Any], object]] = [
            lambda run: run.prompt(None),
            lambda run: run.prompt(5),
            lambda run: run.prompt(["x"]),
            lambda run: run.prompt({"a": float("nan")}),
            lambda run: run.artifact({"a": [{"b": float("inf")}]}),
            lambda run: run.artifact({"a": object()}),
            lambda run: run.artifact(b"x", name=5),
            lambda run: run.artifact(b"x", media_type=b"x"),
            lambda run: run.prompt("x", model=5),
            lambda run: run.response("x", to=5),
            lambda run: run.response("x", to="5"),
            lambda run: run.append_many(["x"]),
            lambda run: run.append_many([None]),
            lambda run: run.append_many([ledger.Item(kind="other", content="x")]),  # type: ignore[arg-type]
            lambda run: run.append_many([ledger.Item(kind="response", content="x", to="5")]),  # type: ignore[arg-type]
            lambda run: run.append_many([ledger.Item(kind="prompt", content="x", time=datetime(2026, 1, 1))]),
            lambda run: run.append_many([ledger.Item(kind="prompt", content="x", time="now")]),  # type: ignore[arg-type]
            lambda run: run.finish(reason=5),
            lambda run: run.finish("odd"),
            lambda run: log.run(5),  # type: ignore[arg-type]
        ]
        for number, append in enumerate(wrong):
            with pytest.raises(ledger.UsageError):
                append(run)
            assert log.chain.state.size == before, number
    assert ledger.verify(path).sound


@pytest.mark.parametrize("kind", ["artifact", "prompt", "response"])
def test_a_file_over_4_gib_is_refused_at_once_and_leaves_nothing(path: Path, tmp_path: Path, kind: str) -> None:
    endless = tmp_path / "endless"
    endless.touch()
    os.truncate(endless, (4 << 30) + 1)

    def objects() -> list[Path]:
        return sorted(file for folder in ("blobs", "packs", "keys") for file in (path / folder).rglob("*"))

    with ledger.open(path) as log, log.run() as run:
        before = objects()
        began = time.monotonic()
        with pytest.raises(TooLarge, match="4 GiB"):
            getattr(run, kind)(endless)
        assert time.monotonic() - began < 2
        assert objects() == before
        assert log.read(run.artifact("still written").address) == b"still written"


def test_a_time_of_any_zone_is_recorded_in_utc(path: Path) -> None:
    there = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    with ledger.open(path) as log, log.run() as run:
        [done] = run.append_many([ledger.Item(kind="prompt", content="x", time=there)])
        assert log.entry(done.index).raw.startswith(b'{"kind":"prompt","v":1,"time":"2026-01-01T07:00:00Z"')


def test_every_error_can_be_caught_by_its_name(path: Path) -> None:
    from schemas import errors

    for name, found in vars(errors).items():
        if isinstance(found, type) and issubclass(found, errors.LedgerError):
            assert getattr(ledger, name) is found
            assert name in ledger.__all__
    with pytest.raises(ledger.NotFound):
        ledger.open(path / "nowhere")
