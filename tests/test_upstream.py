"""The fake upstream is what it says: real clients understand all it sends, and it fails as it is told."""

import asyncio
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent, response_create_params
from pydantic import BaseModel, TypeAdapter

from tests.support.answers import Call, error_body, example
from tests.support.clients import Node, async_client, curl, node_client, sync_client
from tests.support.upstream import PARAMETERS, Answer, Json, Upstream, calling

KEY = "sk-upstream"
MODEL = "gpt-5.3-codex"
ASKED: Json = {"model": MODEL, "input": "hi"}
STREAM: Json = {**ASKED, "stream": True}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
FULL = Answer(
    "Hello, wörld – 你好.",
    reasoning="First this, then that.",
    tool_calls=[("add", '{"a": 2, "b": 3}', "call_a"), ("find", "{}", "", "crm")],
    custom_calls=[("apply_patch", "*** Begin Patch\n*** End Patch\n")],
    usage=(100, 60, 40, 30),
)
SEARCH = {"type": "search", "query": "x"}
VARIETY = [
    Answer(),
    FULL,
    Answer("", refusal="I can't help with that."),
    Answer("", tool_calls=[Call(name="add", namespace="sums")]),
    Answer("cut off he", status="incomplete"),
    calling("add", '{"a": 2, "b', status="incomplete"),
    Answer(status="failed"),
    Answer(status="failed", error=("invalid_prompt", "Not this.")),
    Answer(error_event=True),
    Answer(line_end="\r\n"),
    Answer("x" * 1000, events=50, gap=0.001),
    Answer("", items=[{"id": "ws_1", "type": "web_search_call", "status": "completed", "action": SEARCH}]),
]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(key=KEY) as running:
        yield running


@pytest.fixture
def client(upstream: Upstream) -> Iterator[openai.OpenAI]:
    with sync_client(upstream.url, KEY) as made:
        yield made


# --- What it says is what the SDK's types say ------------------------------------------------------------------


