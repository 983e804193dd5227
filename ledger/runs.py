"""Runs as people see them: when, under which name, how they ended, what they made."""

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
    made: str = ""
    finished: datetime | None = None
    name: str = ""


def choose(text: str, runs: list[RunInfo]) -> RunInfo:
    """The run that somebody means: `@`, `@~2`, a name, or a part of an id of four or more characters.

    Args:
        runs: newest first, names filled where they can be read.

    Raises:
        NotFound: there is none.
        Ambiguous: there are several.
    """
    if text == "@" or text.startswith("@~"):
        back = text[2:] or "0"
        if not (back.isascii() and back.isdecimal()) or int(back) >= len(runs):
            raise NotFound(f"no run {text}", hint=f"there are {len(runs):,}; `ledger log` lists them")
        return runs[int(back)]
    named = [run for run in runs if text and run.name == text]
    parts = [run for run in runs if text in run.id] if len(text) >= 4 else []
    for found in ([run for run in parts if run.id == text], named, parts):
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(run.id[-8:] for run in found[:5])
            raise Ambiguous(f"{text!r} fits {len(found):,} runs: {ids}", hint="give more of the id")
    raise NotFound(f"no run {text!r}", hint="`ledger log` lists runs; @ is the newest")
