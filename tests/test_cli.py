"""The command line: what users type and see, how it refuses what is wrong, and that it never tells a secret."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

import ledger
from ledger.cli import main
from tests.support import shell, template
from tests.support.shell import Said, Say, call
from tests.support.template import Template

PROMPT, ANSWER = "what is 6 × 7?", "42, of course"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), _fill)


def _fill(path: Path) -> None:
    """Three runs: finished, failed, open; the finished one has every kind but an approval."""
    with ledger.open(path) as log:
        with log.run("nightly", stage="plan", lane="a", task="t1") as run:
            run.response(ANSWER, to=run.prompt(PROMPT, model="m-1"))
            run.artifact(b"\x00\x01binary", name="app.bin", media_type="application/octet-stream")
        with pytest.raises(ZeroDivisionError), log.run("broken"):
            raise ZeroDivisionError
        log.run("still going").prompt({"ask": "again"})


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger of the folder in which the test stands."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return made.copy(home, tmp_path / "project" / ".ledger")


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Iterator[Say]:
    """The command line in this process: for where there are many calls."""
    umask = os.umask(0o022)

    def run(*args: str | Path) -> Said:
        capfd.readouterr()
        status = main.run([str(arg) for arg in args])
        return Said(status, *capfd.readouterr())

    yield run
    os.umask(umask)


def ids(path: Path) -> list[str]:
    """Ids of its runs, newest first."""
    with ledger.open(path) as log:
        return [run.id for run in log.runs()]


def size_of(path: Path) -> int:
    with ledger.open(path) as log:
        return log.chain.state.size


# The story.


def test_the_story_of_a_user_from_an_empty_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "calc"
    work.mkdir()
    monkeypatch.chdir(work)

    began = call("init")
    assert began.status == 0
    assert re.fullmatch(r"local/calc-[0-9a-f]{4}\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{44}\n", began.out)
    assert "created .ledger" in began.err
    assert "~/.config/ledger/local/calc-" in began.err
    vkey = began.out.strip()
    assert "next: export LEDGER_RUN=$(ledger start demo); echo hello | ledger append prompt -\n" in began.err

    started = call("start", "nightly", "--stage", "plan")
    assert (started.status, started.err) == (0, "")
    run = started.out.strip()
    monkeypatch.setenv("LEDGER_RUN", run)

    asked = call("append", "prompt", "-", "--model", "m-1", "--stage", "ask", stdin=PROMPT)
    assert re.fullmatch(r"5 artifact://[0-9a-f]{64}\n", asked.out)
    assert asked.err == ""
    (work / "answer.txt").write_text(ANSWER)
    answered = call("append", "response", "answer.txt", "--json").json[0]
    assert answered["step"] == 3
    (work / "app.bin").write_bytes(b"\x00\xff" * 50)
    artifact = call("append", "artifact", "app.bin").out.split()[1]
    ada = shell.new_person(tmp_path / "people", "ada")
    assert call("keys", "approver", "ada", "add", f"{ada}.pub").status == 0
    (work / "release.txt").write_text("release it?")
    shell.sign(ada, work / "release.txt")
    assert call("append", "approval", "release.txt").status == 0
    finished = call("finish")
    assert (finished.status, finished.out) == (0, "")
    assert "succeeded   6 steps" in finished.err
    monkeypatch.delenv("LEDGER_RUN")

    [line] = call("log").out.splitlines()
    assert line.startswith(run[-8:])
    assert "nightly  succeeded  1 prompt  1 artifact  app.bin" in line
    steps = call("log", run)
    words = [line.split()[2] for line in steps.out.splitlines()]
    assert words == ["run.started", "prompt", "response", "artifact", "approval", "run.finished"]
    assert run in steps.err
    shown = call("show", "5")
    assert f"\n{PROMPT}\n" in "\n" + shown.out
    assert call("show", artifact).out.startswith("index    9\nkind     artifact\n")
    fetched = subprocess.run([*shell.LEDGER, "cat", artifact], capture_output=True, check=True)
    assert (fetched.stdout, fetched.stderr) == ((work / "app.bin").read_bytes(), b"")
    assert f"{run[-8:]}:4" in call("find", "app.bin").out
    assert call("find", "-", stdin=b"never seen").status == 1

    for identity in ([], ["--identity", f"file:{home}/.config/ledger/{vkey.partition('+')[0]}/identity.txt"]):
        verdict = call("verify", *identity)
        assert verdict.status == 0, verdict
        assert "\nsound" in verdict.out
        assert ("contents (no identity)" in verdict.out) == (not identity)
    assert call("receipt", "5", "-o", "5.tlog-proof").status == 0
    assert call("disclose", artifact, "-o", "app.disclosure").status == 0
    auditor = {"HOME": str(tmp_path / "auditor")}
    for document in ("5.tlog-proof", "app.disclosure"):
        assert call("verify", work / document, env=auditor).status == 3
        assert call("verify", work / document, "--trust", vkey, env=auditor).status == 0
    read = subprocess.run([*shell.LEDGER, "cat", "app.disclosure"], capture_output=True, check=True)
    assert read.stdout == (work / "app.bin").read_bytes()

    kinds = call("query", "SELECT kind, count(*) AS n FROM entries GROUP BY kind", "--json").json
    assert {row["kind"]: row["n"] for row in kinds}["disclosure"] == 1
    (work / "old.ndjson").write_text('{"kind":"prompt","run":"old","text":"x","time":"2020-01-01T00:00:00Z"}\n')
    assert "imported 1 entry in 1 run" in call("import", "old.ndjson").err
    erased = call("erase", "nightly", "--reason", "ticket 812", "--yes")
    assert (erased.status, erased.out) == (0, "")
    call("cat", artifact).fails(1, "erased by entry")
    assert call("doctor").status == 0
    assert call("verify").status == 0
    assert vkey in call("keys").out


def test_an_erasure_is_asked_for_and_no_is_no(path: Path) -> None:
    status, seen = shell.at_a_terminal("erase", "nightly", "--reason", "x", typed="n\n")
    assert status == 1
    assert "erase run" in seen
    assert "still open" not in seen
    assert "nothing was erased" in seen
    with ledger.open(path) as log:
        assert log.runs()[-1].status == "succeeded"
    status, seen = shell.at_a_terminal("erase", "still going", "--reason", "x", typed="y\n")
    assert status == 0
    assert "which is still open" in seen
    steps = call("log", "still going")
    assert steps.status == 2
    steps = call("log", "@")
    assert "erased by entry" in steps.err


def test_nobody_who_could_be_asked_is_no_consent(path: Path) -> None:
    before = size_of(path)
    for stdin in ("", "y\n"):
        call("erase", "nightly", "--reason", "x", stdin=stdin).fails(2, "no terminal", "--yes")
    for reason in ("", " "):
        call("erase", "nightly", "--yes", "--reason", reason).fails(2, "--reason is empty")
    assert size_of(path) == before


# What is printed, and where.

PRINTING = [
    ["start", "x"],
    ["append", "prompt", "file.txt", "--run", "still going"],
    ["finish", "still going"],
    ["import", "old.ndjson"],
    ["log"],
    ["log", "nightly"],
    ["log", "still going"],
    ["log", "--since", "3d"],
    ["show", "3"],
    ["show", "nightly:2"],
    ["show", "nightly:4"],
    ["find", "file.txt"],
    ["query", "FROM entries"],
    ["query", "FROM runs"],
    ["query", "FROM blobs"],
    [
        "query",
        "SELECT 1::HUGEINT, INTERVAL 1 DAY, MAP {1: 2}, 'a'::BLOB, 1.5::DECIMAL(4,2), [1], {'a': 1}, 'nan'::DOUBLE",
    ],
    ["verify"],
    ["keys"],
    ["keys", "author", "ci", "add"],
    ["erase", "nightly", "--reason", "x", "--yes"],
    ["doctor"],
    ["doctor", "--rebuild", "--gc"],
    ["init", "other", "--origin", "other.example/log"],
]


@pytest.mark.parametrize("args", PRINTING, ids=" ".join)
def test_json_is_all_that_json_prints(path: Path, say: Say, args: list[str]) -> None:
    Path("file.txt").write_text(PROMPT)
    Path("old.ndjson").write_text('{"kind":"prompt","run":"old","text":"x"}\n')
    said = say(*args, "--json")
    assert said.status == 0, said
    assert said.json
    assert not re.search(r"[{}]", said.err)


@pytest.mark.parametrize("args", [["--help"], ["-h"], *([verb, "--help"] for verb in main.VERBS)], ids=" ".join)
def test_help_of_every_verb_has_an_example(say: Say, args: list[str]) -> None:
    said = say(*args)
    assert (said.status, said.err) == (0, "")
    assert "Usage: ledger" in said.out
    assert "example" in said.out or "first steps" in said.out
    assert max(map(len, said.out.splitlines())) <= 100


def test_help_shows_every_verb_in_its_group(say: Say) -> None:
    out = say("--help").out
    for verb, (group, text) in main.VERBS.items():
        part = out.partition(f"{group}:\n")[2].partition("\n\n")[0]
        assert re.search(rf"^  {verb} +{re.escape(text)}$", part, re.M), verb


def test_without_arguments_help_is_shown_and_the_status_is_of_usage(say: Say) -> None:
    said = say()
    assert said.status == 2
    assert "Usage: ledger" in said.out


@pytest.mark.parametrize("sub", ["grant", "revoke", "author", "approver"])
def test_help_of_changes_to_keys(say: Say, sub: str) -> None:
    assert say("keys", sub, "--help").status == 0


@pytest.mark.parametrize(
    ("typed", "meant"), [("verfy", "verify"), ("lgo", "log"), ("check", "verify"), ("add", "append"), ("list", "log")]
)
def test_an_unknown_command_names_the_one_that_was_meant(say: Say, typed: str, meant: str) -> None:
    say(typed).fails(2, f"no command {typed!r}", f"hint: did you mean `ledger {meant}`?")


def test_an_unknown_command_that_resembles_none_hints_at_the_list(say: Say) -> None:
    say("xyzzy").fails(2, "`ledger --help` lists commands")


@pytest.mark.parametrize(
    "args", [["log"], ["log", "@"], ["show", "3"], ["verify"], ["doctor"], ["find", "nothing"], ["xyz"]]
)
def test_there_is_no_colour_but_on_a_terminal(path: Path, args: list[str]) -> None:
    Path("nothing").touch()
    said = call(*args)
    assert "\x1b" not in said.out + said.err


@pytest.mark.parametrize("args", [["log"], ["show", "3"], ["verify"], ["xyz"]], ids=" ".join)
def test_there_is_colour_on_a_terminal_unless_it_is_unwanted(path: Path, args: list[str]) -> None:
    assert "\x1b[" in shell.on_a_terminal(*args)
    assert "\x1b[" not in shell.on_a_terminal(*args, env={"NO_COLOR": "1"})


def test_colour_can_be_forced(path: Path) -> None:
    assert "\x1b[" in call("log", env={"FORCE_COLOR": "1"}).out


@pytest.mark.parametrize("args", [["log"], ["log", "@"], ["show", "3"]], ids=" ".join)
def test_a_name_cannot_speak_to_the_terminal(path: Path, args: list[str]) -> None:
    """Names come from agents: an escape sequence in one must not reach the terminal of who looks."""
    with ledger.open(path) as log:
        run = log.run("evil\x1b]0;pwned\x07\x1b[2Jname\nsecond line")
        run.artifact(b"x", name="a\x1b[2Jb\rc")
        index = next(log.entries(run)).index
    seen = shell.on_a_terminal(*("show" if a == "show" else str(index) if a == "3" else a for a in args))
    assert "\x1b]0" not in seen
    assert "\x07" not in seen
    assert "\x1b[2J" not in seen


@pytest.mark.parametrize("args", [["log"], ["query", "SELECT * FROM range(100000)"], ["cat", "6"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_error_to_speak_of(path: Path, args: list[str]) -> None:
    with ledger.open(path) as log:
        big = log.run("big").artifact(b"line\n" * 300_000)
    args = [str(big.index) if a == "6" else a for a in args]
    line = " ".join(f"'{a}'" for a in [*shell.LEDGER, *args]) + " | head -0"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert "bug" not in done.stderr


def test_standard_output_that_is_full_is_said(path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*shell.LEDGER, "log"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode not in (0, 70)
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr


# Names as people type them.


def test_every_way_to_name_a_run(path: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    newest, broken, nightly = ids(path)
    unique = nightly[-8:]
    for name in (nightly, unique, unique[:5], nightly[-12:], "nightly", "@~2"):
        assert say("log", name, "--json").json[0]["run"] == nightly, name
    assert say("log", "@", "--json").json[0]["run"] == newest
    assert say("log", "@~1", "--json").json[0]["run"] == broken
    monkeypatch.setenv("LEDGER_RUN", nightly)
    assert say("finish").status == 2
    monkeypatch.setenv("LEDGER_RUN", "still going")
    assert say("finish", "--json").json[0]["run"] == newest


def test_a_run_goes_by_its_whole_id_even_if_another_bears_it_as_a_name(path: Path, say: Say) -> None:
    nightly = ids(path)[2]
    with ledger.open(path) as log:
        log.run(nightly)
    assert say("log", nightly, "--json").json[0]["run"] == nightly


def test_appending_and_looking_mean_the_same_run_by_the_same_name(path: Path, say: Say) -> None:
    """A name that is also a part of another run's id."""
    going = ids(path)[0]
    with ledger.open(path) as log:
        named = log.run(going[-6:]).id
    assert say("log", going[-6:], "--json").json[0]["run"] == named
    Path("f").touch()
    assert say("append", "artifact", "f", "--run", going[-6:], "--json").json[0]["run"] == named


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", ["no run 'nothing'", "`ledger log` lists runs"]),
        ("01a", ["no run '01a'"]),
        ("@~3", ["no run @~3", "there are 3"]),
        ("@~x", ["no run @~x"]),
        ("@~²", ["no run"]),
        ("@~-1", ["no run"]),
        ("@@", ["no run"]),
        ("00000000-0000-7000-8000-000000000000", ["no run"]),
        (" ", ["no run"]),
        ("\udcff", []),
    ],
)
@pytest.mark.parametrize("verb", ["log", "erase", "finish", "append"])
def test_a_run_that_is_none_is_refused(path: Path, say: Say, verb: str, name: str, words: list[str]) -> None:
    Path("f").touch()
    before = size_of(path)
    more = {"erase": ["--reason", "x", "--yes"], "append": ["--run", name]}.get(verb, [])
    said = say(verb, *(["artifact", "f"] if verb == "append" else [name]), *more)
    said.fails(2, *(words if verb in ("log", "erase") and words else []))
    assert size_of(path) == before


