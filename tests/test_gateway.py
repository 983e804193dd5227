"""The gateway: nothing leaves unrecorded or unpermitted, nothing a client would execute comes back unchecked."""

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ledger
from ledger.gateway import steps, tokens
from ledger.gateway import upstream as up
from ledger.gateway.body import Body, Refused
from ledger.gateway.client import token
from schemas.entries import ModelRequest, ModelResponse
from schemas.envelope import TaskScope
from schemas.errors import StorageFailed
from store import pack
from tests.support import template
from tests.support.clients import curl, node_client
from tests.support.gateways import POLICY, Gate, events, gate
from tests.support.template import Template
from tests.support.upstream import Answer, Upstream, calling

KEY = "sk-upstream"
ADD = {
    "type": "function",
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
FORMAT = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
RELAYED = POLICY + 'streaming = "relayed"\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), lambda path: None)


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    return made.copy(home, tmp_path / "l")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(key=KEY) as found:
        yield found


@pytest.fixture
def open_gate(path: Path, upstream: Upstream, tmp_path: Path) -> Iterator[Gate]:
    with gate(path, upstream, tmp_path) as found:
        yield found


# What is recorded, and when


def test_m01_m03_a_call_is_recorded_before_a_byte_leaves_and_kept_to_the_byte(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    seen: list[bool] = []

    def look(asked: dict[str, Any]) -> Answer:
        packs = sorted((path / "packs").rglob("*.pack"))
        leaves = [leaf for file in packs for leaf in pack.parse(file.read_bytes()).leaves]
        seen.append(any(leaf.startswith(b'{"kind":"model.request"') for leaf in leaves))
        return Answer(text="recorded")

    with Upstream(key=KEY, script=look) as looking, gate(path, looking, tmp_path) as g:
        answered = g.ask("hello")
        request, response = g.last("model.request"), g.last("model.response")
        assert seen == [True]
        assert g.log.read(request.content) == looking.requests[0].body
        assert g.log.read(response.content) == answered.content
        assert request.run == response.run == g.run.id
        assert response.to == g.entries("model.request")[-1].index
        assert (response.status, response.verdict, response.http) == ("completed", "valid", 200)


EVIL = {"type": "function_call", "id": "e", "call_id": "call_evil", "name": "rm", "arguments": '{"path":"/"}'}
ABOUT = {"id": "r", "object": "response", "model": "gpt-5.4-mini"}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "found",
    [
        {"status": "failed", "output": [EVIL]},
        {"status": "failed", "output": [], "extra": EVIL},
        {"status": "completed", "output": [EVIL | {"type": "mcp_call"}]},
        {"status": "completed", "output": [EVIL | {"type": "function"}]},
        {"status": "completed", "output": [], "output_text": "call_evil"},
        {"status": "completed", "output": [{"type": "message", "content": 5}], "x": "call_evil"},
        {"status": "completed", "output": [{"type": "message", "content": [{"type": "text", "text": "call_evil"}]}]},
    ],
    ids=str,
)
def test_m04_no_answer_of_the_other_side_brings_an_unasked_call_to_a_client(
    open_gate: Gate, found: dict[str, Any], streaming: bool
) -> None:
    answer = ABOUT | found
    raw = json.dumps(answer).encode()
    if streaming:
        parts = [{"type": "response.output_item.done", "output_index": 0, "item": item} for item in found["output"]]
        parts.append({"type": f"response.{found['status']}", "response": answer})
        raw = b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts)
    kind = "text/event-stream" if streaming else "application/json"
    open_gate.upstream.reply(Answer(raw=raw, headers={"content-type": kind}))
    answered = open_gate.ask("x", stream=streaming)
    assert b"call_evil" not in answered.content
    response = open_gate.last("model.response")
    assert response.verdict != "valid"
    assert b"call_evil" in open_gate.log.read(response.content), "the record keeps what came"


def _data(kind: str, **members: Any) -> bytes:
    return b"data: " + json.dumps({"type": kind, **members}).encode() + b"\n\n"


EVIL_ITEM = json.dumps(EVIL).encode()
GOOD = {"id": "m", "type": "message", "content": [{"type": "output_text", "text": '{"n":1}'}]}
END = _data("response.completed", response=ABOUT | {"status": "completed", "output": []})
SAID = _data("response.output_text.done", item_id="m", content_index=0, text="call_evil")


@pytest.mark.parametrize("policy", [POLICY, RELAYED], ids=["buffered", "relayed"])
@pytest.mark.parametrize(
    "stream",
    [
        _data("response.output_item.added", output_index=0, item=EVIL) + END,
        END + _data("response.output_item.added", output_index=0, item=EVIL),
        _data("response.created", response=ABOUT | {"output": [EVIL]}) + END,
        _data("response.created", response=ABOUT | {"output": [], "output_text": "call_evil"}),
        b'data: {"type":"response.output_item.done","item":%s,"item":{"type":"reasoning"}}\n\n' % EVIL_ITEM + END,
        b"event: response.output_item.done\n" + _data("response.in_progress", item=EVIL) + END,
        b"event: response.output_item.done\ndata: " + json.dumps({"item": EVIL}).encode() + b"\n\n" + END,
        b"\xef\xbb\xbf" + _data("response.output_item.done", item=EVIL) + END,
        _data("response.function_call_arguments.done", item_id="x", arguments="call_evil") + END,
        _data("response.reasoning_text.delta", item_id="r", delta="", response={"output": [EVIL]}) + b"data: 5\n\n",
        SAID + _data("response.output_item.done", output_index=0, item=GOOD) + END,
        SAID + END,
        b'data: {"type":"response.x"\n\r\ndata: ,"item":%s}\n\n' % EVIL_ITEM + END,
    ],
)
def test_m05_no_event_beside_an_items_own_brings_a_client_what_was_not_judged(
    path: Path, upstream: Upstream, tmp_path: Path, policy: str, stream: bytes
) -> None:
    upstream.reply(Answer(raw=stream, headers={"content-type": "text/event-stream"}))
    with gate(path, upstream, tmp_path, policy) as g:
        answered = g.ask("x", stream=True, text=FORMAT)
        assert b"call_evil" not in answered.content
        assert g.last("model.response").verdict != "valid"


def test_an_error_brings_a_client_nothing_but_what_clients_read_of_one(open_gate: Gate) -> None:
    raw = json.dumps(ABOUT | {"output": [EVIL], "error": {"message": "no", "code": 5, "more": EVIL}}).encode()
    open_gate.upstream.reply(Answer(http=400, raw=raw, headers={"x-request-id": "\u00e9"}))
    answered = open_gate.ask("x")
    assert answered.status_code == 400
    assert answered.json() == {"error": {"message": "no", "type": "api_error", "code": "5"}}
    open_gate.upstream.reply(Answer(http=500, raw=b"x" * (2 << 20)))
    assert open_gate.ask("y").status_code == 502
    assert len(open_gate.entries("model.response")) == 2


def test_a_token_reaches_the_contents_of_its_own_run_alone(open_gate: Gate) -> None:
    with open_gate.log.run("other") as other:
        address = other.artifact(b"of another run").address
    part: Any = [{"role": "user", "content": [{"type": "input_text", "text": address}]}]
    assert open_gate.post({"model": "gpt-5.4-mini", "input": part}).status_code == 400
    assert open_gate.upstream.requests == []
    assert open_gate.entries("decision")[-1].entry.effect == "deny"
    part[0]["content"][0]["text"] = open_gate.run.artifact(b"of another run").address
    assert open_gate.post({"model": "gpt-5.4-mini", "input": part}).status_code == 200


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "mcp"}],
        [{"type": "local_shell"}],
        [{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}],
        [{"type": "namespace", "name": "n"}],
        [5],
        "mcp",
    ],
    ids=str,
)
def test_no_item_of_the_input_brings_more_than_functions(open_gate: Gate, tools: Any) -> None:
    items = [{"role": "user", "content": "x"}, {"type": "additional_tools", "role": "developer", "tools": tools}]
    assert open_gate.post({"model": "gpt-5.4-mini", "input": items}).status_code == 400
    assert open_gate.upstream.requests == []


