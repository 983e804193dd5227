"""A run again: every command from what the ledger holds, without network, answered as it was."""

import time
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any

import msgspec

from ledger.commit import Draft
from ledger.gateway.tokens import Token
from ledger.index.reader import Log
from replay import execute, sandbox, story, toolchain
from replay.answers import Replaying
from replay.apply import changes
from replay.execute import Used
from replay.report import File, Report, Step, Strange
from replay.story import Command
from replay.trees import Wanted, measured
from schemas.entries import Replayed
from schemas.envelope import TaskScope
from schemas.errors import CannotTell, Erased, Missing
from schemas.tree import Node, Tree

_FOREVER = 2**40


def rerun(
    log: Log,
    run: str,
    *,
    keep: Path | None = None,
    show: bool = False,
    attach: Callable[[Any], None] = lambda process: None,
    began: Callable[[list[str]], None] = lambda argv: None,
) -> Report:
    """Executes a run again.

    Args:
        log: open; nothing is appended.
        keep: where each command's folder stays afterwards; None: nowhere.
        show: whether what commands print is printed.
        attach: told each process, to hand signals on.
        began: told each command.

    Raises:
        NotFound: there is no such run.
        NoSandbox: none works here.
    """
    report = Report(run)
    since = time.monotonic()
    try:
        if index := story.erased(log, run):
            raise Erased(f"the run was erased by entry {index}")
        told = story.read(log, run)
    except (Erased, Missing, CannotTell) as error:
        report.missing.append(error.what)
        report.settle()
        return report
    if not told.commands:
        report.missing.append("a command: it was not recorded by `ledger record`, or without a sandbox")
        report.settle()
        return report
    sandbox.check()
    with Log.open(log.path) as apart:
        replaying = Replaying(apart, told)
        answers = replaying.answers
        report.recorded = len(answers.left)
        for command in told.commands:
            try:
                report.steps.append(_step(log, replaying, command, keep, began, show=show, attach=attach))
            except (Erased, Missing, CannotTell, toolchain.NoProgram) as error:
                report.missing.append(f"{error.what} (command of entry {command.index})")
                break
        report.matched = answers.answered
        report.unknown = [Strange(one.nearest, one.differences) for one in answers.unknown]
        report.unasked = answers.left
        report.ambiguous = answers.ambiguous
        report.appended = [*answers.strange, *_unappended(replaying)]
    if any(command.ended is None for command in told.commands):
        report.remarks.append("it was interrupted when it was recorded: compared as far as it went")
        # What it would have asked next nobody knows.
        report.unknown = [one for one in report.unknown if one.nearest]
    report.seconds = time.monotonic() - since
    report.settle()
    return report


def _unappended(replaying: Replaying) -> list[str]:
    return [
        f"{kind} of entry {index} was not appended" for index, kind in replaying.echo.left if kind != "run.finished"
    ]


def _step(
    log: Log,
    replaying: Replaying,
    command: Command,
    keep: Path | None,
    began: Callable[[list[str]], None],
    *,
    show: bool,
    attach: Callable[[Any], None],
) -> Step:
    started, ended = command.started, command.ended
    what = msgspec.json.decode(log.read(started.content), type=execute.Command)
    used = msgspec.json.decode(log.read(ended.content), type=Used) if ended is not None else None
    if not started.inputs:
        raise Missing("the files that it was given: they were not captured")
    before = Tree.decode(log.read(started.inputs))
    step = Step(command.index, what.argv, ended.exit if ended else None)
    scope = TaskScope("stage", started.stage or "any")
    token = Token(started.run, _FOREVER, started.stage, started.lane, started.task, scope)

    def serve(listener: socket) -> Callable[[], None]:
        return replaying.serve(listener, token).close

    with execute.scratch(before, log.read, what.clock, keep) as work:
        program = toolchain.find(what.argv[0], work, what.environment.get("PATH", ""))
        step.toolchain = what.toolchain.differences(toolchain.fingerprint(program, what.roots))
        began(what.argv)
        fed = log.read(used.stdin) if used is not None and used.stdin else b""
        # It had a terminal then; where nobody sits now, it has none.
        plain = msgspec.structs.replace(what, terminal=False)
        done = execute.run(plain, work, serve, attach=attach, show=show, feed=fed)
        step.now, step.seconds = done.ended.status, done.ended.seconds
        if ended is None:
            return step
        after = Tree.decode(log.read(ended.outputs))
        now = measured(
            work, Wanted(work, ["."], (), [str(work / _relative(path, what.folder)) for path in what.hidden])
        )
        step.changed = len([change for change in changes(before, after) if _is_file(change.before, change.after)])
        step.files = [_file(log, work, change.path, change.before, change.after) for change in changes(after, now)]
        if not what.terminal:
            recorded = {"stdout": ended.stdout, "stderr": ended.stderr}
            step.printed = [name for name, address in recorded.items() if _printed(log, address) != done.printed[name]]
    return step


def _relative(path: str, folder: str) -> str:
    return path.removeprefix(folder).lstrip("/")


def _is_file(*nodes: Node | None) -> bool:
    return any(node is not None and node.kind != "folder" for node in nodes)


def _printed(log: Log, address: str) -> bytes:
    return log.read(address) if address else b""


def _file(log: Log, work: Path, path: str, recorded: Node | None, now: Node | None) -> File:
    return File(path, _said(recorded), _said(now), _where(log, work, recorded, now))


def _said(node: Node | None) -> str:
    if node is None:
        return ""
    if node.kind == "file":
        return f"{node.size:,} bytes, {node.digest[:12]}, mode {node.mode:o}"
    return f"link to {node.target}" if node.kind == "link" else f"folder, mode {node.mode:o}"


def _where(log: Log, work: Path, recorded: Node | None, now: Node | None) -> str:
    """Where two texts differ first."""
    if recorded is None or now is None or recorded.kind != "file" or now.kind != "file":
        return ""
    first, second = log.read(recorded.content), (work / now.path).read_bytes()
    if b"\0" in first + second:
        at = next(
            (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
        )
        return f"first at byte {at:,}"
    pairs = zip(first.splitlines(), second.splitlines(), strict=False)
    for number, (one, other) in enumerate(pairs, 1):
        if one != other:
            return (
                f"line {number:,}: - {one[:100].decode('utf-8', 'replace')}  + {other[:100].decode('utf-8', 'replace')}"
            )
    return "one is longer" if first != second else ""


def record(log: Log, report: Report) -> None:
    """Appends what came of a replay, as a run of its own."""
    run = log.run(f"replay of {report.run[-8:]}")
    writer = log.writer
    key = writer.key(run.id)
    told = writer.blobs.prepare(key, msgspec.json.encode(report))
    entry = Replayed(
        v=1,
        time=writer.clock(),
        run=run.id,
        content=told.address,
        digest=told.digest,
        of=report.run,
        verdict=report.verdict,
    )
    report.entry = writer.commit(Draft([entry], [told], [""]))[0].index
    run.finish("succeeded" if report.verdict == "reproduced" else "failed", reason=report.verdict)