@pytest.mark.parametrize("answer", VARIETY)
def test_every_event_is_of_a_declared_type_and_numbered(upstream: Upstream, answer: Answer) -> None:
    upstream.reply(answer)
    events = curl(upstream.url, KEY, STREAM).events
    for event in events:
        assert EVENT.validate_python(event).type == event["type"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert events[-1]["type"] == ("error" if answer.error_event else f"response.{answer.status}")


@pytest.mark.parametrize("answer", VARIETY)
def test_a_response_is_of_the_declared_type(upstream: Upstream, answer: Answer) -> None:
    upstream.reply(answer)
    tools = [{"type": "function", "name": "add", "parameters": {"type": "object"}}]
    got = curl(upstream.url, KEY, {**ASKED, "tools": tools, "instructions": "Be kind.", "metadata": {"a": "b"}})
    response = Response.model_validate(got.json)
    assert response.status == answer.status
    assert (response.instructions, response.metadata, response.model) == ("Be kind.", {"a": "b"}, MODEL)


def test_deltas_add_up_to_what_is_finished(upstream: Upstream) -> None:
    upstream.reply(FULL)
    events = curl(upstream.url, KEY, STREAM).events
    finished = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert events[-1]["response"]["output"] == finished
    for at, item in enumerate(finished):
        deltas = "".join(e["delta"] for e in events if e["type"].endswith(".delta") and e["output_index"] == at)
        said = item.get("arguments", item.get("input"))
        said = said if said is not None else (item.get("content") or item.get("summary"))[0]["text"]
        assert deltas == said


def test_its_parameters_are_those_of_the_sdk() -> None:
    named = {*response_create_params.ResponseCreateParamsBase.__annotations__, "stream"}
    assert named == PARAMETERS - {"client_metadata"}


def test_no_identifier_comes_twice(upstream: Upstream, client: openai.OpenAI) -> None:
    answer = calling("add")
    upstream.reply(answer, answer)
    first, second = (client.responses.create(model=MODEL, input="hi") for _ in range(2))
    assert first.id != second.id
    assert first.output[0].id != second.output[0].id
    assert first._request_id != second._request_id
    assert first.created_at <= time.time() < first.created_at + 60


# --- The SDK ---------------------------------------------------------------------------------------------------


class Sum(BaseModel):
    """What the model is asked for."""

    name: str
    total: int


def test_create(upstream: Upstream, client: openai.OpenAI) -> None:
    upstream.reply(FULL)
    response = client.responses.create(model=MODEL, input="hi")
    assert response.output_text == FULL.text
    assert [item.type for item in response.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
        "custom_tool_call",
    ]
    assert response.output[0].type == "reasoning"
    assert response.output[0].encrypted_content
    assert response.output[3].type == "function_call"
    assert response.output[3].namespace == "crm"
    assert response.usage is not None
    assert response.usage.total_tokens == 140
    assert response.usage.input_tokens_details.cached_tokens == 60
    assert response.usage.output_tokens_details.reasoning_tokens == 30


@pytest.mark.parametrize(
    "answer", [FULL, Answer(noise=True, line_end="\r\n"), Answer(unknown=True), Answer(noise=True, drip=7)]
)
def test_stream(upstream: Upstream, client: openai.OpenAI, answer: Answer) -> None:
    upstream.reply(answer)
    with client.responses.stream(model=MODEL, input="hi") as stream:
        numbers = [event.sequence_number for event in stream]
        response = stream.get_final_response()
    assert numbers == list(range(len(numbers)))
    assert response.output_text == answer.text


def test_parse(client: openai.OpenAI) -> None:
    made = Sum(name="hello", total=1)
    assert client.responses.parse(model=MODEL, input="hi", text_format=Sum).output_parsed == made
    with client.responses.stream(model=MODEL, input="hi", text_format=Sum) as stream:
        assert stream.get_final_response().output_parsed == made


def test_parse_of_what_breaks_the_schema(upstream: Upstream, client: openai.OpenAI) -> None:
    upstream.reply(Answer('{"name": 1}'))
    with pytest.raises(ValueError, match="validation errors"):
        client.responses.parse(model=MODEL, input="hi", text_format=Sum)


def test_tools_over_several_turns(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.reply(
        calling("add", {"a": 1, "b": 2}, reasoning="Add."), calling("add", {"a": 3, "b": 4}), Answer("It is 7.")
    )
    said: list[Any] = [{"role": "user", "content": "1 + 2 + 4?"}]
    tool: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
    for _ in range(3):
        response = client.responses.create(model=MODEL, input=said, tools=[tool], store=False)
        said += [item.to_dict() for item in response.output]
        for call in response.output:
            if call.type == "function_call":
                total = sum(json.loads(call.arguments).values())
                said.append({"type": "function_call_output", "call_id": call.call_id, "output": str(total)})
    assert response.output_text == "It is 7."
    third = upstream.requests[2].json
    assert third is not None
    assert [item["output"] for item in third["input"] if item.get("type") == "function_call_output"] == ["3", "7"]


async def _converse(upstream: Upstream) -> None:
    async with async_client(upstream.url, KEY) as client:
        many = await asyncio.gather(*(client.responses.create(model=MODEL, input=str(n)) for n in range(100)))
        assert len({response.id for response in many}) == 100
        async with client.responses.stream(model=MODEL, input="hi", text_format=Sum) as stream:
            parsed = (await stream.get_final_response()).output_parsed
        assert parsed == Sum(name="hello", total=1)


def test_the_async_client(upstream: Upstream) -> None:
    asyncio.run(_converse(upstream))
    assert len(upstream.requests) == 101


def test_models(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).owned_by == "openai"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_a_connection_is_kept(upstream: Upstream, client: openai.OpenAI) -> None:
    upstream.reply(Answer(), Answer(gap=0.001), Answer(http=500))
    for stream in (False, True):
        got = client.responses.create(model=MODEL, input="hi", stream=stream)
        if isinstance(got, openai.Stream):
            assert list(got)
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model=MODEL, input="hi")
    assert upstream.accepted == 1
    assert len(upstream.connections) == 1


# --- Other clients ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return node_client(tmp_path_factory.mktemp("node"))


NODE = """
import OpenAI from "openai";
const client = new OpenAI({ maxRetries: 0 });
const asked = { model: "gpt-5.3-codex", input: "hi" };
console.log((await client.responses.create(asked)).output_text);
const stream = client.responses.stream(asked);
let text = "";
for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
console.log(text, (await stream.finalResponse()).status);
for await (const event of await client.responses.create({ ...asked, stream: true })) console.log(event.type);
"""


def test_nodes_package(upstream: Upstream, node: Node) -> None:
    # Unlike Python's, its `.stream()` takes no event of an unknown type; its plain streams do.
    upstream.reply(Answer("one"), Answer("two", noise=True, line_end="\r\n"), Answer("", unknown=True))
    said = node.run(NODE, upstream.url, KEY)
    assert said.status == 0, said.err
    assert said.out == (
        "one\ntwo completed\nresponse.created\nresponse.in_progress\nresponse.weather.forecast\nresponse.completed\n"
    )


def test_several_requests_at_once_on_one_connection(upstream: Upstream) -> None:
    upstream.reply(Answer("one", gap=0.01), Answer("two"))
    body = json.dumps(ASKED).encode()
    request = b"POST /v1/responses HTTP/1.1\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
    with socket.create_connection(("127.0.0.1", int(upstream.url.split(":")[2].split("/")[0]))) as sock:
        sock.sendall(request % (KEY.encode(), len(body), body) * 2)
        got = b""
        while b'"two"' not in got:
            got += sock.recv(65536)
    assert got.index(b'"one"') < got.index(b'"two"')


# --- What it refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/responses", "/models", "/nowhere"])
@pytest.mark.parametrize("token", [None, "run-0123456789abcdef", "sk-upstream2", "sk-upstrea"])
def test_another_key_is_refused_whatever_is_asked(upstream: Upstream, token: str | None, path: str) -> None:
    got = curl(upstream.url, token, ASKED, path=path)
    assert got.http == 401
    assert got.json["error"]["type"] == "invalid_request_error"
    assert got.json["error"]["code"] == (None if token is None else "invalid_api_key")
    assert token is None or token.encode() not in got.body


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "hi"}, "model"),
        ({**ASKED, "run_id": "r"}, "run_id"),
        ({**ASKED, "input": [{"type": "function_call_output", "call_id": "call_1", "output": ""}]}, "input"),
        ({**ASKED, "input": [{"type": "function_call", "call_id": "call_1", "name": "f", "arguments": ""}]}, "input"),
        (b'{"model": ', None),
        (b"[]", None),
        (b"\xff", None),
    ],
)
def test_a_body_that_the_api_would_not_take(upstream: Upstream, body: Any, param: str | None) -> None:
    got = curl(upstream.url, KEY, body)
    assert got.http == 400
    assert got.json["error"]["param"] == param


