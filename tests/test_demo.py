"""The demo runs as somebody runs it, and its pipeline can't be talked into success."""

import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

import ledger
from policies.advice import advise
from schemas.policy import read_policy

RECOMPILE = Path(__file__).parent.parent / "examples" / "recompile"


def run_demo(tmp_path, *arguments, **more):
    # A user's own settings must not get in the way, nor be used.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    environment |= {"TMPDIR": str(tmp_path), "LEDGER": "/nowhere", "LEDGER_TRUST": "nonsense", **more}
    return subprocess.run(
        [sys.executable, RECOMPILE / "demo.py", *arguments],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_demo(tmp_path, home):
    began = time.monotonic()
    found = run_demo(tmp_path)
    assert time.monotonic() - began < 60
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stderr == ""
    assert "\x1b" not in found.stdout
    assert len(found.stdout.splitlines()) <= 75
    # Of the last part, lines are as wide as the folder's name is long.
    assert max(map(len, found.stdout.partition("\n6  ")[0].splitlines())) <= 110
    assert "No OPENAI_API_KEY: a scripted stand-in answers" in found.stdout
    assert "sk-" not in found.stdout

    head, verified, changed, after = re.split(r"\n\$ ledger verify(?: changed)?\n|\n6  Type next\n", found.stdout)
    assert re.search(
        r"calendar\.isleap +lift plan write rebuild check +not equal  - constant 400, .*\n +write .*  equal,", head
    )
    asked = r"routing +write/calendar\.isleap +gpt-5\.2-codex → gpt-5\.3-codex  alias .*\n.* model\.request .*\n"
    assert len(re.findall(asked + r".* model\.response +write/calendar\.isleap +completed  \$0\.0\d+ ", head)) == 2
    assert re.search(r"^\w{8}   11 calls   spent \$0\.0\d+   held \$0\.0000   left \$0\.9", head, re.MULTILINE)
    assert "400: denied by policy recompile: model: expected gpt-5.3-codex, got gpt-5.6-sol\n" in head
    assert re.search(r"\n\w{8}:\d+  model\.request  deny .*\n  deny +recompile  model +expected", head)
    assert re.search(r"^sound ", verified, re.MULTILINE)
    index = re.search(r"content of entry (\d+), from (\d+) on", verified)
    assert index
    expected = (
        rf"(?m)^not sound .*pack \d+, offset {index[2]}: content of entry {index[1]} \(artifact, run [0-9a-f]{{8}}\)"
    )
    assert re.search(expected, changed)

    assert list(home.iterdir()) == [], "the user's own home was touched"
    folder = Path(re.search(r"^  cd (\S+)", after, re.MULTILINE)[1])
    assert folder.parent == tmp_path
    offered = re.findall(r"^  ((?:\./ledger|cat) .*?)  ", after, re.MULTILINE)
    assert len(offered) >= 6
    for command in offered:
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    assert "def isleap(year)" in (folder / "recompiled.py").read_text()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("wrong_at_first", ["calendar.isleap", "nothing"])
def test_with_a_key_the_real_model_is_asked(tmp_path, parts, wrong_at_first, monkeypatch):
    _, _, standin = parts
    monkeypatch.setattr(standin, "WRONG_AT_FIRST", wrong_at_first)
    with standin.StandIn("sk-real") as upstream:
        found = run_demo(tmp_path, OPENAI_API_KEY="sk-real", OPENAI_BASE_URL=upstream.url)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"The model is real: {upstream.url}" in found.stdout
    assert "stand-in" not in found.stdout
    assert "sk-real" not in found.stdout
    assert (
        "5  Somebody tampers with " + ("a check" if wrong_at_first == "nothing" else "the failed check") in found.stdout
    )


def test_a_function_that_the_real_model_does_not_get_right_is_given_up(tmp_path, parts):
    _, _, standin = parts

    def poor(prompts):
        return "def rgb_to_hsv(): ..." if "bytecode of colorsys" in prompts[0] else standin.answer(prompts)

    with standin.StandIn("sk-real", poor) as upstream:
        found = run_demo(tmp_path, OPENAI_API_KEY="sk-real", OPENAI_BASE_URL=upstream.url)
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(r"colorsys\.rgb_to_hsv +given up\n", found.stdout)
    assert re.search(r"recompiled\.py +package +equal results of 10 calls", found.stdout)


def test_a_key_that_is_refused_ends_the_demo_in_one_line(tmp_path, parts):
    _, _, standin = parts
    with standin.StandIn("sk-real") as upstream:
        found = run_demo(tmp_path, OPENAI_API_KEY="sk-other", OPENAI_BASE_URL=upstream.url)
    assert found.returncode == 1
    assert re.fullmatch(r"demo failed: .*Incorrect API key provided.*\n", found.stderr)
    assert "sk-other" not in found.stdout + found.stderr


def test_its_policy_says_what_it_means():
    path = RECOMPILE / "policy.toml"
    policy = read_policy(path.read_bytes(), path.name)
    assert advise(policy, datetime(2026, 11, 24, tzinfo=UTC)) == []
    assert policy.max_cost_usd == 1


def test_demo_twice_makes_the_same_package(tmp_path):
    for name in "ab":
        found = run_demo(tmp_path, "--keep", str(tmp_path / name))
        assert found.returncode == 0, found.stdout + found.stderr
    assert (tmp_path / "a/recompiled.py").read_bytes() == (tmp_path / "b/recompiled.py").read_bytes()


def test_folder_in_use_refused(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine").write_text("mine")
    found = run_demo(tmp_path, "--keep", str(kept))
    assert found.returncode == 2
    assert [path.name for path in kept.iterdir()] == ["mine"]


@pytest.fixture
def parts(monkeypatch):
    """The modules of the example, importable as they are for the demo."""
    names = ("bytecode", "pipeline", "standin")
    monkeypatch.syspath_prepend(str(RECOMPILE))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield [__import__(name) for name in names]
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def log(tmp_path):
    ledger.init(tmp_path / ".ledger", origin="demo/test")
    with ledger.open(tmp_path / ".ledger") as opened:
        yield opened


@pytest.mark.parametrize(
    "answer",
    [
        "def isleap(year): return True\n",
        "def isleap(year, other=None):\n    return True\n",
        "not python at all",
        "",
        "```python\ndef isleap(year): ...\n```",
        "import os\n",
        "isleap = __import__('calendar').isleap\n",
        "class isleap: ...\n",
        "def isleap(year, other=print('run!')): ...\n",
        "def isleap(year): ...\n\nprint('run!')\n",
        "@print\ndef isleap(year): ...\n",
        "def isleap(year) -> print('run!'): ...\n",
    ],
)
def test_wrong_answers_never_pass_nor_run(answer, parts, log, capsys, monkeypatch):
    _, pipeline, standin = parts
    monkeypatch.setenv("STANDIN_KEY", "sk-x")
    checks = []
    with standin.StandIn("sk-x", lambda prompts: answer) as upstream:
        gateway = {"upstream": upstream.url, "key": "env:STANDIN_KEY", "policies": (str(RECOMPILE / "policy.toml"),)}
        with pytest.raises(pipeline.NotEqual), log.run("stubborn") as run:
            for check in pipeline.recompile(run, "calendar.isleap", gateway):
                checks.append(check)
    assert len(checks) == pipeline.ATTEMPTS
    assert all(check.difference for check in checks)
    assert capsys.readouterr().out == ""
    assert log.runs()[0].status == "failed"
    # Lifted, planned, and each attempt written, rebuilt and checked: all of it is on record.
    assert (log.runs()[0].calls, log.runs()[0].artifacts) == (1 + pipeline.ATTEMPTS, 1 + 2 * pipeline.ATTEMPTS)


@pytest.mark.parametrize(
    ("key", "path", "request_", "status"),
    [
        ("sk-x", "/v1/responses", {"input": "hello"}, 200),
        ("sk-y", "/v1/responses", {"input": "hello"}, 401),
        ("", "/v1/responses", {"input": "hello"}, 401),
        ("sk-x", "/v1/chat/completions", {"input": "hello"}, 404),
        ("sk-x", "/v1/responses", {"input": "hello", "stream": True}, 400),
        ("sk-x", "/v1/responses", {"input": "hello", "tools": [{"type": "web_search"}]}, 400),
    ],
)
def test_the_stand_in_takes_its_key_and_what_it_knows(key, path, request_, status, parts):
    _, _, standin = parts
    with standin.StandIn("sk-x") as upstream:
        asked = urllib.request.Request(
            upstream.url.removesuffix("/v1") + path, json.dumps(request_).encode(), {"Authorization": f"Bearer {key}"}
        )
        if status == 200:
            with urllib.request.urlopen(asked) as answer:
                assert json.load(answer)["object"] == "response"
            return
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked)
        assert refused.value.code == status
        assert json.load(refused.value)["error"]["message"]


@pytest.mark.parametrize("change", [("400", "400.0"), ("!= 0", "!= False"), ("100", "101"), ('"""Return', '"""return')])
def test_small_changes_show(change, parts):
    bytecode, _, _ = parts
    function = pkgutil.resolve_name("calendar.isleap")
    source = inspect.getsource(function)
    assert change[0] in source
    assert bytecode.difference(bytecode.of(function), bytecode.build(source)) == []
    assert bytecode.difference(bytecode.of(function), bytecode.build(source.replace(*change)))


def test_another_default_shows(parts):
    bytecode, _, _ = parts
    function = pkgutil.resolve_name("html.escape")
    changed = inspect.getsource(function).replace("quote=True", "quote=1")
    assert bytecode.difference(bytecode.of(function), bytecode.build(changed))
