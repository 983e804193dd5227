"""A ledger for asyncio: nothing blocks the event loop, and tasks share commits with threads."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeVar

from ledger import remote
from ledger.commit import Appended, Draft
from ledger.create import create
from ledger.drafts import Content, Drafts, Item, RootChanged, new_run
from ledger.index import reader
from ledger.locate import FOLDER
from ledger.receipt import Receipt
from ledger.run import chunks, index_of, name_of
from ledger.runs import RunInfo
from ledger.state import Recorded
from ledger.writer import Writer
from schemas.errors import LedgerError
from schemas.trust import TrustRoot

if TYPE_CHECKING:
    import pyarrow as pa

_SMALL = 65_536
_ENTRIES = 256


class _Context(Protocol):
    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


T = TypeVar("T", bound=_Context)


class Opening(Generic[T]):
    """What is being opened: `await` gives it; `async with` gives it and closes it."""

    def __init__(self, made: Coroutine[Any, Any, T]) -> None:
        self._made = made
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._made.__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._made
        await self._opened.__aenter__()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(kind, error, trace)


class Run:
    """An open run; see `ledger.Run`."""

    def __init__(
        self,
        committing: "Committing",
        id: str,
        stage: str = "",
        lane: str = "",
        task: str = "",
        imported: bool = False,
    ) -> None:
        self.id = id
        self._committing = committing
        self._drafts = Drafts(committing.writer, id, stage, lane, task, imported)

    def stage(self, name: str, *, lane: str = "", task: str = "") -> "Run":
        """The same run, whose entries carry this stage."""
        drafts = self._drafts
        return Run(self._committing, self.id, name, lane or drafts.lane, task or drafts.task, drafts.imported)

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

    async def approval(self, signed: Content, *, reason: str = "") -> Appended:
        """Appends a person's signature over a request."""
        return await self._one(Item(kind="approval", content=signed, reason=reason))

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
        if self._committing.writer.chain.state.history.find(self.id) is None:
            return
        if error is None:
            await self.finish()
            return
        try:
            await self.finish("failed", reason=type(error).__name__)
        except LedgerError as finishing:
            # What went wrong first is what the caller must learn.
            error.add_note(f"run {self.id} could not be finished: {finishing.what}")


class Committing:
    """Hands drafts to the committer and waits without a thread for each."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    async def commit(self, draft: Draft) -> list[Appended]:
        """Commits a draft. Cancelling the wait does not undo the commit."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                # Nobody waits any more: the loop was closed. The committer goes on for the others.
                pass

        draft.wake = tell
        self.writer.committer.submit(draft)
        await done.wait()
        result = draft.result()
        self.writer.learn(draft)
        return result


class Log:
    """A ledger, open; see `ledger.Log`.

    Attributes:
        sync: the same for threads.
    """

    def __init__(self, log: reader.Log) -> None:
        self.sync = log
        self._committing = Committing(log.writer)

    def run(
        self, name: str = "", *, stage: str = "", lane: str = "", task: str = "", imported: bool = False
    ) -> Opening[Run]:
        """Starts a run: `await` it, or `async with` it, which finishes it."""
        return Opening(self._start(name, stage, lane, task, imported))

    async def _start(self, name: str, stage: str, lane: str, task: str, imported: bool) -> Run:
        writer = self.sync.writer
        while True:
            id = new_run(writer)
            draft = await asyncio.to_thread(Drafts(writer, id, stage, lane, task, imported).start, name)
            try:
                await self._committing.commit(draft)
            except RootChanged:
                continue
            return Run(self._committing, id, stage, lane, task, imported)

    def resume(
        self, run: str | Run, *, stage: str = "", lane: str = "", task: str = "", imported: bool = False
    ) -> Opening[Run]:
        """An open run, from its id."""
        return Opening(self._resume(run.id if isinstance(run, Run) else run, stage, lane, task, imported))

    async def _resume(self, id: str, stage: str, lane: str, task: str, imported: bool) -> Run:
        await asyncio.to_thread(self.sync.writer.key, id)
        return Run(self._committing, id, stage, lane, task, imported)

    async def runs(self, since: datetime | None = None) -> list[RunInfo]:
        """Runs, newest first, with the names that this identity can read."""
        return await asyncio.to_thread(self.sync.runs, since)

    async def entries(self, run: str | Run | None = None) -> AsyncIterator[Recorded]:
        """Entries in order, of one run or of all."""
        found = self.sync.entries(run.id if isinstance(run, Run) else run)

        def some() -> list[Recorded]:
            return [recorded for _, recorded in zip(range(_ENTRIES), found, strict=False)]

        while chunk := await asyncio.to_thread(some):
            for recorded in chunk:
                yield recorded

    async def query(self, sql: str) -> "pa.Table":
        """Asks the index: one SELECT over the views `entries runs calls blobs approvals`."""
        return await asyncio.to_thread(self.sync.query, sql)

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


def open(where: str | Path | None = None, *, signer: str | None = None, identity: str | None = None) -> Opening[Log]:
    """Opens a ledger: `await` it, or `async with` it, which closes it. See `ledger.open`."""
    return Opening(_open(where, signer, identity))


async def init(path: Path | str = FOLDER, *, origin: str | None = None) -> TrustRoot:
    """Makes a ledger and its keys; see `ledger.init`."""
    return await asyncio.to_thread(create, path, origin=origin)


async def _open(where: str | Path | None, signer: str | None, identity: str | None) -> Log:
    if url := remote.address(where):
        # Named here and not imported: it stands on this file.
        over = importlib.import_module("ledger.index.remote")
        opened: Log = over.Log(await asyncio.to_thread(remote.Log.open, url))
        return opened
    return Log(await asyncio.to_thread(reader.Log.open, where, signer=signer, identity=identity))