def test_other_paths_and_methods(upstream: Upstream) -> None:
    assert curl(upstream.url, KEY, ASKED, path="/chat/completions").http == 404
    assert curl(upstream.url, KEY).http == 405
    assert curl(upstream.url, KEY, ASKED, path="/models").http == 405
    upgrade = ["-H", "connection: upgrade", "-H", "upgrade: websocket", "-H", "sec-websocket-version: 13"]
    assert curl(upstream.url, KEY, None, *upgrade, "-H", "sec-websocket-key: MTIzNDU2Nzg5MDEyMzQ1Ng==").http == 426


def test_it_keeps_the_bytes_of_requests(upstream: Upstream) -> None:
    body = b'{ "model":"m" ,\n"input":"' + b"x" * 2_000_000 + b'"}'
    assert curl(upstream.url, KEY, body, "-H", "X-Mark: a b").http == 200
    (seen,) = upstream.wait_for(1)
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/responses", body)
    assert seen.header("x-mark") == "a b"
    assert seen.header("expect") == "100-continue"


# --- How it fails ----------------------------------------------------------------------------------------------

ERRORS: list[tuple[int, type[openai.APIStatusError]]] = [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
    (503, openai.InternalServerError),
]


@pytest.mark.parametrize(("http", "kind"), ERRORS)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_http(
    upstream: Upstream, client: openai.OpenAI, http: int, kind: type[openai.APIStatusError], stream: bool
) -> None:
    upstream.reply(Answer(http=http), Answer(http=http, error=("odd", "All is lost.")))
    with pytest.raises(kind) as caught:
        client.responses.create(model=MODEL, input="hi", stream=stream)
    assert caught.value.request_id
    assert caught.value.body == json.loads(error_body(http))["error"]
    with pytest.raises(kind, match=r"All is lost\.") as caught:
        client.responses.create(model=MODEL, input="hi", stream=stream)
    assert caught.value.code == "odd"


