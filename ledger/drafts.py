"""What a run appends, prepared but not committed: the same for threads and for asyncio."""

import base64
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from ledger.commit import Draft, Validate
from ledger.state import Recorded, State
from ledger.writer import Writer
from policies import sshsig, statement
from schemas.entries import (
    Approval,
    ApprovalBreakGlass,
    Artifact,
    Known,
    Prompt,
    Response,
    RunFinished,
    RunStarted,
    Value,
)
from schemas.errors import LedgerError, Malformed, NotFound, TooLarge, UsageError
from schemas.ids import new_run_id
from store.blobs import Prepared
from store.seal import DataKey

Content = str | bytes | dict[str, Any] | Path
"""What callers hand in: text, bytes, an object that becomes JSON, or a file."""

Kind = Literal["prompt", "response", "artifact", "approval", "value"]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to append, for `Run.append_many`.

    Attributes:
        to: index of the prompt that a response answers.
        reason: of an approval; sealed.
        time: in UTC; the writer's clock where it is None.
    """

    kind: Kind
    content: Content
    name: str = ""
    media_type: str = ""
    model: str = ""
    to: int = 0
    reason: str = ""
    time: datetime | None = None


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sealed part of an entry: what says too much to stand in clear."""

    name: str = ""
    media_type: str = ""
    reason: str = ""


MAX_TEXT = 10_000
"""Characters of a name, a media type or a reason."""


def check(item: Item) -> None:
    """Refuses what no type checker has kept away."""
    if not isinstance(item, Item):
        raise UsageError(f"not an item to append: {type(item).__name__}", hint="ledger.Item(kind=…, content=…)")
    if item.kind not in _KINDS:
        raise UsageError(f"no such kind: {str(item.kind)[:60]!r}", hint=", ".join(_KINDS))
    if item.reason and item.kind != "approval":
        raise UsageError("a reason goes with an approval", hint="name says what else is for people")
    if not isinstance(item.to, int):
        raise UsageError("a response answers the index of a prompt", hint="to: what `prompt` returned")
    if item.time is not None and (not isinstance(item.time, datetime) or item.time.utcoffset() is None):
        raise UsageError("a time without zone says nothing", hint="datetime.now(UTC), or .astimezone()")


_KINDS = get_args(Kind)


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))


