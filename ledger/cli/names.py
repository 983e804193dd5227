"""RUN, STEP and INDEX as people type them."""

import os

from ledger import log as base
from ledger.index.reader import Log
from ledger.runs import RunInfo, choose
from ledger.state import Recorded
from schemas.entries import RunStarted
from schemas.errors import NotFound, RunClosed, UsageError
from schemas.ids import is_run_id


def open_run(log: base.Log, text: str | None) -> str:
    """The id of a run that can be appended to; `LEDGER_RUN` where none is named.

    Looks among open runs only, so that appending to a long ledger stays quick.
    """
    text = os.environ.get("LEDGER_RUN", "") if text is None else text
    if not text:
        raise UsageError("no run named", hint="--run RUN, or: export LEDGER_RUN=$(ledger start)")
    if is_run_id(text):
        return text
    try:
        return choose(text, _open_infos(log)).id
    except NotFound:
        _say_if_ended(log, text)
        raise


def _say_if_ended(log: base.Log, text: str) -> None:
    """Raises where the name fits a run that has ended; only asked where no open one fits."""
    open_runs = log.chain.state.history.runs
    for recorded in log.entries():
        entry = recorded.entry
        if not isinstance(entry, RunStarted) or entry.run in open_runs:
            continue
        if (len(text) >= 4 and text in entry.run) or log.detail(entry.detail).name == text:
            raise RunClosed(f"run {entry.run[-8:]} has finished or was erased", hint="start a new one: ledger start")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _open_infos(log: base.Log) -> list[RunInfo]:
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
    return choose((os.environ.get("LEDGER_RUN") or "@") if text is None else text, log.runs())


def entry(log: Log, text: str) -> Recorded:
    """The entry of an INDEX, or of a STEP `RUN:n`."""
    if _is_number(text):
        return log.entry(int(text))
    run, separator, step = text.rpartition(":")
    if not separator or not _is_number(step):
        raise UsageError(f"neither index, step nor address: {text!r}", hint="519, c41f9e02:23 or artifact://…")
    info = choose(run, log.runs())
    for recorded in log.entries(info.id):
        if getattr(recorded.entry, "step", 0) == int(step):
            return recorded
    raise NotFound(f"run {info.id[-8:]} has no step {step}", hint=f"it has {info.steps:,}; see `ledger log {run}`")
