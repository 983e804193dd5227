"""JSON Schemas in the ledger, by their ids: registered once, in force until the id is registered again."""

from ledger.log import Log, system_clock
from policies.validation import compile_schema
from schemas.entries import SchemaAdded
from schemas.errors import Malformed

MAX_ID = 200
"""Characters of an id, as many as a label may have."""


def add(log: Log, id: str, schema: bytes) -> int:
    """Registers a schema; its content is sealed under the key that runs share.

    Returns:
        Index of the entry.

    Raises:
        Malformed: it is no schema, or can't be judged within bounds; or the id is none.
        TooLarge: over 256 KiB.
    """
    if not 0 < len(id) <= MAX_ID or not id.isprintable():
        raise Malformed(f"not an id: {id[:60]!r}", hint=f"1 to {MAX_ID} characters, for example build-plan-v1")
    compile_schema(schema)
    prepared = log.blobs.prepare(log.project_key(), schema)
    entry = SchemaAdded(v=1, time=system_clock(), content=prepared.address, digest=prepared.digest, schema=id)
    return log.append_statements([entry], [prepared])[0].index


def find(log: Log, id: str) -> bytes | None:
    """The newest schema of an id, as it was registered; None where there is none.

    Raises:
        LedgerError: it can't be opened by this identity, or is missing.
    """
    found = in_force(log).get(id)
    return None if found is None else log.read(found[1].content)


def in_force(log: Log) -> dict[str, tuple[int, SchemaAdded]]:
    """By id, the newest registration and its index, of what this process has proven."""
    found = ((recorded.index, recorded.entry) for recorded in log.of_kind("schema"))
    return {entry.schema: (index, entry) for index, entry in found if isinstance(entry, SchemaAdded)}