def test_an_ambiguous_name_lists_what_it_fits(path: Path, say: Say) -> None:
    first, *rest = ids(path)
    prefix = first[: next(n for n in range(36) if any(id[n] != first[n] for id in rest))]
    assert len(prefix) >= 4
    for verb in (["log", prefix], ["show", f"{prefix}:1"], ["erase", prefix, "--reason", "x", "--yes"]):
        say(*verb).fails(2, "fits 3 runs", ids(path)[0][-8:], "give more of the id")
    with ledger.open(path) as log:
        log.run("twin")
        log.run("twin")
    for verb in (["log", "twin"], ["finish", "twin"], ["append", "prompt", "f", "--run", "twin"]):
        Path("f").touch()
        say(*verb).fails(2, "fits 2 runs")


def test_an_empty_name_never_means_the_newest_run(path: Path, say: Say) -> None:
    """`ledger erase "$UNSET"` must not erase whatever is newest."""
    before = size_of(path)
    say("erase", "", "--reason", "x", "--yes").fails(2)
    assert size_of(path) == before


@pytest.mark.parametrize(
    "args", [["finish"], ["append", "artifact", "f"], ["finish", ""], ["append", "artifact", "f", "--run", ""]]
)
def test_without_a_run_nothing_is_written(path: Path, say: Say, args: list[str]) -> None:
    Path("f").touch()
    say(*args).fails(2, "no run named", "export LEDGER_RUN=$(ledger start)")


@pytest.mark.parametrize("verb", ["append", "finish"])
@pytest.mark.parametrize("how", ["id", "part", "name"])
def test_a_finished_run_is_said_to_be_finished(path: Path, say: Say, verb: str, how: str) -> None:
    nightly = ids(path)[2]
    name = {"id": nightly, "part": nightly[-8:], "name": "nightly"}[how]
    Path("f").touch()
    before = size_of(path)
    said = say(verb, *(["artifact", "f", "--run"] if verb == "append" else []), name)
    said.fails(2, "finished")
    assert size_of(path) == before


