"""Calls that people let go: asked for once, kept alive while they think, used once, and never without them."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

import ledger
from ledger import approve, govern
from ledger.commit import Draft
from ledger.gateway import outlet, server
from ledger.gateway.client import Inside
from schemas.entries import ApprovalConsumed, ApprovalRequested, ModelRequest
from tests.support import template
from tests.support.gateways import POLICY, Gate, events, gate
from tests.support.people import ADA, ADA_TOO, BOB, MALLORY, Person
from tests.support.template import Template
from tests.support.upstream import Upstream

KEY = "sk-upstream"
ASKING = POLICY.replace("requires_approval = false", "requires_approval = true")
TWO = ASKING + "[approvals]\nthreshold = 2\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), lambda path: None)


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    found = made.copy(home, tmp_path / "l")
    with ledger.open(found) as log:
        for person in (ADA, BOB):
            govern.add_approver(log, person.name, person.public, person.roles)
    return found


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(key=KEY) as found:
        yield found


def asked(g: Gate) -> list[ApprovalRequested]:
    return [r.entry for r in g.entries("approval.requested") if isinstance(r.entry, ApprovalRequested)]


def say(g: Gate, by: Person, verdict: Any = "approve") -> None:
    """Somebody answers the newest request, in a process of his own as far as the gateway can tell."""
    with ledger.open(g.log.path) as log:
        found = asked(g)[-1]
        approve.answer(log, found, verdict, by.sign(approve.text(log, found, verdict)), "because")


def until(what: Any) -> None:
    ends = time.monotonic() + 15
    while not what():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.05)


def test_m08_a_call_without_a_stream_is_told_whom_to_ask_and_goes_once_after_a_yes(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    with gate(path, upstream, tmp_path, ASKING) as g:
        for _ in range(2):
            told = g.ask("release it")
            assert (told.status_code, told.json()["error"]["code"]) == (400, "approval_required")
            assert told.headers["x-should-retry"] == "false"
        assert len(asked(g)) == 1, "asked once"
        assert f"ledger approve {g.entries('approval.requested')[0].index}" in told.json()["error"]["message"]
        assert upstream.requests == []
        say(g, ADA)
        assert g.ask("something else").status_code == 400, "a yes is for exactly one request"
        assert g.ask("release it").status_code == 200
        used = g.entries("approval.consumed")[0].entry
        assert isinstance(used, ApprovalConsumed)
        assert used.to == g.entries("approval.requested")[0].index
        assert g.ask("release it").status_code == 400, "used once"
        assert len(asked(g)) == 3
        assert len(upstream.requests) == 1


def test_a_stream_waits_kept_alive_and_goes_on_after_a_yes(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.gateway.steps.ALIVE_S", 0.2)
    monkeypatch.setattr(outlet, "ALIVE_S", 0.2)
    with gate(path, upstream, tmp_path, ASKING) as g:
        answered: list[Any] = []
        waiting = threading.Thread(target=lambda: answered.append(g.ask("release it", stream=True)))
        waiting.start()
        until(lambda: asked(g))
        time.sleep(1)
        assert upstream.requests == []
        say(g, ADA)
        waiting.join(20)
        assert b": waiting" in answered[0].content
        assert events(answered[0])[-1]["type"] == "response.completed"


def test_a_stream_waits_no_longer_than_policy_lets_it(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, ASKING + "[approvals]\nwait_s = 1\n") as g:
        began = time.monotonic()
        assert g.ask("release it", stream=True).status_code == 400
        assert time.monotonic() - began < 10
        assert upstream.requests == []


@pytest.mark.parametrize("first", [False, True], ids=["a no", "a yes before it"])
def test_a_no_is_a_no(path: Path, upstream: Upstream, tmp_path: Path, first: bool) -> None:
    with gate(path, upstream, tmp_path, TWO) as g:
        g.ask("release it")
        if first:
            say(g, ADA)
        say(g, BOB, "deny")
        told = g.ask("release it")
        assert (told.status_code, told.json()["error"]["code"]) == (400, "approval_denied")
        assert len(asked(g)) == 1, "nobody is asked again for as long as the no holds"
        assert upstream.requests == []


def test_two_keys_of_one_human_are_one_and_strangers_are_none(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, TWO) as g:
        with ledger.open(path) as log:
            govern.add_approver(log, ADA_TOO.name, ADA_TOO.public, ADA_TOO.roles)
        g.ask("release it")
        say(g, ADA)
        with pytest.raises(ledger.LedgerError, match="counted already"):
            say(g, ADA_TOO)
        with pytest.raises(ledger.LedgerError, match="stranger"):
            say(g, MALLORY)
        assert g.ask("release it").status_code == 400
        say(g, BOB)
        assert g.ask("release it").status_code == 200


def test_another_gateway_joins_what_waits_and_a_changed_policy_asks_again(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    with gate(path, upstream, tmp_path, ASKING) as g:
        g.ask("release it")
        say(g, ADA)
        policy = tmp_path / "policy.toml"
        policy.write_text(ASKING.replace("max_cost_usd = 50", "max_cost_usd = 40"))
        settings = server.Settings(upstream=upstream.url, key="env:UPSTREAM_KEY", policies=(str(policy),))
        headers = {"authorization": f"Bearer {g.token}"}
        body = {"model": "gpt-5.4-mini", "input": "release it"}
        changed = Inside.start(g.log, settings)
        assert g.http.post(f"{changed.url}/responses", json=body, headers=headers).status_code == 400
        changed.close()
        assert upstream.requests == []
        policy.write_text(ASKING)
        again = Inside.start(g.log, settings)
        assert g.http.post(f"{again.url}/responses", json=body, headers=headers).status_code == 200
        again.close()


def test_of_many_at_once_exactly_one_uses_a_yes(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, ASKING) as g:
        g.ask("release it")
        say(g, ADA)
        with ThreadPoolExecutor(12) as pool:
            statuses = list(pool.map(lambda _: g.ask("release it").status_code, range(12)))
        assert sorted(statuses) == [200] + [400] * 11
        assert len(upstream.requests) == 1
        assert sum(isinstance(r.entry, ModelRequest) for r in g.entries()) == 1


def test_equal_calls_at_once_ask_once_and_a_no_is_a_no_for_all(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, ASKING) as g:
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda _: g.ask("release it"), range(12)))
        assert len(asked(g)) == 1
        say(g, BOB, "deny")
        assert g.ask("release it").json()["error"]["code"] == "approval_denied"
        assert upstream.requests == []


def test_a_request_that_another_author_planted_asks_for_no_less(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, TWO) as g:
        g.ask("release it")
        asks = g.entries("approval.requested")[0].entry
        for nonce, weaker in (("ab" * 16, {"quorum": ["1"]}), ("cd" * 16, {"requester": "nobody"})):
            planted = msgspec.structs.replace(asks, nonce=nonce, step=0, **weaker)
            g.log.writer.commit(Draft([planted], [], [""]))
            say(g, ADA)
            assert g.ask("release it").status_code == 400
        assert upstream.requests == []


def test_nobody_approves_what_he_asks_for_himself(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, ASKING) as g:
        author = g.log.author().name.rpartition("/")[2]
        oneself = Person(author, ("lead",))
        with ledger.open(path) as log:
            govern.add_approver(log, oneself.name, oneself.public, oneself.roles)
        g.ask("release it")
        assert asked(g)[-1].requester == author
        with pytest.raises(ledger.LedgerError, match="self-approval"):
            say(g, oneself)
        assert g.ask("release it").status_code == 400


def test_what_nobody_knows_the_price_of_nobody_can_approve(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    policy = ASKING.replace("max_cost_usd = 50\n", "").replace('"gpt-5.4-mini"', '"gpt-5.4-mini", "no-such-price"')
    with gate(path, upstream, tmp_path, policy) as g:
        told = g.post({"model": "no-such-price", "input": "x"})
        assert told.status_code == 400
        assert asked(g) == []


def test_who_hangs_up_while_people_think_uses_no_approval_up(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.gateway.steps.HANG_UP_S", 0.2)
    monkeypatch.setattr("ledger.gateway.steps.ALIVE_S", 0.1)
    with gate(path, upstream, tmp_path, ASKING) as g:
        headers = {"authorization": f"Bearer {g.token}"}
        body = {"model": "gpt-5.4-mini", "input": "release it", "stream": True}
        with g.http.stream("POST", g.url + "/responses", json=body, headers=headers):
            until(lambda: asked(g))
        time.sleep(1.5)
        say(g, ADA)
        time.sleep(1)
        assert not g.entries("approval.consumed")
        assert g.post(body).status_code == 200


def test_only_what_may_cost_more_asks(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, POLICY + "[approvals]\nover_usd = 0.05\n") as g:
        assert g.ask("cheap", max_output_tokens=16).status_code == 200
        assert g.ask("dear", max_output_tokens=30_000).status_code == 400
        assert len(asked(g)) == 1


def test_a_real_client_reads_why_and_does_not_try_again(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    with gate(path, upstream, tmp_path, ASKING) as g:
        client = openai.OpenAI(base_url=g.url, api_key=g.token)
        with pytest.raises(openai.BadRequestError, match="ledger approve"):
            client.responses.create(model="gpt-5.4-mini", input="release it")
        assert len(g.entries("decision")) == 1
