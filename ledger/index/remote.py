"""A ledger over a gateway's socket, for asyncio: see `ledger.remote`."""

import asyncio
from collections.abc import Iterable
from typing import Any, Literal

from ledger import remote
from ledger.commit import Appended
from ledger.drafts import Item
from ledger.index import tasks


class Log(tasks.Log):
    """What a token reaches of a ledger: one run."""

    def __init__(self, log: remote.Log) -> None:
        self.sync: Any = log

    async def _start(self, name: str, stage: str, lane: str, task: str, imported: bool) -> "Run":
        return Run(self.sync.run(name, stage=stage, lane=lane, task=task, imported=imported))

    async def _resume(self, id: str, stage: str, lane: str, task: str, imported: bool) -> "Run":
        return Run(self.sync.resume(id, stage=stage, lane=lane, task=task, imported=imported))


class Run(tasks.Run):
    """The run that a token is bound to. As a context manager it leaves the run open: who records it finishes it."""

    def __init__(self, run: remote.Run) -> None:
        self.id = run.id
        self._run = run

    def stage(self, name: str, *, lane: str = "", task: str = "") -> "Run":
        """The same run, whose entries carry this stage."""
        return Run(self._run.stage(name, lane=lane, task=task))

    async def append_many(self, items: Iterable[Item]) -> list[Appended]:
        """Appends many things. Groups of up to 1,024 are all or nothing each."""
        return await asyncio.to_thread(self._run.append_many, items)

    async def finish(self, status: Literal["succeeded", "failed"] = "succeeded", *, reason: str = "") -> Appended:
        """Ends the run, for all who append to it."""
        return await asyncio.to_thread(self._run.finish, status, reason=reason)

    async def _one(self, item: Item) -> Appended:
        return (await self.append_many([item]))[0]

    async def __aexit__(self, *raised: object) -> None:
        pass
