"""Contents of the ledger in the place of their addresses."""

import base64
from collections.abc import Callable
from typing import Any

from ledger.gateway.body import LONGEST, Body
from ledger.gateway.stopped import Stopped
from ledger.index.reader import Log
from schemas.entries import Content, references
from schemas.errors import Erased, Malformed, Missing, NotFound, NotSound, TooLarge
from schemas.ids import cid_of

Read = Callable[[str], bytes]
"""The content of an address, as `of_run` gives it."""

_MEMBERS = ("text", "file_data", "image_url")


def of_run(log: Log, run: str, wanted: str) -> bytes:
    """A content that may stand in a request, and that an entry of the run names.

    Raises:
        NotFound: none names it.
        TooLarge: it is longer than a request may be. Also what `Log.read` raises.
    """
    check(log, run, wanted)
    return log.blobs.read(wanted, LONGEST)


def check(log: Log, run: str, wanted: str) -> None:
    """Refuses a content that no entry of the run names: what a token reaches is its run's.

    Raises:
        NotFound: none names it.
    """
    cid = cid_of(wanted)
    for recorded in log.entries(run):
        if isinstance(recorded.entry, Content) and cid in references(recorded.entry, recorded.raw):
            log.catch_up_places()
            return
    raise NotFound(
        f"{wanted} is not of this run", hint="add the content to the run, and name the address that it has there"
    )


def resolve(body: Body, addresses: tuple[str, ...], read: Read) -> None:
    """Adds the contents of an envelope's artifacts to the input, and replaces addresses that stand in it.

    Raises:
        Stopped: one can't be read, or is no text where a text must stand.
    """
    found = [{"type": "input_text", "text": _content(address, read, data=False)} for address in addresses]
    if found:
        body.set("input", [*body.items, {"role": "user", "content": found}], "input_artifacts")
    if b"artifact://" in body.came:
        value, count = _resolved(body.value["input"], read)
        if count:
            body.set("input", value, "artifacts")


def _content(address: str, read: Read, *, data: bool) -> str:
    try:
        content = read(address)
        if data:
            return f"data:application/octet-stream;base64,{base64.b64encode(content).decode()}"
        return content.decode()
    except UnicodeDecodeError:
        what = f"{address} is no text"
    except (Malformed, Missing, Erased, NotFound, NotSound, TooLarge) as error:
        what = f"an artifact can't be read: {error.what}"
    raise Stopped(what, code="artifact_unreadable", param="input")


def _resolved(value: Any, read: Read) -> tuple[Any, int]:
    """The value with contents in the place of addresses, and how many there were."""
    if isinstance(value, list):
        pairs = [_resolved(item, read) for item in value]
        return [item for item, _ in pairs], sum(count for _, count in pairs)
    if not isinstance(value, dict):
        return value, 0
    found, total = {}, 0
    for name, inner in value.items():
        if name in _MEMBERS and isinstance(inner, str) and inner.startswith("artifact://"):
            found[name], count = _content(inner, read, data=name != "text"), 1
        else:
            found[name], count = _resolved(inner, read)
        total += count
    return found, total
