"""A ledger, open, with its index: runs, queries, and where bytes were used."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ledger import homes, log, remote
from ledger.run import Run
from ledger.runs import RunInfo
from ledger.state import Recorded, read
from schemas.errors import CannotTell, Erased, Missing, NotFound, UsageError
from store import pack

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from ledger.index.segments import Segments

T = TypeVar("T")

_DATA_KEY = re.compile(r"keys/data/[0-9a-f]{2}/([0-9a-f]{32})\.age")

VIEWS = {
    "entries": "SELECT * FROM entries_in_packs",
    "runs": """SELECT run, min("index") AS "index", min(time) AS started,
        max(time) FILTER (kind = 'run.finished') AS finished,
        CASE WHEN run IN (SELECT "of" FROM entries_in_packs WHERE kind = 'erasure') THEN 'erased'
             ELSE coalesce(max(status) FILTER (kind = 'run.finished'), 'open') END AS status,
        max(step) AS steps, count(*) FILTER (kind = 'prompt') AS prompts,
        count(*) FILTER (kind = 'response') AS responses, count(*) FILTER (kind = 'artifact') AS artifacts,
        count(*) FILTER (kind = 'model.request') AS calls, sum(cost)::BIGINT AS cost,
        count(*) FILTER (kind = 'decision' AND effect <> 'allow') AS denied,
        arg_min(detail, "index") FILTER (kind = 'run.started') AS detail,
        coalesce(arg_max(detail, "index") FILTER (kind = 'artifact'), '') AS made
        FROM entries_in_packs WHERE run <> '' GROUP BY run""",
    "calls": """SELECT p.run, p.step, p.stage, p.lane, p.task, p.model, p."index" AS prompt, r."index" AS response,
        p.content AS asked, r.content AS answered, p.time AS started, r.time AS ended,
        coalesce(r.status, '') AS status, coalesce(r.verdict, '') AS verdict, r.http, r.input, r.cached, r.output,
        r.reasoning, r.cost, r.latency, p.attempt
        FROM entries_in_packs p LEFT JOIN entries_in_packs r ON r."to" = p."index" AND r.run = p.run
        AND r.kind = CASE p.kind WHEN 'prompt' THEN 'response' ELSE 'model.response' END
        WHERE p.kind IN ('prompt', 'model.request')""",
    "blobs": "SELECT 'artifact://' || lower(hex(cid)) AS address, pack, size, outside FROM blobs_in_packs",
    "decisions": """SELECT "index", time, run, step, stage, lane, task, action, effect FROM entries_in_packs
        WHERE kind = 'decision'""",
    "violations": """SELECT "index", time, run, step, stage, lane, task, rule, "to" FROM entries_in_packs
        WHERE kind = 'violation'""",
    "costs": """SELECT run, stage, lane, task, model, count(*) AS calls, sum(cost)::BIGINT AS cost,
        sum(input)::BIGINT AS input, sum(output)::BIGINT AS output FROM calls WHERE prompt IN
        (SELECT "index" FROM entries_in_packs WHERE kind = 'model.request') GROUP BY ALL""",
    "retries": """SELECT run, lane, task, max(attempt) - 1 AS retries FROM entries_in_packs
        WHERE kind = 'model.request' GROUP BY ALL""",
    "approvals": """SELECT "index", time, run, step, request, "to", denied, kind = 'approval.breakglass' AS breakglass
        FROM entries_in_packs WHERE kind IN ('approval', 'approval.breakglass')""",
    "requests": """SELECT asked."index", asked.time, asked.run, asked.step, asked.stage, asked.lane, asked.task,
        asked.action, asked.model, asked.reserved, asked.requester, asked.expires, used."index" AS consumed
        FROM entries_in_packs AS asked LEFT JOIN entries_in_packs AS used ON used.kind = 'approval.consumed'
        AND used.run = asked.run AND used."to" = asked."index" WHERE asked.kind = 'approval.requested'""",
}
"""The views of `ledger query`."""


class Log(log.Log):
    """A ledger, open, as `ledger.open` gives it."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._index: Segments | None = None
        self._indexing = threading.Lock()
        self._asking = 0

    def query(self, sql: str) -> "pa.Table":
        """Asks the index: one SELECT over the views of `VIEWS`.

        Raises:
            UsageError: it is no SELECT, or DuckDB refuses it.
        """
        import duckdb
        import pyarrow as pa

        views = "views: " + ", ".join(VIEWS)
        try:
            sql.encode()
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UsageError("one SELECT at a time", hint=views)
            return self._ask(lambda connection: connection.sql(sql).to_arrow_table())
        except UnicodeEncodeError:
            raise UsageError("the query holds what is no character", hint=views) from None
        except (duckdb.Error, pa.ArrowException) as error:
            raise UsageError(str(error).split("\n")[0], hint=views) from None

    def runs(self, since: datetime | None = None) -> list[RunInfo]:
        """Runs, newest first, with the names that this identity can read.

        Args:
            since: leave out those that started before.
        """
        found = []
        self.catch_up_places()
        for row in self.query('SELECT * FROM runs ORDER BY "index" DESC').to_pylist():
            if since is None or row["started"] >= since:
                row["id"] = row.pop("run")
                row["detail"] = row["detail"] or ""
                row["cost"] = row["cost"] or 0
                found.append(RunInfo(**row, name=self.detail(row["detail"]).name))
        return found

    def entries(self, run: str | Run | None = None) -> Iterator[Recorded]:
        """Entries in order, of one run or of all."""
        if run is None:
            yield from super().entries()
            return
        id = run.id if isinstance(run, Run) else run
        yield from self._entries("run = ?", [id])

    def of_kind(self, kind: str) -> Iterator[Recorded]:
        """Entries of one kind in order, of what is proven."""
        yield from self._entries("kind = ?", [kind])

    def find(self, source: Path | bytes) -> Iterator[Recorded]:
        """Entries whose content is this file, or these bytes: of all data keys that this identity opens."""
        hashers = []
        for name in self.folder.list("keys/data"):
            match = _DATA_KEY.fullmatch(name)
            if match is None:
                continue
            try:
                hashers.append(self.blobs.keyring.open(bytes.fromhex(match[1])).hasher())
            except (Erased, Missing, CannotTell):
                continue
        if not hashers:
            raise CannotTell("this identity opens no data key: contents can't be compared", hint="--identity URI")
        for piece in _pieces(source):
            for hasher in hashers:
                hasher.update(piece)
        digests = [hasher.hexdigest() for hasher in hashers]
        yield from self._entries("list_contains(?::VARCHAR[], digest)", [digests])

    def _entries(self, condition: str, values: list[Any]) -> Iterator[Recorded]:
        # The condition is one of ours; what users give is bound.
        text = f'SELECT pack, list("index" ORDER BY "index") FROM entries WHERE {condition} GROUP BY pack ORDER BY pack'  # noqa: S608
        for number, rows in self._ask(lambda connection: connection.execute(text, values).fetchall()):
            found = pack.parse(self.folder.get(pack.name(number)))
            for index in rows:
                raw = found.leaves[index - found.size]
                yield read(index, raw)[0]

    def _ask(self, question: "Callable[[duckdb.DuckDBPyConnection], T]") -> "T":
        """Asks; once more where a segment was damaged, or merged away by another process."""
        import duckdb
        import pyarrow as pa

        try:
            with self._connection() as connection:
                return _interruptible(connection, question)
        except (duckdb.Error, pa.ArrowException, OSError):
            with self._indexing:
                if self._index is None or not self._index.is_damaged():
                    raise
                self._index.forget()
        with self._connection() as connection:
            return _interruptible(connection, question)

    @contextmanager
    def _connection(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """DuckDB over the index, closed to everything else."""
        import duckdb

        from ledger.index.segments import Segments

        settings: dict[str, Any] = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": "",
        }
        with closing(duckdb.connect(":memory:", config=settings)) as connection:
            with self._indexing:
                if self._index is None:
                    home = homes.cache(self.origin) / self.chain.state.owner.key_id.hex()
                    self._index = Segments(home, self.chain)
                index = self._index
                # No segment is merged away that another thread's question still reads.
                index.catch_up(self.chain.state.packs, merge=not self._asking)
                _define(connection, index)
                self._asking += 1
            try:
                connection.execute("SET allowed_directories = [" + _quoted(str(index.home)) + "]")
                connection.execute("SET enable_external_access = false")
                connection.execute("SET lock_configuration = true")
                yield connection
            finally:
                with self._indexing:
                    self._asking -= 1


