"""RUN, STEP and INDEX as people type them."""

import os

from ledger import log as base
from ledger.index.reader import Log
from ledger.runs import RunInfo, choose
from ledger.state import Recorded
from schemas.errors import NotFound, UsageError
from schemas.ids import is_run_id


def open_run(log: base.Log, text: str | None) -> str:
    """The id of a run that can be appended to; `LEDGER_RUN` where none is named.

    Looks among open runs only, so that appending to a long ledger stays quick.
    """
    text = text or os.environ.get("LEDGER_RUN", "")
    if not text:
        raise UsageError("no run named", hint="--run RUN, or: export LEDGER_RUN=$(ledger start)")
    if is_run_id(text):
        return text
    runs = log.chain.state.history.runs
    if text.startswith("@") or len([id for id in runs if text in id]) != 1 or len(text) < 4:
        return choose(text, _open_infos(log)).id
    return next(id for id in runs if text in id)


def _open_infos(log: base.Log) -> list[RunInfo]:
    from schemas.entries import RunStarted

    found = []
    log.catch_up_places()
    for id, run in log.chain.state.history.runs.items():
        entry = log.entry(run.started).entry
        if isinstance(entry, RunStarted):
            name = log.detail(entry.detail).name
            found.append(RunInfo(id, run.started, entry.time, name=name))
    return sorted(found, key=lambda run: -run.index)


def any_run(log: Log, text: str | None) -> RunInfo:
    """The run that is meant, open or not; `LEDGER_RUN`, else the newest, where none is named."""
    return choose(text or os.environ.get("LEDGER_RUN", "") or "@", log.runs())


def entry(log: Log, text: str) -> Recorded:
    """The entry of an INDEX, or of a STEP `RUN:n`."""
    if text.isdigit():
        return log.entry(int(text))
    run, separator, step = text.rpartition(":")
    if not separator or not step.isdigit():
        raise UsageError(f"neither index, step nor address: {text!r}", hint="519, c41f9e02:23 or artifact://…")
    info = choose(run, log.runs())
    for recorded in log.entries(info.id):
        if getattr(recorded.entry, "step", 0) == int(step):
            return recorded
    raise NotFound(f"run {info.id[-8:]} has no step {step}", hint=f"it has {info.steps:,}; see `ledger log {run}`")
