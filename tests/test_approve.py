"""`ledger approve` and `ledger deny`, as people meet them: keys of ssh-keygen's making, files, agents, terminals."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyrage
import pytest

import ledger
from ledger import govern
from schemas.entries import ApprovalRequested, encode
from tests.support import shell
from tests.support.forge import Forger, key
from tests.support.people import BODY, Asker
from tests.support.shell import Said, call
from tests.support.verdicts import sound

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH's ssh-keygen")


class Desk(NamedTuple):
    """A ledger in which one request waits, and people with keys."""

    path: Path
    owner: str
    keys: dict[str, Path]
    index: int
    asked: ApprovalRequested

    @property
    def origin(self) -> str:
        return self.owner.partition("+")[0]

    def say(self, *args: str | Path, **how: Any) -> Said:
        return call(*args, "--ledger", self.path, **how)

    def ask(self, **how: Any) -> int:
        with ledger.open(self.path) as log:
            return Asker(log, self.asked.run).ask(**how)[0]

    def send(self, index: int) -> None:
        with ledger.open(self.path) as log:
            Asker(log, self.asked.run).send(index)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    path = tmp_path / "ledger"
    owner = ledger.init(path).owner
    keys = {name: shell.new_person(tmp_path / "people", name) for name in ("ada", "bob", "eve", "mallory")}
    with ledger.open(path) as log:
        for name, roles in (("ada", ("lead",)), ("bob", ("lead",)), ("eve", ("break-glass",))):
            govern.add_approver(log, name, keys[name].with_suffix(".pub").read_text(), roles)
        index, asked = Asker(log, log.run("nightly").id).ask(quorum=["2 of lead"])
    return Desk(path, owner, keys, index, asked)


def test_what_waits_is_listed_with_all_that_decides(desk: Desk) -> None:
    said = desk.say("approve")
    assert said.status == 0
    head, row = said.out.splitlines()
    assert head.split() == ["id", "run", "stage", "action", "model", "at", "most", "asked", "expires", "approved"]
    assert row.split()[:6] == [str(desk.index), desk.asked.run[-8:], "release", "model.request", "m", "$0.0010"]
    assert row.endswith("0 of 2 of lead")
    [found] = desk.say("approve", "--json").json
    assert found["index"] == desk.index
    assert found["run"] == desk.asked.run
    assert (found["state"], found["reasons"], found["approvers"]) == ("pending", ["0 of 2 of lead"], [])
    assert found["expires"] == f"{desk.asked.expires:%Y-%m-%dT%H:%M:%SZ}"


def test_two_people_approve_and_it_goes_and_no_longer_waits(desk: Desk) -> None:
    first = desk.say("approve", desk.index, "--key", desk.keys["ada"], "--yes", "--reason", "read it")
    assert first.status == 0, first
    assert re.search(r"approved by entry \d+   pending: 1 of 2 of lead: ada", first.err)
    # By a part of its nonce, and with the public key's file beside the private one.
    [second] = desk.say("approve", desk.asked.nonce[:8], "--key", desk.keys["bob"], "--yes", "--json").json
    assert (second["state"], second["approvers"], second["verdict"]) == ("approved", ["ada", "bob"], "approve")
    desk.send(desk.index)
    said = desk.say("approve")
    assert (said.status, said.out) == (0, "")
    assert "nothing waits" in said.err
    assert sound(desk.path, desk.owner).findings == []
    shown = desk.say("show", second["entry"])
    assert re.search(r"^approver +bob$", shown.out, re.M)


def test_everything_that_is_signed_is_shown_before(desk: Desk) -> None:
    said = desk.say("approve", desk.index, "--key", desk.keys["ada"], "--yes")
    for part in (desk.asked.run, "release", "model.request  m", "$0.0010", "ci", "2 of lead", desk.asked.subject,
                 desk.asked.nonce, f"{desk.asked.expires:%Y-%m-%d %H:%M:%SZ}", '"release it"'):  # fmt: skip
        assert part in said.out, part


def test_a_long_content_is_abridged_and_shown_whole_on_demand(desk: Desk) -> None:
    index = desk.ask(body=b"x" * 5_000 + b"THE END")
    short = desk.say("deny", index, "--key", desk.keys["ada"], "--yes")
    assert "THE END" not in short.out
    assert "3,007 more characters: --all" in short.err
    index = desk.ask(body=b"x" * 5_000 + b"THE END")
    assert "THE END" in desk.say("deny", index, "--key", desk.keys["ada"], "--yes", "--all").out


def test_what_could_fool_a_terminal_is_shown_as_its_escape(desk: Desk) -> None:
    index = desk.ask(body="\x1b[2J\u202eevil\r".encode(), task="\x1b[1A\u202e")
    said = desk.say("approve", index, "--key", desk.keys["ada"], "--yes")
    assert said.status == 0
    assert not re.search("[\x1b\u202e\r]", said.out + said.err)
    assert not re.search("[\x1b\u202e\r]", desk.say("approve").out)


def test_a_no_is_signed_and_ends_it(desk: Desk) -> None:
    said = desk.say("deny", desk.index, "--key", desk.keys["bob"], "--yes", "--reason", "not on a Friday")
    assert said.status == 0, said
    assert "denied by entry" in said.err
    assert desk.say("approve").out == ""
    desk.say("approve", desk.index, "--key", desk.keys["ada"], "--yes", "--json").fails(2, "denied: ")
    [row] = desk.say("query", "SELECT denied FROM approvals", "--json").json
    assert row["denied"] is True


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("yes\n", 0)])
def test_somebody_at_a_terminal_is_asked(desk: Desk, answer: str, status: int) -> None:
    args = ["approve", str(desk.index), "--key", str(desk.keys["ada"]), "--ledger", str(desk.path)]
    found, seen = shell.at_a_terminal(*args, typed=answer)
    assert found == status, seen
    assert "approve this? [y/N]" in seen
    assert ("approved by entry" in seen) is not status
    assert ("nothing was signed" in seen) is bool(status)


def test_nobody_signs_without_being_asked(desk: Desk) -> None:
    said = desk.say("approve", desk.index, "--key", desk.keys["ada"])
    assert said.status == 2
    assert "--yes" in said.err
    [row] = desk.say("query", "SELECT count(*) AS n FROM approvals", "--json").json
    assert row["n"] == 0


def test_json_has_no_room_for_questions(desk: Desk) -> None:
    desk.say("approve", desk.index, "--key", desk.keys["ada"], "--json").fails(2, "--yes")


def test_nobody_signs_for_other_bytes_than_are_shown(desk: Desk) -> None:
    """Neither at a terminal nor in a script: a dishonest author has asked for one thing and shows another."""
    step = desk.asked.step + 1
    evil = msgspec.structs.replace(desk.asked, step=step, subject="ab" * 32, nonce="cd" * 16)
    forger = Forger(desk.path)
    forger.leaf(encode(evil)).sign(key(origin=desk.origin), origin=desk.origin).commit()
    for options in ([], ["--json"]):
        said = desk.say("approve", "cdcdcdcd", "--key", desk.keys["ada"], "--yes", *options)
        assert said.status == 1
        assert "digest" in said.err
    out = desk.path.parent / "out"
    assert desk.say("approve", "cdcdcdcd", "--out", out).status == 1
    assert not out.exists()


def test_an_approver_elsewhere_signs_a_file_and_hands_it_in(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "release.txt"
    said = desk.say("approve", desk.index, "--out", out)
    assert said.status == 0, said
    assert "ssh-keygen -Y sign -n ledger-approval@v1" in said.err
    assert '"verdict": "approve"' in out.read_text()
    shell.sign(desk.keys["ada"], out)
    [done] = desk.say("append", "approval", out, "--json").json
    assert done["run"] == desk.asked.run
    [found] = desk.say("approve", "--json").json
    assert found["approvers"] == ["ada"]
    # A second time, by somebody who may not, and changed on the way.
    desk.say("append", "approval", out).fails(2, "counted already: ")
    shell.sign(desk.keys["mallory"], out)
    desk.say("append", "approval", out).fails(2, "stranger: ")
    out.write_text(out.read_text().replace("2 of lead", "1 of lead"))
    shell.sign(desk.keys["bob"], out)
    desk.say("append", "approval", out).fails(2, "other statement: ")
    assert sound(desk.path, desk.owner).findings == []


def test_a_no_of_somebody_elsewhere_is_a_no(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "no.txt"
    assert desk.say("deny", desk.index, "--out", out).status == 0
    shell.sign(desk.keys["ada"], out)
    assert desk.say("append", "approval", out).status == 0
    assert desk.say("approve").out == ""


def test_breaking_the_glass_is_loud(desk: Desk) -> None:
    args = ["approve", "--break-glass", desk.index, "--key", desk.keys["eve"], "--yes"]
    desk.say(*args).fails(2, "--reason")
    said = desk.say(*args, "--reason", "nobody else awake")
    assert said.status == 0, said
    assert "the glass is broken by entry" in said.err
    desk.send(desk.index)
    verified = call("verify", desk.path)
    assert verified.status == 0
    assert "the glass was broken, without a quorum" in verified.out + verified.err


def test_the_glass_is_broken_by_its_role_alone(desk: Desk) -> None:
    args = ["approve", "--break-glass", desk.index, "--key", desk.keys["ada"], "--yes", "--reason", "why", "--json"]
    desk.say(*args).fails(2, "role: ada may not break the glass")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real ssh-agent."""
    program = shutil.which("ssh-agent")
    if program is None:
        pytest.skip("needs OpenSSH's ssh-agent")
    socket = tmp_path / "agent"
    process = subprocess.Popen([program, "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    while not socket.exists():
        assert process.poll() is None
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    yield
    process.terminate()
    process.wait(10)


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("options", [[], ["--key", "agent"]], ids=str)
def test_a_key_that_an_agent_holds_signs(desk: Desk, options: list[str]) -> None:
    for name in ("mallory", "ada"):
        subprocess.run(["ssh-add", "-q", str(desk.keys[name])], check=True)
        desk.keys[name].unlink()
        desk.keys[name].with_suffix(".pub").unlink()
    [found] = desk.say("approve", desk.index, "--yes", "--json", *options).json
    assert found["approvers"] == ["ada"]


def test_a_key_of_the_home_that_may_approve_signs(desk: Desk, home: Path) -> None:
    desk.say("approve", desk.index, "--yes", "--json").fails(1, "no key in the agent or in ~/.ssh may approve")
    (home / ".ssh").mkdir()
    for suffix in ("", ".pub"):
        shutil.copy(desk.keys["mallory"].with_name("mallory" + suffix), home / ".ssh" / f"id_ed25519{suffix}")
    desk.say("approve", desk.index, "--yes", "--json").fails(1, "may approve")
    for suffix in ("", ".pub"):
        shutil.copy(desk.keys["ada"].with_name("ada" + suffix), home / ".ssh" / f"id_ed25519{suffix}")
    [found] = desk.say("approve", desk.index, "--yes", "--json").json
    assert found["approvers"] == ["ada"]


def test_no_agent_no_ssh_keygen_and_no_such_key_are_named(desk: Desk) -> None:
    args = ["approve", str(desk.index), "--yes", "--json"]
    desk.say(*args, "--key", "agent").fails(1, "no key in the agent may approve")
    desk.say(*args, "--key", "nowhere").fails(2, "nowhere")
    desk.say(*args, "--key", desk.keys["ada"], env={"PATH": "/nowhere"}).fails(1, "ssh-keygen is not here")


@pytest.mark.parametrize("text", ["0", "99999", "zzzz", "", "artifact://"])
def test_what_nobody_asked_for_is_not_found(desk: Desk, text: str) -> None:
    for verb in ("approve", "deny"):
        desk.say(verb, text, "--yes", "--json").fails(2)


def test_a_stranger_and_the_requester_are_refused(desk: Desk) -> None:
    desk.say("approve", desk.index, "--key", desk.keys["mallory"], "--yes", "--json").fails(2, "stranger: ")
    index = desk.ask(requester="ada")
    desk.say("approve", index, "--key", desk.keys["ada"], "--yes", "--json").fails(2, "self-approval: ")


def test_who_can_not_read_the_content_is_told(desk: Desk, tmp_path: Path) -> None:
    other = tmp_path / "identity"
    other.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    other.chmod(0o600)
    said = desk.say("approve", desk.index, "--identity", f"file:{other}", "--key", desk.keys["ada"], "--yes")
    assert "you see less than what you sign for" in said.err
    assert BODY.decode() not in said.out


@pytest.mark.parametrize("option", [["--yes"], ["--reason", "x"], ["--out", "x"], ["--break-glass"], ["--key", "x"]])
def test_an_answer_needs_to_say_to_what(desk: Desk, option: list[str]) -> None:
    desk.say("approve", *option).fails(2, "ID is missing")


def test_nothing_sensitive_stands_in_the_statement(desk: Desk, tmp_path: Path) -> None:
    """It leaves the house, and its hash stands in clear in the ledger."""
    out = tmp_path / "out"
    assert desk.say("approve", desk.index, "--out", out, "--json").status == 0
    assert "release it" not in out.read_text()
    assert os.stat(out).st_mode & 0o077 == 0
