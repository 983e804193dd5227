"""Records that people and programs hand in: JSON or TOML, read into typed records, refused by the member's name."""

import json
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from schemas.errors import Malformed

MAX_RECORD = 1 << 20
"""Bytes of a record."""

_Record = TypeVar("_Record")
_PLACE = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`")


def parse(text: bytes, where: str) -> Any:
    """The value of a JSON or TOML text, which one its first character tells. Numbers keep every digit.

    Raises:
        Malformed: it is neither, or a name stands twice in an object.
    """
    if len(text) > MAX_RECORD:
        raise Malformed(f"{where}: over {MAX_RECORD >> 20} MiB", hint="is it the right file?")
    try:
        whole = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed(f"{where}: not in UTF-8") from None
    is_json = whole.lstrip()[:1] == "{"
    try:
        if is_json:
            return json.loads(whole, object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_no_number)
        return tomllib.loads(whole, parse_float=Decimal)
    except RecursionError:
        raise Malformed(f"{where}: nested too deep") from None
    except ValueError as error:
        what = str(error)
        raise Malformed(f"{where}: {what[:1].lower()}{what[1:200]}", hint=f"{'JSON' if is_json else 'TOML'}") from None


def one_reading(text: bytes) -> Any:
    """The value of a JSON text in which no name stands twice: readers differ in which of two they take.

    Raises:
        ValueError: it is no JSON, or has two readings; the text is not repeated.
    """
    try:
        value = msgspec.json.decode(text)
        # What encodes to the same bytes, but for spaces, has lost nothing; the slow way is for other spellings.
        one = msgspec.json.encode(value)
        if one != text and one != msgspec.json.format(text, indent=-1):
            json.loads(text, object_pairs_hook=_unique)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else "no JSON"
        raise ValueError(what) from None
    return value


def convert(value: Any, kind: type[_Record], where: str, hint: str = "") -> _Record:
    """A parsed value as a record. Members that are null count as absent.

    Raises:
        Malformed: it is no such record; names the member.
    """
    if isinstance(value, Mapping):
        value = {name: member for name, member in value.items() if member is not None}
    try:
        record = msgspec.convert(value, kind)
        msgspec.json.encode(record)
        return record
    except UnicodeEncodeError:
        raise Malformed(f"{where}: a text holds what is no character", hint=hint) from None
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise Malformed(f"{where}: {_explain(str(error))}", hint=hint) from None


def _explain(message: str) -> str:
    """`max_retries_per_task: expected int, got str`, of what msgspec says."""
    what, place = message, ""
    if match := _PLACE.fullmatch(message):
        what, place = match[1], match[2]
    for pattern, problem in ((_MISSING, "is missing"), (_UNKNOWN, "is not a member of it")):
        if match := pattern.fullmatch(what):
            return f"{place + '.' if place else ''}{match[1]}: {problem}"
    what = what.replace("`", "")
    return (f"{place}: " if place else "") + what[:1].lower() + what[1:]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
