"""The demo runs as somebody runs it, and its pipeline can't be talked into success."""

import inspect
import os
import pkgutil
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ledger

RECOMPILE = Path(__file__).parent.parent / "examples" / "recompile"


def run_demo(tmp_path, *arguments):
    # A user's own settings must not get in the way, nor be used.
    environment = os.environ | {"TMPDIR": str(tmp_path), "LEDGER": "/nowhere", "LEDGER_TRUST": "nonsense"}
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
    assert len(found.stdout.splitlines()) <= 65

    head, verified, changed, after = re.split(r"\n\$ ledger verify(?: changed)?\n|\n5  Type next\n", found.stdout)
    assert re.search(
        r"calendar\.isleap +lift plan write rebuild check +not equal  - constant 400, .*\n +write .*  equal,", head
    )
    assert len(re.findall(r"prompt +write/calendar\.isleap", head)) == 2
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
    assert len(offered) >= 5
    for command in offered:
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    assert "def isleap(year)" in (folder / "recompiled.py").read_text()
    assert list(home.iterdir()) == []


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
def test_wrong_answers_never_pass_nor_run(answer, parts, log, capsys):
    _, pipeline, standin = parts

    def stubborn(request):
        response = standin.respond(request)
        response["output"][0]["content"][0]["text"] = answer
        return response

    checks = []
    with pytest.raises(pipeline.NotEqual), log.run("stubborn") as run:
        for check in pipeline.recompile(run, "calendar.isleap", stubborn):
            checks.append(check)
    assert len(checks) == pipeline.ATTEMPTS
    assert all(check.difference for check in checks)
    assert capsys.readouterr().out == ""
    assert log.runs()[0].status == "failed"
    # Lifted, planned, and each attempt written, rebuilt and checked: all of it is on record.
    assert (log.runs()[0].prompts, log.runs()[0].artifacts) == (1 + pipeline.ATTEMPTS, 1 + 2 * pipeline.ATTEMPTS)


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
