"""Erasing a run: its contents become unreadable; that it happened, and when, stays provable."""

from collections.abc import Iterator

import msgspec

from ledger.drafts import Detail
from ledger.log import Log, system_clock
from ledger.state import Recorded, State
from schemas.entries import Erasure, references
from schemas.errors import Erased, LedgerError, Missing, NotFound
from schemas.ids import is_run_id, run_key_id
from store import lists
from store.datakeys import data_name, read_tombstone, tombstone
from store.seal import Blob


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
        missing = sorted(set(_keys(log, run, entries)) - listed)
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


def _keys(log: Log, run: str, entries: list[Recorded]) -> Iterator[str]:
    """Ids of the data keys under which a run's own blobs are sealed; never one that runs share."""
    own = run_key_id(run)
    if log.folder.size(data_name(own)) is not None:
        yield own.hex()
    if (blind := log.blobs.keyring.own(own)) is not None:
        yield blind.id.hex()
    # From the packs: a table in the cache that lost a blob would leave its key alive.
    log.make_places_again()
    for recorded in entries:
        for cid in references(recorded.entry, recorded.raw):
            try:
                for _, data in lists.leaves(cid, log.blobs.get):
                    key = Blob.parse(data).key_id
                    # A shared key bears a small number, a run's or a writer's own does not.
                    if key[:8] != bytes(8):
                        yield key.hex()
            except (Missing, Erased):
                continue
