"""A ledger over a gateway's socket: for who has a token, and neither the ledger's files nor its keys.

`ledger.open()` gives it where `LEDGER` is a URL, as within `ledger record`. The token is `LEDGER_TOKEN`, else
`OPENAI_API_KEY`. It reaches the one run that the token is bound to; what `ledger.gateway.served` does not serve,
such as queries and receipts, needs the ledger itself.
"""

import http.client
import os
import re
import select
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

import msgspec

from ledger import run as local
from ledger.commit import Appended
from ledger.drafts import Item, as_bytes, beside, check
from ledger.runs import RunInfo
from ledger.state import Recorded, read
from schemas import errors
from schemas.errors import KeyUnusable, LedgerError, NotFound, OutcomeUnknown, StorageFailed, UsageError
from schemas.ids import cid_of, is_run_id

if TYPE_CHECKING:
    import pyarrow as pa
    from openai import OpenAI

    from ledger.receipt import Receipt

_TOKEN = re.compile(r"sk-ledger-[A-Za-z0-9._-]{1,8192}")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_WAIT_S = 60.0
_IDLE_S = 30.0
"""Seconds after which a connection is not trusted to be open still: half of what a gateway keeps it for."""

_AT_ONCE = 24 << 20

_ITEMS = 1024

MOST_BYTES = 32 << 20
"""Bytes of the largest content that goes over the socket."""


def address(where: str | Path | None) -> str:
    """The URL that is meant, or that `LEDGER` holds; empty where that is a folder."""
    named = str(where or os.environ.get("LEDGER") or "")
    return named.rstrip("/").removesuffix("/v1") if named.startswith(("http://", "https://")) else ""


