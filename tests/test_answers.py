"""A gateway that answers from the ledger gives what was given, byte for byte, and never asks a model."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

import ledger
from ledger.gateway.door import OPEN
from ledger.gateway.server import listen
from ledger.gateway.tokens import Token
from ledger.index.reader import Log
from replay import story
from replay.answers import Answers, Replaying
from tests.support import template
from tests.support.gateways import POLICY, gate
from tests.support.template import Template
from tests.support.upstream import Answer, Upstream, calling

KEY = "sk-upstream"
ADD = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
KEPT = ("x-ledger-entry", "content-type", "x-should-retry", "x-request-id")


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


class Replay:
    """A replaying gateway, and what tests ask of it."""

    def __init__(self, answers: Answers, url: str) -> None:
        self.answers, self.url = answers, url
        self.http = httpx2.Client(timeout=30)

    def ask(self, said: str = "hello", **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {OPEN}"}
        return self.http.post(
            f"{self.url}/responses", json={"model": "gpt-5.4-mini", "input": said, **more}, headers=headers
        )


@contextmanager
def replay(path: Path, run: str) -> Iterator[Replay]:
    with Log.open(path) as log:
        replaying = Replaying(log, story.read(log, run))
        inside = replaying.serve(listen("127.0.0.1:0"), Token(run, 2**40))
        found = Replay(replaying.answers, inside.url)
        try:
            yield found
        finally:
            found.http.close()
            inside.close()


def same(first: httpx2.Response, second: httpx2.Response) -> None:
    assert (second.status_code, second.content) == (first.status_code, first.content)
    for name in KEPT:
        assert second.headers.get(name) == first.headers.get(name), name


def record(path: Path, upstream: Upstream, folder: Path, policy: str = POLICY) -> Any:
    return gate(path, upstream, folder, policy)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("streaming", ["buffered", "relayed"])
def test_answers_come_again_to_the_byte_and_nothing_is_asked(
    path: Path, upstream: Upstream, tmp_path: Path, stream: bool, streaming: str
) -> None:
    upstream.reply(Answer(text="one"), calling("add", {"a": 1}), Answer(text="two"))
    with record(path, upstream, tmp_path, POLICY + f'streaming = "{streaming}"\n') as g:
        first = [g.ask(said, stream=stream, tools=[ADD]) for said in ("a", "b", "c")]
        g.run.finish()
    asked = len(upstream.requests)
    with replay(path, g.run.id) as again:
        for said, response in zip("abc", first, strict=True):
            same(response, again.ask(said, stream=stream, tools=[ADD]))
        assert again.answers.left == []
        assert again.answers.unknown == []
    assert len(upstream.requests) == asked


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(http=429),
        Answer(http=500),
        Answer(http=400),
        Answer(status="failed"),
        Answer(status="incomplete"),
        Answer(cut_after=-1),
        Answer(cut_after=2),
        Answer(garbage_after=2),
        Answer(raw=b"{}"),
    ],
    ids=["429", "500", "400", "failed", "incomplete", "no answer", "cut off", "garbage", "no response"],
)
def test_errors_come_again_as_they_were(
    path: Path, upstream: Upstream, tmp_path: Path, answer: Answer, stream: bool
) -> None:
    upstream.reply(answer, Answer(text="then"))
    with record(path, upstream, tmp_path) as g:
        first = [g.ask("a", stream=stream), g.ask("a", stream=stream)]
        g.run.finish()
    with replay(path, g.run.id) as again:
        for response in first:
            same(response, again.ask("a", stream=stream))
        assert again.answers.left == []


def test_a_denial_and_an_answer_that_was_not_let_through_come_again(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.reply(calling("unknown_tool", {"a": 1}))
    with record(path, upstream, tmp_path) as g:
        refused, invalid = g.ask("a", model="gpt-unheard-of"), g.ask("b", tools=[ADD])
        g.run.finish()
    assert (refused.status_code, invalid.status_code) == (400, 400)
    with replay(path, g.run.id) as again:
        same(invalid, again.ask("b", tools=[ADD]))
        same(refused, again.ask("a", model="gpt-unheard-of"))
        assert again.answers.left == []


def test_what_was_never_asked_is_refused_with_the_nearest_and_where_it_differs(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    with record(path, upstream, tmp_path) as g:
        g.ask("lift sub_8210 and keep its names")
        g.ask("something else altogether")
        index = g.entries("model.request")[0].index
        g.run.finish()
    asked = len(upstream.requests)
    with replay(path, g.run.id) as again:
        refused = again.ask("lift sub_8211 and keep its names")
        assert refused.status_code == 400
        assert refused.headers["x-should-retry"] == "false"
        message = refused.json()["error"]["message"]
        assert f"nearest is entry {index}" in message
        assert "sub_8210" in message
        assert "sub_8211" in message
        (unknown,) = again.answers.unknown
        assert unknown.nearest == index
        assert [one.path for one in unknown.differences] == ["input[0].content"]
    assert len(upstream.requests) == asked


def test_one_request_more_than_recorded_is_no_request_of_the_run(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    with record(path, upstream, tmp_path) as g:
        g.ask("a")
        g.run.finish()
    with replay(path, g.run.id) as again:
        assert again.ask("a").status_code == 200
        assert again.ask("a").status_code == 400
        assert again.answers.unknown[0].nearest == 0


def test_alike_requests_are_answered_in_their_order_and_lanes_do_not_mix(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.reply(*(Answer(text=str(number)) for number in range(4)))
    with record(path, upstream, tmp_path) as g:
        for lane in ("x", "y", "x", "y"):
            g.ask("a", metadata={"ledger.lane": lane})
        g.run.finish()
    with replay(path, g.run.id) as again:

        def said(lane: str) -> str:
            found = again.ask("a", metadata={"ledger.lane": lane}).json()
            return str(found["output"][0]["content"][0]["text"])

        assert [said(lane) for lane in ("y", "y", "x", "x")] == ["1", "3", "0", "2"]
        assert again.answers.ambiguous == []


def test_requests_in_parallel_are_told_apart_by_what_they_ask(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    def script(asked: dict[str, Any]) -> Answer:
        return Answer(text=f"to {asked['input']}")

    texts = [f"question {number}" for number in range(24)]
    with Upstream(key=KEY, script=script) as told, record(path, told, tmp_path) as g:
        with ThreadPoolExecutor(8) as pool:
            first = dict(zip(texts, pool.map(g.ask, texts), strict=True))
        g.run.finish()
    with replay(path, g.run.id) as again, ThreadPoolExecutor(8) as pool:
        for text, response in zip(reversed(texts), pool.map(again.ask, reversed(texts)), strict=True):
            same(first[text], response)


def test_alike_requests_that_were_under_way_together_are_said_to_be_ambiguous(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.reply(Answer(text="one", delay=0.7), Answer(text="two", delay=0.7))
    with record(path, upstream, tmp_path) as g:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(g.ask, ["a", "a"]))
        first = g.entries("model.request")[0].index
        g.run.finish()
    with replay(path, g.run.id) as again:
        assert again.ask("a").status_code == 200
        assert again.answers.ambiguous == [first]


def test_what_a_program_appends_gets_its_place_again_and_what_differs_is_noted(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with record(path, upstream, tmp_path) as g:
        monkeypatch.setenv("LEDGER_TOKEN", g.token)
        with ledger.open(g.url) as there:
            run = there.run()
            first = [run.artifact(b"made", name="a"), run.artifact(b"more", name="b")]
        g.run.finish()
    with replay(path, g.run.id) as again:
        monkeypatch.setenv("LEDGER_TOKEN", OPEN)
        with ledger.open(again.url) as there:
            run = there.run()
            assert run.artifact(b"made", name="a") == first[0]
            assert again.answers.strange == []
            assert run.artifact(b"less", name="b").index == first[1].index
            assert again.answers.strange == [f"artifact of entry {first[1].index} has another content"]
            with pytest.raises(ledger.NotFound, match="no further artifact"):
                run.artifact(b"third")


def test_a_replay_leaves_the_run_as_it_was(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with record(path, upstream, tmp_path) as g:
        g.ask("a")
        g.run.finish()
    with ledger.open(path) as log:
        before = [recorded.raw for recorded in log.entries()]
    with replay(path, g.run.id) as again:
        again.ask("a")
        again.ask("b")
    with ledger.open(path) as log:
        assert [recorded.raw for recorded in log.entries()] == before


def test_the_sdk_does_not_wait_before_it_tries_again_as_it_did(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    upstream.reply(Answer(http=429, headers={"retry-after": "2"}), Answer(text="then"))

    def ask(url: str, key: str) -> str:
        with openai.OpenAI(base_url=url, api_key=key, max_retries=2) as client:
            return client.responses.create(model="gpt-5.4-mini", input="a").output_text

    with record(path, upstream, tmp_path) as g:
        first = ask(g.url, g.token)
        g.run.finish()
    with replay(path, g.run.id) as again:
        assert ask(again.url, OPEN) == first
        assert again.answers.left == []
        assert again.answers.unknown == []
