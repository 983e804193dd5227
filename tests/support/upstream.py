"""A fake of OpenAI's Responses API: a real HTTP server on 127.0.0.1 that answers, or fails, as it is told.

It speaks HTTP/1.1 itself (httptools on asyncio) because no server that is any good sends a content-length that
is not true, or stops in the middle of a chunk. For benchmarks: python -m tests.support.upstream --port 8080
"""

import argparse
import asyncio
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple, Self

import httptools
import msgspec

from tests.support import answers
from tests.support.answers import ID, TIME, Answer, Call, Json, calling, error_body

__all__ = ["Answer", "Call", "Json", "Seen", "Upstream", "calling"]

MODELS = ["gpt-5.6-sol", "gpt-5.3-codex", "gpt-5.2-codex", "gpt-5-mini"]

# What the API takes; anything else is refused by its name. `client_metadata` is sent by Codex alone.
PARAMETERS = frozenset(
    """
    access_programs background background_options client_metadata context_management conversation image include input
    instructions max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id
    prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store
    stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user
    """.split()  # noqa: SIM905
)

GARBAGE = b'\xff\xfe\x00\xc3(\n\ndata: {"type": "response.output_text.delta", \n\n'
PIECE = 65536


class Seen(NamedTuple):
    """A request as it arrived: header names in small letters, `at` by the monotonic clock."""

    path: str
    headers: list[tuple[str, str]]
    body: bytes
    json: Json | None
    at: float
    method: str = "POST"

    def header(self, name: str) -> str | None:
        """A header's first value."""
        return next((value for key, value in self.headers if key == name.lower()), None)


class Upstream:
    """The fake upstream, running while its context is open; opened again, it is at the same address.

    Args:
        key: the only API key that it takes.
        script: what answers a request when no answer is queued; gets the parsed body.
        port: 0 for any.
        keep: requests that are remembered; None for all.
    """

    def __init__(
        self,
        *,
        key: str = "sk-upstream",
        script: Callable[[Json], Answer] | None = None,
        port: int = 0,
        keep: int | None = None,
    ) -> None:
        self.key = key
        self.requests: list[Seen] = []
        """Every request that got to its end, those that were refused too."""
        self.dropped: list[Seen] = []
        """Requests whose client was gone before the answer had been sent."""
        self.connections: set[_Connection] = set()
        """Sockets open now."""
        self.accepted = 0
        """Connections ever made."""
        self.failures: list[BaseException] = []
        """What the script raised; the first is raised again at the end."""
        self._script = script or _default
        self._queue: deque[Answer] = deque()
        self._port = port
        self._keep = keep
        self._arrived = threading.Condition()
        self._secret = secrets.token_hex(16)
        self._count = 0
        self._cache: dict[tuple[int, bytes], tuple[Answer, list[bytes]]] = {}

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self._loop = _new_loop()
        listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._port = listener.getsockname()[1]
        self._server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self, self._loop), sock=listener)
        )
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        if error is None and self.failures:
            raise self.failures[0]

    async def _stop(self) -> None:
        self._server.close()
        tasks = [connection.abort() for connection in list(self.connections)]
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)

    def reply(self, *answers: Answer) -> None:
        """The next requests to /v1/responses get these, in order."""
        self._queue.extend(answers)

    def wait_for(self, count: int, timeout: float = 10) -> list[Seen]:
        """The requests, once there are that many."""
        with self._arrived:
            there = self._arrived.wait_for(lambda: len(self.requests) >= count, timeout)
        assert there, f"{len(self.requests)} requests instead of {count}"
        return list(self.requests)

    # --- Called by connections, in the server's thread ---

    def saw(self, seen: Seen) -> None:
        """Remembers a request."""
        with self._arrived:
            self.requests.append(seen)
            if self._keep is not None:
                del self.requests[: max(0, len(self.requests) - self._keep)]
            self._arrived.notify_all()

    def next_answer(self, asked: Json) -> Answer:
        """What this request gets."""
        return self._queue.popleft() if self._queue else self._script(asked)

    def prepared(self, asked: Json, answer: Answer, raw: bytes) -> bytes:
        """The whole of an answer that nothing goes wrong with, made once for equal requests."""
        if (found := self._cache.get((id(answer), raw))) is None or found[0] is not answer:
            if len(self._cache) >= 64:
                self._cache.clear()
            # The answer is kept with it: its id is its own as long as it lives.
            whole = _head(asked, answer) + b"".join(_body(asked, answer))
            found = self._cache[id(answer), raw] = (answer, self.filled(whole, _ID).split(_ID))
        return self.new_id().join(found[1])

    def new_id(self) -> bytes:
        """An identifier that no other answer has."""
        self._count += 1
        return f"{self._secret}{self._count:016x}".encode()

    def filled(self, template: bytes, identifier: bytes | None = None) -> bytes:
        """Puts an identifier and the time in."""
        return template.replace(_ID, identifier or self.new_id()).replace(_TIME, str(int(time.time())).encode())


