"""A run: prompts, responses, artifacts and approvals, each durable when its call returns."""

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from ledger.commit import Appended
from ledger.drafts import Content, Drafts, Item
from ledger.writer import Writer
from schemas.errors import LedgerError, UsageError

if TYPE_CHECKING:
    from openai import OpenAI

_CHUNK = 1024
_BYTES = 32 << 20
_LARGE = 1 << 20


class Run:
    """An open run. As a context manager it finishes itself: an exception finishes it "failed" and goes on.

    Attributes:
        id: a UUIDv7.
    """

    def __init__(
        self, writer: Writer, id: str, *, stage: str = "", lane: str = "", task: str = "", imported: bool = False
    ) -> None:
        self.id = id
        self._writer = writer
        self._drafts = Drafts(writer, id, stage, lane, task, imported)

    def stage(self, name: str, *, lane: str = "", task: str = "") -> "Run":
        """The same run, whose entries carry this stage."""
        drafts = self._drafts
        return Run(
            self._writer,
            self.id,
            stage=name,
            lane=lane or drafts.lane,
            task=task or drafts.task,
            imported=drafts.imported,
        )

    def prompt(self, content: Content, *, model: str = "") -> Appended:
        """Appends what was asked of a model.

        Args:
            content: text, bytes, an object that becomes JSON, or a file.
            model: its name, in clear.

        Raises:
            RunClosed: the run has ended.
            TooLarge: over 4 GiB.
            StorageFailed, OutcomeUnknown: as they say.
        """
        return self._one(Item(kind="prompt", content=content, model=model))

    def response(self, content: Content, *, to: Appended | None = None) -> Appended:
        """Appends what a model answered.

        Args:
            to: what `prompt` returned.
        """
        return self._one(Item(kind="response", content=content, to=index_of(to)))

    def artifact(self, source: Content, *, name: str = "", media_type: str = "") -> Appended:
        """Appends a file or other data that the run read or made.

        Args:
            name: sealed with it; a file's own name where it is empty.
        """
        return self._one(Item(kind="artifact", content=source, name=name or name_of(source), media_type=media_type))

    def approval(self, signed: Content, *, reason: str = "") -> Appended:
        """Appends a person's signature over a request (`ssh-keygen -Y sign -n ledger-approval@v1`).

        Args:
            signed: a file with `FILE.sig` beside it, or the request followed by the armored signature.
            reason: sealed with it.

        Raises:
            Malformed: it is not a signature by somebody who may approve, or the request is refused; says why.
        """
        return self._one(Item(kind="approval", content=signed, reason=reason))

    def value(self, content: Content, *, name: str = "") -> Appended:
        """Keeps something for a replay: a time, a random number, what was asked of the outside.

        Args:
            name: sealed with it.
        """
        return self._one(Item(kind="value", content=content, name=name))

    def openai(self, **how: Any) -> "OpenAI":
        """A client whose every request is recorded in this run and held to policy, by a gateway of this process.

        Args:
            how: `upstream` (base URL), `key` (URI of the real API key), `policies` (shipped ones, or files),
                `secrets` (URIs of values that must never leave, beside those that `ledger keys list` shows).
        """
        # The gateway stands above this file: it is named here, as in `ledger/__init__`, and not imported.
        gateway = importlib.import_module("ledger.gateway.client")
        drafts = self._drafts
        place = (self.id, drafts.stage, drafts.lane, drafts.task)
        made: OpenAI = gateway.client(self._writer.log, place, **how)
        return made

    def append_many(self, items: Iterable[Item]) -> list[Appended]:
        """Appends many things in few commits. Groups of up to 1,024 are all or nothing each."""
        return [done for chunk in chunks(items) for done in self._writer.commit(self._drafts.items(chunk))]

    def finish(self, status: Literal["succeeded", "failed"] = "succeeded", *, reason: str = "") -> Appended:
        """Ends the run. Nothing can be appended to it afterwards."""
        return self._writer.commit(self._drafts.finish(status, reason))[0]

    def _one(self, item: Item) -> Appended:
        return self._writer.commit(self._drafts.items([item]))[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer.chain.state.history.find(self.id) is None:
            return
        if error is None:
            self.finish()
        else:
            # The type alone: a message may hold a secret.
            try:
                self.finish("failed", reason=type(error).__name__)
            except LedgerError as finishing:
                # What went wrong first is what the caller must learn.
                error.add_note(f"run {self.id} could not be finished: {finishing.what}")

    def __repr__(self) -> str:
        return f"Run({self.id})"


def chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """What is committed at once: at most 1,024 items, and what fits a pack."""
    chunk: list[Item] = []
    size = 0
    for item in items:
        content = getattr(item, "content", None)
        weight = len(content) if isinstance(content, str | bytes) else _LARGE
        if chunk and (len(chunk) == _CHUNK or size + weight > _BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += min(weight, _LARGE)
    if chunk:
        yield chunk


def index_of(to: Appended | None) -> int:
    """The prompt that a response answers; 0 where none is named."""
    if to is None:
        return 0
    if not isinstance(to, Appended):
        raise UsageError("a response answers a prompt", hint="to: what `prompt` returned")
    return to.index


def name_of(source: Content) -> str:
    """The name of a file; empty for what is no file."""
    return source.name if isinstance(source, Path) else ""
