"""Runs as people see them: when, under which name, how they ended, what they made."""

import re
from datetime import datetime

import msgspec

from schemas.errors import Ambiguous, NotFound


class RunInfo(msgspec.Struct):
    """One run.

    Attributes:
        index: of its `run.started`.
        status: `open`, `succeeded`, `failed` or `erased`.
        detail: address of its sealed name; may be empty.
        prompts: how many.
        calls, cost, denied: model requests, micro-USD, and requests that policy refused.
        made: address of the sealed name of its last artifact; may be empty.
        name: filled by who can read.
    """

    id: str
    index: int
    started: datetime
    detail: str = ""
    status: str = "open"
    steps: int = 1
    prompts: int = 0
    responses: int = 0
    artifacts: int = 0
    calls: int = 0
    cost: int = 0
    denied: int = 0
    made: str = ""
    finished: datetime | None = None
    name: str = ""


_AGE = re.compile("@(?:~([0-9]{1,18}))?")


def age(text: str) -> int | None:
    """How many runs are newer than the one that `@` or `@~n` means; None where the text is neither.

    Raises:
        NotFound: it begins like one, and is none.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        if text.startswith("@~"):
            raise NotFound(f"no run {text[:60]}", hint="@ is the newest, @~1 the one before; `ledger log` lists them")
        return None
    return int(match[1] or 0)


def no_run_that_old(text: str, count: int) -> NotFound:
    """There are fewer runs."""
    return NotFound(f"no run {text}", hint=f"there are {count:,}; `ledger log` lists them")


def choose(text: str, runs: list[RunInfo]) -> RunInfo:
    """The run that somebody means: `@`, `@~2`, a name, or a part of an id of four or more characters.

    Args:
        runs: newest first, names filled where they can be read.

    Raises:
        NotFound: there is none.
        Ambiguous: there are several.
    """
    back = age(text)
    if back is not None:
        if back >= len(runs):
            raise no_run_that_old(text, len(runs))
        return runs[back]
    named = [run for run in runs if text and run.name == text]
    parts = [run for run in runs if text in run.id] if len(text) >= 4 else []
    for found in ([run for run in parts if run.id == text], named, parts):
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(run.id[-8:] for run in found[:5])
            raise Ambiguous(f"{text!r} fits {len(found):,} runs: {ids}", hint="give more of the id")
    raise NotFound(f"no run {text!r}", hint="`ledger log` lists runs; @ is the newest")
