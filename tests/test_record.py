"""The command line around the gateway: record, gateway, token, pause, resume, budget, explain."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

import ledger
from tests.support import shell, template
from tests.support.gateways import POLICY
from tests.support.shell import LEDGER, ROOT
from tests.support.template import Template
from tests.support.upstream import Answer, Upstream

KEY = "sk-upstream-of-the-recorder"
AGENT = """
import os, sys, openai
assert os.environ["OPENAI_API_KEY"].startswith("sk-ledger-v1.")
assert "UPSTREAM_KEY" not in os.environ
client = openai.OpenAI(max_retries=0)
print(client.responses.create(model="gpt-5.2-codex", input=sys.argv[1]).output_text)
print(os.environ["LEDGER_RUN"], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), lambda path: None)


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = made.copy(home, tmp_path / "l")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    monkeypatch.setenv("LEDGER", str(found))
    return found


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(key=KEY) as found:
        yield found


def record(upstream: Upstream, *command: str, sandbox: bool = True, **more: str) -> shell.Said:
    options = [word for name, value in more.items() for word in (f"--{name}", value)]
    options += [] if sandbox else ["--no-sandbox"]
    return shell.call("record", "--upstream", upstream.url, "--key", "env:UPSTREAM_KEY", *options, "--", *command)


def test_record_gives_a_command_the_gateway_and_says_what_came_of_it(path: Path, upstream: Upstream) -> None:
    said = record(upstream, sys.executable, "-c", AGENT, "fix the tests")
    assert said.status == 0, said.err
    assert said.out == "hello\n"
    assert "recording " in said.err
    assert "sandbox bubblewrap" in said.err
    assert "exit 0   1 call   $0.0" in said.err
    with ledger.open(path) as log:
        run = log.runs()[0]
        assert (run.status, run.calls) == ("succeeded", 1)
        assert run.id in said.err
    explained = shell.call("policy", "explain", "@")
    assert "allow" in explained.out
    assert "budget" in explained.out
    assert shell.call("policy", "explain", "@", "--json").json[0]["effect"] == "allow"
    assert "spent $0.0" in shell.call("budget", "@").out
    assert shell.call("budget", "@", "--json").json[0]["calls"] == 1
    assert "1 call" in shell.call("log").out
    assert ledger.verify(path).sound


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_record_ends_as_its_command_does(path: Path, upstream: Upstream, code: str, status: int) -> None:
    assert record(upstream, sys.executable, "-c", code).status == status
    with ledger.open(path) as log:
        assert log.runs()[0].status == "failed"


@pytest.mark.parametrize(
    "how",
    [
        ["--", "no-such-command-anywhere"],
        ["--policy", "nobody", "--", "true"],
        ["--key", "env:NOT_SET", "--", "true"],
        ["--upstream", "http://api.example.com/v1", "--", "true"],
    ],
)
def test_record_says_125_where_recording_failed(path: Path, upstream: Upstream, how: list[str]) -> None:
    known = [] if "--upstream" in how else ["--upstream", upstream.url]
    key = [] if "--key" in how else ["--key", "env:UPSTREAM_KEY"]
    said = shell.call("record", *known, *key, *how)
    assert said.status == 125
    assert "error: " in said.err
    assert "Traceback" not in said.err
    with ledger.open(path) as log:
        assert all(run.status != "open" for run in log.runs())
    assert upstream.requests == []


