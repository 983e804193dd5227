"""Requests that are refused before a policy could decide: a record too."""

from collections.abc import Sequence

from ledger.gateway.door import Door
from ledger.gateway.records import Place, Records
from policies.findings import Decision, Finding
from schemas.policy import Policy


async def record(door: Door, place: Place, policies: Sequence[Policy], field: str, what: str) -> None:
    """Records why. The bytes are not kept: nothing in them was redacted, and what they say is not repeated as it is."""
    field, what = map(door.redacting.masked, (field, what))
    finding = Finding("request", "deny", field, "a request that can be held to policy", what, "gateway")
    records = Records(door.log.writer, place, door.now())
    records.decision("model.request", Decision("deny", (finding,)), list(policies), {"refused": what})
    await door.committing.commit(records.draft())