def test_steps_and_indexes(path: Path, say: Say) -> None:
    run = ids(path)[2]
    for name in (f"{run}:2", f"{run[-8:]}:2", "nightly:2", "@~2:2"):
        assert say("show", name, "--json").json[0]["text"] == PROMPT
    assert say("show", "5", "--json").json[0]["text"] == PROMPT
    assert say("cat", "nightly:3").out == say("cat", "7").out == ANSWER


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("nightly:9", 2, ["has no step 9", "it has 5"]),
        ("nightly:0", 2, ["has no step 0"]),
        ("nothing:1", 2, ["no run 'nothing'"]),
        (":1", 2, []),
        ("4", 2, ["is a signature", "try 3"]),
        ("99999", 2, ["no entry 99,999"]),
        ("9" * 30, 2, ["no entry"]),
        ("²", 2, []),
        ("nightly:²", 2, []),
        ("nightly", 2, ["neither index, step nor address"]),
        ("", 2, ["neither"]),
        ("nightly:-1", 2, ["neither"]),
        ("artifact://zz", 2, ["not an address"]),
        ("artifact://" + "0" * 64, 1, ["is not in this ledger"]),
        ("artifact://" + "A" * 64, 2, ["not an address"]),
    ],
)
@pytest.mark.parametrize("verb", ["show", "cat", "receipt"])
def test_what_names_no_entry_is_refused(
    path: Path, say: Say, verb: str, what: str, status: int, words: list[str]
) -> None:
    if verb == "receipt" and what.startswith("artifact"):
        status, words = 2, []
    say(verb, what).fails(status, *words)


def test_a_file_that_happens_to_be_called_like_an_index_hides_no_entry(path: Path, say: Say) -> None:
    Path("7").write_text("notes")
    assert say("cat", "7").out == ANSWER


@pytest.mark.parametrize("when", ["soon", "3", "3y", "²d", "99999999999d", "0001-01-01", "-3d", "d", "2026-13-01", ""])
def test_what_is_no_time_is_refused(path: Path, say: Say, when: str) -> None:
    if when == "" or when == "0001-01-01":
        assert say("log", "--since", when).status in (0, 2)
    else:
        say("log", "--since", when).fails(2)


@pytest.mark.parametrize(
    ("when", "runs"), [("yesterday", 3), ("today", 3), ("1h", 3), ("2w", 3), ("2000-01-01", 3), ("2999-01-01", 0)]
)
def test_runs_since(path: Path, say: Say, when: str, runs: int) -> None:
    assert len(say("log", "--since", when, "--json").json[0]) == runs


# Bad input.


