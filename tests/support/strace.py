"""Faults in a process's system calls, by strace; and what it says of them."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.lossy import Step
from tests.support.machine import Place
from tests.support.proof import Promise, read_promises

APPENDER = Path(__file__).parent / "appender.py"
ROOT = Path(__file__).parents[2]

# By what a call does; its names differ between architectures and libraries.
CALLS = {
    "openat": "/^open(at)?$",
    "write": "/^p?write(64)?$",
    "fsync": "/^f(data)?sync$",
    "link": "/^link(at)?$",
    "rename": "/^rename(at2?)?$",
    "close": "/^close$",
    "read": "/^p?read(64)?$",
    "mkdir": "/^mkdir(at)?$",
    "unlink": "/^unlink(at)?$",
}
_LINE = re.compile(r"(\d+)\s+(\w+)\(")


class Outcome(NamedTuple):
    """How an appender ended.

    Attributes:
        kept: what it acknowledged.
        refused: the error of ours that it met; empty where it met none.
        leaked: what it met that is none of ours; empty where there is no such thing.
        status: exit status, negative for a signal.
    """

    kept: list[Promise]
    refused: str
    leaked: str
    status: int

    @classmethod
    def of(cls, output: str, status: int) -> "Outcome":
        """What an appender said."""
        lines = output.splitlines()
        said = {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
        # A line that a kill cut short promises nothing.
        whole = lines if output.endswith("\n") else lines[:-1]
        return cls(read_promises(whole), said.get("refused", ""), said.get("leaked", ""), status)


@contextmanager
def started(place: Place, count: int, run: str = "", **environment: str) -> Iterator[subprocess.Popen[str]]:
    """An appender that has said it is ready, and waits for its line."""
    process = subprocess.Popen(
        [sys.executable, str(APPENDER), str(place.path), str(count), *([run] if run else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=place.machine.environment | {"PYTHONPATH": str(ROOT)} | environment,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def go(process: subprocess.Popen[str]) -> None:
    """Lets an appender begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@contextmanager
def traced(process: subprocess.Popen[str], *options: str) -> Iterator[None]:
    """Strace holds the process and all its threads."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(process.pid), *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        assert "attached" in line, line
        yield
        # It ends with the last thread, and must not fill its pipe until then.
        tracer.stderr.read()
    finally:
        tracer.kill()
        tracer.wait()
        if tracer.stderr is not None:
            tracer.stderr.close()


def append(place: Place, count: int, **environment: str) -> Outcome:
    """Runs an appender to its end."""
    with started(place, count, **environment) as process:
        go(process)
        assert process.stdout is not None
        output = process.stdout.read()
        status = process.wait()
    return Outcome.of(output, status)


def append_under(place: Place, count: int, *options: str) -> Outcome:
    """Runs an appender to its end under strace with these options; counting begins when it begins to work."""
    with started(place, count) as process, traced(process, *options):
        go(process)
        assert process.stdout is not None
        output = process.stdout.read()
        status = process.wait()
    return Outcome.of(output, status)


def count_calls(trace: Path) -> Counter[str]:
    """How often the busiest thread made each kind of call, from a trace written by `-o`: strace counts by thread."""
    by_thread: Counter[tuple[str, str]] = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is not None:
            kind = next((kind for kind, name in CALLS.items() if re.fullmatch(name[1:], match[2])), "")
            by_thread[match[1], kind] += 1
    most: Counter[str] = Counter()
    for (_, kind), times in by_thread.items():
        most[kind] = max(most[kind], times)
    return most


_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?")
_HELD = re.compile(r"(\d+) +(\w+)\((.*?),? *<unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>,? *(.*)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OPEN_FILE = re.compile(r"\d+<(.*?)>")


def steps_of(trace: Path, base: Path) -> list[Step]:
    """What a process did below a folder, from a trace written by `-f -y -o`; each write stands as one byte."""
    found: list[Step] = []
    held: dict[tuple[str, str], str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        if match := _HELD.match(line):
            held[match[1], match[2]] = f"{match[1]} {match[2]}({match[3]}"
            continue
        if match := _RESUMED.match(line):
            line = held.pop((match[1], match[2])) + match[3]
        match = _CALL.match(line)
        if match is None or int(match[4]) < 0:
            continue
        paths = [path for path in _STRING.findall(match[3]) if path.startswith(f"{base}/")]
        opened = _OPEN_FILE.match(match[3])
        step = _step(match[2], match[3], paths, opened[1] if opened else "")
        if step is not None and (step.path == str(base) or step.path.startswith(f"{base}/")):
            found.append(step)
    return found


def _step(call: str, arguments: str, paths: list[str], opened: str) -> Step | None:
    if call in {"fsync", "fdatasync"}:
        return Step("sync_folder" if os.path.isdir(opened) else "sync", opened)
    if call == "write":
        return Step("write", opened, data=b".")
    if not paths:
        return None
    if call in {"link", "linkat", "rename", "renameat", "renameat2"}:
        return Step("link" if "link" in call else "rename", paths[1], paths[0])
    if call == "openat":
        return Step("create", paths[0]) if "O_CREAT" in arguments else None
    return Step(call, paths[0])