_ID = ID.encode()
_TIME = str(TIME).encode()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _default(asked: Json, _plain: Answer = Answer()) -> Answer:  # noqa: B008
    form = (asked.get("text") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        return Answer(msgspec.json.encode(answers.example(form.get("schema"))).decode())
    return _plain


# --- The bytes of an answer ------------------------------------------------------------------------------------


def _start(status: int, headers: dict[str, str]) -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    usual = {"date": formatdate(usegmt=True), "server": "cloudflare", "x-request-id": f"req_{ID}"}
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in {**usual, **headers}.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _streams(asked: Json, answer: Answer) -> bool:
    return bool(asked.get("stream")) and answer.http == 200


def _head(asked: Json, answer: Answer) -> bytes:
    headers = {"openai-version": "2020-10-01", "openai-organization": "org-1", "openai-processing-ms": "11"}
    if _streams(asked, answer):
        headers |= {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        if answer.lying_length is None:
            headers["transfer-encoding"] = "chunked"
    else:
        headers["content-type"] = "application/json"
        headers["content-length"] = str(sum(map(len, _body(asked, answer))) + answer.pad)
    if answer.lying_length is not None:
        headers["content-length"] = str(answer.lying_length)
    if answer.http == 429:
        headers |= {"retry-after": "1", "x-ratelimit-remaining-tokens": "0"}
    return _start(answer.http, headers | {name.lower(): value for name, value in answer.headers.items()})


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _body(asked: Json, answer: Answer) -> list[bytes]:
    """The pieces of the body as they are written: events as chunks and the last chunk, or one of JSON."""
    if not _streams(asked, answer):
        if answer.raw is not None:
            return [answer.raw]
        if answer.http != 200:
            code, message = answer.error
            given = answer.error != Answer().error
            return [error_body(answer.http, message if given else "", code=code)]
        return [answers.body(asked, answer)]
    told = answers.events(asked, answer) if answer.raw is None else [answer.raw]
    if answer.garbage_after is not None:
        told.insert(answer.garbage_after, GARBAGE)
    if answer.lying_length is not None:
        return told
    return [*map(_chunk, told), b"0\r\n\r\n"]


def _padding(answer: Answer, streams: bool) -> Iterator[bytes]:
    piece = b":" + b"." * (PIECE - 2) + b"\n" if streams else b" " * PIECE
    for at in range(0, answer.pad, PIECE):
        data = piece[-min(PIECE, answer.pad - at) :]
        yield _chunk(data) if streams and answer.lying_length is None else data


# --- One connection --------------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """Reads requests, one after the other, and answers each."""

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self.upstream = upstream
        self.loop = loop
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.writable = asyncio.Event()
        self.writable.set()
        self.task: asyncio.Task[None] | None = None
        self.answering: Seen | None = None
        self.waiting: deque[Seen] = deque()
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.upstream.accepted += 1
        self.upstream.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.upstream.connections.discard(self)
        if self.task is not None:
            self.task.cancel()
        if self.answering is not None:
            self.upstream.dropped.append(self.answering)

    def abort(self) -> asyncio.Task[None] | None:
        """Closes the socket at once; returns what was at work."""
        task, self.answering = self.task, None
        self.transport.abort()
        return task

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # --- Reading ---

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # It was answered with 426; what follows is not HTTP.
        except httptools.HttpParserCallbackError as error:
            raise AssertionError("the fake upstream itself failed") from error
        except httptools.HttpParserError:
            self.transport.write(_start(400, {"content-length": "0", "connection": "close"}))
            self.transport.close()

    def on_message_begin(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.pieces: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if any(name == "expect" for name, _ in self.headers):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        body = b"".join(self.pieces)
        try:
            parsed = msgspec.json.decode(body) if body else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            parsed = None
        seen = Seen(
            self.target.decode("latin-1"),
            self.headers,
            body,
            parsed if isinstance(parsed, dict) else None,
            time.monotonic(),
            self.parser.get_method().decode(),
        )
        self.upstream.saw(seen)
        if self.answering is None:
            self.answer(seen)
        else:
            self.waiting.append(seen)

    # --- Answering ---

    def answer(self, seen: Seen) -> None:
        """Answers one request: at once if it goes out whole."""
        refusal = _refusal(self.upstream.key, seen)
        if refusal is not None or seen.json is None:
            self.transport.write(self.upstream.filled(refusal or b""))
            return
        try:
            answer = self.upstream.next_answer(seen.json)
            if answer.plain:
                self.transport.write(self.upstream.prepared(seen.json, answer, seen.body))
                return
        except Exception as error:
            self.upstream.failures.append(error)
            self.transport.close()
            return
        self.answering = seen
        self.task = self.loop.create_task(self.send(seen.json, answer))
        self.task.add_done_callback(self.over)

    def over(self, task: asyncio.Task[None]) -> None:
        """Notes what went wrong with an answer, other than its client's leaving."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.upstream.failures.append(error)
            self.transport.close()

    def sent(self) -> None:
        """An answer is over: the next request, if it is there already."""
        self.answering = self.task = None
        while self.waiting and self.answering is None:
            self.answer(self.waiting.popleft())

    async def send(self, asked: Json, answer: Answer) -> None:
        """Sends an answer piece by piece, and breaks it where it is to break."""
        await asyncio.sleep(answer.delay)
        identifier = self.upstream.new_id()
        streams = _streams(asked, answer)
        pieces = [self.upstream.filled(piece, identifier) for piece in _body(asked, answer)]
        broken = {n for n in (answer.cut_after, answer.stall_after) if n is not None}
        if -1 not in broken:
            await self.write(self.upstream.filled(_head(asked, answer), identifier))
            if not streams and broken - {0}:
                pieces = [pieces[0][: len(pieces[0]) // 2]]
                broken = {1}
            # The end of the chunks is no event.
            last = len(pieces) - (2 if streams and answer.lying_length is None else 1)
            for number, piece in enumerate(pieces):
                if number in broken:
                    break
                if number == last:
                    for padding in _padding(answer, streams):
                        await self.write(padding)
                size = answer.drip or len(piece)
                for at in range(0, len(piece), size):
                    await self.write(piece[at : at + size])
                    if answer.gap and not (number > last and at + size >= len(piece)):
                        await asyncio.sleep(answer.gap)
        if answer.stall_after is not None:
            await asyncio.Event().wait()
        if answer.cut_after is not None or answer.lying_length is not None:
            self.answering = None
            self.transport.close()
            return
        self.sent()

    async def write(self, data: bytes) -> None:
        await self.writable.wait()
        self.transport.write(data)


def _refusal(key: str, seen: Seen) -> bytes | None:
    """What the API says to a request that it doesn't take, or that is not for a model."""

    def say(status: int, body: bytes, **headers: str) -> bytes:
        lines = {"content-type": "application/json", "content-length": str(len(body))}
        return _start(status, lines | {name.replace("_", "-"): value for name, value in headers.items()}) + body

    path = seen.path.partition("?")[0].removeprefix("/v1")
    if seen.header("upgrade") is not None:
        return say(426, error_body(426, "WebSockets are not served here."), connection="close")
    given = seen.header("authorization")
    if not given:
        missing = "You didn't provide an API key. You need to provide your API key in an Authorization header using "
        missing += "Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
        return say(401, error_body(401, missing))
    if given != f"Bearer {key}":
        token = given.removeprefix("Bearer ")
        shown = f"{token[:8]}{'*' * max(0, len(token) - 12)}{token[-4:]}" if len(token) > 12 else "*" * len(token)
        return say(401, error_body(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key"))
    if path == "/models" or path.startswith("/models/"):
        if seen.method != "GET":
            return say(405, error_body(405, f"Not allowed to {seen.method} on {seen.path}."))
        listed = [{"id": name, "object": "model", "created": 1_770_000_000, "owned_by": "openai"} for name in MODELS]
        if path == "/models":
            return say(200, msgspec.json.encode({"object": "list", "data": listed}))
        found = [model for model in listed if path == f"/models/{model['id']}"]
        return say(200, msgspec.json.encode(found[0])) if found else say(404, error_body(404))
    if path != "/responses":
        return say(404, error_body(404, f"Invalid URL ({seen.method} {seen.path})"))
    if seen.method != "POST":
        return say(405, error_body(405, f"Not allowed to {seen.method} on {seen.path}."))
    if seen.json is None:
        return say(400, error_body(400, "We could not parse the JSON body of your request."))
    fault = _fault(seen.json)
    return fault and say(400, error_body(400, fault[0], code=fault[1], param=fault[2]))


def _fault(asked: Json) -> tuple[str, str | None, str | None] | None:
    """Why the API would refuse a body: message, code, parameter."""
    for name in asked.keys() - PARAMETERS:
        return f"Unknown parameter: '{name}'.", "unknown_parameter", name
    if not asked.get("model"):
        return "Missing required parameter: 'model'.", "missing_required_parameter", "model"
    items: Sequence[Any] = asked["input"] if isinstance(asked.get("input"), list) else ()
    if asked.get("previous_response_id") is None:
        made = {item.get("call_id") for item in items if _kind(item) in ("function_call", "custom_tool_call")}
        outs = ("function_call_output", "custom_tool_call_output")
        done = {item.get("call_id") for item in items if _kind(item) in outs}
        for call in done - made:
            return f"No tool call found for function call output with call_id {call}.", None, "input"
        for call in made - done:
            return f"No tool output found for function call {call}.", None, "input"
    return None


def _kind(item: Any) -> Any:
    return item.get("type") if isinstance(item, dict) else None


def main() -> None:
    """Serves until it is interrupted, and remembers nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default="sk-upstream")
    parser.add_argument("--events", type=int, default=3, help="deltas of each text")
    parser.add_argument("--text", default="hello")
    parser.add_argument("--gap", type=float, default=0.0, help="seconds between events")
    given = parser.parse_args()
    answer = Answer(given.text, events=given.events, gap=given.gap)
    with Upstream(key=given.key, script=lambda _: answer, port=given.port, keep=0) as upstream:
        print(upstream.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