def open(where: str | Path | None = None, *, signer: str | None = None, identity: str | None = None) -> Log:
    """Opens a ledger, see `Log.open`; or, where `where` or `LEDGER` is a URL, what a token reaches of one.

    Within `ledger record` it is the gateway's socket: `ledger.remote.Log` answers, with the one run that is recorded.
    """
    if url := remote.address(where):
        # It answers as the other does, and says of the rest that it is not served.
        return cast(Log, remote.Log.open(url))
    return Log.open(where, signer=signer, identity=identity)


def _interruptible(connection: "duckdb.DuckDBPyConnection", question: "Callable[[duckdb.DuckDBPyConnection], T]") -> T:
    """Asks in another thread: while this one waits, an interrupt reaches it, and ends the question."""
    asked: Future[T] = Future()

    def ask() -> None:
        try:
            asked.set_result(question(connection))
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            asked.set_exception(error)

    thread = threading.Thread(target=ask, name="ledger-query", daemon=True)
    thread.start()
    try:
        return asked.result()
    except KeyboardInterrupt:
        while thread.is_alive():
            # Again and again: what has not begun yet is not ended by it.
            connection.interrupt()
            thread.join(0.05)
        raise
    finally:
        thread.join()


def _define(connection: "duckdb.DuckDBPyConnection", index: "Segments") -> None:
    """The views over segments and tail."""
    for what, tail, paths in (
        ("entries", index.tail_entries, index.entries),
        ("blobs", index.tail_blobs, index.blobs),
    ):
        connection.register(f"{what}_tail", tail)
        parts = [f"FROM {what}_tail"]
        if paths:
            parts.insert(0, f"FROM read_parquet([{', '.join(map(_quoted, paths))}])")
        connection.execute(f"CREATE OR REPLACE VIEW {what}_in_packs AS " + " UNION ALL ".join(parts))
    for name, text in VIEWS.items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {text}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _pieces(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    try:
        with source.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece
    except OSError as error:
        raise NotFound(f"{source}: {(error.strerror or '').lower()}", hint="check the path") from None