def test_what_ends_the_recorder_ends_its_command_and_is_recorded(path: Path, upstream: Upstream) -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    command = [
        *LEDGER,
        "record",
        "--upstream",
        upstream.url,
        "--key",
        "env:UPSTREAM_KEY",
        "--",
        sys.executable,
        "-c",
        code,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    with ledger.open(path) as log:
        assert log.runs()[0].status == "failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_signal_at_any_time_leaves_a_recorded_run_open(path: Path, upstream: Upstream, number: int) -> None:
    command = [*LEDGER, "record", "--upstream", upstream.url, "--key", "env:UPSTREAM_KEY", "--", "sleep", "0.3"]
    for wait in (0.0, 0.1, 0.3, 0.4, 0.5):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("recording ")
        time.sleep(wait)
        process.send_signal(number)
        process.communicate(timeout=20)
    with ledger.open(path) as log:
        assert [run.status for run in log.runs() if run.status == "open"] == []


def test_a_command_may_finish_its_run_and_gets_no_secret_under_another_name(
    path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPY_OF_IT", KEY)
    code = "import os, subprocess; assert 'COPY_OF_IT' not in os.environ;"
    code += f"subprocess.run({[*LEDGER, 'finish']!r} + [os.environ['LEDGER_RUN']], check=True)"
    said = record(upstream, sys.executable, "-c", code, sandbox=False)
    assert said.status == 0, said.err
    with ledger.open(path) as log:
        assert log.runs()[0].status == "succeeded"


class Served:
    """`ledger gateway` as a process."""

    def __init__(self, upstream: Upstream, *options: str) -> None:
        command = [
            *LEDGER,
            "gateway",
            "--listen",
            "127.0.0.1:0",
            "--upstream",
            upstream.url,
            "--key",
            "env:UPSTREAM_KEY",
        ]
        self.process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def ask(self, token: str, **more: object) -> httpx2.Response:
        body = {"model": "gpt-5.4-mini", "input": "x", **more}
        headers = {"authorization": f"Bearer {token}"}
        return httpx2.post(f"{self.url}/responses", json=body, headers=headers, timeout=30)

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_gateway_killed_in_the_middle_of_a_call_leaves_a_reservation_that_a_signed_entry_frees(
    path: Path, upstream: Upstream
) -> None:
    run = shell.call("start", "killed").out.strip()
    token = shell.call("token", "--run", run, "--stage", "lift").out.strip()
    with Served(upstream) as served:
        assert served.ask(token).status_code == 200
        upstream.reply(Answer(stall_after=0))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(served.ask, token, input="y")
            upstream.wait_for(2)
            served.process.send_signal(signal.SIGKILL)
            assert isinstance(waiting.exception(20), httpx2.HTTPError)
    report = ledger.verify(path)
    assert report.sound, report.findings
    assert any("1 model request without a response" in remark for remark in report.remarks), report.remarks
    [found] = shell.call("budget", run, "--json").json
    [(index, held)] = found["open"].items()
    assert held == found["held"] > 0
    shell.call("budget", run, "--release", index).fails(2)
    shell.call("budget", run, "--release", "1", "--reason", "x").fails(2)
    assert "released $" in shell.call("budget", run, "--release", index, "--reason", "killed").err
    assert shell.call("budget", run, "--json").json[0]["held"] == 0
    assert not any("without a response" in remark for remark in ledger.verify(path).remarks)


def test_pause_takes_effect_before_the_next_call_of_a_gateway_elsewhere(path: Path, upstream: Upstream) -> None:
    run = shell.call("start", "long").out.strip()
    token = shell.call("token", "--run", run).out.strip()
    with Served(upstream, "--policy", "local") as served:
        assert served.ask(token).status_code == 200
        assert "paused" in shell.call("pause", run, "--reason", "looks stuck").err
        refused = served.ask(token)
        assert refused.status_code == 400
        assert "paused" in refused.json()["error"]["message"]
        shell.call("pause", run).fails(2, "paused already")
        assert "goes on" in shell.call("resume", run).err
        assert served.ask(token, input="z").status_code == 200
        served.process.send_signal(signal.SIGINT)
        served.process.wait(20)
        assert served.process.returncode == 0
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--listen", "0.0.0.0:0"], 2),
        (["--upstream", "http://10.0.0.1/v1"], 2),
        (["--upstream", "ftp://x"], 2),
        (["--listen", "nonsense"], 2),
        (["--policy", "nobody.toml"], 2),
        (["--key", "env:NOT_SET"], 1),
    ],
)
def test_a_gateway_that_would_be_unsafe_does_not_start(path: Path, options: list[str], status: int) -> None:
    key = [] if "--key" in options else ["--key", "env:UPSTREAM_KEY"]
    shell.call("gateway", *key, *options).fails(status)


def test_a_token_names_what_it_is_bound_to_and_an_unknown_scope_is_refused(path: Path) -> None:
    run = shell.call("start", "bound").out.strip()
    [made] = shell.call("token", "--run", run, "--task-scope", "function:src/a.c::add", "--json").json
    assert made["run"] == run
    shell.call("token", "--run", run, "--task-scope", "galaxy:all").fails(2)
    shell.call("token", "--run", "nobody").fails(2)


def test_nothing_secret_is_in_what_the_gateway_says_or_in_the_titles_of_processes(
    path: Path, upstream: Upstream
) -> None:
    code = "import subprocess; print(subprocess.run(['ps', 'axww'], capture_output=True, text=True).stdout)"
    said = record(upstream, sys.executable, "-c", code)
    assert KEY not in said.out + said.err
    assert "sk-ledger" not in said.out + said.err


def test_the_codex_configuration_names_the_gateway_and_nothing_else(path: Path, upstream: Upstream) -> None:
    code = "import os; print(open(os.environ['CODEX_HOME'] + '/config.toml').read())"
    found = tomllib.loads(record(upstream, sys.executable, "-c", code).out)
    provider = found["model_providers"][found["model_provider"]]
    assert provider["base_url"].startswith("http://127.0.0.1:")
    assert provider["wire_api"] == "responses"
    assert provider["supports_websockets"] is False


def test_a_pipeline_gets_a_client_in_one_line(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(POLICY)
    began = time.monotonic()
    with ledger.open() as log, log.run("one line", stage="plan") as run:
        client = run.openai(upstream=upstream.url, key="env:UPSTREAM_KEY", policies=(str(file),))
        assert client.responses.create(model="gpt-5.4-mini", input="x").output_text == "hello"
        again = run.stage("lift").openai(upstream=upstream.url, key="env:UPSTREAM_KEY", policies=(str(file),))
        assert again.base_url == client.base_url
        assert again.responses.create(model="gpt-5.4-mini", input="y").output_text == "hello"
        kept = run.value("2026-11-24", name="today")
    assert time.monotonic() - began < 30
    with ledger.open() as log:
        stages = [row["stage"] for row in log.query("SELECT stage FROM calls ORDER BY prompt").to_pylist()]
        assert stages == ["plan", "lift"]
        assert log.read(kept.address) == b"2026-11-24"
    assert ROOT.exists()
    assert ledger.verify(path).sound
