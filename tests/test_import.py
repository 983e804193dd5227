"""`ledger import`: records made elsewhere come in whole and in order, or not at all."""

import base64
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger.bulk import Imported, bring_in
from ledger.cli import main
from schemas.entries import Prompt, Response, kind_of
from schemas.errors import LedgerError, Malformed, NotFound
from tests.support import shell, template
from tests.support.template import Template


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), lambda path: None)


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path) -> Path:
    return made.copy(home, tmp_path / "l")


def write(folder: Path, *lines: dict[str, Any] | str | bytes) -> Path:
    """An NDJSON file."""
    file = folder / "old.ndjson"
    raw = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    file.write_bytes(b"".join(line + b"\n" for line in raw))
    return file


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"kind": "prompt", "run": "r", "text": f"text {number}"} | more


def bring(path: Path, file: Path, keep_going: bool = False) -> Imported:
    with ledger.open(path) as log:
        return bring_in(log, file, keep_going=keep_going)


def size_of(path: Path) -> int:
    with ledger.open(path) as log:
        return log.chain.state.size


def contents(path: Path, run: str) -> list[bytes]:
    with ledger.open(path) as log:
        return [log.read(r.entry.content) for r in log.entries(run) if hasattr(r.entry, "content")]


# What comes in.


def test_the_three_forms_of_content_come_back_exactly(path: Path, tmp_path: Path) -> None:
    blob = os.urandom(2_000_000)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "app.bin").write_bytes(blob)
    file = write(
        tmp_path,
        {"kind": "prompt", "run": "r", "text": "ünï→code \u0000"},
        {"kind": "response", "run": "r", "base64": base64.b64encode(b"\x00\xff").decode()},
        {"kind": "artifact", "run": "r", "path": "sub/app.bin"},
        {"kind": "artifact", "run": "r", "text": ""},
        {"kind": "artifact", "run": "r", "base64": ""},
    )
    result = bring(path, file)
    assert result.entries == 5
    assert contents(path, result.runs["r"]) == ["ünï→code \u0000".encode(), b"\x00\xff", blob, b"", b""]
    assert ledger.verify(
        path, identity=f"file:{os.environ['HOME']}/.config/ledger/{template.ORIGIN}/identity.txt"
    ).sound


def test_fields_come_in_and_everything_is_marked_as_imported(path: Path, tmp_path: Path) -> None:
    (tmp_path / "named.txt").write_text("x")
    labels = {"stage": "s", "lane": "l", "task": "t"}
    file = write(
        tmp_path,
        line(0, **labels, model="m", name="n", media_type="text/x", time="2020-02-03T04:05:06.000007+02:00"),
        {"kind": "artifact", "run": "r", "path": "named.txt"},
    )
    run = bring(path, file).runs["r"]
    with ledger.open(path) as log:
        started, prompt, artifact, finished = (r.entry for r in log.entries(run))
        assert all(e.imported for e in (started, prompt, artifact, finished))
        assert prompt.time == datetime(2020, 2, 3, 2, 5, 6, 7, tzinfo=UTC)
        assert abs((datetime.now(UTC) - artifact.time).total_seconds()) < 60
        assert {k: getattr(prompt, k) for k in labels} == labels
        assert prompt.model == "m"
        assert (log.detail(prompt.detail).name, log.detail(prompt.detail).media_type) == ("n", "text/x")
        assert log.detail(artifact.detail).name == "named.txt"
        assert finished.status == "succeeded"
        assert log.runs()[0].name == "r"


def test_runs_that_are_interleaved_keep_the_order_of_the_file(path: Path, tmp_path: Path) -> None:
    lines = [line(n, run=f"run {n * 7 % 5}") for n in range(60)]
    result = bring(path, write(tmp_path, *lines))
    assert list(result.runs) == list(dict.fromkeys(item["run"] for item in lines))
    with ledger.open(path) as log:
        appended = [r for r in log.entries() if kind_of(r.entry) == "prompt"]
        assert [log.read(r.entry.content).decode() for r in appended] == [item["text"] for item in lines]
        assert [r.entry.run for r in appended] == [result.runs[item["run"]] for item in lines]
        assert {run.status for run in log.runs()} == {"succeeded"}
    assert ledger.verify(path).sound


