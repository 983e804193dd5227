"""The same for asyncio: nothing blocks the event loop, and tasks share commits with threads.

    async with ledger.aio.open() as log, log.run("nightly") as run:
        asked = await run.prompt("Write a parser.")
        await run.response("def parse(): ...", to=asked)

Nothing is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Log", "Run", "init", "open", "verify"]

if TYPE_CHECKING:
    from ledger.audit.tasks import verify
    from ledger.index.tasks import Log, Run, init, open

_PLACES = dict.fromkeys(("Log", "Run", "init", "open"), "ledger.index.tasks") | {"verify": "ledger.audit.tasks"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ledger.aio' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__
