"""A ledger over the gateway's socket: the same calls, one run's reach, nothing without a token."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import remote
from ledger.gateway.client import token
from ledger.gateway.tokens import Token
from schemas.entries import Artifact, Prompt, Response, Value
from tests.support import shell, template
from tests.support.gateways import Gate, gate
from tests.support.shell import LEDGER, ROOT
from tests.support.template import Template
from tests.support.upstream import Upstream

KEY = "sk-upstream-of-the-socket"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), lambda path: None)


@pytest.fixture
def open_gate(made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    path = made.copy(home, tmp_path / "l")
    with Upstream(key=KEY) as upstream, gate(path, upstream, tmp_path) as found:
        monkeypatch.setenv("LEDGER", found.url.removesuffix("/v1"))
        monkeypatch.setenv("LEDGER_TOKEN", found.token)
        yield found


def test_a_program_appends_and_reads_over_the_socket_as_it_does_beside_the_files(
    open_gate: Gate, tmp_path: Path
) -> None:
    file = tmp_path / "out.bin"
    file.write_bytes(b"\x00" * 70_000)
    with ledger.open() as log, log.run("nightly", stage="plan") as run:
        asked = run.prompt("Write a parser.", model="gpt-5.4-mini")
        answer = run.response({"text": "def parse(): ..."}, to=asked)
        made = run.stage("build", lane="a", task="t").artifact(file)
        run.value(b"2026", name="now")
        many = run.append_many(ledger.Item(kind="artifact", content=f"{n}") for n in range(1500))
        assert log.read(made.address) == file.read_bytes()
        assert [one.index for one in many] == sorted({one.index for one in many})
        assert [info.id for info in log.runs()] == [run.id]
        assert log.runs(since=datetime(2100, 1, 1, tzinfo=UTC)) == []
    beside = {recorded.index: recorded for recorded in open_gate.log.entries(open_gate.run)}
    with ledger.open() as log:
        assert [(r.index, r.raw) for r in log.entries()] == [(r.index, r.raw) for r in beside.values()]
    assert isinstance(prompt := beside[asked.index].entry, Prompt)
    assert (prompt.stage, prompt.model) == ("plan", "gpt-5.4-mini")
    assert isinstance(response := beside[answer.index].entry, Response)
    assert response.to == asked.index
    assert isinstance(artifact := beside[made.index].entry, Artifact)
    assert (artifact.stage, artifact.lane, artifact.task) == ("build", "a", "t")
    assert open_gate.log.detail(artifact.detail).name == "out.bin"
    assert any(isinstance(r.entry, Value) for r in beside.values())


def test_leaving_a_run_leaves_it_open_and_finishing_it_ends_it_for_all(open_gate: Gate) -> None:
    with ledger.open() as log:
        with pytest.raises(ZeroDivisionError), log.run("x"):
            raise ZeroDivisionError
        log.run("y").prompt("still open")
        log.run().finish("failed", reason="tests are red")
        with pytest.raises(ledger.RunClosed):
            log.run("z").prompt("too late")
        assert log.runs()[0].status == "failed"


def test_async_is_the_same(open_gate: Gate) -> None:
    async def work() -> int:
        async with ledger.aio.open() as log, log.run("nightly", stage="lift") as run:
            asked = await run.prompt("a")
            await run.stage("review").response("b", to=asked)
            made = await run.append_many([ledger.Item(kind="artifact", content="c")])
            assert await log.read(made[0].address) == b"c"
            assert (await log.runs())[0].id == run.id
            async with log.resume(run.id) as again:
                assert again.id == run.id
            return len([one async for one in log.entries()])

    assert asyncio.run(work()) == len(list(open_gate.log.entries(open_gate.run)))


def test_a_client_of_the_model_comes_from_the_run_over_the_socket_too(open_gate: Gate) -> None:
    with ledger.open() as log:
        client = log.run(stage="lift").stage("review", task="t9").openai()
        assert client.responses.create(model="gpt-5.4-mini", input="hi").output_text == "hello"
        with pytest.raises(ledger.UsageError):
            log.run().openai(upstream="https://elsewhere.example/v1")
    entry = open_gate.last("model.request")
    assert (entry.stage, entry.task) == ("review", "t9")


def test_the_shell_appends_prints_and_finishes_over_the_socket(open_gate: Gate, tmp_path: Path) -> None:
    asked = shell.call("append", "prompt", "-", "--stage", "plan", stdin=b"Why?")
    assert asked.status == 0, asked.err
    (tmp_path / "a.txt").write_text("Because.")
    answered = shell.call("append", "response", str(tmp_path / "a.txt"), "--json").json[0]
    assert answered["run"] == open_gate.run.id
    response = open_gate.log.entry(answered["index"]).entry
    assert isinstance(response, Response)
    assert response.to == int(asked.out.split()[0])
    assert shell.call("cat", answered["address"]).out == "Because."
    assert shell.call("append", "artifact", "-", "--run", open_gate.run.id[-8:], stdin=b"x").status == 0
    assert shell.call("append", "artifact", "-", "--run", "nobody's", stdin=b"x").status == 2
    for verb in (["log"], ["verify"], ["query", "SELECT 1"], ["start"], ["show", "1"]):
        said = shell.call(*verb)
        assert said.status == 2, verb
        assert "gateway's socket" in said.err
    assert shell.call("finish", "--status", "failed").status == 0
    open_gate.log.catch_up()
    assert open_gate.log.runs()[0].status == "failed"


def test_a_token_reaches_its_own_run_alone(open_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_gate.log.run("another's") as other:
        theirs = other.artifact("theirs").address
    with ledger.open() as log:
        with pytest.raises(ledger.NotFound):
            log.read(theirs)
        with pytest.raises(ledger.NotFound):
            log.resume(other.id)
        with pytest.raises(ledger.NotFound):
            list(log.entries(other.id))
        assert [info.id for info in log.runs()] == [open_gate.run.id]
        for refused in (lambda: log.query("SELECT 1"), lambda: log.receipt(1)):
            with pytest.raises(ledger.UsageError, match="gateway's socket"):
                refused()
    monkeypatch.setenv("LEDGER_TOKEN", token(open_gate.log, open_gate.run.id, "lift"))
    with ledger.open() as log, pytest.raises(ledger.Malformed, match="differs from the token"):
        log.run(stage="review").prompt("x")


@pytest.mark.parametrize("held", ["", "sk-real-key-of-somebody", "sk-ledger-v1.AAAA.BBBB", "expired"])
def test_without_a_token_that_holds_nothing_is_served(
    open_gate: Gate, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    monkeypatch.setenv("LEDGER_TOKEN", Token(open_gate.run.id, 1).sign(b"x" * 32) if held == "expired" else held)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ledger.KeyUnusable) as refused:
        ledger.open()
    assert not held or held not in str(refused.value)


def test_secrets_and_control_characters_stand_in_no_label(open_gate: Gate) -> None:
    before = len(open_gate.entries())
    with ledger.open() as log:
        for label in (KEY, "a\nb", "a\u202eb", "x" * 201, "x" * 1001):
            with pytest.raises(ledger.Malformed):
                log.run(stage=label).prompt("x")
        with pytest.raises(ledger.Malformed):
            log.run().prompt("x", model=KEY)
        with pytest.raises(ledger.TooLarge):
            log.run().artifact("x", name="n" * 20_000)
        with pytest.raises(ledger.UsageError):
            log.run().append_many([ledger.Item(kind="erasure", content="x")])  # type: ignore[arg-type]
        with pytest.raises(ledger.Malformed):
            log.run().approval("no signature")
    assert len(open_gate.entries()) == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{",
        b'{"items": 1}',
        b'{"items": []}',
        b'{"items": [{"kind": "prompt"}]}',
        b'{"items": [{"kind": "prompt", "content": "not base64!"}]}',
        b'{"items": [{"kind": "erasure", "content": ""}]}',
        b'{"items": [], "run": "x"}',
    ],
)
def test_malformed_bodies_are_said_so(open_gate: Gate, body: bytes) -> None:
    answered = open_gate.http.post(
        os.environ["LEDGER"] + "/ledger/entries", content=body, headers={"authorization": f"Bearer {open_gate.token}"}
    )
    assert answered.status_code == 400
    assert answered.json()["error"]["code"] == "Malformed"


def test_a_content_too_large_for_the_socket_is_not_begun(open_gate: Gate, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(remote.MOST_BYTES + 1)
    with ledger.open() as log, pytest.raises(ledger.TooLarge):
        log.run().artifact(large)


def test_clear_http_goes_to_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_TOKEN", "sk-ledger-v1.AAAA.BBBB")
    with pytest.raises(ledger.UsageError, match="loopback"):
        ledger.open("http://gateway.example:80")


def test_no_gateway_and_no_gateway_of_ours_are_told_apart_from_an_answer(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_TOKEN", "sk-ledger-v1.AAAA.BBBB")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve(answer: bytes) -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()

        bad, other = b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\nok"
        for answer in (b"", b"nonsense\r\n\r\n", bad, other):
            thread = threading.Thread(target=serve, args=(answer,))
            thread.start()
            with pytest.raises(ledger.StorageFailed):
                ledger.open(f"http://127.0.0.1:{port}")
            thread.join()
    with pytest.raises(ledger.StorageFailed, match="no gateway answers"):
        ledger.open(f"http://127.0.0.1:{port}")


def test_what_was_sent_and_not_answered_is_of_unknown_outcome(open_gate: Gate) -> None:
    with ledger.open() as log:
        run = log.run()
        run.prompt("before")
        open_gate.inside.close()
        with pytest.raises((ledger.OutcomeUnknown, ledger.StorageFailed)):
            run.prompt("after")


def test_threads_share_what_is_open(open_gate: Gate) -> None:
    with ledger.open() as log:
        run = log.run()

        def work(n: int) -> None:
            for m in range(10):
                run.artifact(f"{n} {m}")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = {log.read(r.entry.content) for r in log.entries() if isinstance(r.entry, Artifact)}
    assert found == {f"{n} {m}".encode() for n in range(8) for m in range(10)}


def test_two_processes_of_one_log_get_each_its_own_answers(open_gate: Gate) -> None:
    with ledger.open() as log:
        run = log.run()
        mine, theirs = run.artifact("mine" * 1000).address, run.artifact("theirs" * 1000).address
        child = os.fork()
        if child == 0:
            wrong = sum(log.read(theirs) != b"theirs" * 1000 for _ in range(60))
            os._exit(min(wrong, 100))
        assert all(log.read(mine) == b"mine" * 1000 for _ in range(60))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_an_interrupt_leaves_no_answer_for_the_next_question(open_gate: Gate) -> None:
    def strike(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    struck = 0
    try:
        with ledger.open() as log:
            run = log.run()
            for n in range(40):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0004 * (n % 12 + 1))
                    run.artifact(f"interrupted {n}")
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    struck += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                assert log.read(run.artifact(f"next {n}").address) == f"next {n}".encode()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert struck


class Hasty:
    """A gateway that closes each connection after its answer, and does not say so."""

    def __init__(self, answers: list[bytes]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, args=(answers,))
        self.thread.start()

    def _serve(self, answers: list[bytes]) -> None:
        for answer in answers:
            connection, _ = self.listener.accept()
            self.asked.append(connection.recv(65536))
            connection.sendall(answer)
            connection.close()
        self.listener.close()


def _json(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()


def test_an_append_goes_over_a_new_connection_where_the_old_one_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = _json('[{"index":7,"address":"","step":1}]')
    hasty = Hasty([_json('{"token":{"run":"r"}}'), done, done, _json("", "302 Found")])
    log = remote.Log(hasty.url, "sk-ledger-v1.AAAA.BBBB")
    run = log.run()
    for text in ("a", "b"):
        time.sleep(0.05)
        assert run.artifact(text).index == 7
    time.sleep(0.05)
    with pytest.raises(ledger.LedgerError):
        log.read("artifact://" + "0" * 64)
    hasty.thread.join()
    assert len(hasty.asked) == 4, "nothing was sent twice"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:abc",
        "http://127.0.0.1:99999",
        "http://[::1",
        "http://",
        "http://u:hidden-pw@127.0.0.1:9",
        "http://127.0.0.1:9/?q=hidden-pw",
        "https://#hidden-pw",
    ],
)
def test_what_is_no_url_of_a_gateway_is_said_without_repeating_it(url: str) -> None:
    with pytest.raises(ledger.UsageError) as refused:
        remote.Log(url, "sk-ledger-v1.AAAA.BBBB")
    assert "hidden-pw" not in str(refused.value)


@pytest.mark.parametrize("odd", ["sk-ledger-v1.é", "sk-ledger-v1.a\nb: c", "sk-ledger-v1.a b", "sk-ledger-"])
def test_an_odd_token_stands_in_no_error(odd: str) -> None:
    with pytest.raises(ledger.KeyUnusable) as refused:
        remote.Log("http://127.0.0.1:9", odd)
    assert odd not in str(refused.value)


def test_the_white_space_around_a_token_is_none_of_it(open_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_TOKEN", f"  {open_gate.token}\n")
    with ledger.open() as log:
        assert log.run().id == open_gate.run.id


def test_no_proxy_stands_between_a_run_and_its_gateway(open_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ledger.open() as log:
        log.run().artifact("x")
        assert log.run().openai().responses.create(model="gpt-5.4-mini", input="x").output_text == "hello"
    direct = open_gate.run.openai(upstream=open_gate.upstream.url, key="env:UPSTREAM_KEY")
    assert direct.responses.create(model="gpt-5.4-mini", input="x").output_text == "hello"


def test_many_large_contents_are_sent_in_parts(open_gate: Gate, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"f" * (9 << 20))
    with ledger.open() as log:
        items = [ledger.Item(kind="artifact", content=one) for one in (b"a" * (10 << 20), file, "é" * (5 << 20))]
        made = log.run().append_many(items)
        assert log.read(made[1].address) == file.read_bytes()
        for large in (b"x" * (remote.MOST_BYTES + 1), "é" * (remote.MOST_BYTES // 2 + 1)):
            with pytest.raises(ledger.TooLarge):
                log.run().artifact(large)
        assert log.run().append_many([]) == []


def test_what_only_the_ledger_itself_does_is_said_so(open_gate: Gate) -> None:
    with ledger.open() as log:
        for refused in (lambda: log.run(imported=True), lambda: log.resume(open_gate.run.id, imported=True)):
            with pytest.raises(ledger.UsageError, match="gateway's socket"):
                refused()
        with pytest.raises(ledger.UsageError, match="ASCII"):
            log.run(stage="é").openai()
        for time_ in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
            with pytest.raises(ledger.Malformed):
                item = ledger.Item(kind="artifact", content="x", time=datetime.fromisoformat(time_))
                log.run().append_many([item])


def test_a_token_of_another_run_than_the_named_one_is_refused(open_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_gate.log.run("other") as other:
        monkeypatch.setenv("LEDGER_RUN", other.id)
        with pytest.raises(ledger.UsageError, match="LEDGER_RUN"):
            ledger.open()


def test_a_recorded_command_finds_its_run_by_the_socket_without_files_or_keys(
    made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.copy(home, tmp_path / "l")
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    monkeypatch.setenv("LEDGER", str(path))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    # Of another run: it must not reach the command.
    monkeypatch.setenv("LEDGER_TOKEN", Token("0" * 36, 2**40).sign(b"x" * 32))
    # Without the home that holds the keys.
    agent = f"""
import os, subprocess
os.environ["HOME"] = os.environ["XDG_CONFIG_HOME"] = {str(tmp_path / "empty")!r}
import ledger
with ledger.open() as log, log.run("mine") as run:
    run.artifact("made inside")
    assert run.id == os.environ["LEDGER_RUN"]
    print(run.openai().responses.create(model="gpt-5.4-mini", input="x").output_text)
subprocess.run({[*LEDGER, "append", "artifact", "-", "--name", "by the shell"]!r}, input=b"y", check=True)
"""
    with Upstream(key=KEY) as upstream:
        recording = ["record", "--upstream", upstream.url, "--key", "env:UPSTREAM_KEY", "--show", str(ROOT), "--"]
        done = subprocess.run([*LEDGER, *recording, sys.executable, "-c", agent], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout
    with ledger.open(path) as log:
        [run] = log.runs()
        assert (run.status, run.calls, run.artifacts) == ("succeeded", 1, 2)