def test_a_client_comes_back_after_a_429(upstream: Upstream) -> None:
    upstream.reply(Answer(http=429, headers={"Retry-After": "0.01"}))
    with sync_client(upstream.url, KEY, max_retries=1) as client:
        assert client.responses.create(model=MODEL, input="hi").output_text == "hello"
    first, second = upstream.requests
    assert (first.header("x-stainless-retry-count"), second.header("x-stainless-retry-count")) == ("0", "1")
    upstream.reply(Answer(http=429))
    assert curl(upstream.url, KEY, ASKED).headers["retry-after"] == ["1"]


@pytest.mark.parametrize("asked", [ASKED, STREAM], ids=["json", "sse"])
class TestBreaks:
    """Each for both kinds of answer. curl's own status tells what it met."""

    CUT = (18, 56)  # A transfer closed with data outstanding; a connection reset.

    @pytest.mark.parametrize("after", [0, 1, 4])
    def test_cut_after(self, upstream: Upstream, asked: Json, after: int) -> None:
        upstream.reply(Answer(cut_after=after))
        got = curl(upstream.url, KEY, asked)
        assert got.exit in self.CUT
        assert got.http == 200
        if asked is STREAM:
            assert got.body.count(b"\n\n") == after
        else:
            assert bool(got.body) == bool(after)

    def test_cut_before_the_status_line(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer(cut_after=-1))
        got = curl(upstream.url, KEY, asked)
        assert (got.exit, got.http, got.body) == (52, 0, b"")  # An empty reply.

    @pytest.mark.parametrize("after", [-1, 0, 3])
    def test_stall_after(self, upstream: Upstream, asked: Json, after: int) -> None:
        upstream.reply(Answer(stall_after=after))
        got = curl(upstream.url, KEY, asked, "--max-time", "0.3")
        assert got.exit == 28  # Timed out.
        assert got.http == (0 if after < 0 else 200)
        if asked is STREAM:
            assert got.body.count(b"\n\n") == max(after, 0)
        _until(lambda: len(upstream.dropped) == 1 and not upstream.connections)

    def test_a_content_length_too_long(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer(lying_length=1_000_000))
        got = curl(upstream.url, KEY, asked)
        assert got.exit == 18
        assert b"completed" in got.body

    def test_a_content_length_too_short(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer(lying_length=50))
        got = curl(upstream.url, KEY, asked)
        assert len(got.body) == 50

    def test_delay(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer(delay=0.3))
        begun = time.monotonic()
        assert curl(upstream.url, KEY, asked).exit == 0
        assert time.monotonic() - begun > 0.3

    def test_slow_drip(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer(drip=200, gap=0.005))
        begun = time.monotonic()
        got = curl(upstream.url, KEY, asked)
        assert got.exit == 0
        assert time.monotonic() - begun > 0.005 * (len(got.body) // 200)

    def test_oversized(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer(pad=70_000_000))
        got = curl(upstream.url, KEY, asked)
        assert 70_000_000 < len(got.body) < 70_100_000
        if asked is STREAM:
            assert got.events[-1]["type"] == "response.completed"
        else:
            assert got.json["status"] == "completed"

    def test_raw(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer(raw=b'{"id": "resp_1", "out', headers={"content-type": "application/json; x=y"}))
        got = curl(upstream.url, KEY, asked)
        assert (got.exit, got.body) == (0, b'{"id": "resp_1", "out')
        assert got.headers["content-type"] == ["application/json; x=y"]

    def test_a_large_text(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer("x" * 5_000_000))
        assert b"x" * 5_000_000 in curl(upstream.url, KEY, asked).body

    def test_a_client_that_hangs_up(self, upstream: Upstream, asked: Json) -> None:
        upstream.reply(Answer("x" * 1000, drip=10, gap=0.01))
        assert curl(upstream.url, KEY, asked, "--max-time", "0.2").exit == 28
        _until(lambda: len(upstream.dropped) == 1 and not upstream.connections)
        assert upstream.dropped == upstream.requests

    def test_down_while_it_sends_and_up_again(self, asked: Json) -> None:
        upstream = Upstream(key=KEY)
        with upstream:
            upstream.reply(Answer(stall_after=2))
            command = ["curl", "-qsN", "-H", f"authorization: Bearer {KEY}", "-d", json.dumps(asked)]
            running = subprocess.Popen([*command, upstream.url + "/responses"], stdout=subprocess.PIPE)
            upstream.wait_for(1)
        with running:
            assert running.wait(10) in self.CUT
        assert curl(upstream.url, KEY, asked).exit == 7  # Couldn't connect.
        with upstream:
            assert curl(upstream.url, KEY, asked).http == 200


def _until(true: Any, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_garbage_in_a_stream(upstream: Upstream, client: openai.OpenAI) -> None:
    upstream.reply(Answer(garbage_after=3), Answer(garbage_after=3))
    assert b"\xff\xfe" in curl(upstream.url, KEY, STREAM).body
    with pytest.raises(ValueError, match=r"decode|JSON|Expecting"):
        list(client.responses.create(model=MODEL, input="hi", stream=True))


def test_a_stream_that_fails_finished_no_item(upstream: Upstream) -> None:
    upstream.reply(calling("add", {"a": 1}, status="failed", error=("rate_limit_exceeded", "Too fast.")))
    *before, last = curl(upstream.url, KEY, STREAM).events
    assert last["response"]["error"] == {"code": "rate_limit_exceeded", "message": "Too fast."}
    assert not [event for event in before if event["type"].endswith("done")]
    assert [event for event in before if event["type"] == "response.function_call_arguments.delta"]


def test_what_the_script_raises_fails_the_test() -> None:
    def script(asked: Json) -> Answer:
        raise LookupError("no such line")

    with pytest.raises(LookupError, match="no such line"), Upstream(script=script) as upstream:
        assert curl(upstream.url, KEY, ASKED).http == 0


def test_answers_queue_before_the_script() -> None:
    with Upstream(script=lambda asked: Answer(asked["input"].upper())) as upstream:
        upstream.reply(Answer("queued"))
        said = [curl(upstream.url, KEY, ASKED).json["output"][0]["content"][0]["text"] for _ in range(2)]
        assert said == ["queued", "HI"]


def test_an_example_follows_references() -> None:
    schema = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": {"$ref": "#/$defs/Kind"}}, "maybe": {"type": ["null"]}},
        "$defs": {"Kind": {"enum": ["a", "b"]}},
    }
    assert example(schema) == {"list": ["a"], "maybe": None}


def test_it_runs_as_a_process(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "tests.support.upstream", "--text", "x" * 900, "--events", "30"]
    with subprocess.Popen(command, cwd=root, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 20)[0]
        url = process.stdout.readline().strip()
        events = curl(url, KEY, STREAM).events
        process.terminate()
    assert len([event for event in events if event["type"] == "response.output_text.delta"]) == 30
