"""Agents that people run, against a Responses API: `make test-clients` installs them, nothing else runs these."""

import json
from pathlib import Path

import pytest

import ledger
from ledger import steer
from tests.support import clients, gateways, template
from tests.support.upstream import Answer, Json, Upstream, calling

pytestmark = pytest.mark.clients

KEY = "sk-upstream"


def tool_outputs(asked: Json) -> list[Json]:
    """What the tools answered so far in a conversation."""
    return [item for item in asked["input"] if isinstance(item, dict) and item.get("type", "").endswith("_call_output")]


AGENT = """
from agents import Agent, Runner, function_tool, set_tracing_disabled

@function_tool
def add(a: int, b: int) -> int:
    "Adds two numbers."
    return a + b

agent = Agent(name="adder", instructions="Add.", model="gpt-5.3-codex", tools=[add])
{run}
"""
PLAINLY = "print(Runner.run_sync(agent, 'What is 2 + 3?').final_output)"
STREAMED = """
import asyncio

async def main():
    running = Runner.run_streamed(agent, "What is 2 + 3?")
    async for _ in running.stream_events():
        pass
    print(running.final_output)

asyncio.run(main())
"""


@pytest.mark.parametrize("run", [PLAINLY, STREAMED], ids=["plain", "streamed"])
def test_openai_agents_call_a_function_and_go_on(tmp_path: Path, run: str) -> None:
    with Upstream(key=KEY) as upstream:
        upstream.reply(calling("add", {"a": 2, "b": 3}), Answer("It is 5."))
        said = clients.with_others(AGENT.format(run=run), upstream.url, KEY, cwd=tmp_path)
        assert said.status == 0, said.err
        assert said.out == "It is 5.\n"
        first, second = upstream.requests
        assert first.json is not None
        assert second.json is not None
        assert [tool["name"] for tool in first.json["tools"]] == ["add"]
        assert [item["output"] for item in tool_outputs(second.json)] == ["5"]


LITELLM = """
import litellm

asked = dict(model="openai/gpt-5.3-codex", input="hi", {more})
{run}
"""
WHOLE = "print(litellm.responses(**asked).output[0].content[0].text)"
PIECES = """
events = list(litellm.responses(**asked, stream=True))
print("".join(event.delta for event in events if event.type == "response.output_text.delta"))
assert events[-1].type == "response.completed", events[-1]
"""


@pytest.mark.parametrize("run", [WHOLE, PIECES], ids=["plain", "streamed"])
def test_litellm_gets_a_response(tmp_path: Path, run: str) -> None:
    with Upstream(key=KEY) as upstream:
        upstream.reply(Answer("Hello from afar."))
        said = clients.with_others(LITELLM.format(run=run, more=""), upstream.url, KEY, cwd=tmp_path)
        assert said.status == 0, said.err
        assert said.out == "Hello from afar.\n"
        assert len(upstream.requests) == 1


def test_codex_runs_a_command_and_reports(tmp_path: Path) -> None:
    with Upstream(key=KEY) as upstream:
        upstream.reply(
            calling("exec_command", {"cmd": "echo made > made.txt; echo done"}, reasoning="A file is wanted."),
            Answer("It is made."),
        )
        said = clients.codex("Make a file.", upstream.url, KEY, folder=tmp_path / "work")
        assert said.status == 0, said.err
        items = [event["item"] for event in said.json if event["type"] == "item.completed"]
        assert [item["text"] for item in items if item["type"] == "agent_message"] == ["It is made."]
        assert (tmp_path / "work" / "made.txt").read_text() == "made\n"
        first, second = upstream.requests
        assert first.json is not None
        assert first.json["store"] is False
        assert first.json["include"] == ["reasoning.encrypted_content"]
        assert second.json is not None
        # What was encrypted comes back with the id that it belongs to.
        assert [i["id"] for i in second.json["input"] if i["type"] == "reasoning"]
        assert "done" in json.dumps(tool_outputs(second.json))


