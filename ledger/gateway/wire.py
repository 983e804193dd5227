"""What goes over the wire: server-sent events in both directions, and error bodies as OpenAI's clients read them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from schemas.reading import one_reading

MAX_EVENT = 16 << 20
"""Bytes of one event; an upstream that sends more is cut off."""


class Event(NamedTuple):
    """One event of a stream.

    Attributes:
        raw: its bytes as they came, its blank line included; empty for a comment's.
        type: the `type` of its data; empty where it has none.
        data: its data, decoded; None for comments and `[DONE]`.
    """

    raw: bytes
    type: str
    data: dict[str, Any] | None


class Malformed(Exception):
    """A stream is not what server-sent events are."""


class Events:
    """Cuts chunks of a stream into events, keeping every byte."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that a chunk completes.

        Raises:
            Malformed: an event is too long, or clients could differ in what it is.
        """
        data = self._rest + chunk if self._rest else chunk
        start = 0
        while (end := _end_of_event(data, start)) > 0:
            yield _event(data[start:end])
            start = end
        self._rest = data[start:]
        if len(self._rest) > MAX_EVENT:
            raise Malformed(f"an event of over {MAX_EVENT >> 20} MiB")

    @property
    def rest(self) -> bytes:
        """Bytes after the last whole event."""
        return self._rest


def _end_of_event(data: bytes, start: int) -> int:
    """Where the event that begins at `start` ends, after an empty line; 0 where it goes on."""
    unix = data.find(b"\n\n", start)
    # Only before the other end: a piece with many events is not searched whole for each.
    dos = data.find(b"\n\r\n", start, unix + 2 if unix >= 0 else len(data))
    if dos >= 0:
        return dos + 3
    return unix + 2 if unix >= 0 else 0


def _event(raw: bytes) -> Event:
    lines: list[str] = []
    named = None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Malformed("an event is no UTF-8") from None
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        if "\r" in text:
            # Allowed as an end of line, and used by nobody: some clients would see other events than we do.
            raise Malformed("a stream has bare carriage returns")
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        if name == "data":
            lines.append(value.removeprefix(" "))
        elif name == "event":
            named = value.removeprefix(" ")
        elif not name.isascii():
            # Such as `data` after a byte order mark, which some clients strip and others do not.
            raise Malformed("a stream has a field whose name is not ASCII")
    if not lines or lines == ["[DONE]"]:
        return Event(raw, "", None)
    try:
        data = one_reading("\n".join(lines).encode())
    except ValueError as error:
        raise Malformed(f"the data of an event: {error}") from None
    if not isinstance(data, dict):
        raise Malformed("the data of an event is no object")
    kind = data.get("type")
    if not isinstance(kind, str) or named not in (None, kind):
        # Clients go by either name.
        raise Malformed("an event has no type, or two")
    return Event(raw, kind, data)


def encode(type: str, data: dict[str, Any]) -> bytes:
    """An event's bytes."""
    return b"event: " + type.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


COMMENT = b": waiting\n\n"
"""Keeps a waiting stream alive; clients pass over it, and their read timeout begins anew."""


def error(message: str, *, code: str, param: str | None = None, kind: str = "invalid_request_error") -> bytes:
    """An error's body."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def told(content: bytes) -> bytes:
    """An upstream's error body, anew: only what clients read of one."""
    try:
        error = one_reading(content).get("error")
    except (ValueError, AttributeError):
        error = None
    said = error if isinstance(error, dict) else {"message": error if isinstance(error, str) else None}
    kept = {name: str(said[name])[:2000] for name in ("message", "type", "param", "code") if said.get(name) is not None}
    return msgspec.json.encode({"error": {"message": "the other side gave no reason", "type": "api_error"} | kept})


def failed(message: str, sequence: int, response: dict[str, Any]) -> bytes:
    """The event that ends an open stream so that clients show the message and do not try again.

    `invalid_prompt` is the one code that the Codex CLI neither hides nor repeats.

    Args:
        sequence: number of this event.
        response: what the stream said of the response so far.
    """
    reason = {"code": "invalid_prompt", "message": message}
    # Nothing of what was held back may come by the way of its failure.
    body = unsuccessful(response) | {"error": reason}
    return encode("response.failed", {"type": "response.failed", "sequence_number": sequence, "response": body})


def unsuccessful(response: dict[str, Any]) -> dict[str, Any]:
    """A failed response object that keeps of another what no client acts on: nothing of its output, whatever its name.

    Args:
        response: as it came; its members are not trusted.
    """
    kept = {name: response[name] for name in _ABOUT if isinstance(response.get(name), str | int | float)}
    error = response.get("error")
    said = error if isinstance(error, dict) else {}
    reason = {"code": str(said.get("code") or "server_error")[:100], "message": str(said.get("message") or "")[:1000]}
    return {"object": "response", **kept, "output": [], "status": "failed", "error": reason}


_ABOUT = ("id", "created_at", "model", "service_tier")
