"""The asyncio twin: tasks share commits, and nothing blocks the loop."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ledger
import ledger.aio
from schemas.errors import NotFound, RunClosed, UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger.init(tmp_path / "l")
    return tmp_path / "l"


def test_what_tasks_append_is_there(path: Path) -> None:
    async def main() -> tuple[int, bytes]:
        async with await ledger.aio.open(path) as log, await log.run("many") as run:
            before = log.sync.chain.state.packs
            asked = await run.prompt("x", model="m")
            await run.response({"y": 1}, to=asked)
            big = await run.stage("build").artifact(os.urandom(2_000_000))
            await asyncio.gather(*(run.artifact(str(n)) for n in range(500)))
            return log.sync.chain.state.packs - before, await log.read(big.address)

    packs, content = asyncio.run(main())
    assert len(content) == 2_000_000
    # Five hundred tasks wait together: they share commits.
    assert packs < 60
    report = ledger.verify(path)
    assert report.sound
    assert report.entries == 2 + 505


def test_the_loop_goes_on_while_a_commit_syncs(path: Path) -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        async with await ledger.aio.open(path) as log:
            ticking = asyncio.create_task(tick())
            async with await log.run() as run:
                for number in range(20):
                    await run.artifact(str(number))
            ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 200


def test_an_exception_finishes_the_run_failed(path: Path) -> None:
    async def main() -> None:
        async with await ledger.aio.open(path) as log:
            with pytest.raises(ZeroDivisionError):
                async with await log.run() as run:
                    raise ZeroDivisionError
            with pytest.raises(RunClosed):
                await run.prompt("late")
            with pytest.raises(RunClosed):
                await log.resume(run.id)

    asyncio.run(main())
    with ledger.open(path) as log:
        assert log.runs()[0].status == "failed"


def test_a_cancelled_wait_does_not_lose_the_entry(path: Path) -> None:
    async def main() -> None:
        async with await ledger.aio.open(path) as log:
            run = await log.run()
            waiting = asyncio.create_task(run.artifact("kept"))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await run.finish()

    asyncio.run(main())
    assert ledger.verify(path).sound


def test_many_at_once_in_order(path: Path) -> None:
    async def main() -> list[int]:
        async with await ledger.aio.open(path) as log:
            run = await log.resume((await log.run()).id)
            done = await run.append_many(ledger.Item(kind="artifact", content=str(n)) for n in range(1500))
            receipt = await log.receipt(done[0].index)
            assert receipt.proven == done[0].index
            return [a.step for a in done]

    assert asyncio.run(main()) == list(range(2, 1502))


def test_what_is_no_content_is_refused(path: Path) -> None:
    async def main() -> None:
        async with await ledger.aio.open(path) as log, await log.run("r") as run:
            for wrong in (
                lambda: run.prompt(None),  # type: ignore[arg-type]
                lambda: run.response("x", to=5),  # type: ignore[arg-type]
                lambda: run.append_many(["x"]),  # type: ignore[list-item]
            ):
                with pytest.raises(ledger.UsageError):
                    await wrong()

    asyncio.run(main())
    assert ledger.verify(path).sound


def test_the_same_with_async(tmp_path: Path) -> None:
    """All that `ledger` and `ledger.Log` offer."""

    async def main() -> None:
        trust = await ledger.aio.init(tmp_path / "new", origin="test.example/new")
        async with ledger.aio.open(tmp_path / "new") as log, log.run("nightly", imported=True) as run:
            made = [await run.artifact(str(n)) for n in range(600)]
            async with log.resume(run.id, stage="late") as again:
                await again.prompt("x")
            assert [info.name for info in await log.runs()] == ["nightly"]
            found = [recorded async for recorded in log.entries(run)]
            assert [r.index for r in found[1:601]] == [a.index for a in made]
            assert found[1].entry.imported
            assert found[601].entry.stage == "late"
            assert len([r async for r in log.entries()]) == 2 + 603
            assert (await log.query("SELECT count(*) AS n FROM entries")).to_pylist() == [{"n": 605}]
        report = await ledger.aio.verify(tmp_path / "new", trust=trust)
        assert report.sound

    asyncio.run(main())
    assert set(ledger.aio.__all__) <= set(dir(ledger.aio))
    with pytest.raises(AttributeError):
        ledger.aio.nothing  # noqa: B018


def test_what_is_not_awaited_twice_is_closed_once(path: Path) -> None:
    async def main() -> None:
        async with ledger.aio.open(path) as log:
            with pytest.raises(ZeroDivisionError):
                async with log.run("broken"):
                    raise ZeroDivisionError
            run = await log.run("open")
            async with run:
                await run.prompt("x")
            assert [info.status for info in await log.runs()] == ["succeeded", "failed"]
        with pytest.raises(UsageError, match="closed"):
            await log.read("artifact://" + "0" * 64)
        with pytest.raises(NotFound):
            async with ledger.aio.open(path / "nowhere"):
                pass

    asyncio.run(main())


def test_importing_the_twin_is_cheap() -> None:
    heavy = ["asyncio", "duckdb", "pyarrow", "ledger.index.reader"]
    code = f"import ledger.aio, sys; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=Path(__file__).parent.parent) == "[]\n"


def test_a_loop_that_was_closed_stops_no_committer(path: Path) -> None:
    """A wait was cancelled and the loop closed before the commit was done: others are told all the same."""
    log = ledger.open(path)
    twin = ledger.aio.Log(log)
    began, go = threading.Event(), threading.Event()
    create = log.folder.create

    def slow(name: str, data: bytes) -> bool:
        began.set()
        assert go.wait(10)
        return create(name, data)

    async def main() -> str:
        run = await twin.run("kept")
        log.folder.create = slow  # type: ignore[method-assign]
        waiting = asyncio.create_task(run.artifact("kept"))
        await asyncio.to_thread(began.wait, 10)
        waiting.cancel()
        return run.id

    id = asyncio.run(main())
    other = threading.Thread(target=lambda: done.append(log.resume(id).artifact("of another thread")))
    done: list[ledger.Appended] = []
    other.start()
    go.set()
    other.join(10)
    assert [appended.step for appended in done] == [3]
    log.close()
    assert ledger.verify(path).sound
