"""The records as JSON Schema, for other people's tools: `python -m schemas.export` writes docs/schemas."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas.entries import Known
from schemas.envelope import Envelope
from schemas.policy import Policy

KINDS: dict[str, Any] = {"policy": Policy, "envelope": Envelope, "entries": Known}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> bytes:
    """The JSON Schema of `policy`, `envelope` or `entries`, as its file holds it."""
    found = {"$schema": _DIALECT, **_numbers(msgspec.json.schema(KINDS[name]))}
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def _numbers(value: Any) -> Any:
    """Amounts are written as numbers; msgspec takes decimals for texts."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("format") == "decimal":
        return {"type": "number", "minimum": 0}
    return {name: _numbers(item) for name, item in value.items()}


def main(folder: Path) -> None:
    """Writes them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in KINDS:
        (folder / f"{name}.json").write_bytes(schema(name))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/schemas"))