def as_bytes(content: Content) -> bytes | Path:
    """What a content is as bytes; a file stays one.

    Raises:
        Malformed, UsageError: no text, and nothing that JSON holds.
    """
    if isinstance(content, bytes | Path):
        return content
    if not isinstance(content, str | dict):
        raise UsageError(
            f"a content can't be of type {type(content).__name__}",
            hint="text, bytes, a dictionary that JSON can hold, or a Path",
        )
    try:
        if not _is_finite(content):
            raise Malformed("content is no JSON: a number is not finite", hint="JSON has neither NaN nor infinity")
        return content.encode() if isinstance(content, str) else msgspec.json.encode(content)
    except UnicodeEncodeError:
        raise Malformed("a text holds what is no character", hint="give it as bytes") from None
    except (TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise Malformed(f"content is no JSON: {error}", hint="text, bytes, a file, or what JSON can hold") from None


class Drafts:
    """Prepares what one run appends.

    Args:
        writer: seals, and says the time.
        run: its id.
        stage, lane, task: what its entries carry.
        imported: whether they were made elsewhere.
    """

    def __init__(
        self, writer: Writer, run: str, stage: str = "", lane: str = "", task: str = "", imported: bool = False
    ) -> None:
        self.writer = writer
        self.run = run
        self.stage, self.lane, self.task = stage, lane, task
        self.imported = imported

    def _common(self, time: datetime | None = None) -> dict[str, Any]:
        return {
            "v": 1,
            "time": _in_utc(time) if time else self.writer.clock(),
            "run": self.run,
            "stage": self.stage,
            "lane": self.lane,
            "task": self.task,
            "imported": self.imported,
        }

    def _detail(self, key: DataKey, detail: Detail) -> list[Prepared]:
        if detail == Detail():
            return []
        for text in msgspec.structs.astuple(detail):
            if not isinstance(text, str):
                raise UsageError(f"a name or reason is text, not {type(text).__name__}")
            if len(text) > MAX_TEXT:
                what = f"a name or reason of {len(text):,} characters; the limit is {MAX_TEXT:,}"
                raise TooLarge(what, hint="put what is long into content, which may have gigabytes")
        return [self.writer.blobs.prepare(key, bytes(as_bytes(msgspec.to_builtins(detail))))]

    def start(self, name: str) -> Draft:
        """The run begins: makes its data key."""
        key = self.writer.new_key(self.run)
        sealed = self._detail(key, Detail(name=name))
        address = sealed[0].address if sealed else ""
        entry = RunStarted(**self._common(), key=key.commitment, detail=address)
        return Draft([entry], sealed, [""], _same_root(self.writer.chain.state.readable().note.root))

    def finish(self, status: Literal["succeeded", "failed"], reason: str) -> Draft:
        """The run ends."""
        sealed = self._detail(self.writer.key(self.run), Detail(reason=reason)) if reason else []
        address = sealed[0].address if sealed else ""
        return Draft([RunFinished(**self._common(), status=status, detail=address)], sealed, [""])

    def items(self, items: list[Item]) -> Draft:
        """Several things at once, all or nothing."""
        key = self.writer.key(self.run)
        entries: list[Known] = []
        contents: list[Prepared] = []
        addresses: list[str] = []
        for item in items:
            check(item)
            if item.kind == "approval":
                entry, sealed = self._approval(key, item)
                contents += sealed
                entries.append(entry)
                addresses.append(sealed[0].address)
                continue
            prepared = self.writer.blobs.prepare(key, as_bytes(item.content), request=item.kind == "prompt")
            detail = self._detail(key, Detail(name=item.name, media_type=item.media_type))
            contents += [prepared, *detail]
            addresses.append(prepared.address)
            fields = self._common(item.time) | {
                "content": prepared.address,
                "digest": prepared.digest,
                "detail": detail[0].address if detail else "",
            }
            if item.kind == "prompt":
                entries.append(Prompt(**fields, model=item.model))
            elif item.kind == "response":
                entries.append(Response(**fields, to=item.to))
            elif item.kind == "value":
                entries.append(Value(**fields))
            else:
                entries.append(Artifact(**fields))
        return Draft(entries, contents, addresses)

    def _approval(self, key: DataKey, item: Item) -> tuple[Approval | ApprovalBreakGlass, list[Prepared]]:
        """What somebody signed: the statement of a request of this run, or a document made by hand."""
        document, signature = signed(item.content)
        prepared = self.writer.blobs.prepare(key, document)
        detail = self._detail(key, Detail(reason=item.reason))
        fields = self._common(item.time) | {
            "request": prepared.address,
            "sha512": sshsig.digest(document).hex(),
            "signature": base64.b64encode(signature).decode(),
            "detail": detail[0].address if detail else "",
        }
        names = statement.names(document)
        to = self._request(names) if names else 0
        sealed = [prepared, *detail]
        if names is None or names.verdict != "break-glass":
            return Approval(**fields, to=to, denied=names is not None and names.verdict == "deny"), sealed
        if not detail:
            raise UsageError("breaking the glass needs a reason", hint="ledger approve --break-glass ID --reason WHY")
        return ApprovalBreakGlass(**fields, to=to), sealed

    def _request(self, names: statement.Names) -> int:
        """Index of the request that a statement is about."""
        if names.log != self.writer.chain.state.origin or names.run != self.run:
            where = f"run {names.run[-8:]} of {names.log}"
            raise Malformed(f"this statement is about {where}, not about this run", hint="sign what this log asks")
        run = self.writer.chain.state.history.find(self.run)
        for index, request in run.requests.asked.items() if run is not None else ():
            if request.entry.nonce == names.nonce:
                return index
        raise NotFound("no request of this run has the nonce of this statement", hint="`ledger approve` lists them")


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise Malformed("a time outside of the years 1 to 9999 in UTC", hint="check the clock that gave it") from None


def signed(content: Content) -> tuple[bytes, bytes]:
    """A request and its signature's binary form.

    Raises:
        Malformed: there is no signature.
    """
    if isinstance(content, Path):
        return _signed_file(content)
    return sshsig.split(bytes(as_bytes(content)))


def beside(path: Path) -> tuple[Path, Path]:
    """The file of a request and that of its signature, whichever was named; the second need not be there."""
    if path.suffix == ".sig" and path.with_suffix("").exists():
        return path.with_suffix(""), path
    return path, path.with_name(path.name + ".sig")


def _signed_file(path: Path) -> tuple[bytes, bytes]:
    """A request and its signature: `FILE` with `FILE.sig` beside it, or both in one file."""
    path, signature = beside(path)
    try:
        data = path.read_bytes()
        if signature.exists():
            return data, sshsig.unarmor(signature.read_bytes())
    except OSError as error:
        raise Malformed(f"{path}: {(error.strerror or '').lower()}", hint="check the path") from None
    return sshsig.split(data)


class RootChanged(LedgerError):
    """Somebody was revoked while a run started: its data key would be readable to him."""


def _same_root(root: int) -> Validate:
    def validate(state: State, since: list[Recorded]) -> None:
        if state.readable().note.root != root:
            raise RootChanged("the root changed", hint="start again")

    return validate


def new_run(writer: Writer) -> str:
    """The id of a new run."""
    return new_run_id(int(writer.clock().timestamp() * 1000), writer.random(10))