def test_tools_that_the_client_found_for_the_model_can_be_called_and_are_held_to_their_schemas(
    open_gate: Gate,
) -> None:
    search = {"type": "tool_search", "execution": "client", "description": "", "parameters": {"type": "object"}}
    found = {"type": "tool_search_output", "call_id": "s", "execution": "client", "tools": [ADD]}
    # Found by two searches.
    items = [{"role": "user", "content": "x"}, found, {**found, "call_id": "t"}]
    open_gate.upstream.reply(calling("add", {"a": 1}), calling("add", {"a": "one"}), calling("sub", {"a": 1}))
    body = {"model": "gpt-5.4-mini", "input": items, "tools": [search]}
    assert open_gate.post(body).json()["output"][0]["name"] == "add"
    assert msgspec.json.decode(open_gate.upstream.requests[0].body)["tools"] == [search]
    for _ in range(2):
        refused = open_gate.post(body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_response")
    other = {**found, "tools": [{**ADD, "parameters": {"type": "object"}}]}
    assert open_gate.post({**body, "input": [*items, other], "tools": [search, ADD]}).status_code == 400
    assert len(open_gate.upstream.requests) == 3


@pytest.mark.parametrize("item", ["message", "reasoning", "function_call"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_other_side_declares_no_tools_for_itself(open_gate: Gate, item: str, stream: bool) -> None:
    brought = {"tools": [{"type": "function", "name": "rm", "parameters": {"type": "object"}}]}
    said: dict[str, Any] = {
        "message": {"role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "hi"}]},
        "reasoning": {"summary": []},
        "function_call": {"call_id": "c", "name": "add", "arguments": '{"a":1}', "status": "completed"},
    }[item] | {"type": item, "id": "i_1"}
    open_gate.upstream.reply(Answer(items=[said | brought]))
    answered = open_gate.ask(tools=[ADD], stream=stream)
    assert b'"rm"' not in answered.content
    assert open_gate.last("model.response").verdict == "invalid"
    # And where it came in some other way: nothing that a model may have written brings one.
    assert open_gate.ask([{"role": "user", "content": "x"}, said | brought], tools=[ADD]).status_code == 400
    assert len(open_gate.upstream.requests) == 1


def test_a_request_behind_a_dummy_is_another_try_each_time(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, POLICY + "max_retries_per_task = 1\n") as g:
        items = [{"role": "user", "content": "dummy"}, {"role": "user", "content": "task"}]
        statuses = [
            g.post({"model": "gpt-5.4-mini", "input": asked}).status_code for asked in (items[:1], *[items] * 4)
        ]
        assert statuses == [200, 200, 200, 400, 400]


@pytest.mark.parametrize("name", ["x_ledger_task", "x_ledger_stage", "x_ledger_task_scope"])
@pytest.mark.parametrize("value", [KEY, "gr\u00f6\u00dfe"])
def test_no_label_is_kept_that_holds_a_secret_or_can_not_be_read(open_gate: Gate, name: str, value: str) -> None:
    answered = open_gate.post({"model": "gpt-5.4-mini", "input": "x"}, **{name: value.encode("latin-1")})
    assert answered.status_code == 400
    recorded = open_gate.entries("decision")[-1]
    assert KEY.encode() not in recorded.raw
    assert KEY.encode() not in open_gate.log.read(recorded.entry.content)


def test_the_key_does_not_come_back(open_gate: Gate) -> None:
    open_gate.upstream.reply(Answer(text=f"the key is {KEY}", headers={"x-request-id": KEY}))
    answered = open_gate.ask("x")
    assert answered.status_code == 400
    assert KEY not in answered.text + str(answered.headers)
    raw = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
    open_gate.upstream.reply(Answer(http=401, raw=raw, headers={"x-request-id": KEY}))
    answered = open_gate.ask("y")
    assert answered.status_code == 401
    assert KEY not in answered.text + str(answered.headers)


def test_a_model_that_is_said_to_be_cheaper_is_not_cheaper(open_gate: Gate) -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0}
    costs = []
    for said in ("gpt-5.4-mini", "gpt-5-nano"):
        found = ABOUT | {"status": "completed", "output": [], "model": said, "usage": usage}
        open_gate.upstream.reply(Answer(raw=json.dumps(found).encode()))
        assert open_gate.ask(said).status_code == 200
        costs.append(open_gate.last("model.response").cost)
    assert costs[0] == costs[1] > 0


def test_large_answers_that_are_not_streamed_arrive(open_gate: Gate) -> None:
    open_gate.upstream.reply(Answer(text="x" * (6 << 20)))
    answered = open_gate.ask("x")
    assert answered.status_code == 200
    assert len(answered.content) > 6 << 20


def test_an_empty_input_is_refused_and_reserves_nothing(open_gate: Gate) -> None:
    assert open_gate.post({"model": "gpt-5.4-mini", "input": []}).status_code == 400
    assert open_gate.entries("model.request") == []


def test_the_least_efforts_and_models_that_do_not_reason_are_served(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    with gate(path, upstream, tmp_path, POLICY.replace("[", '["gpt-4.1-mini", ')) as g:
        efforts = [("gpt-4.1-mini", None), ("gpt-5.4-mini", "none"), ("gpt-5.4-mini", "minimal")]
        for model, effort in efforts:
            asked = {"model": model, "input": "x"} | ({"reasoning": {"effort": effort}} if effort else {})
            assert g.post(asked).status_code == 200, asked
            left = upstream.requests[-1].json or {}
            assert left.get("reasoning") == asked.get("reasoning")
            sealed = msgspec.json.decode(g.log.read(g.last("model.request").envelope))
            assert sealed["reasoning_effort"] == (effort or "none")


def test_m02_nothing_but_the_responses_api_is_served(open_gate: Gate) -> None:
    for path in ("/chat/completions", "/completions", "/embeddings", "/files", "/responses/resp_1"):
        answered = open_gate.post({"model": "m", "messages": []}, path=path)
        assert answered.status_code == 404
        assert answered.json()["error"]["code"] == "not_found"
    upgrade = open_gate.http.get(open_gate.url + "/responses", headers={"upgrade": "websocket"})
    assert upgrade.status_code == 426
    assert open_gate.upstream.requests == []


def test_a_stream_is_kept_to_the_byte(open_gate: Gate) -> None:
    open_gate.upstream.reply(Answer(text="one two three", reasoning="hm", events=7, line_end="\r\n", noise=True))
    answered = open_gate.ask("x", stream=True)
    assert open_gate.log.read(open_gate.last("model.response").content) == answered.content
    assert [event["type"] for event in events(answered)][-1:] == ["response.completed"] or b"\r\n" in answered.content


def test_nothing_is_sent_where_the_ledger_can_not_be_written(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(POLICY)
    with ledger.open(path) as log, log.run("r") as run:
        g = Gate(log, run, upstream, file)
        assert g.ask().status_code == 200
        log.folder.disk.failed = StorageFailed("the disk failed")
        answered = g.ask("again")
        assert answered.status_code == 503
        assert "the disk failed" in answered.json()["error"]["message"]
        g.inside.close()
        log.folder.disk.failed = None
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("answer", "status", "http"),
    [
        (Answer(http=401), "refused", 401),
        (Answer(http=403), "refused", 403),
        (Answer(http=429, headers={"retry-after": "7"}), "refused", 429),
        (Answer(http=500), "refused", 500),
        (Answer(http=503), "refused", 503),
        (Answer(raw=b"<html>no"), "malformed", 502),
        (Answer(raw=b'{"object":"list"}'), "malformed", 502),
        (Answer(raw=b'{"object":"response","output":5}'), "malformed", 502),
        (Answer(cut_after=-1), "cut_off", 502),
        (Answer(cut_after=2), "cut_off", 502),
        (Answer(lying_length=10_000), "cut_off", 502),
        (Answer(status="failed"), "failed", 200),
        (Answer(status="incomplete"), "incomplete", 200),
    ],
    ids=lambda value: str(value)[:30] if not isinstance(value, Answer) else "",
)
def test_however_a_call_ends_it_is_recorded(open_gate: Gate, answer: Answer, status: str, http: int) -> None:
    open_gate.upstream.reply(answer)
    answered = open_gate.ask()
    response = open_gate.last("model.response")
    assert (response.status, answered.status_code) == (status, http)
    if http == 429:
        assert answered.headers["retry-after"] == "7"
    assert open_gate.ask().status_code == 200


@pytest.mark.parametrize("answer", [Answer(cut_after=3), Answer(garbage_after=3), Answer(status="failed"),
                                    Answer(error_event=True), Answer(raw=b"data: {}\n\nnonsense: 1\n\n")])  # fmt: skip
@pytest.mark.parametrize("policy", [POLICY, RELAYED])
def test_a_stream_that_breaks_ends_as_a_failure_for_the_client(
    path: Path, upstream: Upstream, tmp_path: Path, answer: Answer, policy: str
) -> None:
    with gate(path, upstream, tmp_path, policy) as g:
        upstream.reply(answer)
        answered = g.ask(stream=True)
        if answered.status_code == 200:
            assert events(answered)[-1]["type"] in ("response.failed", "error")
        else:
            assert answered.status_code in (400, 502)
        assert g.last("model.response").status in ("cut_off", "malformed", "failed")


def test_an_upstream_that_stalls_is_given_up(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "READ_S", 0.5)
    with gate(path, upstream, tmp_path) as g:
        upstream.reply(Answer(stall_after=2), Answer(stall_after=0))
        assert g.ask(stream=True).status_code == 504
        assert g.ask("other").status_code == 504
        assert [r.entry.status for r in g.entries("model.response")] == ["timeout", "timeout"]
        # What it cost nobody said: all of what was reserved counts.
        assert all(r.entry.cost == r.entry.reserved > 0 for r in g.entries("model.response"))


def test_an_upstream_that_is_not_there_costs_nothing(path: Path, tmp_path: Path) -> None:
    with Upstream(key=KEY) as gone:
        pass
    with gate(path, gone, tmp_path) as g:
        answered = g.ask()
        assert answered.status_code == 502
        response = g.last("model.response")
        assert (response.status, response.cost) == ("unreachable", 0)


def test_an_answer_without_end_is_cut_off(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path) as g:
        upstream.reply(Answer(pad=70 << 20))
        assert g.ask().status_code == 502
        assert g.last("model.response").status == "malformed"


# What leaves


MESSAGES = st.fixed_dictionaries({"role": st.just("user"), "content": st.text()})
INCLUDED = st.sampled_from(["reasoning.encrypted_content", "message.output_text.logprobs"])
REASONING = st.fixed_dictionaries({"effort": st.sampled_from(["low", "high"])}, optional={"summary": st.just("auto")})
BODIES = st.fixed_dictionaries(
    {"input": st.one_of(st.text(max_size=40), st.lists(MESSAGES, min_size=1, max_size=4))},
    optional={
        "instructions": st.text(max_size=60),
        "temperature": st.floats(0, 2),
        "tools": st.just([ADD]),
        "reasoning": REASONING,
        "max_output_tokens": st.integers(16, 100_000),
        "store": st.booleans(),
        "include": st.lists(INCLUDED, unique=True),
        "text": st.just({"verbosity": "low"}),
        "parallel_tool_calls": st.booleans(),
        "client_metadata": st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
    },
)  # fmt: skip
NAMED = dict.fromkeys(["service_tier", "store", "include", "max_output_tokens"]) | {"reasoning": "effort"}


def test_what_leaves_equals_what_came_but_for_the_named_rewrites(open_gate: Gate) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(BODIES, st.sampled_from([None, 2]))
    def check(body: dict[str, Any], indent: int | None) -> None:
        body = {"model": "gpt-5.4-mini", **body}
        raw = json.dumps(body, indent=indent, ensure_ascii=indent is None).encode("utf-8", "surrogatepass")
        answered = open_gate.post(raw)
        if answered.status_code != 200:
            assert b"\\ud" in raw.lower() or b"\xed" in raw, answered.text
            return
        left = open_gate.upstream.requests[-1].json
        assert left is not None
        envelope = msgspec.json.decode(open_gate.log.read(open_gate.last("model.request").envelope))
        for name in left.keys() | body.keys():
            if left.get(name) != body.get(name):
                assert (NAMED[name] or name) in envelope["rewrites"], name
        assert left["store"] is False
        assert "reasoning.encrypted_content" in left["include"]

    check()


def test_a_body_that_needs_no_rewrite_leaves_byte_for_byte() -> None:
    raw = b'{ "model":"m",  "input":"x" , "store" : false}'
    body = Body(raw)
    body.set("store", False, "store")
    assert body.encode() == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"model":"m"}',
        b'{"input":"x"}',
        b'{"model":"m","model":"n","input":"x"}',
        b'{"model":"m","input":[{"role":"user","role":"system","content":"x"}]}',
        b'{"model":"m","input":"x","tools":[{"type":"function","name":"a","type":"web_search"}]}',
        b'{"model":"m","input":"x","unheard_of":1}',
        b'{"model":"m","input":5}',
        b'{"model":"m","input":[5]}',
        b'{"model":"m","input":"x","tools":5}',
        b'{"model":"' + b"m" * 300 + b'","input":"x"}',
        b'{"model":"m","input":"\xff"}',
        b'{"model":"m","input":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"model":"m","input":NaN}',
    ],
)
def test_a_body_that_is_no_request_is_refused_and_recorded(open_gate: Gate, raw: bytes) -> None:
    answered = open_gate.post(raw)
    assert answered.status_code == 400, answered.text
    assert answered.json()["error"]["type"] == "invalid_request_error"
    assert answered.headers["x-should-retry"] == "false"
    assert open_gate.upstream.requests == []
    assert open_gate.last("decision").effect == "deny"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("background", True),
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("conversation", {"id": "conv_1"}),
        ("prompt", {"id": "pmpt_1"}),
        ("input", [{"type": "item_reference", "id": "msg_1"}]),
        ("input", [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]),
        ("input", [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]}]),
        ("input", [{"role": "user", "content": [{"type": "input_file", "file_url": "http://example.com/a.pdf"}]}]),
    ],
)
def test_what_would_go_on_behind_our_back_is_refused_by_name(open_gate: Gate, field: str, value: Any) -> None:
    answered = open_gate.post({"model": "gpt-5.4-mini", "input": "x", field: value})
    assert answered.status_code == 400
    assert answered.json()["error"]["param"].startswith(field)
    assert open_gate.upstream.requests == []


