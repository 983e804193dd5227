"""Bringing in many records at once, from NDJSON; they are marked as imported."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ledger.commit import Draft
from ledger.drafts import Content, Drafts, Item, Kind, beside, signed
from ledger.log import Log
from policies import sshsig
from schemas.entries import Prompt, Response
from schemas.errors import LedgerError, Malformed, NotFound, UsageError

_CHUNK = 1024
_BYTES = 24 << 20
_LONGEST = 64 << 20


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the file. Exactly one of `text`, `base64` and `path` holds the content.

    Attributes:
        run: any name; all lines of one name make one run.
        path: relative to the folder of the NDJSON file, and within it.
        time: when it happened, with a zone; the time of the import where absent.
    """

    kind: Kind
    run: str
    text: str | None = None
    base64: str | None = None
    path: str | None = None
    stage: str = ""
    lane: str = ""
    task: str = ""
    name: str = ""
    media_type: str = ""
    model: str = ""
    time: datetime | None = None


class Imported(msgspec.Struct):
    """What came in, and which lines did not."""

    entries: int = 0
    runs: dict[str, str] = {}
    skipped: list[str] = []


_decoder = msgspec.json.Decoder(Line)


def bring_in(
    log: Log, path: Path, *, keep_going: bool = False, progress: Callable[[int, int], None] | None = None
) -> Imported:
    """Appends every line of an NDJSON file, in order; each name of a run becomes a new run that is then finished.

    The whole file is read and checked before anything is appended.

    Args:
        keep_going: leave malformed lines out instead of refusing the file.

    Raises:
        Malformed: a line is; nothing of the file was appended.
    """
    result, skipped = Imported(), set[int]()
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file: it is read twice", hint="write it to a file first")
    for number, line in _lines(path):
        try:
            _check(log, *_item(path, line))
        except LedgerError as error:
            what = f"{path.name}, line {number}: {error.what}"
            if not keep_going:
                raise Malformed(what, hint="nothing was appended; --keep-going leaves such lines out") from None
            result.skipped.append(what)
            skipped.add(number)
    try:
        _bring(log, path, skipped, result, progress)
    except KeyboardInterrupt as error:
        error.add_note(f"{result.entries:,} entries or more were imported; their runs stay open")
        raise
    return result


def _bring(
    log: Log, path: Path, skipped: set[int], result: Imported, progress: Callable[[int, int], None] | None
) -> None:
    total, done, size = path.stat().st_size, 0, 0
    waiting = _Waiting(log, result)
    runs = result.runs
    for number, line in _lines(path):
        done += len(line)
        if number in skipped:
            continue
        parsed, item = _item(path, line)
        if parsed.run not in runs:
            waiting.commit()
            runs[parsed.run] = log.run(parsed.run, imported=True).id
        run = runs[parsed.run]
        drafts = Drafts(log.writer, run, parsed.stage, parsed.lane, parsed.task, True)
        size += waiting.add(run, drafts.items([waiting.answering(run, item)]))
        if len(waiting.drafts) == _CHUNK or size > _BYTES:
            waiting.commit()
            size = 0
            if progress is not None:
                progress(done, total)
    waiting.commit()
    for run in runs.values():
        log.resume(run, imported=True).finish()


class _Waiting:
    """Lines that are committed at once. A response answers the last prompt of its run, as `append` does."""

    def __init__(self, log: Log, result: Imported) -> None:
        self.log = log
        self.result = result
        self.drafts: list[Draft] = []
        self._asked: dict[str, int] = {}
        self._asked_here: dict[str, int] = {}
        self._answers: dict[int, tuple[str, int]] = {}

    def answering(self, run: str, item: Item) -> Item:
        """The item, tied to a prompt that is committed already."""
        if item.kind != "response" or run in self._asked_here:
            return item
        return msgspec.structs.replace(item, to=self._asked.get(run, 0))

    def add(self, run: str, draft: Draft) -> int:
        """Takes in one line; returns the bytes that its pack will hold for it."""
        place = len(self.drafts)
        if isinstance(draft.entries[0], Prompt):
            self._asked_here[run] = place
        elif isinstance(draft.entries[0], Response) and run in self._asked_here:
            self._answers[place] = ("to", self._asked_here[run])
        self.drafts.append(draft)
        return sum(len(blob.data) for prepared in draft.contents for blob in prepared.inside)

    def commit(self) -> None:
        """Commits what waits."""
        if not self.drafts:
            return
        joined = Draft.joined(self.drafts)
        joined.links = self._answers
        done = self.log.writer.commit(joined)
        self.result.entries += len(done)
        self._asked |= {run: done[place].index for run, place in self._asked_here.items()}
        self.drafts, self._asked_here, self._answers = [], {}, {}


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise NotFound(f"{path}: {(error.strerror or '').lower()}", hint="check the path") from None


def _check(log: Log, line: Line, item: Item) -> None:
    """Refuses now what the commit would refuse later."""
    if max(map(len, (line.stage, line.lane, line.task, line.model))) > 200:
        raise Malformed("stage, lane, task and model have at most 200 characters")
    if item.kind == "approval":
        request, signature = signed(item.content)
        state = log.chain.state
        sshsig.verify(signature, sshsig.digest(request), list(state.trusted().approvers_at(state.size)))


def _item(file: Path, raw: bytes) -> tuple[Line, Item]:
    try:
        line = _decoder.decode(raw)
        json.loads(raw, object_pairs_hook=_once)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if sum(x is not None for x in (line.text, line.base64, line.path)) != 1:
        raise Malformed("exactly one of text, base64 and path must be there")
    if line.time is not None and line.time.tzinfo is None:
        raise Malformed("time has no zone")
    try:
        time = line.time.astimezone(UTC) if line.time else None
        content = _content(file, line)
    except (ValueError, OverflowError, OSError) as error:
        raise Malformed(f"content or time is malformed: {type(error).__name__}") from None
    name = line.name or (Path(line.path).name if line.path else "")
    for text in (line.run, name, line.media_type):
        if not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text):
            raise Malformed("a text holds what is no character")
    return line, Item(
        kind=line.kind, content=content, name=name, media_type=line.media_type, model=line.model, time=time
    )


def _once(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")


def _content(file: Path, line: Line) -> Content:
    if line.base64 is not None:
        return base64.b64decode(line.base64, validate=True)
    if line.path is None:
        return line.text or ""
    path = file.parent / line.path
    if not path.is_file():
        raise Malformed(f"no file {line.path}")
    for read in (path, *(beside(path) if line.kind == "approval" else ())):
        # The file may be somebody else's: it must not pull in a key from this user's home.
        if read.exists() and not (read.is_file() and read.resolve().is_relative_to(file.parent.resolve())):
            raise Malformed("path leads out of the file's folder")
    return path
