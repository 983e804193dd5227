"""Bringing in many records at once, from NDJSON; they are marked as imported."""

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ledger.commit import Draft
from ledger.drafts import Content, Drafts, Item, Kind, signed
from ledger.log import Log
from policies import sshsig
from schemas.errors import LedgerError, Malformed, NotFound

_CHUNK = 1024
_BYTES = 24 << 20
_LONGEST = 64 << 20


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the file. Exactly one of `text`, `base64` and `path` holds the content.

    Attributes:
        run: any name; all lines of one name make one run.
        path: relative to the folder of the NDJSON file.
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
    result = Imported()
    for number, line in _lines(path):
        try:
            _check(log, *_item(path, line))
        except LedgerError as error:
            what = f"{path.name}, line {number}: {error.what}"
            if not keep_going:
                raise Malformed(what, hint="nothing was appended; --keep-going leaves such lines out") from None
            result.skipped.append(what)
    total, done, size = path.stat().st_size, 0, 0
    waiting: list[Draft] = []
    runs: dict[str, str] = {}
    for _, line in _lines(path):
        done += len(line)
        try:
            parsed, item = _item(path, line)
            _check(log, parsed, item)
        except LedgerError:
            continue
        if parsed.run not in runs:
            _commit(log, waiting, result)
            runs[parsed.run] = log.run(parsed.run, imported=True).id
        waiting.append(Drafts(log.writer, runs[parsed.run], parsed.stage, parsed.lane, parsed.task, True).items([item]))
        size += sum(len(blob.data) for prepared in waiting[-1].contents for blob in prepared.inside)
        if len(waiting) == _CHUNK or size > _BYTES:
            _commit(log, waiting, result)
            size = 0
            if progress is not None:
                progress(done, total)
    _commit(log, waiting, result)
    for run in runs.values():
        log.resume(run, imported=True).finish()
    result.runs = runs
    return result


def _commit(log: Log, waiting: list[Draft], result: Imported) -> None:
    if waiting:
        result.entries += len(log.writer.commit(Draft.joined(waiting)))
        waiting.clear()


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
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
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


def _content(file: Path, line: Line) -> Content:
    if line.base64 is not None:
        return base64.b64decode(line.base64, validate=True)
    if line.path is None:
        return line.text or ""
    path = file.parent / line.path
    if not path.is_file():
        raise Malformed(f"no file {line.path}")
    return path
