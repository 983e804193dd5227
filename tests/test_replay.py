"""A recorded command reaches nothing but the gateway, and comes out the same again, from the ledger alone."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger
from replay import apply
from schemas.errors import Malformed
from schemas.tree import Node, Tree, from_disk, on_disk
from tests.support import shell, template
from tests.support.template import Template
from tests.support.upstream import Answer, Upstream

KEY = "sk-upstream-of-the-replayer"
AGENT = """
import openai, os, pathlib, sys
client = openai.OpenAI(max_retries=0)
text = pathlib.Path("plan.txt").read_text() + sys.argv[1]
for turn in range(3):
    text = client.responses.create(model="gpt-5.4-mini", input=text).output_text
    print(text)
pathlib.Path("made").mkdir(exist_ok=True)
pathlib.Path("made/out.txt").write_text(text)
os.chmod("made/out.txt", 0o750)
os.symlink("out.txt", "made/link")
os.remove("old.txt")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), lambda path: None)


@pytest.fixture
def work(made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is recorded; its ledger is `LEDGER`."""
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    monkeypatch.setenv("LEDGER", str(made.copy(home, tmp_path / "l")))
    found = tmp_path / "work"
    found.mkdir()
    (found / "agent.py").write_text(AGENT)
    (found / "plan.txt").write_text("plan: ")
    (found / "old.txt").write_text("old")
    monkeypatch.chdir(found)
    return found


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(key=KEY) as found:
        yield found


def record(upstream: Upstream, *command: str, options: tuple[str, ...] = ()) -> shell.Said:
    return shell.call("record", "--upstream", upstream.url, "--key", "env:UPSTREAM_KEY", *options, "--", *command)


def agent(upstream: Upstream, *options: str) -> None:
    upstream.reply(*(Answer(text=f"answer {number}") for number in range(3)))
    said = record(upstream, sys.executable, "agent.py", "go", options=options)
    assert said.status == 0, said.err


def test_a_recorded_run_is_reproduced_elsewhere_without_sources_or_network(
    work: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(upstream)
    assert (work / "made" / "out.txt").read_text() == "answer 2"
    assert (work / "made" / "out.txt").stat().st_mode & 0o777 == 0o750
    assert os.readlink(work / "made" / "link") == "out.txt"
    assert not (work / "old.txt").exists()
    asked = len(upstream.requests)
    shutil.rmtree(work)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("UPSTREAM_KEY")
    for _ in range(3):
        [report] = shell.call("replay", "--json").json
        assert (report["verdict"], report["recorded"], report["matched"]) == ("reproduced", 3, 3), report
        assert report["steps"][0]["changed"] == 3
        assert report["steps"][0]["printed"] == []
    assert len(upstream.requests) == asked
    assert list(elsewhere.iterdir()) == []
    assert ledger.verify(os.environ["LEDGER"]).sound
    assert "reproduced   3/3 requests   3/3 files   exit 0" in shell.call("replay").out


CHANGED = {
    "a prompt": ("plan.txt", "another plan: ", "request that was not recorded"),
    "a program": ("agent.py", AGENT.replace("write_text(text)", "write_text(text + '!')"), "made/out.txt"),
    "a mode": ("agent.py", AGENT.replace("0o750", "0o700"), "made/out.txt"),
    "an exit": ("agent.py", AGENT + "sys.exit(4)\n", "exit 0 recorded, 4 now"),
    "fewer turns": ("agent.py", AGENT.replace("range(3)", "range(2)"), "is not now"),
    "more turns": ("agent.py", AGENT.replace("range(3)", "range(4)"), "a request more than recorded"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_is_otherwise_is_named_and_nothing_is_asked(
    what: str, work: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(upstream)
    asked = len(upstream.requests)
    name, content, said = CHANGED[what]
    from replay import rerun

    written = rerun.execute.worktree.write

    def changed(tree: Tree, read: object, root: Path, time: int) -> None:
        written(tree, read, root, time)  # type: ignore[arg-type]
        (root / name).write_text(content)

    # As another tree of inputs would be: what is replayed is the recorded run with one file changed.
    monkeypatch.setattr(rerun.execute.worktree, "write", changed)
    with ledger.open() as log:
        run = next(info.id for info in log.runs() if info.calls)
        report = rerun.rerun(log, run)  # type: ignore[arg-type]
    assert report.verdict == "diverged"
    assert any(said in line for line in report.lines()), report.lines()
    assert len(upstream.requests) == asked


ESCAPES = {
    "network": "import socket; socket.create_connection(('1.1.1.1', 53), 2)",
    "another port of the host": "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
    "vsock": "import socket; socket.socket(socket.AF_VSOCK)",
    "packets": "import socket; socket.socket(17, 3)",
    "user namespace": "import ctypes, os; l = ctypes.CDLL(None, use_errno=True); assert not l.unshare(0x10000000)",
    "mount": "import ctypes; l = ctypes.CDLL(None); assert not l.mount(b'/tmp', b'/mnt', None, 4096, None)",
    "system folders": "open('/usr/bin/evil', 'w')",
    "kernel settings": "open('/proc/sys/kernel/hostname', 'w').write('x')",
    "the real folder": "import os; assert os.path.exists({ledger!r})",
    "keys": "import os; assert os.path.exists(os.path.expanduser({home!r}))",
    "environment": "import os; assert 'UPSTREAM_KEY' in os.environ",
    "processes": "import os; assert any(p.isdigit() and int(p) > 100 for p in os.listdir('/proc'))",
}


@pytest.mark.parametrize("how", ESCAPES)
def test_a_way_out_fails_within_and_is_one_without(how: str, work: Path, upstream: Upstream) -> None:
    port = upstream.url.rpartition(":")[2].partition("/")[0]
    code = ESCAPES[how].format(port=port, ledger=os.environ["LEDGER"], home=os.environ["HOME"])
    said = record(upstream, sys.executable, "-c", code)
    assert said.status == 1, said.err
    assert "Error" in said.err


def test_what_outlives_its_command_is_ended(work: Path, upstream: Upstream) -> None:
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n"
    assert record(upstream, sys.executable, "-c", code).status == 0


def test_a_file_with_a_secret_refuses_the_run_unless_it_is_left_out(work: Path, upstream: Upstream) -> None:
    (work / "creds").write_text(f"password = {KEY}\n")
    said = record(upstream, "true")
    assert said.status == 125
    assert "creds, line 1: holds a secret" in said.err
    assert KEY not in said.err
    assert record(upstream, "true", options=("--exclude", "creds")).status == 0


def test_changes_are_held_applied_whole_and_taken_back(work: Path, upstream: Upstream) -> None:
    agent(upstream, "--hold")
    assert not (work / "made").exists()
    assert "removed  old.txt" in shell.call("apply", "--dry-run").out
    (work / "old.txt").write_text("somebody's own")
    shell.call("apply").fails(1, "old.txt: changed")
    assert not (work / "made").exists()
    (work / "old.txt").write_text("old")
    assert shell.call("apply").status == 0
    assert (work / "made" / "out.txt").read_text() == "answer 2"
    assert shell.call("apply", "--undo").status == 0
    assert (work / "old.txt").read_text() == "old"
    assert not (work / "made").exists()


def test_an_apply_that_was_interrupted_goes_on(work: Path, tmp_path: Path) -> None:
    contents = {str(number): f"content {number}".encode() for number in range(3)}
    digests = {name: apply.blake3(data).hexdigest() for name, data in contents.items()}
    address = f"artifact://{'0' * 64}"
    nodes = [Node(name, "file", 0o644, len(contents[name]), digests[name], address) for name in contents]
    asked: list[str] = []

    def fails(text: str) -> bytes:
        asked.append(text)
        if len(asked) == 2:
            raise OSError(28, "No space left on device")
        return contents[str(len(asked) - 1)]

    found = apply.changes(Tree(1, []), Tree.of(nodes))
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ledger.StorageFailed):
        apply.apply(target, found, fails)
    assert [path.name for path in target.iterdir()] == ["0"]
    left = iter(("1", "2"))
    assert apply.apply(target, found, lambda text: contents[next(left)]) == 2
    assert {path.name: path.read_bytes() for path in target.iterdir()} == contents


HEX = "0" * 64
FILE = {"kind": "file", "mode": 420, "size": 1, "digest": HEX, "content": f"artifact://{HEX}"}
HOSTILE = {
    "above": [{"path": "../x", **FILE}],
    "absolute": [{"path": "/x", **FILE}],
    "nothing": [{"path": "", **FILE}],
    "twice": [{"path": "x", **FILE}, {"path": "x", **FILE}],
    "out of order": [{"path": "y", **FILE}, {"path": "x", **FILE}],
    "through a link": [{"path": "x", "kind": "link", "target": "/etc"}, {"path": "x/passwd", **FILE}],
    "without a folder": [{"path": "x/y", **FILE}],
    "a dot": [{"path": "x", "kind": "folder"}, {"path": "x/.", **FILE}],
    "setuid": [{"path": "x", **FILE, "mode": 0o4755}],
    "a link to nothing": [{"path": "x", "kind": "link"}],
    "a file without content": [{"path": "x", "kind": "file"}],
    "NUL": [{"path": "x\0", **FILE}],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_tree_that_leads_out_of_its_folder_is_none(what: str) -> None:
    import msgspec

    with pytest.raises(Malformed):
        Tree.decode(msgspec.json.encode({"v": 1, "nodes": HOSTILE[what]}))


@pytest.mark.parametrize("name", [b"plain", "ü€".encode(), b"\xff\xfe", b"a\\udcff", b"\\udc\xff", b"new\nline"])
def test_every_name_of_the_disk_has_one_spelling_and_comes_back(name: bytes) -> None:
    spelled = from_disk(name)
    assert on_disk(spelled) == name
    spelled.encode()