def test_bodies_that_are_compressed_too_long_or_stall_are_refused(
    open_gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.gateway import app

    assert open_gate.post(b"\x1f\x8b", content_encoding="gzip").status_code == 415
    assert open_gate.post(b'{"model":"m","input":"' + b"x" * (50 << 20) + b'"}').status_code == 413
    monkeypatch.setattr(app, "STALL_S", 0.3)
    host, port = open_gate.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port))) as slow:
        head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {open_gate.token}\r\n"
        slow.sendall(head.encode() + b"content-length: 100\r\n\r\n{")
        assert b" 408 " in slow.recv(4096)
    assert open_gate.upstream.requests == []


@pytest.mark.parametrize("sent", [b"", b"POST /v1/responses HT", b"GET /health HTTP/1.1\r\nhost: x\r\nx-more: "])
def test_a_connection_that_never_sends_a_whole_head_is_given_back(
    open_gate: Gate, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    from ledger.gateway import connections

    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    host, port = open_gate.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(sent)
        assert slow.recv(4096) == b""
    # The next request of a connection that did well before has as long, and no longer.
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        for _ in range(3):
            slow.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200 OK" in slow.recv(4096)
            time.sleep(0.2)
        slow.sendall(b"G")
        assert slow.recv(4096) == b""


@pytest.mark.parametrize(
    ("request_", "more"),
    [
        (b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n"),
        (b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", b"{"),
        (b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", b"{"),
    ],
    ids=["empty lines", "a body that no token is with", "a body of nothing that is served"],
)
def test_nobody_holds_a_connection_by_bytes_that_begin_nothing(
    open_gate: Gate, monkeypatch: pytest.MonkeyPatch, request_: bytes, more: bytes
) -> None:
    from ledger.gateway import connections

    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    host, port = open_gate.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as idle:
        idle.sendall(request_)
        assert b"HTTP/1.1 " in idle.recv(65536)
        idle.sendall(more)
        try:
            while idle.recv(65536):
                pass
        except ConnectionResetError:
            pass


def test_half_a_request_behind_it_cuts_no_answer_off(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.gateway import connections

    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    with gate(path, upstream, tmp_path, RELAYED) as g:
        upstream.reply(Answer(text="one two three four", events=6, gap=0.2))
        body = msgspec.json.encode({"model": "gpt-5.4-mini", "input": "x", "stream": True})
        head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {g.token}\r\n"
        host, port = g.url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as hasty:
            hasty.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body + b"GET /he")
            came = b""
            while piece := hasty.recv(65536):
                came += piece
        assert b"response.completed" in came
        assert came.endswith(b"0\r\n\r\n")


def test_a_head_without_end_takes_no_memory(open_gate: Gate) -> None:
    host, port = open_gate.url.removeprefix("http://").removesuffix("/v1").split(":")
    for line in (b"x-more: " + b"y" * 1000 + b"\r\n", b"y" * 1000):
        with socket.create_connection((host, int(port)), timeout=10) as greedy:
            greedy.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nx-first: ")
            sent = 0
            try:
                while sent < 8 << 20:
                    greedy.sendall(line)
                    sent += len(line)
            except OSError:
                pass
            assert sent < 8 << 20


# Who may ask


def test_a_token_that_is_forged_expired_or_anothers_opens_nothing(open_gate: Gate, path: Path) -> None:
    good = open_gate.token
    secret = tokens.load_secret(ledger.index.reader.homes.keys(open_gate.log.origin), b"x" * 32)  # type: ignore[attr-defined]
    body, mac = good.removeprefix(tokens.PREFIX).split(".")
    bad = [
        "x",
        KEY,
        tokens.PREFIX,
        good[:-1],
        good + "A",
        f"{tokens.PREFIX}{body}.{mac[::-1]}",
        f"{tokens.PREFIX}{mac}.{body}",
    ]
    bad += [good[:i] + ("A" if good[i] != "A" else "B") + good[i + 1 :] for i in range(0, len(good), 7)]
    bad.append(tokens.Token(open_gate.run.id, 1).sign(secret))
    bad.append(tokens.Token(open_gate.run.id, 2**40).sign(b"y" * 32))
    bad.append(tokens.Token("not a run", 2**40).sign(secret))
    for wrong in bad:
        answered = open_gate.post({"model": "m", "input": "x"}, authorization=f"Bearer {wrong}")
        assert answered.status_code == 401, wrong
        assert KEY not in answered.text
    assert open_gate.upstream.requests == []


def test_a_token_of_a_run_that_is_over_opens_nothing(open_gate: Gate) -> None:
    over = open_gate.log.run("over")
    spare = token(open_gate.log, over.id)
    over.finish()
    answered = open_gate.post({"model": "gpt-5.4-mini", "input": "x"}, authorization=f"Bearer {spare}")
    assert answered.status_code == 400
    assert answered.headers["x-should-retry"] == "false"
    assert "not open" in answered.json()["error"]["message"]
    assert open_gate.upstream.requests == []


def test_a_request_narrows_its_token_and_never_widens_it(open_gate: Gate) -> None:
    bound = token(open_gate.log, open_gate.run.id, "lift", "gfx", scope=TaskScope("file", "src/b.py"))
    asked = {"model": "gpt-5.4-mini", "input": "x"}
    authorization = f"Bearer {bound}"
    assert open_gate.post(asked, authorization=authorization, x_ledger_task="sub_8210").status_code == 200
    found = open_gate.last("model.request")
    assert (found.stage, found.lane, found.task) == ("lift", "gfx", "sub_8210")
    narrower = open_gate.post(asked, authorization=authorization, x_ledger_task_scope="function:src/b.py::add")
    assert narrower.status_code == 200
    wider = (
        "file:src/a.py",
        "stage:lift",
        "stage:any",
        "function:src/a.py::add",
        "function:src/b.pyx::add",
        "nonsense",
    )
    for header in (
        {"x_ledger_stage": "release"},
        {"x_ledger_lane": "other"},
        *({"x_ledger_task_scope": w} for w in wider),
    ):
        answered = open_gate.post(asked, authorization=authorization, **header)
        assert answered.status_code == 400
    inside = {**asked, "metadata": {"ledger.lane": "other", "mine": "kept"}}
    assert open_gate.post(inside, authorization=authorization).status_code == 400
    named = {**asked, "metadata": {"ledger.task": "t", "mine": "kept"}}
    assert open_gate.post(named, authorization=authorization).status_code == 200
    left = open_gate.upstream.requests[-1].json
    assert left is not None
    assert left["metadata"] == {"mine": "kept"}


def test_m09_neither_the_key_nor_another_secret_leaves_or_is_kept(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = 'p4ss"word\\of/the é base'
    monkeypatch.setenv("DB_PASSWORD", secret)
    with gate(path, upstream, tmp_path, secrets=("env:DB_PASSWORD",)) as g:
        twice = json.dumps({"inner": json.dumps(secret)})
        body = {
            "model": "gpt-5.4-mini",
            "instructions": f"use {secret}",
            "input": [
                {"role": "user", "content": f"it is {secret} and {KEY}"},
                {"type": "function_call", "call_id": "c", "name": "add", "arguments": json.dumps({secret: secret})},
                {"type": "function_call_output", "call_id": "c", "output": f"{secret}{secret}"},
            ],
            "tools": [{**ADD, "description": secret}],
        }
        assert g.post(body).status_code == 200
        assert g.last("redaction").counts == {"exact": 8}
        assert g.ask(twice).status_code == 200
        # No header of a client goes up.
        assert g.post(body, openai_beta=KEY).status_code == 200
        for header in ("x-custom", "user-agent"):
            g.post(body, **{header: "value"})
        everything = b"".join(seen.body + str(seen.headers).replace(KEY, "", 1).encode() for seen in upstream.requests)
    assert KEY.encode() not in everything.replace(f"Bearer {KEY}".encode(), b"").replace(b"Bearer ", b"")
    kept = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    for needle in (secret.encode(), json.dumps(secret)[1:-1].encode(), KEY.encode()):
        assert (
            needle not in everything.replace(KEY.encode(), b"", everything.count(b"authorization"))
            or needle == KEY.encode()
        )
        assert needle not in kept
        assert needle.decode("utf-8", "replace") not in caplog.text


def test_m09_a_secret_is_found_however_json_spells_it(open_gate: Gate) -> None:
    spelled = KEY.replace("s", "\\u0073").replace("e", "\\u0065")
    once = '{"model":"gpt-5.4-mini","input":"it is KEY","metadata":{"KEY":"x"}}'.replace("KEY", spelled)
    call = {"type": "function_call", "call_id": "c", "name": "add"}
    output = {"type": "function_call_output", "call_id": "c", "output": "1"}
    arguments = f'{{"a":"{spelled}"}}'
    twice, thrice = (
        json.dumps({"model": "gpt-5.4-mini", "input": [call | {"arguments": inner}, output]})
        for inner in (arguments, json.dumps({"a": arguments}))
    )
    for sent in (once, twice, thrice):
        headers = {"authorization": f"Bearer {open_gate.token}"}
        answered = open_gate.http.post(open_gate.url + "/responses", content=sent, headers=headers)
        assert answered.status_code == 200, answered.text
        body = open_gate.upstream.requests[-1].body.decode()
        for _ in range(4):
            body = body.replace("\\\\", "\\").replace("\\u0073", "s").replace("\\u0065", "e")
            assert KEY not in body
        assert open_gate.last("redaction").counts["exact"] >= 1


def test_the_final_scan_finds_what_came_after_redaction(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "gpt-secret-model")
    policy = 'policy_id = "p"\nrequires_approval = false\nallowed_models = ["fast", "gpt-secret-model"]\n'
    policy += '[aliases]\nfast = "gpt-secret-model"\n'
    with gate(path, upstream, tmp_path, policy, secrets=("env:DB_PASSWORD",)) as g:
        assert g.post({"model": "fast", "input": "x"}).status_code == 502
        assert g.last("violation").rule == "leak"
        assert upstream.requests == []


# Policy


def test_a_model_that_is_not_allowed_is_denied_with_the_reason_and_the_request_is_kept(open_gate: Gate) -> None:
    answered = open_gate.post({"model": "gpt-9", "input": "let me out"})
    assert answered.status_code == 400
    error = answered.json()["error"]
    assert error["code"] == "policy_denied"
    assert "gpt-9" in error["message"]
    assert "ledger policy explain" in error["message"]
    decided = open_gate.last("decision")
    assert (decided.effect, decided.rules) == ("deny", ["model", "price"]) or "model" in decided.rules
    assert b"let me out" in open_gate.log.read(decided.request)
    assert open_gate.upstream.requests == []


def test_no_policy_at_all_denies(open_gate: Gate) -> None:
    from datetime import UTC, datetime

    secret = tokens.load_secret(ledger.index.reader.homes.keys(open_gate.log.origin), b"x" * 32)  # type: ignore[attr-defined]
    expires = int(datetime.now(UTC).timestamp()) + 60
    unknown = tokens.Token(open_gate.run.id, expires, policy="nobody-knows").sign(secret)
    answered = open_gate.post({"model": "gpt-5.4-mini", "input": "x"}, authorization=f"Bearer {unknown}")
    assert answered.status_code == 400
    assert open_gate.last("decision").rules == ["policy"]


def test_m08_a_stage_that_needs_approval_is_denied_and_says_so(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    policy = POLICY + "[stages.release]\nrequires_approval = true\n"
    with gate(path, upstream, tmp_path, policy) as g:
        asked = {"model": "gpt-5.4-mini", "input": "x"}
        assert g.post(asked, x_ledger_stage="lift").status_code == 200
        answered = g.post(asked, x_ledger_stage="release")
        assert answered.status_code == 400
        assert answered.json()["error"]["code"] == "approval_required"
        assert g.last("decision").effect == "require_approval"
    assert len(upstream.requests) == 1


def test_a_paused_run_makes_no_call_until_it_is_resumed(open_gate: Gate) -> None:
    from ledger import steer

    assert open_gate.ask().status_code == 200
    with ledger.open(open_gate.log.path) as elsewhere:
        steer.pause(elsewhere, open_gate.run.id, "looks stuck")
        with pytest.raises(ledger.UsageError):
            steer.pause(elsewhere, open_gate.run.id)
    answered = open_gate.ask("more")
    assert answered.status_code == 400
    assert "paused" in answered.json()["error"]["message"]
    with ledger.open(open_gate.log.path) as elsewhere:
        steer.resume(elsewhere, open_gate.run.id)
    assert open_gate.ask("more").status_code == 200
    assert len(open_gate.upstream.requests) == 2


def test_m14_tries_of_a_task_are_counted_by_the_gateway_and_end(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, POLICY + "max_retries_per_task = 2\n") as g:
        asked = {"model": "gpt-5.4-mini", "input": "fix it"}
        for lane in ("gfx", "math"):
            statuses = [g.post(asked, x_ledger_lane=lane, x_ledger_task="t").status_code for _ in range(5)]
            assert statuses == [200, 200, 200, 400, 400]
        assert g.post(asked, x_ledger_lane="gfx", x_ledger_task="another").status_code == 200
        # A conversation that goes on is no further try; after an answer that failed it is.
        turn = [{"role": "user", "content": "start"}]
        for number in range(6):
            body = {"model": "gpt-5.4-mini", "input": turn, "tools": [ADD]}
            assert g.post(body, x_ledger_task="long").status_code == 200, number
            turn = [*turn, {"role": "assistant", "content": f"a{number}"}, {"role": "user", "content": f"u{number}"}]
        assert [r.entry.attempt for r in g.entries("model.request") if r.entry.task == "long"] == [1] * 6
        bad = Answer(tool_calls=[("add", '{"a":"x"}', "c")])
        for expected in (400, 400, 400, 400):
            upstream.reply(bad)
            turn = [*turn, {"role": "user", "content": "again"}]
            answered = g.post({"model": "gpt-5.4-mini", "input": turn, "tools": [ADD]}, x_ledger_task="long")
            assert answered.status_code == expected
        assert "retries" in answered.json()["error"]["message"]


CHEAP = POLICY.replace("max_cost_usd = 50", "max_cost_usd = 0.02\nmax_output_tokens = 1000\nsettle_s = 3")


def test_budgets_hold_under_fifty_calls_at_once_and_two_gateways(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(CHEAP)
    with (
        Upstream(key=KEY, script=lambda asked: Answer(delay=0.05, usage=(900, 0, 900, 0))) as slow,
        ledger.open(path) as one,
        ledger.open(path) as two,
    ):
        run = one.run("shared")
        gates = [Gate(log, run, slow, file) for log in (one, two)]
        said: set[str] = set()

        def ask(number: int) -> int:
            answered = gates[number % 2].ask(f"{number} " + "x" * 500)
            said.add(answered.text[:300] if answered.status_code > 400 else "")
            return answered.status_code

        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(ask, range(50)))
        for g in gates:
            g.inside.close()
        two.catch_up()
        one.catch_up()
        calls = one.chain.state.history.runs[run.id].calls
        assert set(statuses) == {200, 400}, said
        assert 0 < calls.spent <= 20_000
        assert calls.held == 0
    report = ledger.verify(path)
    assert report.sound, report.findings


def test_a_full_budget_waits_for_settlements(path: Path, tmp_path: Path) -> None:
    with Upstream(key=KEY, script=lambda asked: Answer(delay=0.3, usage=(10, 0, 10, 0))) as slow:
        # Two worst cases do not fit; what they really cost does.
        policy = CHEAP.replace("max_cost_usd = 0.02", "max_cost_usd = 0.007")
        with gate(path, slow, tmp_path, policy) as g, ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda n: g.ask(f"{n}").status_code, range(4)))
        assert statuses == [200] * 4


def test_a_call_that_costs_more_than_it_reserved_is_a_violation(open_gate: Gate) -> None:
    open_gate.upstream.reply(Answer(usage=(3_000_000, 0, 900_000, 0)))
    assert open_gate.ask(max_output_tokens=100).status_code == 200
    violation = open_gate.last("violation")
    response = open_gate.entries("model.response")[-1]
    assert (violation.rule, violation.to) == ("cost", response.index)
    assert response.entry.cost > response.entry.reserved


def test_hosted_tools_are_removed_or_denied(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    tools = [ADD, {"type": "web_search"}, {"type": "mcp", "server_url": "https://x"}, {"type": "made_up_yesterday"}]
    asked = {"model": "gpt-5.4-mini", "input": "x", "tools": tools, "tool_choice": {"type": "web_search"}}
    with gate(path, upstream, tmp_path, POLICY + 'hosted_tools_else = "remove"\n') as g:
        assert g.post(asked).status_code == 200
        left = upstream.requests[-1].json
        assert left is not None
        assert left["tools"] == [ADD]
        assert "tool_choice" not in left
    (tmp_path / "again").mkdir()
    with gate(path, upstream, tmp_path / "again", POLICY + 'hosted_tools_else = "deny"\n') as g:
        assert g.post(asked).status_code == 400
        assert "tools" in g.last("decision").rules
    assert len(upstream.requests) == 1


# Validation before execution

WRONG_CALLS = [
    ("add", '{"a":"one"}'),
    ("add", '{"a":1,"b":2}'),
    ("add", "{}"),
    ("add", "{"),
    ("add", '{"a":1,"a":"x"}'),
    ("subtract", '{"a":1}'),
    ("", "{}"),
]


@pytest.mark.parametrize("call", WRONG_CALLS)
@pytest.mark.parametrize("streaming", ["json", "buffered", "relayed"])
def test_m05_a_call_that_breaks_its_schema_never_reaches_a_client(
    path: Path, upstream: Upstream, tmp_path: Path, call: tuple[str, str], streaming: str
) -> None:
    with gate(path, upstream, tmp_path, RELAYED if streaming == "relayed" else POLICY) as g:
        upstream.reply(Answer(text="thinking aloud", reasoning="hm", tool_calls=[(*call, "call_evil")], events=5))
        answered = g.post({"model": "gpt-5.4-mini", "input": "x", "tools": [ADD], "stream": streaming != "json"})
        assert b"call_evil" not in answered.content
        assert b"function_call" not in answered.content
        assert g.last("model.response").verdict == "invalid"
        assert b"call_evil" in g.log.read(g.last("model.response").content)
        if streaming == "relayed":
            assert b"thinking" in answered.content
            last = events(answered)[-1]
            assert last["type"] == "response.failed"
            assert last["response"]["error"]["code"] == "invalid_prompt"
        else:
            assert answered.status_code == 400


def sse(*events: dict[str, Any]) -> bytes:
    numbered = [event | {"sequence_number": number} for number, event in enumerate(events)]
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in numbered)


EVIL = {"type": "function_call", "id": "fc_1", "call_id": "call_evil", "name": "add", "arguments": '{"a":"x"}'}
GOOD = EVIL | {"call_id": "call_1", "arguments": '{"a":1}'}
BEGUN = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
DONE = BEGUN | {"status": "completed", "usage": {"input_tokens": 1, "output_tokens": 1}}
SMUGGLED = {
    "in the first snapshot": sse({"type": "response.created", "response": BEGUN | {"output": [EVIL]}},
                                 {"type": "response.completed", "response": DONE}),
    "in the last snapshot": sse({"type": "response.created", "response": BEGUN},
                                {"type": "response.completed", "response": DONE | {"output": [EVIL]}}),
    "in another end": sse({"type": "response.created", "response": BEGUN},
                          {"type": "response.completed", "response": DONE},
                          {"type": "response.completed", "response": DONE | {"output": [EVIL]}}),
    "after the end": sse({"type": "response.created", "response": BEGUN},
                         {"type": "response.completed", "response": DONE},
                         {"type": "response.output_item.done", "output_index": 0, "item": EVIL}),
    "by its deltas": sse({"type": "response.created", "response": BEGUN},
                         {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": "call_evil"},
                         {"type": "response.output_item.done", "output_index": 0, "item": GOOD},
                         {"type": "response.completed", "response": DONE}),
    "by an event's own arguments": sse({"type": "response.created", "response": BEGUN},
                                       {"type": "response.function_call_arguments.done", "item_id": "fc_1",
                                        "arguments": '{"a":"call_evil"}'},
                                       {"type": "response.output_item.done", "output_index": 0, "item": GOOD},
                                       {"type": "response.completed", "response": DONE}),
    "behind a bare carriage return": sse({"type": "response.created", "response": BEGUN})
    + b": comment\rdata: " + json.dumps({"type": "response.output_item.done", "item": EVIL}).encode() + b"\n\n"
    + sse({"type": "response.completed", "response": DONE}),
    "as a kind nobody knows": sse({"type": "response.created", "response": BEGUN},
                                  {"type": "response.output_item.done", "item": EVIL | {"type": "new_tool_call"}},
                                  {"type": "response.completed", "response": DONE}),
    "under another name of event": sse({"type": "response.created", "response": BEGUN})
    + b"event: response.output_text.delta\ndata: "
    + json.dumps({"type": "response.output_item.done", "sequence_number": 1, "item": EVIL}).encode() + b"\n\n"
    + sse({"type": "x"}, {"type": "x"}, {"type": "response.completed", "response": DONE})[60:],
}  # fmt: skip


@pytest.mark.parametrize("how", SMUGGLED)
@pytest.mark.parametrize("policy", [POLICY, RELAYED])
def test_a_call_can_not_be_smuggled(path: Path, upstream: Upstream, tmp_path: Path, how: str, policy: str) -> None:
    with gate(path, upstream, tmp_path, policy) as g:
        upstream.reply(Answer(raw=SMUGGLED[how], headers={"content-type": "text/event-stream"}))
        answered = g.ask(tools=[ADD], stream=True)
        assert b"call_evil" not in answered.content, answered.text
        assert g.last("model.response").verdict != "valid"


@pytest.mark.parametrize("http", [201, 202, 206, 302])
def test_an_answer_of_another_status_is_no_answer(open_gate: Gate, http: int) -> None:
    open_gate.upstream.reply(Answer(http=http, raw=json.dumps(DONE | {"output": [EVIL]}).encode()))
    answered = open_gate.ask(tools=[ADD])
    assert answered.status_code == 502
    assert b"call_evil" not in answered.content


@pytest.mark.parametrize("field", ["max_output_tokens", "max_tool_calls"])
@pytest.mark.parametrize("value", [-1, 0, -(2**40), 2**40, 1.5, True, "7", [], {}])
def test_what_costs_are_reckoned_from_is_a_number(open_gate: Gate, field: str, value: Any) -> None:
    assert open_gate.ask(**{field: value}).status_code == 400
    assert open_gate.upstream.requests == []


ODD = [None, 5, "x", [], {}, [5], {"format": 5}, {"format": {"type": "json_schema", "schema": 5}}]


@pytest.mark.parametrize("field", ["reasoning", "text", "include", "tools", "metadata", "tool_choice", "truncation",
                                   "service_tier", "instructions", "stream", "store", "client_metadata"])  # fmt: skip
@pytest.mark.parametrize("value", ODD)
def test_no_odd_value_brings_the_gateway_down(open_gate: Gate, field: str, value: Any) -> None:
    answered = open_gate.ask(**{field: value})
    assert answered.status_code in (200, 400, 404, 422), answered.text


@pytest.mark.parametrize("streaming", ["json", "buffered", "relayed"])
def test_a_valid_call_reaches_the_client_after_it_is_recorded(
    path: Path, upstream: Upstream, tmp_path: Path, streaming: str
) -> None:
    with gate(path, upstream, tmp_path, RELAYED if streaming == "relayed" else POLICY) as g:
        upstream.reply(Answer(tool_calls=[("add", '{"a":1}', "call_1")], gap=0.05))
        body = {"model": "gpt-5.4-mini", "input": "x", "tools": [ADD], "stream": streaming != "json"}
        headers = {"authorization": f"Bearer {g.token}"}
        with g.http.stream("POST", g.url + "/responses", json=body, headers=headers) as answered:
            seen = b""
            for chunk in answered.iter_raw():
                seen += chunk
                if b"output_item.done" in seen and b"function_call" in seen:
                    assert g.entries("model.response"), "released before it was recorded"
        assert b"call_1" in seen


@pytest.mark.parametrize("text", ["", "{}", '{"n":"x"}', '{"n":1}trailing', '{"n":1,"m":2}', "[1]", '{"n":1,"n":2}'])
@pytest.mark.parametrize("stream", [False, True])
def test_m05_an_output_that_breaks_its_schema_is_not_let_through(
    path: Path, upstream: Upstream, tmp_path: Path, text: str, stream: bool
) -> None:
    with gate(path, upstream, tmp_path, RELAYED) as g:
        upstream.reply(Answer(text=text, reasoning="hm"))
        answered = g.ask(text=FORMAT, stream=stream)
        if stream and answered.status_code == 200:
            assert events(answered)[-1]["type"] == "response.failed"
            assert b"output_text" not in answered.content
        else:
            assert answered.status_code == 400
        upstream.reply(Answer(text='{"n":5}'))
        assert b'{\\"n\\":5}' in g.ask("again", text=FORMAT, stream=stream).content


def test_relayed_text_passes_while_the_answer_is_still_coming(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, RELAYED) as g:
        upstream.reply(Answer(text="one two three four", events=4, gap=0.2))
        body = {"model": "gpt-5.4-mini", "input": "x", "stream": True}
        headers = {"authorization": f"Bearer {g.token}"}
        with g.http.stream("POST", g.url + "/responses", json=body, headers=headers) as answered:
            first = next(answered.iter_raw())
            assert first
            assert not g.entries("model.response")


# Clients that go away, and come again


def _hang_up(g: Gate, body: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {g.token}"}
    with g.http.stream("POST", g.url + "/responses", json=body, headers=headers) as answered:
        next(answered.iter_raw())


def _until(what: Any, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.02)


def test_a_client_that_hangs_up_and_asks_again_costs_nothing_twice(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    with gate(path, upstream, tmp_path, RELAYED) as g:
        upstream.reply(Answer(text="one two three four", events=6, gap=0.15))
        body = {"model": "gpt-5.4-mini", "input": "x", "stream": True}
        _hang_up(g, body)
        again = g.post(body)
        assert events(again)[-1]["type"] == "response.completed"
        _until(lambda: g.entries("model.response"))
        assert again.content == g.log.read(g.last("model.response").content)
        assert len(upstream.requests) == 1
        assert g.post(body).status_code == 200
        assert len(upstream.requests) == 2, "delivered is delivered: an equal request is another call"


def test_an_answer_whose_client_went_away_is_read_to_its_end_and_recorded(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    with gate(path, upstream, tmp_path, RELAYED) as g:
        upstream.reply(Answer(text="one two three four", events=6, gap=0.1))
        _hang_up(g, {"model": "gpt-5.4-mini", "input": "x", "stream": True})
        _until(lambda: g.entries("model.response"))
        assert g.last("model.response").status == "completed"


def test_giving_up_while_an_answer_is_judged_is_recorded_too(open_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LARGE", 1)
    monkeypatch.setattr(steps, "HANG_UP_S", 0.0)
    judged = threading.Event()
    fault = steps.Call._fault

    def slow(self: steps.Call) -> str:
        judged.set()
        time.sleep(0.5)
        return fault(self)

    monkeypatch.setattr(steps.Call, "_fault", slow)
    body = msgspec.json.encode({"model": "gpt-5.4-mini", "input": "x"})
    head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {open_gate.token}\r\n"
    host, port = open_gate.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as hasty:
        hasty.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert judged.wait(10)
    _until(lambda: open_gate.entries("model.response"))
    assert open_gate.last("model.response").status == "cut_off"
    answered = open_gate.post(body)
    assert answered.status_code in (200, 503), "an equal request later is answered, one way or the other"


def test_the_end_of_a_call_is_recorded_though_the_storage_fails_for_a_moment(
    open_gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.index import tasks

    commit, failures = tasks.Committing.commit, iter((StorageFailed("no space is left"),) * 2)

    async def failing(self: Any, draft: Any) -> Any:
        if any(isinstance(entry, ModelResponse) for entry in draft.entries) and (error := next(failures, None)):
            raise error
        return await commit(self, draft)

    monkeypatch.setattr(tasks.Committing, "commit", failing)
    assert open_gate.ask().status_code == 200
    assert len(open_gate.entries("model.response")) == 1


def test_what_was_sent_and_could_not_be_recorded_is_not_to_be_sent_again(
    open_gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.index import tasks

    commit = tasks.Committing.commit

    async def failing(self: Any, draft: Any) -> Any:
        if any(isinstance(entry, ModelResponse) for entry in draft.entries):
            raise StorageFailed("no space is left")
        return await commit(self, draft)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "_PAUSES", (0.01,))
        patched.setattr(tasks.Committing, "commit", failing)
        answered = open_gate.ask()
    assert (answered.status_code, answered.headers["x-should-retry"]) == (503, "false")
    assert "hello" not in answered.text


@pytest.mark.parametrize("model", ["gpt-5.4-mini", "gpt-9"], ids=["served", "denied"])
def test_a_call_that_waits_for_its_client_holds_its_answer_alone(open_gate: Gate, model: str) -> None:
    body = msgspec.json.encode({"model": model, "input": "x" * 3_000_000})
    head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {open_gate.token}\r\n"
    host, port = open_gate.url.removeprefix("http://").removesuffix("/v1").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=10) as hasty:
            hasty.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.3)
    _until(lambda: open_gate.entries("decision") and all(_held(call) < 10_000 for call in _alive()))


def _held(call: steps.Call) -> int:
    return len(call.body.came) + len(str(call.body.value)) + len(call._out) + len(str(call.answer.response))


def test_giving_up_at_any_moment_leaves_no_request_without_its_end(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "HANG_UP_S", 0.0)
    with gate(path, upstream, tmp_path, RELAYED) as g:
        host, port = g.url.removeprefix("http://").removesuffix("/v1").split(":")
        for number in range(80):
            body = msgspec.json.encode({"model": "gpt-5.4-mini", "input": f"{number}", "stream": True})
            head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {g.token}\r\n"
            with socket.create_connection((host, int(port))) as hasty:
                hasty.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
                time.sleep(0.0002 * number)
        _until(lambda: len(g.entries("model.response")) == len(g.entries("model.request")))
        ended = {r.entry.status for r in g.entries("model.response")}
        assert "cut_off" in ended, ended
        assert g.log.chain.state.history.find(g.run.id).calls.held == 0  # type: ignore[union-attr]
        # What was given up before it left cost nothing.
        assert len(upstream.requests) + len(upstream.dropped) <= len(g.entries("model.request"))


def test_an_answer_whose_client_went_away_is_not_read_for_ever(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "HANG_UP_S", 0.3)
    with gate(path, upstream, tmp_path, RELAYED) as g:
        upstream.reply(Answer(text="one two three four", events=6, stall_after=4))
        _hang_up(g, {"model": "gpt-5.4-mini", "input": "x", "stream": True})
        _until(lambda: g.entries("model.response"))
        found = g.last("model.response")
        assert (found.status, found.cost) == ("cut_off", found.reserved)


def test_a_retry_after_a_restart_is_answered_from_the_record(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    body = {"model": "gpt-5.4-mini", "input": "x", "stream": True}
    file = tmp_path / "p.toml"
    file.write_text(POLICY)
    with ledger.open(path) as log:
        run = log.run("r")
        before = Gate(log, run, upstream, file)
        first = before.post(body)
        before.inside.close()
    with ledger.open(path) as log:
        after = Gate(log, log.resume(run.id), upstream, file)
        again = after.post(body, x_stainless_retry_count="1")
        assert again.content == first.content
        assert len(upstream.requests) == 1
        assert len(after.entries("model.request")) == 1
        other = after.post({**body, "input": "y"}, x_stainless_retry_count="1")
        assert other.status_code == 200
        assert len(upstream.requests) == 2


def test_a_retry_after_an_error_that_was_delivered_is_another_try(open_gate: Gate) -> None:
    open_gate.upstream.reply(Answer(http=500), Answer(text="better"))
    client = openai.OpenAI(base_url=open_gate.url, api_key=open_gate.token, max_retries=2)
    assert client.responses.create(model="gpt-5.4-mini", input="x").output_text == "better"
    assert [r.entry.attempt for r in open_gate.entries("model.request")] == [1, 2]
    assert [r.entry.status for r in open_gate.entries("model.response")] == ["refused", "completed"]


def test_equal_requests_side_by_side_are_separate_calls(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path) as g, ThreadPoolExecutor(6) as pool:
        upstream.reply(*[Answer(delay=0.3, text=f"answer {i}") for i in range(6)])
        answers = list(pool.map(lambda _: g.ask("same").json()["output"][0]["content"][0]["text"], range(6)))
        assert len(set(answers)) == 6
        assert len(upstream.requests) == 6


def test_two_hundred_clients_at_once_are_served_and_leave_nothing_behind(open_gate: Gate) -> None:
    import os

    open_gate.ask("warm")
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    with ThreadPoolExecutor(200) as pool:
        statuses = list(pool.map(lambda n: open_gate.ask(f"{n}").status_code, range(400)))
    assert statuses == [200] * 400
    open_gate.http.close()
    _until(lambda: len(os.listdir("/proc/self/fd")) <= before + 210)
    assert threading.active_count() <= threads + 2
    assert len(open_gate.entries("model.response")) == 401


# The native way in, and the rest of the socket


def test_an_envelope_is_answered_with_a_validated_result(open_gate: Gate) -> None:
    source = open_gate.run.artifact("int add(int a) { return a; }", name="a.c")
    envelope = {
        "run_id": open_gate.run.id,
        "stage": "lift",
        "model": "gpt-5.4-mini",
        "reasoning_effort": "high",
        "input_artifacts": [source.address],
        "redaction_profile": "strict",
        "task_scope": {"kind": "function", "target": "a.c::add"},
    }
    answered = open_gate.post({**envelope, "prompt": "Explain."}, path="/envelopes")
    assert answered.status_code == 200, answered.text
    assert answered.json()["output"] == "hello"
    left = open_gate.upstream.requests[-1].json
    assert left is not None
    assert "int add" in json.dumps(left["input"])
    assert left["reasoning"]["effort"] == "high"
    sealed = msgspec.json.decode(open_gate.log.read(open_gate.last("model.request").envelope))
    assert sealed["task_scope"] == envelope["task_scope"]
    wrong: list[tuple[str, Any]] = [("run_id", "nightly"), ("model", 5), ("reasoning_effort", "extreme")]
    wrong += [("input_artifacts", ["x"]), ("response_schema", "nobody@1")]
    wrong += [("task_scope", {"kind": "galaxy", "target": "all"}), ("surplus", 1)]
    for name, value in wrong:
        assert open_gate.post({**envelope, name: value, "prompt": "x"}, path="/envelopes").status_code == 400, name
    assert open_gate.post(envelope, path="/envelopes").status_code == 400
    denied = open_gate.post({**envelope, "model": "gpt-9", "prompt": "x"}, path="/envelopes")
    assert (denied.status_code, denied.json()["error"]["code"]) == (400, "policy_denied")
    assert len(open_gate.upstream.requests) == 1


def test_artifacts_that_can_not_be_read_stop_the_call(open_gate: Gate) -> None:
    missing = "artifact://" + "0" * 64
    binary = open_gate.run.artifact(b"\xff\xfe").address
    for address in (missing, binary, "artifact://nonsense"):
        body = {
            "model": "gpt-5.4-mini",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": address}]}],
        }
        answered = open_gate.post(body)
        assert answered.status_code == 400, address
        assert answered.json()["error"]["code"] == "artifact_unreadable"
    assert open_gate.upstream.requests == []


def test_the_socket_takes_entries_and_gives_back_what_the_run_names(open_gate: Gate) -> None:
    headers = {"authorization": f"Bearer {open_gate.token}"}
    base = open_gate.url.removesuffix("/v1") + "/ledger"
    made = open_gate.http.post(f"{base}/entries/artifact?name=out.txt", content=b"made inside", headers=headers).json()
    kept = open_gate.http.post(f"{base}/entries/value?name=now", content=b"2026", headers=headers).json()
    assert open_gate.log.entry(kept["index"]).entry.__class__.__name__ == "Value"
    got = open_gate.http.get(f"{base}/blobs/{made['address'][11:]}", headers=headers)
    assert got.content == b"made inside"
    with open_gate.log.run("another's") as other:
        theirs = other.artifact("theirs").address
    assert open_gate.http.get(f"{base}/blobs/{theirs[11:]}", headers=headers).status_code == 404
    assert open_gate.http.post(f"{base}/entries/erasure", content=b"", headers=headers).status_code == 404
    assert open_gate.http.post(f"{base}/entries/artifact", content=b"x").status_code == 401
    assert open_gate.http.get(f"{base}/run", headers=headers).json()["open"] is True


def test_curl_and_node_go_through(open_gate: Gate, tmp_path: Path) -> None:
    answered = curl(open_gate.url, open_gate.token, {"model": "gpt-5.4-mini", "input": "x", "stream": True})
    assert answered.http == 200
    assert answered.events[-1]["type"] == "response.completed"
    script = """
    import OpenAI from "openai";
    const client = new OpenAI();
    const whole = await client.responses.create({model: "gpt-5.4-mini", input: "x"});
    let text = "";
    for await (const event of await client.responses.create({model: "gpt-5.4-mini", input: "y", stream: true}))
        if (event.type === "response.output_text.delta") text += event.delta;
    console.log(whole.output_text, text);
    try { await client.responses.create({model: "gpt-9", input: "x"}) } catch (error) { console.log(error.code) }
    """
    said = node_client(tmp_path / "node").run(script, open_gate.url, open_gate.token)
    assert said.status == 0, said.err
    assert said.out == "hello hello\npolicy_denied\n"
    assert len(open_gate.entries("model.response")) == 3


async def _asked(url: str, token: str) -> list[str]:
    async with openai.AsyncOpenAI(base_url=url, api_key=token) as client:
        asked = [client.responses.create(model="gpt-5.4-mini", input=f"{n}") for n in range(10)]
        return [answer.output_text for answer in await asyncio.gather(*asked)]


def test_tools_over_several_turns_and_parsed_outputs(open_gate: Gate) -> None:
    client = openai.OpenAI(base_url=open_gate.url, api_key=open_gate.token)
    open_gate.upstream.reply(calling("add", {"a": 1}), Answer("It is 1."))
    first = client.responses.create(model="gpt-5.4-mini", input="add", tools=[ADD])  # type: ignore[list-item]
    [call] = [item for item in first.output if item.type == "function_call"]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "1"}
    turn = [{"role": "user", "content": "add"}, *(item.to_dict() for item in first.output), output]
    second = client.responses.create(model="gpt-5.4-mini", input=turn, tools=[ADD])  # type: ignore[arg-type,list-item]
    assert second.output_text == "It is 1."
    assert [r.entry.attempt for r in open_gate.entries("model.request")] == [1, 1]
    assert open_gate.entries("model.request")[1].entry.continues == open_gate.entries("model.request")[0].index
    assert asyncio.run(_asked(open_gate.url, open_gate.token)) == ["hello"] * 10


def test_real_clients_read_every_answer(open_gate: Gate) -> None:
    client = openai.OpenAI(base_url=open_gate.url, api_key=open_gate.token)
    assert client.models.list().data
    with client.responses.stream(model="gpt-5.4-mini", input="x") as stream:
        assert [event.type for event in stream][-1] == "response.completed"
    with pytest.raises(openai.BadRequestError, match="denied by policy"):
        client.responses.create(model="gpt-9", input="x")
    assert isinstance(open_gate.entries("model.request")[0].entry, ModelRequest)
    assert isinstance(open_gate.entries("model.response")[0].entry, ModelResponse)


def test_refused_is_an_error_that_names_its_field() -> None:
    with pytest.raises(Refused) as refused:
        Body(b'{"model":"m","input":"x","background":true}')
    assert refused.value.field == "background"


def test_a_call_whose_answer_was_taken_is_not_kept(open_gate: Gate) -> None:
    for number in range(20):
        assert open_gate.ask(f"n{number}", stream=bool(number % 2)).status_code == 200
    deadline = time.monotonic() + 10
    while (alive := _calls()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive <= 1


def _alive() -> list[steps.Call]:
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, steps.Call)]


def _calls() -> int:
    return len(_alive())
