"""The same for asyncio: nothing blocks the event loop, and tasks share commits with threads.

async with await ledger.aio.open() as log:
    async with await log.run("nightly") as run:
        asked = await run.prompt("Write a parser.")
        await run.response("def parse(): ...", to=asked)
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from ledger import log as threads
from ledger.commit import Appended, Draft
from ledger.drafts import Content, Drafts, Item, RootChanged, new_run
from ledger.receipt import Receipt
from ledger.run import chunks, index_of, name_of
from ledger.writer import Writer
from schemas.errors import LedgerError

_SMALL = 65_536


class Run:
    """An open run; see `ledger.Run`."""

    def __init__(self, committing: "_Committing", id: str, stage: str = "", lane: str = "", task: str = "") -> None:
        self.id = id
        self._committing = committing
        self._drafts = Drafts(committing.writer, id, stage, lane, task)

    def stage(self, name: str, *, lane: str = "", task: str = "") -> "Run":
        """The same run, whose entries carry this stage."""
        drafts = self._drafts
        return Run(self._committing, self.id, name, lane or drafts.lane, task or drafts.task)

    async def prompt(self, content: Content, *, model: str = "") -> Appended:
        """Appends what was asked of a model."""
        return await self._one(Item(kind="prompt", content=content, model=model))

    async def response(self, content: Content, *, to: Appended | None = None) -> Appended:
        """Appends what a model answered."""
        return await self._one(Item(kind="response", content=content, to=index_of(to)))

    async def artifact(self, source: Content, *, name: str = "", media_type: str = "") -> Appended:
        """Appends a file or other data that the run read or made."""
        name = name or name_of(source)
        return await self._one(Item(kind="artifact", content=source, name=name, media_type=media_type))

    async def approval(self, signed: Content) -> Appended:
        """Appends a person's signature over a request."""
        return await self._one(Item(kind="approval", content=signed))

    async def append_many(self, items: Iterable[Item]) -> list[Appended]:
        """Appends many things in few commits. Groups of up to 1,024 are all or nothing each."""
        found: list[Appended] = []
        for chunk in chunks(items):
            draft = await asyncio.to_thread(self._drafts.items, chunk)
            found += await self._committing.commit(draft)
        return found

    async def finish(self, status: Literal["succeeded", "failed"] = "succeeded", *, reason: str = "") -> Appended:
        """Ends the run."""
        return (await self._committing.commit(self._drafts.finish(status, reason)))[0]

    async def _one(self, item: Item) -> Appended:
        # What is small is sealed in less time than it takes to hand it to a thread.
        small = isinstance(item.content, str | bytes) and len(item.content) < _SMALL
        draft = self._drafts.items([item]) if small else await asyncio.to_thread(self._drafts.items, [item])
        return (await self._committing.commit(draft))[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.id not in self._committing.writer.chain.state.history.runs:
            return
        if error is None:
            await self.finish()
        else:
            await self.finish("failed", reason=type(error).__name__)


class _Committing:
    """Hands drafts to the committer and waits without a thread for each."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    async def commit(self, draft: Draft) -> list[Appended]:
        """Commits a draft. Cancelling the wait does not undo the commit."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def tell() -> None:
            # The loop may have ended meanwhile; then nobody waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

        draft.wake = tell
        self.writer.committer.submit(draft)
        await done.wait()
        result = draft.result()
        self.writer.learn(draft)
        return result


class Log:
    """A ledger, open; see `ledger.Log`."""

    def __init__(self, log: threads.Log) -> None:
        self.sync = log
        self._committing = _Committing(log.writer)

    async def run(self, name: str = "", *, stage: str = "", lane: str = "", task: str = "") -> Run:
        """Starts a run."""
        writer = self.sync.writer
        while True:
            id = new_run(writer)
            draft = await asyncio.to_thread(Drafts(writer, id, stage, lane, task).start, name)
            try:
                await self._committing.commit(draft)
            except RootChanged:
                continue
            return Run(self._committing, id, stage, lane, task)

    async def resume(self, run: str | Run) -> Run:
        """An open run, from its id."""
        id = run.id if isinstance(run, Run) else run
        await asyncio.to_thread(self.sync.writer.key, id)
        return Run(self._committing, id)

    async def read(self, address: str) -> bytes:
        """The content of an address."""
        return await asyncio.to_thread(self.sync.read, address)

    async def receipt(self, index: int) -> Receipt:
        """An offline proof of an entry and its author."""
        return await asyncio.to_thread(self.sync.receipt, index)

    async def close(self) -> None:
        """Publishes what is new, and gives files back."""
        await asyncio.to_thread(self.sync.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except LedgerError as closing:
            if error is None:
                raise
            error.add_note(f"closing {self.sync.path} failed too: {closing.what}")


async def open(where: str | Path | None = None, *, signer: str | None = None, identity: str | None = None) -> Log:
    """Opens a ledger; see `ledger.open`."""
    return Log(await asyncio.to_thread(threads.Log.open, where, signer=signer, identity=identity))
