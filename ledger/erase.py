"""Erasing a run: its contents become unreadable; that it happened, and when, stays provable."""

import re
from collections.abc import Iterator

import msgspec

from ledger.drafts import Detail
from ledger.log import Log, system_clock
from ledger.state import Recorded, State
from schemas.entries import Erasure
from schemas.errors import LedgerError, NotFound
from schemas.ids import belongs, is_run_id
from store.datakeys import data_name, read_tombstone, tombstone


class _Grew(LedgerError):
    """The run got more entries while its keys were being listed."""


def erase(log: Log, run: str, reason: str = "") -> tuple[int, int]:
    """Destroys the data keys of a run. Carries on where an earlier call was interrupted.

    The `erasure` entry is committed first: from then on no writer may use the keys. Then a tombstone that
    names the entry replaces each key.

    Returns:
        Index of the entry, and how many keys it destroyed.

    Raises:
        NotFound: there is no such run.
    """
    if not is_run_id(run):
        raise NotFound(f"not a run id: {run[:60]!r}", hint="`ledger log` lists runs")
    while True:
        log.catch_up()
        entries = list(log.entries(run))
        if not entries:
            raise NotFound(f"no run {run}", hint="`ledger log` lists runs")
        done = [r for r in log.entries() if isinstance(r.entry, Erasure) and r.entry.of == run]
        listed = {key for r in done if isinstance(r.entry, Erasure) for key in r.entry.keys}
        listed = {key for key in listed if belongs(bytes.fromhex(key), run)}
        missing = sorted(set(_keys(log, run)) - listed)
        log.folder.put({_marker(key): b"" for key in missing})
        index = done[0].index if done else 0
        if not missing and done:
            break
        try:
            index = _commit(log, run, reason, missing, entries[-1])
        except _Grew:
            continue
        break
    erased = 0
    for key in sorted(listed | set(missing)):
        name = data_name(bytes.fromhex(key))
        data = log.folder.find(name)
        if data is not None and read_tombstone(data, log.origin) is None:
            log.folder.put({name: tombstone(log.origin, log.chain.state.history.erased[key])})
            erased += 1
        log.blobs.keyring.forget(bytes.fromhex(key))
        log.folder.delete(_marker(key))
    return index, erased


def _marker(key: str) -> str:
    return data_name(bytes.fromhex(key)).removesuffix("age") + "erasing"


def _commit(log: Log, run: str, reason: str, keys: list[str], last: Recorded) -> int:
    detail = []
    if reason:
        detail.append(log.blobs.prepare(log.project_key(), msgspec.json.encode(Detail(reason=reason))))
    entry = Erasure(v=1, time=system_clock(), of=run, keys=keys, detail=detail[0].address if detail else "")

    def validate(state: State, since: list[Recorded]) -> None:
        growing = state.history.runs.get(run)
        if growing is not None and growing.step != last.entry.step:
            raise _Grew("the run grew")

    return log.append_statements([entry], detail, validate)[0].index


def _keys(log: Log, run: str) -> Iterator[str]:
    """Ids of the data keys of a run: its own, and those of writers who could not open it."""
    for name in log.folder.list("keys/data"):
        id = re.fullmatch("([0-9a-f]{32})[.]age", name.rpartition("/")[2])
        if id is not None and belongs(bytes.fromhex(id[1]), run):
            yield id[1]