def test_blank_lines_and_a_missing_last_newline_are_no_lines(path: Path, tmp_path: Path) -> None:
    file = write(tmp_path, line(0), "", "   ", line(1))
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    assert bring(path, file).entries == 2


def test_an_empty_file_makes_nothing(path: Path, tmp_path: Path) -> None:
    before = size_of(path)
    assert bring(path, write(tmp_path)) == Imported()
    assert size_of(path) == before


def test_the_same_file_twice_makes_two_runs(path: Path, tmp_path: Path) -> None:
    file = write(tmp_path, line(0))
    assert bring(path, file).runs["r"] != bring(path, file).runs["r"]


def test_paths_are_relative_to_the_file_wherever_one_stands(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "x").write_text("wrong")
    (tmp_path / "a" / "x").write_text("right")
    file = write(tmp_path / "a", {"kind": "artifact", "run": "r", "path": "x"})
    monkeypatch.chdir(tmp_path)
    result = bring(path, Path("a/old.ndjson"))
    assert contents(path, result.runs["r"]) == [b"right"]
    assert file.exists()


def test_five_thousand_lines_come_in_quickly_and_in_few_commits(path: Path, tmp_path: Path) -> None:
    file = write(tmp_path, *(line(n, run=f"run {n % 3}") for n in range(5000)))
    packs = len(list(path.rglob("*.pack")))
    began = time.monotonic()
    result = bring(path, file)
    assert time.monotonic() - began < 10
    assert result.entries == 5000
    assert len(list(path.rglob("*.pack"))) - packs < 20
    assert ledger.verify(path).sound


