"""RUN, STEP and INDEX as people type them."""

import os
import re
from datetime import datetime, timedelta

from ledger import log as base
from ledger import remote
from ledger.index.reader import Log
from ledger.runs import RunInfo, age, choose, no_run_that_old
from ledger.state import Recorded, read
from schemas.entries import Approval, ApprovalBreakGlass, RunStarted
from schemas.errors import NotFound, RunClosed, UsageError
from schemas.ids import is_run_id
from store import pack

_STARTED = b'{"kind":"run.started"'
_NUMBER = re.compile("[0-9]+")
_DIGITS = 18


def open_log(where: str | None) -> base.Log | remote.Log:
    """What can be appended to: a ledger, or a run of one over a gateway's socket."""
    url = remote.address(where)
    return remote.Log.open(url) if url else base.Log.open(where)


def open_run(log: base.Log | remote.Log, text: str | None) -> str:
    """The id of a run that can be appended to; `LEDGER_RUN` where none is named.

    Names and parts of ids are looked for among open runs only, so that appending to a long ledger stays quick.
    `@` is the newest run of all, as for who looks: it must not mean another one once that has finished.

    Raises:
        RunClosed: that run has ended.
    """
    text = os.environ.get("LEDGER_RUN", "") if text is None else text
    if not text and isinstance(log, remote.Log):
        return log.run_id
    if not text:
        raise UsageError("no run named", hint="--run RUN, or: export LEDGER_RUN=$(ledger start)")
    if is_run_id(text):
        return text
    if isinstance(log, remote.Log):
        return choose(text, log.runs()).id
    if (back := age(text)) is not None:
        return _newest(log, text, back)
    try:
        return choose(text, _open_infos(log)).id
    except NotFound:
        _say_if_ended(log, text)
        raise


def _newest(log: base.Log, text: str, back: int) -> str:
    found = 0
    for number in reversed(range(log.chain.state.packs)):
        parsed = pack.parse(log.folder.get(pack.name(number)))
        for index in reversed(range(parsed.size, parsed.end)):
            raw = parsed.leaves[index - parsed.size]
            if not raw.startswith(_STARTED) or not isinstance(entry := read(index, raw)[0].entry, RunStarted):
                continue
            if found == back:
                if entry.run not in log.chain.state.history.runs:
                    what = f"{text} is run {entry.run[-8:]}, which has finished or was erased"
                    raise RunClosed(what, hint=_others(log))
                return entry.run
            found += 1
    raise no_run_that_old(text, found)


def _others(log: base.Log) -> str:
    """What else could be appended to."""
    infos = _open_infos(log)
    if not infos:
        return "start a new one: ledger start"
    return "open: " + ", ".join(f"{info.id[-8:]} {info.name}".rstrip() for info in infos[:5])


def _say_if_ended(log: base.Log, text: str) -> None:
    """Raises where the name fits a run that has ended; only asked where no open one fits."""
    history = log.chain.state.history
    for recorded in log.entries():
        entry = recorded.entry
        if not isinstance(entry, RunStarted) or history.find(entry.run) is not None:
            continue
        if (len(text) >= 4 and text in entry.run) or log.detail(entry.detail).name == text:
            raise RunClosed(f"run {entry.run[-8:]} has finished or was erased", hint="start a new one: ledger start")


def _open_infos(log: base.Log) -> list[RunInfo]:
    found = []
    log.catch_up_places()
    for id, run in log.chain.state.history.runs.items():
        entry = log.entry(run.started).entry
        if isinstance(entry, RunStarted) and not run.finished:
            name = log.detail(entry.detail).name
            found.append(RunInfo(id, run.started, entry.time, name=name))
    return sorted(found, key=lambda run: -run.index)


def any_run(log: Log, text: str | None) -> RunInfo:
    """The run that is meant, open or not; `LEDGER_RUN`, else the newest, where none is named."""
    return choose((os.environ.get("LEDGER_RUN") or "@") if text is None else text, log.runs())


def recorded_run(log: Log, text: str | None) -> str:
    """The id of a run whose commands were recorded; the newest of those for `@` and where none is named."""
    if text not in (None, "@"):
        return any_run(log, text).id
    if not (found := recorded_runs(log)):
        raise NotFound("no command was recorded yet", hint="ledger record -- COMMAND")
    return found[-1]


def recorded_runs(log: Log, since: datetime | None = None) -> list[str]:
    """Ids of runs whose commands were recorded, the newest last.

    Args:
        since: when the first command began at the earliest.
    """
    rows = log.query(
        "SELECT run, min(time) AS began FROM entries WHERE kind = 'action.started' GROUP BY run ORDER BY min(\"index\")"
    ).to_pylist()
    return [str(row["run"]) for row in rows if since is None or row["began"] >= since]


def content(log: Log, text: str) -> str:
    """The address that is meant: itself, or the content of an entry."""
    if text.startswith("artifact://"):
        return text
    found = entry(log, text).entry
    address = found.request if isinstance(found, Approval | ApprovalBreakGlass) else getattr(found, "content", "")
    if not address:
        raise NotFound(f"{text} has no content", hint=f"ledger show {text}")
    return str(address)


def entry(log: Log, text: str) -> Recorded:
    """The entry of an INDEX, or of a STEP `RUN:n`."""
    if _NUMBER.fullmatch(text):
        if len(text) > _DIGITS:
            raise NotFound(f"no entry {text[:_DIGITS]}…; the log has {log.chain.state.size:,} leaves")
        return log.entry(int(text))
    run, separator, step = text.rpartition(":")
    if not separator or not _NUMBER.fullmatch(step):
        raise UsageError(f"neither index, step nor address: {text!r}", hint="519, c41f9e02:23 or artifact://…")
    info = choose(run, log.runs())
    for recorded in log.entries(info.id):
        if str(recorded.entry.step) == (step.lstrip("0") or "0"):
            return recorded
    raise NotFound(
        f"run {info.id[-8:]} has no step {step[:_DIGITS]}", hint=f"it has {info.steps:,}; see `ledger log {run}`"
    )


def when(text: str) -> datetime:
    """A time as people type it: `yesterday`, `3d`, `12h`, `2026-11-20`."""
    now = datetime.now().astimezone()
    if text in ("today", "yesterday"):
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight - timedelta(days=text == "yesterday")
    unit = {"d": "days", "h": "hours", "m": "minutes", "w": "weeks"}.get(text[-1:])
    try:
        if unit and text[:-1].isascii() and text[:-1].isdecimal():
            return now - timedelta(**{unit: int(text[:-1])})
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.astimezone()
        when.astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        raise UsageError(f"not a time: {text[:60]!r}", hint="yesterday, 3d, 12h or 2026-11-20") from None
    return when
