"""`ledger.aio.verify`."""

import asyncio
from pathlib import Path

from ledger.audit import subject
from ledger.audit.audit import Progress
from ledger.audit.report import Report
from ledger.checkpoint import Head
from schemas.trust import TrustRoot


async def verify(
    where: str | Path | None = None,
    *,
    trust: TrustRoot | str | None = None,
    since: Head | str | None = None,
    identity: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verifies a ledger, a receipt or a disclosure; see `ledger.verify`. `progress` is called in another thread."""
    return await asyncio.to_thread(subject.check, where, trust=trust, since=since, identity=identity, progress=progress)