def test_no_ledger(home: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for args in (["log"], ["start"], ["verify"], ["query", "FROM runs"], ["keys"], ["doctor"], ["show", "1"]):
        say(*args).fails(2, "no ledger here or above", "ledger init")
    for args in (["log", "--ledger", "nowhere"], ["verify", "nowhere"]):
        say(*args).fails(2, "nowhere")
    monkeypatch.setenv("LEDGER", "nowhere")
    say("log").fails(2, "nowhere")


def test_what_is_not_a_ledger(path: Path, say: Say) -> None:
    Path("folder").mkdir()
    Path("file").write_text("text")
    Path("empty").touch()
    for verb in ("log", "start", "verify", "keys", "doctor"):
        say(verb, "--ledger", "folder").fails(2, "is not a ledger", "ledger.toml")
    say("verify", "file").fails(2, "nothing that can be verified")
    say("verify", "empty").fails(2, "nothing that can be verified")
    for verb in ("log", "start"):
        say(verb, "--ledger", "file").fails(2)


@pytest.mark.parametrize(
    "text", ["", "format = 1\n", 'format = "1"\norigin = "a"\n', "\xff\xfe", 'format = 1\norigin = "../x"\n']
)
def test_damaged_settings(path: Path, say: Say, text: str) -> None:
    (path / "ledger.toml").write_bytes(text.encode("latin-1"))
    for verb in ("log", "start", "verify"):
        said = say(verb)
        assert said.status in (1, 2)
        said.fails(said.status)


def test_a_ledger_of_another_version_is_refused(path: Path, say: Say) -> None:
    settings = path / "ledger.toml"
    settings.write_text(settings.read_text().replace("format = 1", "format = 2"))
    for verb in ("log", "start", "verify", "keys"):
        said = say(verb)
        said.fails(said.status, "is of format 2; this program reads format 1", "upgrade")
        assert said.status in (1, 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_ledger_is_verified_and_not_used(path: Path, say: Say, made: Template) -> None:
    os.chown(path, 12345, 12345)
    for args in (
        ["log"],
        ["start", "x"],
        ["query", "FROM runs"],
        ["doctor"],
        ["keys"],
        ["erase", "@", "--reason", "x", "--yes"],
    ):
        say(*args).fails(1, "belongs to user 12345", "ledger verify PATH --trust VKEY")
    assert say("verify", "--trust", made.vkey).status == 0


def test_without_a_trust_root_verify_cannot_tell(path: Path, say: Say, home: Path) -> None:
    shutil.rmtree(home)
    say("verify").fails(3, "no trust root for test.example/log", "--trust LINE")


@pytest.mark.parametrize("trust", ["", "x", "a+b", "a+b+c", "test.example/log+00000000+AAAA", "nowhere.txt"])
def test_what_is_no_trust_root_is_refused(path: Path, say: Say, trust: str) -> None:
    say("verify", "--trust", trust).fails(2, "not a trust root")


def test_the_trust_root_of_another_log_is_no_verdict_of_sound(path: Path, say: Say, tmp_path: Path) -> None:
    other = ledger.init(tmp_path / "other", origin="other.example/log").owner
    said = say("verify", "--trust", other)
    assert said.status in (1, 3)
    assert "other.example/log" in said.out + said.err


@pytest.mark.parametrize("head", ["x", "12", "-1 AAAA", "12 zzz", "²  AAAA", "1" * 30 + " AAAA", "nowhere.txt"])
def test_what_is_no_head_is_refused(path: Path, say: Say, head: str) -> None:
    say("verify", "--since", head).fails(2, "not a head")


def test_a_head_that_the_log_does_not_continue_is_not_sound(path: Path, say: Say) -> None:
    head = say("verify", "--json").json[0]["head"]
    assert say("verify", "--since", head).status == 0
    assert say("verify", "--since", f"head {head}").status == 0
    assert say("verify", "--since", str(path / "checkpoint")).status == 0
    said = say("verify", "--since", f"999 {head.split()[1]}")
    assert said.status == 1
    assert "not sound   step 8" in said.out


def test_a_damaged_ledger_is_not_sound_and_says_where(path: Path, say: Say) -> None:
    pack = sorted(path.rglob("*.pack"))[3]
    data = bytearray(pack.read_bytes())
    data[-100] ^= 1
    pack.write_bytes(data)
    said = say("verify")
    assert said.status == 1
    assert re.search(r"^not sound   step 2: .*pack 3", said.out, re.M)
    assert say("verify", "--json").json[0]["sound"] is False


# What would make the log unsound for ever is refused before it is written.

TOO_MUCH = {
    "stage": ["--stage", "x" * 201],
    "lane": ["--lane", "x" * 300],
    "task": ["--task", "x" * 100_000],
    "model": ["--model", "x" * 201],
    "a surrogate": ["--stage", "\udcff"],
    "an answer to a negative index": ["--to", "-1"],
    "an answer to an impossible index": ["--to", str(2**60)],
    "an answer to what is no prompt": ["--to", "7"],
    "an answer to what isn't there": ["--to", "99999"],
}


@pytest.mark.parametrize("options", TOO_MUCH.values(), ids=TOO_MUCH)
def test_an_entry_that_breaks_the_rules_is_refused_before_it_is_written(
    path: Path, say: Say, options: list[str]
) -> None:
    Path("f").write_text("x")
    before = size_of(path)
    kind = "response" if "--to" in options else "prompt"
    say("append", kind, "f", "--run", "still going", *options).fails(2)
    assert size_of(path) == before
    assert say("verify").status == 0


@pytest.mark.parametrize("option", ["stage", "lane", "task"])
def test_a_run_cannot_start_with_a_label_that_is_too_long(path: Path, say: Say, option: str) -> None:
    before = size_of(path)
    say("start", "x", f"--{option}", "x" * 201).fails(2)
    assert size_of(path) == before


@pytest.mark.parametrize("name", ["\udcff", "a\udc80b"])
def test_a_name_that_is_no_text_is_refused(path: Path, say: Say, name: str) -> None:
    Path("f").touch()
    before = size_of(path)
    say("start", name).fails(2)
    say("append", "artifact", "f", "--run", "still going", "--name", name).fails(2)
    assert size_of(path) == before


@pytest.mark.parametrize("length", [0, 200])
def test_labels_up_to_their_limit_are_taken(path: Path, say: Say, length: int) -> None:
    Path("f").touch()
    assert (
        say("append", "prompt", "f", "--run", "still going", "--stage", "é" * length, "--model", "m" * length).status
        == 0
    )
    assert say("verify").status == 0


def test_names_up_to_their_limit_are_taken(path: Path, say: Say) -> None:
    assert say("start", "n" * 10_000).status == 0
    assert say("log", "--json").json[0][0]["name"] == "n" * 10_000
    assert say("verify").status == 0
    before = size_of(path)
    Path("f").touch()
    say("start", "n" * 10_001).fails(2, "10,001 characters", "the limit is 10,000")
    say("append", "artifact", "f", "--run", "@", "--name", "n" * 10_001).fails(2, "the limit is 10,000")
    assert size_of(path) == before


@pytest.mark.parametrize("kind", ["prompt", "response", "artifact", "approval"])
def test_a_file_that_is_not_there_is_refused(path: Path, say: Say, kind: str) -> None:
    say("append", kind, "nowhere", "--run", "still going").fails(2, "nowhere: no such file")
    say("append", kind, ".", "--run", "still going").fails(2)
    say("find", "nowhere").fails(2, "nowhere")


def test_a_pipe_by_name_is_read_as_a_file_is(path: Path) -> None:
    """`ledger append prompt <(command)`."""
    line = " ".join(f"'{a}'" for a in shell.LEDGER) + " append prompt <(echo piped) --run 'still going'"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert call("cat", done.stdout.split()[0]).out == "piped\n"


def test_standard_input_that_is_closed_is_refused(path: Path) -> None:
    line = " ".join(f"'{a}'" for a in shell.LEDGER) + " append prompt - --run 'still going' <&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "error:" in done.stderr


def test_an_approval_must_be_signed_by_an_approver(path: Path, say: Say, tmp_path: Path) -> None:
    ada, eve = (shell.new_person(tmp_path / "people", name) for name in ("ada", "eve"))
    request = Path("request.txt")
    request.write_text("release?")
    before = size_of(path)
    append = ["append", "approval", "request.txt", "--run", "still going"]
    say(*append).fails(2, "no SSH signature", "ssh-keygen -Y sign -n ledger-approval@v1")
    shell.sign(ada, request)
    say(*append).fails(2, "may not approve", "approvers")
    assert size_of(path) == before
    assert say("keys", "approver", "ada", "add", f"{ada}.pub").status == 0
    after = size_of(path)
    shell.sign(ada, request, "other@v1")
    say(*append).fails(2, "other@v1")
    shell.sign(eve, request)
    say(*append).fails(2, "may not approve")
    shell.sign(ada, request)
    request.write_text("release everything?")
    say(*append).fails(2, "other bytes were signed")
    Path("request.txt.sig").write_text("-----BEGIN SSH SIGNATURE-----\n!!\n-----END SSH SIGNATURE-----\n")
    say(*append).fails(2)
    Path("request.txt.sig").write_bytes(b"\xff" * 100_000)
    say(*append).fails(2)
    assert size_of(path) == after
    assert say("verify").status == 0


def test_a_signature_over_its_limit_is_refused_before_it_is_written(path: Path, say: Say) -> None:
    import base64

    text = base64.b64encode(b"SSHSIG" + bytes(80_000)).decode()
    Path("r").write_text("x")
    Path("r.sig").write_text(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")
    before = size_of(path)
    say("append", "approval", "r", "--run", "still going").fails(2)
    assert size_of(path) == before


@pytest.mark.parametrize("args", [["receipt", "5"], ["disclose", "ADDRESS"]], ids=["receipt", "disclose"])
@pytest.mark.parametrize("target", ["no/such/folder/x", ".", "file/x"])
def test_an_output_that_cannot_be_written_is_no_bug_of_ours(path: Path, say: Say, args: list[str], target: str) -> None:
    Path("file").touch()
    address = say("show", "5", "--json").json[0]["content"]
    said = say(*(address if a == "ADDRESS" else a for a in args), "-o", target)
    said.fails(said.status)
    assert said.status in (1, 2)


def test_what_no_entry_names_is_not_disclosed(path: Path, say: Say) -> None:
    before = size_of(path)
    say("disclose", "artifact://" + "0" * 64).fails(2, "no entry names")
    say("disclose", "3").fails(2, "3 has no content")
    say("disclose", "plan.txt").fails(2, "neither index, step nor address")
    assert size_of(path) == before


@pytest.mark.parametrize("target", ["file/x", "/proc/x", "/dev/null/x"])
def test_init_where_it_cannot_be_leaves_no_keys_behind(
    home: Path, tmp_path: Path, say: Say, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    said = say("init", target, "--origin", "a.example/b")
    said.fails(said.status)
    assert say("init", "good", "--origin", "a.example/b").status == 0


@pytest.mark.parametrize(
    "args", [["init"], ["init", "--origin", "UPPER"], ["init", "new", "--origin", template.ORIGIN]]
)
def test_init_overwrites_nothing(path: Path, say: Say, args: list[str]) -> None:
    said = say(*args)
    said.fails(said.status)
    assert say("verify").status == 0


@pytest.mark.parametrize(
    "args",
    [
        ["keys", "grant", "nobody"],
        ["keys", "grant", "age1qqqqqqqqqqqqqqqqqqqqqqqq"],
        ["keys", "grant", "ssh-ed25519 AAAA"],
        ["keys", "revoke", "age1qqqqqqqqqqqqqqqqqqqqqqqq"],
        ["keys", "author", "ci", "end"],
        ["keys", "author", "main", "end", "--at", "3"],
        ["keys", "author", "../x", "add"],
        ["keys", "author", "ci", "add", "not a key"],
        ["keys", "author", "ci", "add", "a/ci+00000000+AAAA"],
        ["keys", "approver", "ada", "add"],
        ["keys", "approver", "ada", "add", "nowhere.pub"],
        ["keys", "approver", "ada", "add", "ssh-rsa AAAA"],
        ["keys", "approver", "ada", "add", "ssh-ed25519 AAAA"],
        ["keys", "approver", "ada", "add", "binary"],
        ["keys", "approver", "ada", "end"],
    ],
    ids=" ".join,
)
def test_a_change_of_keys_that_makes_no_sense_is_refused(path: Path, say: Say, args: list[str]) -> None:
    Path("binary").write_bytes(b"\xff\xfe\x00")
    before = size_of(path)
    said = say(*args)
    said.fails(said.status)
    assert said.status in (1, 2)
    assert size_of(path) == before
    assert say("verify").status == 0


# Keys and identities.


def test_a_missing_or_wrong_identity_is_said(path: Path, say: Say, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyrage

    stranger = home / "stranger.txt"
    stranger.write_text(str(pyrage.x25519.Identity.generate()))
    stranger.chmod(0o600)
    say("cat", "5", "--identity", f"file:{home}/nowhere").fails(1, "no such file")
    say("cat", "5", "--identity", "env:NOT_SET").fails(1, "the variable is not set", "export NOT_SET")
    say("cat", "5", "--identity", f"file:{stranger}").fails(3, "is no reader", "ledger keys grant")
    shown = say("show", "5", "--identity", f"file:{stranger}")
    assert shown.status == 0
    assert PROMPT not in shown.out
    assert "content not shown" in shown.err
    names = [run["name"] for run in say("log", "--json", "--identity", f"file:{stranger}").json[0]]
    assert names == ["", "", ""]
    say("find", ".ledger/ledger.toml", "--identity", f"file:{stranger}").fails(3, "opens no data key")
    (home / ".config/ledger" / template.ORIGIN / "identity.txt").unlink()
    say("cat", "5").fails(3, "no identity")


@pytest.mark.parametrize("uri", ["file:nowhere", "env:NOT_SET", "nonsense", "file:.ledger/ledger.toml"])
def test_verify_that_cannot_open_contents_does_not_call_the_ledger_unsound(path: Path, say: Say, uri: str) -> None:
    said = say("verify", "--identity", uri)
    assert said.status in (2, 3), said
    said.fails(said.status)


def test_a_key_that_others_may_read_is_refused(path: Path, say: Say, home: Path) -> None:
    keys = home / ".config/ledger" / template.ORIGIN
    for name in ("author.key", "identity.txt", "log.key", "owner.key"):
        (keys / name).chmod(0o644)
        command = {
            "author.key": ["start"],
            "identity.txt": ["cat", "5"],
            "log.key": ["start"],
            "owner.key": ["keys", "author", "x", "add"],
        }[name]
        say(*command).fails(1, name, "others may read this key", "chmod 600")
        (keys / name).chmod(0o600)
        shutil.rmtree(keys / "x.key", ignore_errors=True)


def test_a_refused_new_author_leaves_no_key_that_blocks_the_next_try(path: Path, say: Say, home: Path) -> None:
    owner = home / ".config/ledger" / template.ORIGIN / "owner.key"
    owner.chmod(0o644)
    say("keys", "author", "ci", "add").fails(1, "others may read this key")
    owner.chmod(0o600)
    assert say("keys", "author", "ci", "add").status == 0


def test_files_that_the_command_line_writes_are_closed_to_others(path: Path) -> None:
    address = call("show", "5", "--json").json[0]["content"]
    assert call("receipt", "5", "-o", "r").status == 0
    assert call("disclose", address, "-o", "d").status == 0
    assert call("init", "new", "--origin", "new.example/log").status == 0
    for file in (Path("r"), Path("d"), Path("new"), *Path("new").rglob("*")):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


SECRETS = ["AGE-SECRET-KEY-1HUNTER2HUNTER2", "PRIVATE+KEY+x+HUNTER2", "HUNTER2"]


def _real_secrets(keys: Path) -> list[str]:
    found = [(keys / name).read_text().strip().splitlines()[-1] for name in ("author.key", "identity.txt")]
    assert all(text.startswith(("PRIVATE+KEY+", "AGE-SECRET-KEY-1")) for text in found)
    return found


def _assert_untold(said: Said, keys: Path) -> None:
    for hidden in ("HUNTER2", *(text[-40:] for text in _real_secrets(keys))):
        assert hidden not in said.out + said.err, said


@pytest.mark.parametrize("name", ["identity.txt", "author.key", "log.key", "owner.key"])
@pytest.mark.parametrize("text", SECRETS)
def test_a_key_file_that_holds_something_else_is_not_quoted(
    path: Path, say: Say, home: Path, name: str, text: str
) -> None:
    keys = home / ".config/ledger" / template.ORIGIN
    real = keys / name
    before = real.read_text()
    for content in (text, f"{text}\n{text}", before[: len(before) // 2] + "HUNTER2"):
        real.write_text(content)
        for args in (
            ["start"],
            ["cat", "5"],
            ["doctor"],
            ["keys", "author", "x", "add"],
            ["verify", "--trust", str(real)],
        ):
            said = say(*args)
            assert "HUNTER2" not in said.out + said.err, said
            assert said.status != 70, said
        said = say("verify", "--identity", f"file:{real}", "--json")
        assert "HUNTER2" not in said.out + said.err, said
    real.write_text(before)


@pytest.mark.parametrize("variable", ["LEDGER_IDENTITY", "LEDGER_SIGNER", "LEDGER_OWNER", "LEDGER_TRUST"])
def test_a_secret_in_the_place_of_its_name_is_not_quoted(
    path: Path, say: Say, home: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`export LEDGER_IDENTITY=AGE-SECRET-KEY-1…` instead of `env:NAME`: errors end up in logs of CI."""
    keys = home / ".config/ledger" / template.ORIGIN
    for text in (*SECRETS, *_real_secrets(keys)):
        monkeypatch.setenv(variable, text)
        for args in (["start"], ["cat", "5"], ["show", "5"], ["doctor"], ["verify"], ["keys", "author", "x", "add"]):
            _assert_untold(say(*args), keys)


@pytest.mark.parametrize(
    "args",
    [
        ["keys", "grant"],
        ["keys", "revoke"],
        ["keys", "author", "ci", "add"],
        ["keys", "approver", "ada", "add"],
        ["verify", "--trust"],
        ["verify", "--since"],
        ["verify", "--identity"],
        ["cat", "5", "--identity"],
        ["start", "x", "--ledger"],
    ],
    ids=" ".join,
)
def test_a_secret_in_the_place_of_a_public_key_is_not_quoted(path: Path, say: Say, home: Path, args: list[str]) -> None:
    keys = home / ".config/ledger" / template.ORIGIN
    for text in (*SECRETS[:2], *_real_secrets(keys)):
        said = say(*args, text)
        if args[-1] != "--ledger":
            _assert_untold(said, keys)
        assert said.status != 70, said


def test_errors_tell_nothing_of_contents_and_names(path: Path, say: Say) -> None:
    Path("secret.txt").write_text("HUNTER2 in a prompt")
    assert say("start", "HUNTER2 in a name").status == 0
    assert say("append", "prompt", "secret.txt", "--run", "@", "--name", "HUNTER2").status == 0
    run = ids(path)[0]
    pack = sorted(path.rglob("*.pack"))[-1]
    data = pack.read_bytes()
    for offset in range(0, len(data), max(1, len(data) // 12)):
        pack.write_bytes(data[:offset] + b"\xff" + data[offset + 1 :])
        for args in (["verify"], ["log", run], ["show", f"{run}:2"], ["cat", f"{run}:2"], ["start"]):
            said = say(*args)
            if said.status:
                assert "HUNTER2" not in said.out + said.err, said
                assert said.status != 70, said


def test_a_bug_of_ours_names_its_type_and_tells_nothing(path: Path) -> None:
    code = """
import sys
from ledger.cli import start
from ledger.cli.main import run
def fails(**_): raise ZeroDivisionError("HUNTER2")
start.command.callback = fails
sys.exit(run(["start"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 70
    assert done.stderr.startswith("error: our own bug: ZeroDivisionError\nhint: please report it")
    assert "HUNTER2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_are_in_no_file_but_the_key_files(path: Path, home: Path, say: Say) -> None:
    Path("secret.txt").write_text("HUNTER2 in a prompt")
    assert say("start", "HUNTER2").status == 0
    assert say("append", "prompt", "secret.txt", "--run", "@", "--name", "HUNTER2").status == 0
    assert say("finish", "@", "--status", "failed", "--reason", "HUNTER2").status == 0
    for verb in (["log"], ["query", "FROM entries"], ["find", "secret.txt"], ["verify"]):
        assert say(*verb).status == 0
    for file in [*path.rglob("*"), *home.rglob("*")]:
        if file.is_file():
            assert b"HUNTER2" not in file.read_bytes(), file


# The disk, and interruptions.


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_ledger_that_can_only_be_read_is_verified_and_not_appended_to(made: Template) -> None:
    with tempfile.TemporaryDirectory() as top:
        base = Path(top)
        base.chmod(0o755)
        shutil.copytree(made.ledger, base / "theirs")
        for found in [base / "theirs", *(base / "theirs").rglob("*")]:
            found.chmod(0o755 if found.is_dir() else 0o644)
        shutil.copytree(made.home, base / "home")
        shutil.copytree(made.ledger, base / "mine")
        for found in [base / "home", *(base / "home").rglob("*"), base / "mine", *(base / "mine").rglob("*")]:
            os.chown(found, 65534, 65534)
        for found in [base / "mine", *(base / "mine").rglob("*")]:
            found.chmod(0o555 if found.is_dir() else 0o444)
        (base / "f").touch(0o644)
        home, before = base / "home", _files(base / "theirs") | _files(base / "mine")

        said = shell.as_nobody("verify", base / "mine", home=home)
        assert said.status == 0, said
        shell.as_nobody("start", "--ledger", base / "theirs", home=home).fails(1, "belongs to user 0")
        for args in (["start"], ["append", "prompt", base / "f", "--run", "still going"]):
            shell.as_nobody(*args, "--ledger", base / "mine", home=home).fails(1, "permission denied")
        for args in (["log"], ["cat", "5"], ["receipt", "5"]):
            said = shell.as_nobody(*args, "--ledger", base / "mine", home=home)
            assert said.status == 0, (args, said)

        # An auditor whose home can't be written: there is a verdict all the same.
        shutil.rmtree(base / "home" / ".local")
        for found in [base / "home", *(base / "home").rglob("*")]:
            found.chmod(0o555 if found.is_dir() else 0o400)
        said = shell.as_nobody("verify", base / "theirs", "--trust", made.vkey, home=home)
        assert "sound" in said.out, said
        assert said.status == 0, said
        assert _files(base / "theirs") | _files(base / "mine") == before


def _files(folder: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def _interrupted(process: "subprocess.Popen[str]") -> Said:
    """Control-C on a terminal: all processes of the group are told."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return Said(process.returncode, out, err)


def _begin(*args: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*shell.LEDGER, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_an_interrupted_verify_says_so_whatever_its_workers_do(path: Path) -> None:
    with ledger.open(path) as log, log.run("bulk") as run:
        run.append_many(ledger.Item(kind="artifact", content=os.urandom(60_000)) for _ in range(700))
    met = set[int]()
    for delay in (0.2, 0.3, 0.45, 0.6):
        process = _begin(
            "verify", "--identity", f"file:{os.environ['HOME']}/.config/ledger/{template.ORIGIN}/identity.txt"
        )
        time.sleep(delay)
        said = _interrupted(process)
        assert "Traceback" not in said.err.replace("import", ""), (delay, said)
        met.add(said.status)
    assert 130 in met
    assert met <= {0, 130, -signal.SIGINT}


def test_an_interrupted_prompt_for_input_says_so(path: Path) -> None:
    process = subprocess.Popen(
        [*shell.LEDGER, "append", "prompt", "-", "--run", "still going"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(0.6)
    _interrupted(process).fails(130, "interrupted")


def test_an_interrupted_import_keeps_what_was_acknowledged(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "old.ndjson"
    file.write_text("".join(json.dumps({"kind": "prompt", "run": "r", "text": f"t {n}"}) + "\n" for n in range(60_000)))
    with ledger.open(path) as log:
        before = log.chain.state.packs
    process = _begin("import", str(file))
    deadline = time.monotonic() + 30
    while sum(1 for _ in (path / "packs").rglob("*.pack")) < before + 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    said = _interrupted(process)
    said.fails(130, "interrupted", "were imported; their runs stay open")
    acknowledged = int(re.findall(r"hint: ([0-9,]+) entries", said.err)[0].replace(",", ""))
    report = ledger.verify(path)
    assert report.sound
    with ledger.open(path) as log:
        [imported] = [info for info in log.runs() if info.name == "r"]
    assert imported.status == "open"
    assert acknowledged >= 2048
    assert acknowledged <= imported.prompts < 60_000


def test_keys_take_the_ledger_before_and_after_the_subcommand(path: Path, tmp_path: Path, say: Say) -> None:
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    other = {"cwd": tmp_path, "env": {"LEDGER": str(tmp_path / "nowhere")}}
    granted = shell.call("keys", "--ledger", path, "grant", recipient, "--json", **other)
    assert granted.status == 0, granted
    assert recipient in granted.json[0]["readers"]
    revoked = shell.call("keys", "revoke", recipient, "--json", "--ledger", path, **other)
    assert revoked.status == 0, revoked
    assert recipient not in revoked.json[0]["readers"]


def test_steps_of_one_stage(path: Path, say: Say, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    run = say("start", "staged").out.strip()
    for stage in ("lift", "plan", "lift"):
        say("append", "artifact", str(tmp_path / "f"), "--run", run, "--stage", stage)
    assert [line["stage"] for line in say("log", run, "--stage", "lift", "--json").json] == ["lift", "lift"]
    assert say("log", run, "--stage", "none", "--json").json == []
    say("log", "--stage", "lift").fails(2, "goes with a run")


def test_a_disclosure_is_written_out_only_if_its_proof_holds(
    path: Path, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.open(path) as log, log.run("r") as run:
        address = run.artifact(b"what is handed out").address
    file = tmp_path / "d.json"
    assert say("disclose", address, "-o", str(file)).status == 0
    assert say("cat", str(file)).out == "what is handed out"
    whole = json.loads(file.read_text())
    foreign = tmp_path / "changed.json"
    foreign.write_text(json.dumps(whole | {"receipt": whole["receipt"].replace("A", "B", 1)}))
    changed = say("cat", str(foreign))
    assert changed.status in (1, 2)
    assert changed.out == ""
    trust = ledger.verify(path, since=None).origin
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    say("cat", str(file)).fails(3, trust)


# What scripts rely on: exit statuses, streams, and that no option is dropped.


@pytest.mark.parametrize("how", ["version", "pin", "identity"])
def test_verify_says_3_where_it_could_not_tell(path: Path, say: Say, home: Path, how: str) -> None:
    assert say("verify").status == 0
    more = []
    if how == "version":
        settings = path / "ledger.toml"
        settings.write_text(settings.read_text().replace("format = 1", "format = 2"))
    elif how == "pin":
        [pin] = (home / ".local/state/ledger").rglob("*.pin")
        pin.write_text("damaged")
    else:
        Path("mine.txt").write_text("AGE-SECRET-KEY-1")
        more = ["--identity", "file:mine.txt"]
    said = say("verify", *more)
    said.fails(2 if how == "identity" else 3)


def test_verify_that_cannot_tell_its_verdict_says_3(path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*shell.LEDGER, "verify"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert "can't write the output: no space left on device" in done.stderr


def test_a_malformed_origin_is_not_a_hint_for_init(path: Path, say: Say) -> None:
    (path / "ledger.toml").write_text('format = 1\norigin = "../x"\n')
    for verb in ("log", "verify"):
        said = say(verb)
        said.fails(1, "names an origin that can't be: '../x'")
        assert "lowercase" not in said.err


@pytest.mark.parametrize("args", ["verify", "log", "keys", "doctor", "query 'FROM entries'", "cat 5"])
def test_a_closed_pipe_ends_quietly(path: Path, args: str) -> None:
    # The reader is gone before anything is written.
    line = f"(sleep 0.2; {' '.join(shell.LEDGER)} {args}; echo $? >status) | true"
    done = subprocess.run(["bash", "-c", line + "; sleep 1"], capture_output=True, text=True)
    assert done.stderr == ""
    assert Path("status").read_text() == "141\n"


@pytest.mark.parametrize("verb", ["verify", "log", "start", "append prompt f --run 'still going'", "cat 5", "--help"])
def test_nothing_is_done_where_standard_output_is_closed(path: Path, verb: str) -> None:
    Path("f").touch()
    before = size_of(path)
    done = subprocess.run(["bash", "-c", f"{' '.join(shell.LEDGER)} {verb} >&-"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output is closed\nhint: ")
    assert size_of(path) == before


@pytest.mark.parametrize(
    ("args", "status"), [("start x", 0), ("verify", 0), ("log", 0), ("show 999", 2), ("doctor", 0)]
)
def test_a_closed_standard_error_is_no_reason_to_fail(path: Path, args: str, status: int) -> None:
    done = subprocess.run(["bash", "-c", f"{' '.join(shell.LEDGER)} {args} 2>&-"], capture_output=True)
    assert done.returncode == status
    assert call("verify").status == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_cannot_be_read_is_named_with_its_owner(made: Template) -> None:
    with tempfile.TemporaryDirectory() as top:
        base = Path(top)
        base.chmod(0o755)
        (base / "home").mkdir()
        for name, owner in (("theirs", 12345), ("mine", 65534)):
            shutil.copytree(made.ledger, base / name)
            (base / name).chmod(0o700 if name == "theirs" else 0)
            os.chown(base / name, owner, owner)
        for args in (["log", "--ledger"], ["start", "--ledger"], ["verify"], ["doctor", "--ledger"]):
            status = 3 if args == ["verify"] else 1
            theirs = shell.as_nobody(*args, base / "theirs", home=base / "home")
            theirs.fails(status, f"{base}/theirs, which belongs to user 12345, can't be read: permission denied")
            mine = shell.as_nobody(*args, base / "mine", home=base / "home")
            mine.fails(status, f"{base}/mine, which is yours, can't be read: permission denied", "chmod u+rwx")


def test_writers_and_readers_mean_the_same_newest_run(path: Path, say: Say) -> None:
    newest, broken, nightly = ids(path)
    Path("f").touch()
    before = size_of(path)
    for name in ("@~1", "@~2"):
        said = say("append", "artifact", "f", "--run", name)
        said.fails(2, f"{name} is run {dict(zip(('@~1', '@~2'), (broken, nightly), strict=True))[name][-8:]}", "open: ")
        assert f"{newest[-8:]} still going" in said.err
    assert size_of(path) == before
    assert say("finish", "@", "--json").json[0]["run"] == newest
    say("finish", "@").fails(2, "which has finished or was erased", "ledger start")
    later = say("start", "later").out.strip()
    assert say("append", "artifact", "f", "--run", "@", "--json").json[0]["run"] == later
    say("finish", "@~1").fails(2, newest[-8:], f"open: {later[-8:]} later")


@pytest.mark.parametrize(
    "args",
    [
        ["append", "response", "f", "--run", "@", "--model", "m"],
        ["append", "prompt", "f", "--run", "@", "--to", "5"],
        ["append", "artifact", "f", "--run", "@", "--to", "0"],
        ["append", "approval", "f", "--run", "@", "--name", "x"],
        ["verify", "receipt", "--since", "x"],
        ["verify", "receipt", "--identity", "file:x"],
        ["verify", ".ledger", "--ledger", ".ledger"],
        ["query", "FROM runs", "--csv", "--json"],
        ["keys", "author", "ci", "add", "--at", "3"],
        ["keys", "author", "main", "end", "x+y+z"],
        ["keys", "approver", "ada", "end", "f"],
    ],
    ids=" ".join,
)
def test_an_option_that_would_do_nothing_is_refused(path: Path, say: Say, args: list[str]) -> None:
    Path("f").write_text("x")
    assert say("receipt", "5", "-o", "receipt").status == 0
    before = size_of(path)
    say(*args).fails(2)
    assert size_of(path) == before


def test_an_answer_to_no_prompt(path: Path, say: Say) -> None:
    Path("f").write_text("x")
    asked = say("append", "prompt", "f", "--run", "@", "--json").json[0]["index"]
    for more, to in (([], asked), (["--to", "0"], None), (["--to", str(asked)], asked)):
        index = say("append", "response", "f", "--run", "@", "--json", *more).json[0]["index"]
        assert say("show", str(index), "--json").json[0].get("to") == to


def test_documents_as_json(path: Path, say: Say) -> None:
    address = say("show", "5", "--json").json[0]["content"]
    [found] = say("receipt", "5", "--json").json
    assert found["index"] == 5
    assert found["receipt"].startswith("c2sp.org/tlog-proof@v1\n")
    [written] = say("receipt", "5", "-o", "r", "--json").json
    assert written == {"index": 5, "output": "r"}
    assert Path("r").read_text() == found["receipt"]
    for what in (address, "5", "nightly:2"):
        [found] = say("disclose", what, "--json").json
        assert found["address"] == address
        Path("d").write_text(json.dumps(found["disclosure"]))
        assert say("cat", "d").out == PROMPT
    [written] = say("disclose", "5", "-o", "d", "--json").json
    assert written == {"address": address, "output": "d"}
    assert say("cat", "d").out == PROMPT


def test_a_full_disk_leaves_no_half_document(path: Path, tmp_path: Path) -> None:
    Path("r").write_text("what was here before")
    limited = "ulimit -f 0; trap '' XFSZ; " + " ".join([*shell.LEDGER, "receipt", "5", "-o", "r"])
    assert call("receipt", "5", "-o", "/dev/full").status == 1
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True)
    assert done.returncode == 1, done
    assert Path("r").read_text() == "what was here before"
    assert sorted(file.name for file in Path().iterdir()) == [".ledger", "r"]
    assert call("receipt", "5", "-o", "/dev/null").status == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("args", [["log"], ["log", "@"], ["query", "FROM entries"]], ids=" ".join)
def test_rows_fit_a_terminal_and_are_whole_elsewhere(path: Path, columns: int, args: list[str]) -> None:
    name = "a very long name " * 20
    with ledger.open(path) as log, log.run(name) as run:
        run.artifact(b"x", name=name)
    if args == ["log"]:
        _, seen = shell.at_a_terminal(*args, env={"NO_COLOR": "1", "COLUMNS": str(columns)})
        assert "…" in seen
        assert max(map(len, seen.splitlines())) <= max(columns, 7 * 8 + 12)
    assert "…" not in call(*args).out
    assert args[0] == "query" or name.strip() in call(*args).out


def test_keys_are_whole_on_a_terminal(path: Path, made: Template) -> None:
    assert made.vkey in shell.at_a_terminal("keys", env={"COLUMNS": "40"})[1]


def test_no_colour_on_a_terminal_without_any(path: Path) -> None:
    assert "\x1b[" not in shell.on_a_terminal("log", env={"TERM": "dumb"})
    assert "\x1b[" not in shell.on_a_terminal("log", env={"FORCE_COLOR": "0"})


def test_names_that_are_no_text_are_escaped_where_they_are_printed(path: Path, say: Say) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    Path(name).write_text("x")
    index = say("append", "artifact", name, "--run", "@", "--json").json[0]["index"]
    assert say("show", str(index), "--json").json[0]["name"] == "caf\\udce9.txt"
    for args in (["find", name], ["find", name, "--json"], ["log", "@"], ["receipt", "5", "-o", name, "--json"]):
        assert call(*args).status == 0, args
    assert call("log", env={"PYTHONIOENCODING": "ascii"}).status == 0
    assert call("cat", os.fsdecode(b"\xff")).status == 2


def test_find_escapes_what_entries_say(path: Path) -> None:
    Path("f").write_text("evil")
    with ledger.open(path) as log:
        log.run("x", stage="s\x1b[2Jt").artifact(b"evil")
    seen = shell.on_a_terminal("find", "f")
    assert "\x1b[2J" not in seen
    assert "s\\x1b[2Jt" in seen


# Arguments that no program expects.


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (["show", "9" * 5000], {}),
        (["show", "nightly:" + "9" * 5000], {}),
        (["cat", "9" * 5000], {}),
        (["log", "@~" + "9" * 5000], {}),
        (["finish", "@~" + "9" * 5000], {}),
        (["erase", "nightly", "--yes", "--reason", "\udcff"], {}),
        (["query", "select \udcff"], {}),
        (["cat", "5"], {"LEDGER_IDENTITY": "file:~nobodyxyz/x"}),
        (["start"], {"LEDGER_SIGNER": "file:~nobodyxyz/x"}),
        (["append", "x", "y"], {}),
        (["receipt", "artifact://" + "0" * 64], {}),
    ],
)
def test_odd_arguments_are_no_bug_of_ours(path: Path, args: list[str], env: dict[str, str]) -> None:
    before = size_of(path)
    said = call(*args, env=env)
    said.fails(1 if env else 2)
    assert len(said.err.splitlines()) <= 2
    assert max(map(len, said.err.splitlines())) < 400
    assert size_of(path) == before
    assert not list(path.rglob("*.erasing"))


def test_an_odd_sudo_user_is_nobody(path: Path) -> None:
    assert call("log", env={"SUDO_UID": "²"}).status == 0


ODD = [
    b'{"kind":"future.kind"}',
    b'{"kind":"future.kind","time":"soon","run":"RUN","step":3}',
    b'{"kind":"future.kind","run":"RUN","step":3}',
    b'{"kind":"future.kind","time":7,"run":"RUN","step":3,"detail":{"a":1},"name":["x"],"content":5}',
    b'{"kind":"prompt","nonsense":',
    b'{"kind":"prompt","v":1}',
    b'{"kind":"\xff"}',
    b"{",
]


@pytest.mark.parametrize("leaf", ODD, ids=range(len(ODD)))
def test_entries_that_nobody_can_interpret_are_shown_all_the_same(
    home: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch, leaf: bytes
) -> None:
    from tests.support import forge

    monkeypatch.chdir(tmp_path)
    ledger.init(".ledger", origin=forge.ORIGIN)
    with ledger.open() as log:
        run = log.run("r")
        run.prompt("x")
    forger = forge.Forger(tmp_path / ".ledger")
    index = forger.size
    forger.leaf(leaf.replace(b"RUN", run.id.encode())).sign(forge.key()).commit()
    for args in (
        ["show", str(index)],
        ["show", str(index), "--json"],
        ["log", run.id],
        ["log", run.id, "--json"],
        ["log"],
    ):
        said = say(*args)
        assert said.status == 0, said
    assert say("cat", str(index)).status == 2
    assert say("disclose", str(index)).status == 2


# Messages.


def test_messages_name_what_is_meant(path: Path, say: Say) -> None:
    assert "no runs since then" in say("log", "--since", "2999-01-01").err
    say("init").fails(2, ".ledger is a ledger already", "ledger log")
    say("init", "").fails(2, "no folder named")
    said = say("append", "x", "y")
    said.fails(2, "is not one of")
    assert len(said.err.splitlines()) == 2
    assert "LEDGER_TRUST=LINE" in say("log", "--ledger", ".").err + _without_trust(say)


def _without_trust(say: Say) -> str:
    shutil.rmtree(Path(os.environ["HOME"]) / ".config")
    assert "--trust" not in say("log").err
    assert "--trust LINE" in say("verify").err
    return say("log").err


def test_help_names_the_environment_and_fits_a_screen(say: Say) -> None:
    out = say("--help").out
    for name in ("LEDGER", "LEDGER_RUN", "LEDGER_SIGNER", "LEDGER_IDENTITY", "LEDGER_TRUST", "NO_COLOR"):
        assert re.search(rf"^  {name} +\S", out, re.M), name
    assert len(out.splitlines()) <= 55


def test_an_approval_is_shown_with_who_approved(path: Path, say: Say, tmp_path: Path) -> None:
    ada = shell.new_person(tmp_path / "people", "ada")
    assert say("keys", "approver", "ada", "add", f"{ada}.pub").status == 0
    request = Path("request.txt")
    request.write_text("release?")
    shell.sign(ada, request)
    index = say("append", "approval", "request.txt", "--run", "@", "--json").json[0]["index"]
    assert say("keys", "approver", "ada", "end").status == 0
    shown = say("show", str(index)).out
    assert re.search(r"^approver +ada$", shown, re.M)
    assert "signature" not in shown
    [whole] = say("show", str(index), "--json").json
    assert whole["approver"] == "ada"
    assert whole["signature"]
    assert re.search(r"approval .*ada", say("log", "@").out)


# Keys.


def test_who_ended_his_own_key_is_told_so(path: Path, say: Say) -> None:
    added = say("keys", "author", "ci", "add", "--json").json[0]
    until = say("keys", "author", "main", "end", "--json").json[0]["until"]
    before = size_of(path)
    Path("f").touch()
    for args in (["start"], ["append", "prompt", "f", "--run", "@"], ["finish", "@"]):
        say(*args).fails(1, f"main was ended at index {until:,}", "LEDGER_SIGNER")
    assert size_of(path) == before
    assert call("start", env={"LEDGER_SIGNER": f"file:{added['key']}"}).status == 0


def test_an_author_who_ended_can_be_added_again(path: Path, say: Say) -> None:
    keys = []
    for _ in range(3):
        keys.append(say("keys", "author", "ci", "add", "--json").json[0]["key"])
        assert call("start", env={"LEDGER_SIGNER": f"file:{keys[-1]}"}).status == 0
        assert say("keys", "author", "ci", "end").status == 0
    assert [Path(key).name for key in keys] == ["ci.key", "ci.2.key", "ci.3.key"]
    assert say("verify").status == 0


@pytest.mark.parametrize("name", ["owner", "log", "author"])
def test_an_author_takes_no_other_keys_file(path: Path, say: Say, home: Path, name: str) -> None:
    before = size_of(path), _files(home / ".config")
    say("keys", "author", name, "add").fails(2, f"an author can't be called {name}")
    assert (size_of(path), _files(home / ".config")) == before


def test_no_author_is_named_whose_key_could_not_be_saved(path: Path, say: Say, home: Path) -> None:
    (home / ".config/ledger" / template.ORIGIN / "ci.key").symlink_to("nowhere/ci.key")
    before = size_of(path)
    said = say("keys", "author", "ci", "add")
    said.fails(said.status)
    assert size_of(path) == before


def test_a_reader_is_granted_by_the_file_of_his_key(path: Path, say: Say, tmp_path: Path) -> None:
    ada = shell.new_person(tmp_path / "people", "ada")
    assert "granted" in say("keys", "grant", f"{ada}.pub").err
    size = size_of(path)
    said = say("keys", "grant", f"{ada}.pub")
    assert "can read already" in said.err
    assert size_of(path) == size
    for verb in ("grant", "revoke"):
        said = say("keys", verb, ada)
        said.fails(2, "holds no public key")
        assert "BEGIN" not in said.err
    assert say("keys", "revoke", f"{ada}.pub").status == 0


def test_an_identity_that_cannot_be_one_is_said_to_be_what_it_is(path: Path, say: Say, tmp_path: Path) -> None:
    for name, options in (("locked", ["-t", "ed25519", "-N", "phrase"]), ("curve", ["-t", "ecdsa", "-N", ""])):
        subprocess.run(["ssh-keygen", "-q", *options, "-f", str(tmp_path / name)], check=True)
    say("cat", "5", "--identity", f"file:{tmp_path}/locked").fails(1, "protected by a passphrase")
    say("cat", "5", "--identity", f"file:{tmp_path}/curve").fails(1, "ecdsa-sha2-nistp256 can't decrypt")


# init.


def test_init_closes_an_empty_folder_that_others_can_enter(
    home: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("open").mkdir(mode=0o755)
    Path("open").chmod(0o755)
    said = say("init", "open")
    assert said.status == 0
    assert "closed    open" in said.err
    assert stat.S_IMODE(Path("open").stat().st_mode) == 0o700
    assert "closed" not in say("init", "new").err.replace("closed to", "")


def test_init_makes_the_ledger_that_the_environment_names(
    home: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEDGER", "with a space")
    said = say("init")
    assert said.status == 0
    assert "created with a space" in said.err
    assert say("start").status == 0
    said = say("init", "it's here")
    following = said.err.partition("next: ")[2]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", following], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done
    assert not Path(".ledger").exists()


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("what", ["key", "pack"])
def test_init_that_failed_can_be_repeated(
    home: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch, what: str, existing: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if existing:
        Path("new").mkdir()
    keys = home / ".config/ledger/a.example/b"
    keys.mkdir(parents=True)
    # A key of somebody else's stays; what init made itself goes.
    (keys / "trust").write_text("somebody's")
    init = f"{' '.join(shell.LEDGER)} init new --origin a.example/b"
    if what == "pack":
        (keys / "trust").unlink()
        # Keys fit, the first pack does not.
        init = f"ulimit -f 1; trap '' XFSZ; {init}"
    before = _files(home)
    done = subprocess.run(["bash", "-c", init], capture_output=True, text=True)
    assert done.returncode == 1, done
    assert {file: data for file, data in _files(home).items() if data is not None} == {
        file: data for file, data in before.items() if data is not None
    }
    assert Path("new").exists() == existing
    assert not existing or not list(Path("new").iterdir())
    (keys / "trust").unlink(missing_ok=True)
    assert say("init", "new", "--origin", "a.example/b").status == 0
    assert say("verify", "new").status == 0


@pytest.mark.parametrize("last", ["trust", "identity.txt", "owner.key", "x.key", "trust/deeper"])
def test_an_origin_is_in_no_other_origins_way(path: Path, say: Say, home: Path, last: str) -> None:
    say("init", "new", "--origin", f"{template.ORIGIN}/{last}").fails(2, "can't be a part of an origin")
    assert not Path("new").exists()


def test_heads_and_caches_of_a_longer_origin_are_in_nobodys_way(path: Path, say: Say, tmp_path: Path) -> None:
    with ledger.open(path) as log:
        id = log.chain.state.owner.key_id.hex()
    for number, last in enumerate(("lock", f"{id}.pin", f"{id}/places", id)):
        assert say("init", f"n{number}", "--origin", f"{template.ORIGIN}/{last}").status == 0
        assert say("start", "--ledger", f"n{number}").status == 0
        assert say("verify", f"n{number}").status == 0
        assert say("log", "--ledger", f"n{number}").status == 0
    for args in (["start"], ["log"], ["verify"]):
        assert say(*args).status == 0


# What was done all the same.


@pytest.mark.parametrize("what", ["state", "tile"])
def test_an_append_that_could_not_be_published_says_its_index_and_warns(path: Path, home: Path, what: str) -> None:
    """A file lies where a folder should be: what was appended is durable all the same."""
    if what == "state":
        shutil.rmtree(home / ".local" / "state", ignore_errors=True)
        (home / ".local" / "state").mkdir(parents=True)
        (home / ".local" / "state" / "ledger").write_text("in the way")
    else:
        shutil.rmtree(path / "tile")
        (path / "tile").write_text("in the way")
    before = size_of(path) if what == "state" else 0
    said = call("append", "prompt", "-", "--run", "still going", stdin="once more")
    assert said.status == 0, said
    index, _, address = said.out.strip().partition(" ")
    assert re.fullmatch(r"artifact://[0-9a-f]{64}", address), said
    assert int(index) >= before
    [warning] = said.err.splitlines()
    assert warning.startswith("warning: "), said
    assert "durable" in warning
    assert call("cat", index).out == "once more"
    asked = call("append", "prompt", "-", "--run", "still going", "--json", stdin="as JSON")
    assert asked.status == 0, asked
    [line] = asked.json
    assert line["index"] > int(index)
    assert asked.err.startswith("warning: ")
