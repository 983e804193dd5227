"""The asyncio twin: tasks share commits, and nothing blocks the loop."""

import asyncio
import os
from pathlib import Path

import pytest

import ledger
import ledger.aio
from schemas.errors import RunClosed


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
            for wrong in (run.prompt(None), run.response("x", to=5), run.append_many(["x"])):  # type: ignore[arg-type,list-item]
                with pytest.raises(ledger.UsageError):
                    await wrong

    asyncio.run(main())
    assert ledger.verify(path).sound