def test_more_than_a_pack_holds_comes_in_by_several(path: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(os.urandom(60_000))
    text = base64.b64encode(os.urandom(45_000)).decode()
    file = write(tmp_path, *({"kind": "artifact", "run": "r", "base64": text[:-8] + f"{n:07d}="} for n in range(1500)))
    assert bring(path, file).entries == 1500
    assert ledger.verify(path).sound


def test_lines_of_approvals_are_verified_as_everywhere(path: Path, tmp_path: Path) -> None:
    ada = shell.new_person(tmp_path / "people", "ada")
    (tmp_path / "r.txt").write_text("release?")
    signature = shell.sign(ada, tmp_path / "r.txt").read_text()
    both = {"kind": "approval", "run": "r", "text": "release?" + signature}
    beside = {"kind": "approval", "run": "r", "path": "r.txt"}
    assert main.run(["keys", "--ledger", str(path), "approver", "ada", "add", f"{ada}.pub"]) == 0
    assert bring(path, write(tmp_path, both, line(1), beside)).entries == 3
    assert ledger.verify(path).sound


def test_an_approval_by_nobody_who_may_approve_is_refused(path: Path, tmp_path: Path) -> None:
    eve = shell.new_person(tmp_path / "people", "eve")
    (tmp_path / "r.txt").write_text("release?")
    shell.sign(eve, tmp_path / "r.txt")
    file = write(tmp_path, line(0), {"kind": "approval", "run": "r", "path": "r.txt"})
    before = size_of(path)
    with pytest.raises(Malformed, match="line 2"):
        bring(path, file)
    assert size_of(path) == before
    assert ledger.verify(path).sound


def test_an_answer_is_tied_to_its_prompt_as_append_does(path: Path, tmp_path: Path) -> None:
    def said(kind: str, run: str) -> dict[str, Any]:
        return {"kind": kind, "run": run, "text": f"{kind} {run}"}

    lines = [said("response", "a"), said("prompt", "a"), said("prompt", "b"), said("response", "a")]
    lines += [said("response", "b"), said("prompt", "a"), said("artifact", "a"), said("response", "a")]
    # More than one commit holds, so that an answer meets a prompt of its own commit, and of an earlier one.
    lines += [said("artifact", "b")] * 1100 + [said("response", "a"), said("response", "b"), said("response", "c")]
    result = bring(path, write(tmp_path, *lines))
    with ledger.open(path) as log:
        found = {name: list(log.entries(id)) for name, id in result.runs.items()}
    for name, expected in {"a": [None, 0, 1, 1], "b": [0, 0], "c": [None]}.items():
        prompts = [r.index for r in found[name] if isinstance(r.entry, Prompt)]
        answers = [r.entry.to for r in found[name] if isinstance(r.entry, Response)]
        assert answers == [0 if place is None else prompts[place] for place in expected]
    assert ledger.verify(path).sound


def test_a_path_that_leads_out_of_the_folder_is_refused(path: Path, tmp_path: Path) -> None:
    """The file may come from somebody else, and the key that it names be the user's own."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (tmp_path / "secret").write_text("mine")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    (folder / "inside").write_text("theirs")
    (folder / "alias").symlink_to("inside")
    before = size_of(path)
    for name in ("../secret", str(tmp_path / "secret"), "link", "up/secret", "./../theirs/../secret"):
        with pytest.raises(Malformed, match="leads out") as raised:
            bring(path, write(folder, {"kind": "artifact", "run": "r", "path": name}))
        assert "mine" not in raised.value.what
    assert size_of(path) == before
    result = bring(path, write(folder, {"kind": "artifact", "run": "r", "path": "alias"}))
    assert contents(path, result.runs["r"]) == [b"theirs"]


BAD: dict[str, bytes] = {
    "an array": b"[]",
    "a string": b'"prompt"',
    "null": b"null",
    "a kind in capitals": b'{"kind": "PROMPT", "run": "r", "text": "x"}',
    "an end of run": b'{"kind": "run.finished", "run": "r", "text": "x"}',
    "run is a number": b'{"kind": "prompt", "run": 1, "text": "x"}',
    "text is null": b'{"kind": "prompt", "run": "r", "text": null}',
    "text is a list": b'{"kind": "prompt", "run": "r", "text": ["x"]}',
    "three contents": b'{"kind": "prompt", "run": "r", "text": "x", "base64": "eA==", "path": "x"}',
    "base64 with a newline": b'{"kind": "prompt", "run": "r", "base64": "eA==\\n"}',
    "base64 with a space": b'{"kind": "prompt", "run": "r", "base64": "e A=="}',
    "a folder": b'{"kind": "artifact", "run": "r", "path": "."}',
    "a device": b'{"kind": "artifact", "run": "r", "path": "/dev/zero"}',
    "an empty path": b'{"kind": "artifact", "run": "r", "path": ""}',
    "a path with zero": b'{"kind": "artifact", "run": "r", "path": "a\\u0000b"}',
    "time is a number": b'{"kind": "prompt", "run": "r", "text": "x", "time": 1767225600}',
    "time is no time": b'{"kind": "prompt", "run": "r", "text": "x", "time": "yesterday"}',
    "a day that is none": b'{"kind": "prompt", "run": "r", "text": "x", "time": "2026-02-30T00:00:00Z"}',
    "two objects": b'{"kind": "prompt", "run": "r", "text": "x"}{}',
    "a lone surrogate": b'{"kind": "prompt", "run": "r", "text": "\\ud800"}',
    "a name with a lone surrogate": b'{"kind": "prompt", "run": "r", "text": "x", "name": "\\udfff"}',
    "not json": b"not json",
    "cut": b'{"kind": "prompt", "run": "r", "te',
    "no kind": b'{"run": "r", "text": "x"}',
    "no run": b'{"kind": "prompt", "text": "x"}',
    "unknown kind": b'{"kind": "erasure", "run": "r", "text": "x"}',
    "unknown member": b'{"kind": "prompt", "run": "r", "text": "x", "index": 1}',
    "no content": b'{"kind": "prompt", "run": "r"}',
    "two contents": b'{"kind": "prompt", "run": "r", "text": "x", "base64": "eA=="}',
    "bad base64": b'{"kind": "prompt", "run": "r", "base64": "e"}',
    "base64 not ascii": '{"kind": "prompt", "run": "r", "base64": "é"}'.encode(),
    "no such file": b'{"kind": "artifact", "run": "r", "path": "nowhere"}',
    "an endless path": b'{"kind": "artifact", "run": "r", "path": "' + b"x" * 5000 + b'"}',
    "time without zone": b'{"kind": "prompt", "run": "r", "text": "x", "time": "2026-01-01T00:00:00"}',
    "time before all times": b'{"kind": "prompt", "run": "r", "text": "x", "time": "0001-01-01T00:00:00+14:00"}',
    "a long label": b'{"kind": "prompt", "run": "r", "text": "x", "stage": "' + b"s" * 201 + b'"}',
    "an approval without signature": b'{"kind": "approval", "run": "r", "text": "x"}',
    "not utf-8": b'{"kind": "prompt", "run": "r", "text": "\xff"}',
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_malformed_line_is_named_and_nothing_of_the_file_comes_in(path: Path, tmp_path: Path, bad: bytes) -> None:
    file = write(tmp_path, line(0), "", bad, line(1))
    before = size_of(path)
    with pytest.raises(Malformed, match=r"old\.ndjson, line 3: ") as raised:
        bring(path, file)
    assert "nothing was appended" in raised.value.hint
    assert len(raised.value.what) < 500
    assert size_of(path) == before
    result = bring(path, file, keep_going=True)
    assert result.entries == 2
    assert [what.partition(": ")[0] for what in result.skipped] == ["old.ndjson, line 3"]
    assert contents(path, result.runs["r"]) == [b"text 0", b"text 1"]
    assert ledger.verify(path).sound


def test_keep_going_counts_every_line_it_leaves_out(path: Path, tmp_path: Path) -> None:
    file = write(tmp_path, *BAD.values(), line(0))
    result = bring(path, file, keep_going=True)
    assert result.entries == 1
    assert len(result.skipped) == len(BAD)
    assert ledger.verify(path).sound


def test_a_file_of_nothing_but_malformed_lines_makes_no_run(path: Path, tmp_path: Path) -> None:
    before = size_of(path)
    result = bring(path, write(tmp_path, b"x", b"y"), keep_going=True)
    assert (result.entries, result.runs, len(result.skipped)) == (0, {}, 2)
    assert size_of(path) == before


def test_errors_do_not_quote_what_stands_in_a_line(path: Path, tmp_path: Path) -> None:
    for bad in (
        b'{"kind":"prompt","run":"r","text":"HUNTER2","HUNTER":1',
        b'{"kind":"prompt","run":"r","base64":"HUNTER2!"}',
    ):
        with pytest.raises(Malformed) as raised:
            bring(path, write(tmp_path, bad))
        assert "HUNTER2" not in str(raised.value)


def test_a_file_that_is_not_there_is_said(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        bring(path, tmp_path / "nowhere")
    with pytest.raises(LedgerError):
        bring(path, tmp_path)


@pytest.mark.parametrize(("options", "status"), [([], 2), (["--keep-going"], 1), (["--keep-going", "--json"], 1)])
def test_the_command_says_which_lines_were_left_out(
    path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], status: int
) -> None:
    file = write(tmp_path, line(0), b"bad", line(1))
    assert main.run(["import", str(file), "--ledger", str(path), *options]) == status
    out, err = capfd.readouterr()
    assert "old.ndjson, line 2" in out + err
    if "--json" in options:
        assert json.loads(out)["entries"] == 2
    else:
        assert out == ""


@pytest.mark.parametrize("file", ["nowhere", "."])
def test_the_command_refuses_what_is_no_file(path: Path, capfd: pytest.CaptureFixture[str], file: str) -> None:
    assert main.run(["import", file, "--ledger", str(path)]) == 2
    assert capfd.readouterr().err.startswith("error: ")


def test_progress_goes_up_to_the_whole_file(path: Path, tmp_path: Path) -> None:
    file = write(tmp_path, *(line(n) for n in range(2500)))
    seen: list[tuple[int, int]] = []
    with ledger.open(path) as log:
        bring_in(log, file, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert all(0 < done <= total == file.stat().st_size for done, total in seen)


@pytest.mark.parametrize("named", ["a", "a.sig"])
def test_a_path_beside_an_approval_is_not_followed_out_of_the_folder(path: Path, tmp_path: Path, named: str) -> None:
    folder = tmp_path / "handed"
    folder.mkdir()
    (tmp_path / "secret").write_text("mine")
    (folder / named).write_text("signed")
    (folder / ("a" if named == "a.sig" else "a.sig")).symlink_to(tmp_path / "secret")
    file = write(folder, {"kind": "approval", "run": "r", "path": named})
    with pytest.raises(Malformed, match="out of the file's folder"):
        bring(path, file)
