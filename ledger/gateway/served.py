"""The ledger over the gateway's socket, for who has a token and neither files nor keys: `ledger.remote` speaks to it.

    POST /ledger/entries         {"items": [{"kind", "content" (base64), "name"?, …}], "stage"?, "lane"?, "task"?}
    POST /ledger/entries/KIND    the same for one content, as it is: name, model, to, stage … in the query
    POST /ledger/finish          {"status"?, "reason"?}
    GET  /ledger/entries         [index, entry] a line
    GET  /ledger/blobs/CID       a content that an entry of the run names
    GET  /ledger/run             what the token is bound to, and how its run stands
    GET  /ledger/runs            the run, as `ledger log` lists it

A token reaches its own run, and nothing else of the ledger.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from itertools import islice
from typing import Any, Literal, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ledger.commit import Appended
from ledger.drafts import Drafts, Item, Kind
from ledger.gateway import artifacts
from ledger.gateway.binding import LABELS, check_clear, place
from ledger.gateway.door import Door
from ledger.gateway.records import Place
from ledger.gateway.tokens import Token, TokenRefused
from ledger.state import Recorded
from schemas.errors import LedgerError, Malformed, NotFound, OutcomeUnknown, TooLarge, UsageError

Endpoint = Callable[[Request], Awaitable[Response]]
Read = Callable[[Request], Awaitable[bytes]]

MOST = 1024
"""Items that are appended at once, all or nothing."""

_TOGETHER = 256


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    """An `Item` as it comes: content in base64."""

    kind: Kind
    content: bytes
    name: str = ""
    media_type: str = ""
    model: str = ""
    to: int = 0
    time: datetime | None = None


class _Items(msgspec.Struct, forbid_unknown_fields=True):
    items: list[_Given]
    stage: str = ""
    lane: str = ""
    task: str = ""


class _Finish(msgspec.Struct, forbid_unknown_fields=True):
    status: Literal["succeeded", "failed"] = "succeeded"
    reason: str = ""


def routes(door: Door, read: Read) -> list[tuple[str, Endpoint, str]]:
    """What is served beside the API: path, answer, method.

    Args:
        read: gives a request's body, within its limits.
    """

    async def append(request: Request) -> Response:
        token = _token(door, request)
        given = await asyncio.to_thread(_decoded, await read(request), _Items)
        if not given.items:
            raise Malformed("there are no items", hint="one at least")
        if len(given.items) > MOST:
            raise TooLarge(f"{len(given.items):,} items at once; the limit is {MOST:,}", hint="send fewer at a time")
        items = [Item(**msgspec.structs.asdict(item)) for item in given.items]
        return _json(await _append(door, token, {name: getattr(given, name) for name in LABELS}, items))

    async def append_one(request: Request) -> Response:
        token = _token(door, request)
        kind = request.path_params["kind"]
        if kind not in get_args(Kind):
            raise NotFound(f"no entries of kind {kind[:60]!r} are taken", hint=", ".join(get_args(Kind)))
        said = request.query_params
        to = said.get("to", "0") or "0"
        if not (to.isascii() and to.isdecimal() and len(to) < 20):
            raise Malformed("to is no index", hint="the index of a prompt")
        item = Item(
            kind=kind,
            content=await read(request),
            name=said.get("name", ""),
            media_type=request.headers.get("content-type", ""),
            model=said.get("model", ""),
            to=int(to),
        )
        [done] = await _append(door, token, {name: said.get(name, "") for name in LABELS}, [item])
        return _json(done)

    async def finish(request: Request) -> Response:
        token = _token(door, request)
        if door.only is not None:
            raise UsageError("who records this run finishes it", hint="the command's exit status says how it went")
        given = _decoded(await read(request) or b"{}", _Finish)
        draft = await asyncio.to_thread(_drafts(door, place(door, token, {})).finish, given.status, given.reason)
        return _json(await door.committing.commit(draft))

    async def entries(request: Request) -> Response:
        found = door.log.entries(_token(door, request).run)
        # The first of them is looked for here: what fails does so before the answer begins.
        first = await asyncio.to_thread(_some, found)

        async def lines() -> AsyncIterator[bytes]:
            piece = first
            while piece:
                yield b"".join(msgspec.json.encode([one.index, msgspec.Raw(one.raw)]) + b"\n" for one in piece)
                piece = await asyncio.to_thread(_some, found)

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def blobs(request: Request) -> Response:
        run = _token(door, request).run
        wanted = "artifact://" + request.path_params["cid"]
        await asyncio.to_thread(artifacts.check, door.log, run, wanted)
        pieces = door.log.blobs.pieces(wanted)
        first = await asyncio.to_thread(next, pieces, b"")

        async def content() -> AsyncIterator[bytes]:
            piece = first
            while piece:
                yield piece
                piece = await asyncio.to_thread(next, pieces, b"")

        return StreamingResponse(content(), media_type="application/octet-stream")

    async def run(request: Request) -> Response:
        token = _token(door, request)
        await door.look_for(token.run)
        found = door.log.chain.state.history.find(token.run)
        stands: dict[str, Any] = {"token": token, "open": found is not None}
        if found is not None:
            calls = found.calls
            stands |= {"steps": found.step, "prompt": found.prompts[-1] if found.prompts else 0}
            stands |= {"spent": calls.spent, "held": calls.held, "paused": bool(calls.paused)}
        return _json(stands)

    async def runs(request: Request) -> Response:
        token = _token(door, request)
        await asyncio.to_thread(door.log.catch_up)
        found = await asyncio.to_thread(door.log.runs)
        return _json([info for info in found if info.id == token.run])

    served: list[tuple[str, Endpoint, str]] = [
        ("/ledger/entries", append, "POST"),
        ("/ledger/entries", entries, "GET"),
        ("/ledger/entries/{kind}", append_one, "POST"),
        ("/ledger/finish", finish, "POST"),
        ("/ledger/blobs/{cid}", blobs, "GET"),
        ("/ledger/run", run, "GET"),
        ("/ledger/runs", runs, "GET"),
    ]
    return [(path, _telling(endpoint), method) for path, endpoint, method in served]


def _telling(endpoint: Endpoint) -> Endpoint:
    """Errors under their own names, so that the other side raises the same."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except LedgerError as error:
            http = 404 if isinstance(error, NotFound) else 400 if isinstance(error, UsageError) else 503
            http, name = (401, "KeyUnusable") if isinstance(error, TokenRefused) else (http, _name(error))
            told = _json({"error": {"code": name, "message": error.what, "hint": error.hint}}, http)
            # What may have landed must not be tried again by somebody who does not look.
            told.headers["x-should-retry"] = "false" if http < 500 or isinstance(error, OutcomeUnknown) else "true"
            return told

    return answer


def _name(error: LedgerError) -> str:
    """The nearest class that callers know."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == LedgerError.__module__)


def _token(door: Door, request: Request) -> Token:
    return door.authenticate(request.headers.get("authorization", ""))


def _json(value: Any, http: int = 200) -> Response:
    return Response(msgspec.json.encode(value), http, media_type="application/json")


def _decoded(came: bytes, form: Any) -> Any:
    try:
        return msgspec.json.decode(came, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body: {str(error)[:200]}", hint="ledger.remote speaks as this socket does") from None


def _some(found: Any) -> list[Recorded]:
    return list(islice(found, _TOGETHER))


def _drafts(door: Door, where: Place) -> Drafts:
    return Drafts(door.log.writer, where.run, where.stage, where.lane, where.task)


async def _append(door: Door, token: Token, said: dict[str, str], items: list[Item]) -> list[Appended]:
    where = place(door, token, said)
    for model in {item.model for item in items}:
        check_clear(door, "model", model)
    await door.look_for(where.run)
    return await door.committing.commit(await asyncio.to_thread(_drafts(door, where).items, items))