def test_codex_shows_a_denial_and_does_not_ask_again(tmp_path: Path) -> None:
    with Upstream(key=KEY) as upstream:
        upstream.reply(Answer(http=400, error=("denied", "The budget of this run is spent.")))
        said = clients.codex("Make a file.", upstream.url, KEY, folder=tmp_path / "work")
        assert said.status == 1, said
        assert "The budget of this run is spent." in said.out
        assert len(upstream.requests) == 1


# The same, through the gateway


@pytest.fixture
def path(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    ledger.init(tmp_path / "l", origin=template.ORIGIN)
    return tmp_path / "l"


POLICY = gateways.POLICY + 'streaming = "relayed"\nhosted_tools_else = "remove"\n'


@pytest.mark.parametrize("run", [PLAINLY, STREAMED], ids=["plain", "streamed"])
def test_openai_agents_go_through_the_gateway(path: Path, tmp_path: Path, run: str) -> None:
    with Upstream(key=KEY) as upstream, gateways.gate(path, upstream, tmp_path, POLICY) as g:
        upstream.reply(calling("add", {"a": 2, "b": 3}), Answer("It is 5."))
        said = clients.with_others(AGENT.format(run=run), g.url, g.token, cwd=tmp_path)
        assert said.status == 0, said.err
        assert said.out == "It is 5.\n"
        assert [r.entry.verdict for r in g.entries("model.response")] == ["valid", "valid"]
        assert [r.entry.attempt for r in g.entries("model.request")] == [1, 1]


@pytest.mark.parametrize("run", [WHOLE, PIECES], ids=["plain", "streamed"])
def test_litellm_goes_through_the_gateway(path: Path, tmp_path: Path, run: str) -> None:
    with Upstream(key=KEY) as upstream, gateways.gate(path, upstream, tmp_path, POLICY) as g:
        upstream.reply(Answer("Hello from afar."))
        said = clients.with_others(LITELLM.format(run=run, more=""), g.url, g.token, cwd=tmp_path)
        assert said.status == 0, said.err
        assert said.out == "Hello from afar.\n"
        assert len(g.entries("model.response")) == 1


def test_codex_goes_through_the_gateway(path: Path, tmp_path: Path) -> None:
    with Upstream(key=KEY) as upstream, gateways.gate(path, upstream, tmp_path, POLICY) as g:
        upstream.reply(
            calling("exec_command", {"cmd": "echo made > made.txt; echo done"}, reasoning="A file is wanted."),
            Answer("It is made."),
        )
        said = clients.codex("Make a file.", g.url, g.token, folder=tmp_path / "work")
        assert said.status == 0, said.err
        assert (tmp_path / "work" / "made.txt").read_text() == "made\n"
        requests = g.entries("model.request")
        assert [r.entry.attempt for r in requests] == [1, 1]
        assert requests[1].entry.continues == requests[0].index
        left = upstream.requests[0].json
        assert left is not None
        assert not [tool for tool in left["tools"] if tool["type"] == "web_search"]


def test_codex_is_told_why_a_call_is_denied_and_does_not_execute_what_is_invalid(path: Path, tmp_path: Path) -> None:
    with Upstream(key=KEY) as upstream, gateways.gate(path, upstream, tmp_path, POLICY) as g:
        upstream.reply(calling("exec_command", {"command_of_mine": "touch evil.txt"}))
        said = clients.codex("Make a file.", g.url, g.token, folder=tmp_path / "work")
        assert "was not let through" in said.out
        assert not (tmp_path / "work" / "evil.txt").exists()
        assert len(upstream.requests) == 1
        steer.pause(g.log, g.run.id)
        said = clients.codex("Make a file.", g.url, g.token, folder=tmp_path / "again")
        assert "paused" in said.out
        assert len(upstream.requests) == 1
