"""Whether a text is JSON that a schema allows, decided within bounds.

Fails closed: what does not parse, or can't be judged, is invalid. What is said of it never repeats its content,
which may be secret.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
from blake3 import blake3

from policies.complexity import MAX_DEPTH, visits
from schemas.errors import Malformed, TooLarge

MAX_SCHEMA = 256 << 10
"""Bytes of a schema."""

MAX_VALUE = 16 << 20
"""Bytes of a value."""

MAX_WORK = 50_000_000
"""Schemas applied to one value, all parts of it: less than a second."""

_REGEX = 1 << 20
_REMEMBERED = 512
_DRAFTS = ("draft-07", "2019-09", "2020-12")


class Compiled(msgspec.Struct, frozen=True, eq=False):
    """A schema, ready to judge.

    Attributes:
        digest: BLAKE3 of its bytes, hex.
        visits: see `policies.complexity`.
        run: raises what jsonschema-rs raises of an invalid value.
    """

    digest: str
    visits: list[int]
    run: Callable[[Any], None]


_compiled: dict[str, Compiled] = {}


def compile_schema(schema: bytes | dict[str, Any] | bool) -> Compiled:
    """Makes a schema ready. Patterns run in linear time, references stay inside, the work is bounded.

    Raises:
        Malformed: it is no schema, or one that can't be judged within bounds; says why.
        TooLarge: over 256 KiB.
    """
    try:
        raw = schema if isinstance(schema, bytes) else msgspec.json.encode(schema)
    except (TypeError, UnicodeEncodeError, RecursionError, msgspec.MsgspecError):
        raise Malformed("a schema is not JSON") from None
    if len(raw) > MAX_SCHEMA:
        raise TooLarge(f"a schema of {len(raw):,} bytes; the limit is {MAX_SCHEMA:,}", hint="split it")
    digest = blake3(raw).hexdigest()
    found = _compiled.get(digest)
    if found is None:
        found = _compile(raw, digest)
        while len(_compiled) >= _REMEMBERED:
            _compiled.pop(next(iter(_compiled)), None)
        _compiled[digest] = found
    return found


def _compile(raw: bytes, digest: str) -> Compiled:
    from jsonschema_rs import ValidationError

    try:
        schema = _parse(raw)
    except ValueError as error:
        raise Malformed(f"a schema is not JSON: {error}") from None
    if not isinstance(schema, dict | bool):
        raise Malformed("a schema is an object", hint='for example {"type": "object", "properties": {…}}')
    dialect = schema.get("$schema", _DRAFTS[-1]) if isinstance(schema, dict) else _DRAFTS[-1]
    if not isinstance(dialect, str) or not any(draft in dialect for draft in _DRAFTS):
        raise Malformed("a schema of an unknown dialect", hint="draft 7, 2019-09 or 2020-12")
    counted = visits(schema)
    try:
        return Compiled(digest, counted, _validator(schema).validate)
    except ValidationError as error:
        where = "/".join(str(part)[:60] for part in error.instance_path[:10])
        raise Malformed(
            f"not a valid schema: {_name(error)} at /{where}",
            hint="patterns must be without look-around and back-references, references within the schema",
        ) from None
    except ValueError:
        raise Malformed("not a valid schema", hint="is it nested too deep?") from None


def _validator(schema: dict[str, Any] | bool) -> Any:
    from jsonschema_rs import RegexOptions, validator_for

    return validator_for(schema, pattern_options=RegexOptions(size_limit=_REGEX, dfa_size_limit=_REGEX), offline=True)


def _name(error: Any) -> str:
    """The keyword that an error is about."""
    return str(getattr(error.kind, "name", "schema"))


def check_output(compiled: Compiled, text: str | bytes) -> str | None:
    """Why a text is not JSON that a schema allows, or None where it is."""
    try:
        value = _parse(text)
    except ValueError as error:
        return f"not valid JSON: {error}"
    return check_value(compiled, value)


def check_value(compiled: Compiled, value: Any) -> str | None:
    """Why a parsed value is not what a schema allows, or None where it is."""
    from jsonschema_rs import ValidationError

    parts, depth = _measure(value)
    if depth > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH}"
    if depth >= len(compiled.visits) or compiled.visits[depth] * parts > MAX_WORK:
        return "too large and too deeply nested to be checked by its schema"
    try:
        compiled.run(value)
    except ValidationError as error:
        # Where in the schema: its author's words. Where in the value would be the model's.
        where = "/".join(str(part)[:60] for part in error.schema_path[:12])
        return f"breaks {_name(error)} of its schema, at /{where}"
    except (ValueError, TypeError, RecursionError, OverflowError):
        return "can't be checked by its schema"
    return None


def _parse(text: str | bytes) -> Any:
    """JSON of which there is one reading. Raises ValueError that says what it is not, without repeating it."""
    if len(text) > MAX_VALUE:
        raise ValueError("too large")
    try:
        whole = text.decode() if isinstance(text, bytes) else text
        value = json.loads(whole, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
    except _Ambiguous as error:
        raise ValueError(str(error)) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"at character {error.pos:,}") from None
    except UnicodeDecodeError:
        raise ValueError("not in UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:
        raise ValueError("a number is too long") from None
    if _has_lone_surrogate(whole, value):
        raise ValueError("a text holds what is no character")
    return value


def _has_lone_surrogate(whole: str, value: Any) -> bool:
    if "\\ud" not in whole and "\\uD" not in whole and whole.isascii():
        return False
    try:
        whole.encode()
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return True
    return False


class _Ambiguous(Exception):
    """Two readers could take it for two things."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Of two members with one name, some clients take the first and others the last.
        raise _Ambiguous("a name occurs twice in an object")
    return found


def _no_number(name: str) -> Any:
    raise _Ambiguous("a number is not finite")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Ambiguous("a number is not finite")
    return number


def _measure(value: Any) -> tuple[int, int]:
    """How many values there are in it, and how deep they are nested."""
    parts, depth, level = 1, 0, [value] if isinstance(value, dict | list) else []
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
        parts += len(inner)
        level = [item for item in inner if isinstance(item, dict | list)]
    return parts, depth
