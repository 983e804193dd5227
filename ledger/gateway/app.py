"""The gateway as a Starlette application: `POST /v1/responses` and what belongs beside it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ledger.gateway import refusing, served, wire
from ledger.gateway.answer import is_call
from ledger.gateway.binding import bind
from ledger.gateway.body import LONGEST, Body, Refused
from ledger.gateway.door import Door
from ledger.gateway.records import Place
from ledger.gateway.steps import LARGE, Call
from ledger.gateway.stopped import spell
from ledger.gateway.tokens import Token, TokenRefused
from ledger.schemas_added import find as find_schema
from schemas.envelope import read_envelope
from schemas.errors import LedgerError, Malformed, NotFound, UsageError

STALL_S = 30.0
"""Seconds that a client may take between two pieces of its body."""

BODY_S = 600.0
"""Seconds that it may take for all of it."""


def application(door: Door, make: Callable[..., Call] = Call) -> Starlette:
    """The routes of one gateway.

    Args:
        make: makes a call, as `Call` does.
    """

    async def responses(request: Request) -> Response:
        token = door.authenticate(request.headers.get("authorization", ""))
        came = await _body(request)
        headers = dict(request.headers)
        try:
            # What takes long must not hold up the others.
            body = Body(came) if len(came) < LARGE else await asyncio.to_thread(Body, came)
            bound = bind(door, token, headers, body)
        except Refused as refused:
            await _record_refused(door, token, refused)
            raise
        return await _call(door, make(door, bound, body, headers))

    async def envelopes(request: Request) -> Response:
        """The native way in: exactly the specification's envelope, and the prompt."""
        token = door.authenticate(request.headers.get("authorization", ""))
        came = await _body(request)
        try:
            value, body, schema, artifacts = await asyncio.to_thread(_enveloped, door, came)
            headers = dict(request.headers) | {"x-ledger-stage": value.stage}
            headers["x-ledger-task-scope"] = f"{value.task_scope.kind}:{value.task_scope.target}"
            if value.run_id != token.run:
                raise Refused("run_id is not the token's", "run_id", "a token is bound to one run")
            bound = bind(door, token, headers, body)
        except Refused as refused:
            await _record_refused(door, token, refused)
            raise
        call = make(
            door,
            bound,
            body,
            headers,
            native=True,
            schema=schema,
            addresses=artifacts,
            profile=value.redaction_profile,
        )
        await _started(door, call, request)
        content = call.outlet.content
        door.taken(call)
        if call.outlet.http != 200:
            return Response(content, call.outlet.http, dict(call.outlet.headers))
        result = {
            "index": call.index,
            "model": call.body.model,
            "output": call.answer.text,
            "calls": [item for item in call.restored if is_call(item)],
            "response": {**call.answer.response, "output": call.restored},
        }
        return Response(msgspec.json.encode(result), media_type="application/json")

    async def models(request: Request) -> Response:
        token = door.authenticate(request.headers.get("authorization", ""))
        names = dict.fromkeys(name for policy in door.policies_for(token) for name in policy.allowed_models)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "ledger"} for name in names]
        return Response(msgspec.json.encode({"object": "list", "data": data}), media_type="application/json")

    async def health(request: Request) -> Response:
        return Response(b"ok\n", media_type="text/plain")

    routes = [
        Route("/v1/responses", _answering(door, responses), methods=["POST"]),
        Route("/v1/responses", _upgrade, methods=["GET"]),
        Route("/v1/envelopes", _answering(door, envelopes), methods=["POST"]),
        Route("/v1/models", _answering(door, models), methods=["GET"]),
        *(
            Route(path, _answering(door, answer), methods=[method])
            for path, answer, method in served.routes(door, _body)
        ),
        Route("/health", health, methods=["GET"]),
        Route("/{path:path}", _elsewhere, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ]
    return Starlette(routes=routes)


Endpoint = Callable[[Request], Awaitable[Response]]


def _answering(door: Door, endpoint: Endpoint) -> Endpoint:
    """Errors as clients of the API read them; nothing else leaves."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except TokenRefused as error:
            return _error(401, spell(error), "invalid_api_key")
        except Refused as error:
            return _error(400, spell(error), "invalid_request", error.field)
        except _TooLong as error:
            return _error(413, str(error), "request_too_large")
        except _Encoded as error:
            return _error(415, str(error), "unsupported_encoding")
        except _Stalled as error:
            return _error(408, str(error), "request_timeout")
        except ClientDisconnect:
            return Response(status_code=499)
        except UsageError as error:
            return _error(404 if isinstance(error, NotFound) else 400, spell(error), "invalid_request")
        except LedgerError as error:
            return _error(503, spell(error), "ledger_error")
        except Exception as error:  # noqa: BLE001
            # Fails closed, and says nothing of what it could not handle.
            door.bug(error)
            return _error(500, "the gateway failed; nothing was let through", "gateway_error")

    return answer


class _TooLong(Exception):
    pass


class _Stalled(Exception):
    pass


class _Encoded(Exception):
    pass


def _error(http: int, message: str, code: str, param: str | None = None) -> Response:
    headers = {"x-should-retry": "false" if http < 500 else "true"}
    return Response(wire.error(message, code=code, param=param), http, headers, "application/json")


async def _upgrade(request: Request) -> Response:
    """A client that tries WebSockets first falls back to POST."""
    return Response(status_code=426, headers={"upgrade": "http/1.1", "connection": "upgrade"})


async def _elsewhere(request: Request) -> Response:
    return _error(
        404, f"{request.method} {request.url.path[:100]} is not served here; POST /v1/responses is", "not_found"
    )


async def _body(request: Request) -> bytes:
    """A body, within its limits."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise _Encoded(f"content-encoding {encoding[:40]} is not taken; send the body as it is")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > LONGEST:
        raise _TooLong(f"the body is over {LONGEST >> 20} MiB")
    parts: list[bytes] = []
    size = 0
    pieces = request.stream()
    now = asyncio.get_running_loop().time
    end = now() + BODY_S
    while True:
        try:
            async with asyncio.timeout(min(STALL_S, end - now())):
                part = await anext(pieces)
        except StopAsyncIteration:
            return b"".join(parts)
        except TimeoutError:
            raise _Stalled(f"the body stalled for {STALL_S:.0f} s, or took over {BODY_S:.0f} s") from None
        size += len(part)
        if size > LONGEST:
            raise _TooLong(f"the body is over {LONGEST >> 20} MiB")
        parts.append(part)


async def _record_refused(door: Door, token: Token, refused: Refused) -> None:
    place = Place(token.run, token.stage, token.lane, token.task)
    await refusing.record(door, place, door.policies_for(token), refused.field, refused.what)


async def _call(door: Door, call: Call) -> Response:
    before = await door.under_way(call.place.run, call.came, retry=call.retry)
    if before is not None:
        # The same request again: it attaches to the call that is under way, or has ended unheard.
        return _Outflow(door, before)
    door.watch(call)
    call.start()
    return _Outflow(door, call)


async def _started(door: Door, call: Call, request: Request) -> None:
    door.watch(call)
    call.start()
    call.outlet.listeners += 1
    try:
        while not call.outlet.ended:
            if await request.is_disconnected():
                raise ClientDisconnect
            await call.outlet.changed(0.5)
    except ClientDisconnect:
        call.hung_up()
        raise
    finally:
        call.outlet.listeners -= 1
    call.outlet.delivered = True


class _Outflow(Response):
    """Sends what a call releases, as it does; notices when its client goes away."""

    def __init__(self, door: Door, call: Call) -> None:
        super().__init__()
        self.door = door
        self.call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        flow = asyncio.ensure_future(self._flow(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((flow, gone), return_when=asyncio.FIRST_COMPLETED)
            if flow.done():
                flow.result()
        except OSError:
            # Its connection broke while we sent.
            pass
        finally:
            for task in (flow, gone):
                task.cancel()
            await asyncio.gather(flow, gone, return_exceptions=True)
            if self.call.outlet.delivered:
                self.door.taken(self.call)
            else:
                self.call.hung_up()

    async def _flow(self, send: Send) -> None:
        outlet = self.call.outlet
        outlet.listeners += 1
        try:
            await self.call.head()
            if not self.call.streamed or outlet.http != 200:
                while not outlet.ended:
                    await outlet.changed(None)
                await _begin(send, outlet.http, {**outlet.headers, "content-length": str(outlet.length)})
            else:
                await _begin(send, outlet.http, outlet.headers)
            async for piece in outlet.read():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            outlet.listeners -= 1


async def _begin(send: Send, http: int, headers: dict[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": http, "headers": raw})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _enveloped(door: Door, came: bytes) -> tuple[Any, Body, bytes | None, tuple[str, ...]]:
    """Envelope, request, schema and artifacts of a native request."""
    try:
        value = msgspec.json.decode(came)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused("the body is no JSON", "", "send an envelope with a prompt") from None
    if not isinstance(value, dict) or not isinstance(prompt := value.pop("prompt", None), str | list):
        raise Refused("prompt is missing", "prompt", "a text, or a list of input items")
    try:
        envelope = read_envelope(value)
    except Malformed as error:
        raise Refused(error.what, "envelope", error.hint) from None
    request: dict[str, Any] = {
        "model": envelope.model,
        "input": prompt,
        "reasoning": {"effort": envelope.reasoning_effort},
    }
    schema = None
    if envelope.response_schema:
        door.log.catch_up()
        schema = find_schema(door.log, envelope.response_schema)
        if schema is None:
            raise Refused(
                f"no schema {envelope.response_schema[:60]!r}", "response_schema", "ledger schema add ID FILE"
            )
        form = {"type": "json_schema", "name": "response", "schema": msgspec.json.decode(schema), "strict": False}
        request["text"] = {"format": form}
    return envelope, Body(msgspec.json.encode(request)), schema, tuple(envelope.input_artifacts)