class Log:
    """What a token reaches of a ledger: one run. Safe to share among threads.

    Attributes:
        url: of the gateway.
        run_id: id of the run.

    Args:
        url: `http://HOST:PORT` on loopback, or `https://…`.
        token: of `ledger token`.

    Raises:
        UsageError: the URL is none.
        KeyUnusable: the token is none, or the gateway takes it no longer.
        StorageFailed: no gateway answers.
    """

    def __init__(self, url: str, token: str) -> None:
        if not _TOKEN.fullmatch(token):
            raise KeyUnusable("no token for the gateway", hint="LEDGER_TOKEN=$(ledger token --run RUN), made outside")
        self._secure, self._host, self._port, self._path = _parts(url)
        self.url = url
        self._headers = {"authorization": f"Bearer {token}"}
        self._token = token
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._process = os.getpid()
        self._last = 0.0
        stands = self.ask("GET", "/run")
        self.run_id: str = stands["token"]["run"]

    @classmethod
    def open(cls, where: str) -> Self:
        """Opens what the token of the environment reaches.

        Raises:
            UsageError: `LEDGER_RUN` names another run than the token. Also what the class raises.
        """
        found = cls(where, (os.environ.get("LEDGER_TOKEN") or os.environ.get("OPENAI_API_KEY", "")).strip())
        named = os.environ.get("LEDGER_RUN", "")
        if is_run_id(named) and named != found.run_id:
            raise UsageError(
                f"LEDGER_RUN is {named}, and the token is bound to {found.run_id}",
                hint="unset LEDGER_RUN, or the token",
            )
        return found

    def run(self, name: str = "", *, stage: str = "", lane: str = "", task: str = "", imported: bool = False) -> "Run":
        """The run that is recorded. It was started, and will be finished, by who records: a name is not needed."""
        if imported:
            raise _only_there("importing")
        return Run(self, self.run_id, stage, lane, task)

    def resume(
        self, run: "str | Run", *, stage: str = "", lane: str = "", task: str = "", imported: bool = False
    ) -> "Run":
        """The same, from its id.

        Raises:
            NotFound: it is another run than the token's.
        """
        if imported:
            raise _only_there("importing")
        id = run.id if isinstance(run, local.Run) else run
        if id != self.run_id:
            raise NotFound(f"run {id[:60]} is out of the token's reach", hint=f"it is bound to {self.run_id}")
        return Run(self, id, stage, lane, task)

    def runs(self, since: datetime | None = None) -> list[RunInfo]:
        """The run, as `ledger log` lists it."""
        found = msgspec.convert(self.ask("GET", "/runs"), list[RunInfo])
        return [info for info in found if since is None or info.started >= since]

    def entries(self, run: "str | Run | None" = None) -> Iterator[Recorded]:
        """Entries of the run in order."""
        if run is not None:
            self.resume(run)
        for line in self.fetch("GET", "/entries").splitlines():
            index, raw = msgspec.json.decode(line, type=tuple[int, msgspec.Raw])
            yield read(index, bytes(raw))[0]

    def read(self, address: str) -> bytes:
        """A content that an entry of the run names.

        Raises:
            NotFound: none names it.
        """
        return self.fetch("GET", f"/blobs/{cid_of(address).hex()}")

    def last_prompt(self, run: str) -> int:
        """Index of the newest prompt of the run; 0 where there is none."""
        self.resume(run)
        return int(self.ask("GET", "/run").get("prompt", 0))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request, with a JSON answer."""
        content = None if body is None else msgspec.json.encode(body)
        try:
            return msgspec.json.decode(self.fetch(method, path, content))
        except msgspec.MsgspecError:
            raise StorageFailed(f"{self.url} is no gateway of agent-ledger", hint="check LEDGER") from None

    def fetch(self, method: str, path: str, content: bytes | None = None) -> bytes:
        """One request. What reads is tried again on a new connection; what appends never.

        Raises:
            LedgerError: as the gateway raised it.
            StorageFailed: no gateway answers.
            OutcomeUnknown: what was to be appended was sent, and the answer lost.
        """
        with self._lock:
            try:
                connection = self._ready()
            except OSError:
                raise StorageFailed(f"no gateway answers at {self.url}", hint="is it still running?") from None
            try:
                connection.request(method, f"{self._path}/ledger{path}", content, self._headers)
                answer = connection.getresponse()
                found = answer.read()
            except BaseException as error:
                # Also where an interrupt struck: what comes on this connection later answers another question.
                self._drop()
                if not isinstance(error, OSError | http.client.HTTPException):
                    raise
                if content is not None:
                    raise OutcomeUnknown(
                        "the gateway's answer was lost", hint="see what `ledger log RUN` has before trying again"
                    ) from None
                raise StorageFailed(f"the answer of {self.url} broke off", hint="try again") from None
            self._last = time.monotonic()
            if answer.will_close:
                self._drop()
        if answer.status != 200:
            raise _error(answer.status, found)
        return found

    def _ready(self) -> http.client.HTTPConnection:
        """A connection that nobody else uses, and that the other side has not closed meanwhile."""
        found = self._connection
        if found is not None and (
            self._process != os.getpid() or time.monotonic() - self._last > _IDLE_S or _is_readable(found)
        ):
            self._drop()
            found = None
        if found is None:
            found = self._connect()
            found.connect()
            self._connection, self._process = found, os.getpid()
        return found

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=_WAIT_S, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=_WAIT_S)

    def openai(self, headers: dict[str, str]) -> "OpenAI":
        """A client of the same gateway."""
        import openai

        # No proxy of the environment's stands between a run and its gateway.
        direct = openai.DefaultHttpxClient(trust_env=False)
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self._token, default_headers=headers, http_client=direct
        )

    def close(self) -> None:
        """Gives the connection back."""
        with self._lock:
            self._drop()

    def query(self, sql: str) -> "pa.Table":
        """Not over a socket: the index is beside the ledger's files."""
        raise _only_there("a query")

    def receipt(self, index: int) -> "Receipt":
        """Not over a socket: a proof is made from the ledger's files."""
        raise _only_there("a receipt")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Run(local.Run):
    """The run that a token is bound to. As a context manager it leaves the run open: who records it finishes it."""

    def __init__(self, log: Log, id: str, stage: str = "", lane: str = "", task: str = "") -> None:
        self.id = id
        self._log = log
        self._place = {"stage": stage, "lane": lane, "task": task}

    def stage(self, name: str, *, lane: str = "", task: str = "") -> "Run":
        """The same run, whose entries carry this stage."""
        return Run(self._log, self.id, name, lane or self._place["lane"], task or self._place["task"])

    def openai(self, **how: Any) -> "OpenAI":
        """A client through the gateway that serves this ledger: its upstream and policies are settled there."""
        if how:
            raise UsageError("the gateway is not this process's", hint="ledger record --upstream … --policy …")
        if not "".join(self._place.values()).isascii():
            raise UsageError("a client carries stage, lane and task in headers, which are ASCII", hint="rename them")
        return self._log.openai({f"x-ledger-{name}": said for name, said in self._place.items() if said})

    def append_many(self, items: Iterable[Item]) -> list[Appended]:
        """Appends many things. Groups of up to 1,024 are all or nothing each."""
        return [done for chunk in _chunks(items) for done in self._send(chunk)]

    def _send(self, items: list[dict[str, Any]]) -> list[Appended]:
        return msgspec.convert(self._log.ask("POST", "/entries", {"items": items, **self._place}), list[Appended])

    def finish(self, status: Literal["succeeded", "failed"] = "succeeded", *, reason: str = "") -> Appended:
        """Ends the run, for all who append to it."""
        done = self._log.ask("POST", "/finish", {"status": status, "reason": reason})
        return msgspec.convert(done, list[Appended])[0]

    def _one(self, item: Item) -> Appended:
        return self.append_many([item])[0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _chunks(items: Iterable[Item]) -> Iterator[list[dict[str, Any]]]:
    """Items as they are sent, as many at once as a gateway takes."""
    chunk: list[dict[str, Any]] = []
    size = 0
    for item in items:
        content = _content(item)
        if chunk and (len(chunk) == _ITEMS or size + len(content) > _AT_ONCE):
            yield chunk
            chunk, size = [], 0
        rest = {name: getattr(item, name) for name in ("kind", "name", "media_type", "model", "to", "time")}
        chunk.append({"content": content, **rest})
        size += len(content)
    if chunk:
        yield chunk


def _content(item: Item) -> bytes:
    """A content as bytes; of an approval in a file, the signature beside it too.

    Raises:
        TooLarge: more than goes over a socket.
    """
    check(item)
    if item.reason:
        raise _only_there("a reason")
    found = as_bytes(item.content)
    paths: list[Path] = []
    if isinstance(found, Path):
        paths = [path for path in beside(found) if path.exists()] if item.kind == "approval" else [found]
    try:
        size = sum(path.stat().st_size for path in paths) if isinstance(found, Path) else len(found)
        if size > MOST_BYTES:
            what = f"{size:,} bytes; the most that goes over a gateway's socket is {MOST_BYTES:,}"
            raise errors.TooLarge(what, hint="append it where the ledger lies")
        return b"".join(path.read_bytes() for path in paths) if isinstance(found, Path) else found
    except OSError as error:
        raise NotFound(f"{found!s}: {(error.strerror or '').lower()}", hint="check the path") from None


def _parts(url: str) -> tuple[bool, str, int | None, str]:
    """Of a gateway's URL: whether TLS, host, port, path.

    Raises:
        UsageError: it is none, or what is sent there would pass in clear.
    """
    hint = "http://127.0.0.1:PORT, or https://HOST"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("LEDGER is no URL of a gateway", hint=hint) from None
    if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        # Not repeated: it may hold a password.
        raise UsageError("LEDGER is no URL of a gateway: a host, a port and a path make one", hint=hint)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise UsageError(f"{parts.hostname} is not loopback: what is sent would pass in clear", hint="https://…")
    return parts.scheme == "https", parts.hostname, port, parts.path


def _is_readable(connection: http.client.HTTPConnection) -> bool:
    """Whether something has come though nothing was asked: the end, as a rule."""
    if connection.sock is None or isinstance(connection.sock, ssl.SSLSocket):
        # Of TLS something may come that is no answer, such as a ticket.
        return connection.sock is None
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _only_there(what: str) -> UsageError:
    return UsageError(f"{what} is not served over a gateway's socket", hint="ask where the ledger lies")


def _error(http: int, body: bytes) -> LedgerError:
    """What the gateway raised, as far as it says so."""
    try:
        said = msgspec.json.decode(body)["error"]
        what, hint, name = str(said["message"]), str(said.get("hint") or ""), str(said["code"])
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return StorageFailed(f"the gateway answered with status {http}", hint="check LEDGER")
    kind = getattr(errors, name, None)
    if name == "NotSound" or not (isinstance(kind, type) and issubclass(kind, LedgerError)):
        # NotSound has a step, which only `ledger verify` tells.
        kind = errors.TooLarge if http == 413 else LedgerError
    return kind(what, hint=hint)
