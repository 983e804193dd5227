"""agent-ledger: the flight recorder and gatekeeper for pipelines in which language models act.

    import ledger

    ledger.init()
    with ledger.open() as log, log.run("nightly") as run:
        asked = run.prompt("Write a parser.", model="gpt-5.2-codex")
        run.response("def parse(): ...", to=asked)

Nothing heavy is imported before it is used.
"""

import importlib
import os
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


def _check_neighbours() -> None:
    """Our other packages have common names; another project's of that name would be mistaken for ours."""
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    for name in ("schemas", "store", "policies", "replay"):
        spec = PathFinder.find_spec(name)
        found = spec.origin if spec else None
        if found is None or os.path.dirname(os.path.dirname(os.path.realpath(found))) != home:
            raise ImportError(
                f"agent-ledger needs its own package {name!r}, but {found or 'none'} would be imported;"
                " rename or move what is in the way, or install agent-ledger in an environment of its own"
            )


_check_neighbours()

__all__ = [
    "Ambiguous",
    "Appended",
    "CannotTell",
    "Erased",
    "Item",
    "KeyUnusable",
    "LedgerError",
    "Log",
    "Malformed",
    "Missing",
    "NotFound",
    "NotOurs",
    "NotSound",
    "OutcomeUnknown",
    "Report",
    "RolledBack",
    "Run",
    "RunClosed",
    "StorageFailed",
    "TooLarge",
    "TrustRoot",
    "UsageError",
    "__version__",
    "aio",
    "init",
    "open",
    "verify",
]

if TYPE_CHECKING:
    from ledger import aio
    from ledger.audit.report import Report
    from ledger.audit.subject import check as verify
    from ledger.commit import Appended
    from ledger.create import create as init
    from ledger.drafts import Item
    from ledger.index.reader import Log, open
    from ledger.run import Run
    from schemas.errors import (
        Ambiguous,
        CannotTell,
        Erased,
        KeyUnusable,
        LedgerError,
        Malformed,
        Missing,
        NotFound,
        NotOurs,
        NotSound,
        OutcomeUnknown,
        RolledBack,
        RunClosed,
        StorageFailed,
        TooLarge,
        UsageError,
    )
    from schemas.trust import TrustRoot

_PLACES = {
    "Appended": ("ledger.commit", "Appended"),
    "Item": ("ledger.drafts", "Item"),
    "Log": ("ledger.index.reader", "Log"),
    "Report": ("ledger.audit.report", "Report"),
    "Run": ("ledger.run", "Run"),
    "TrustRoot": ("schemas.trust", "TrustRoot"),
    "init": ("ledger.create", "create"),
    "open": ("ledger.index.reader", "open"),
    "verify": ("ledger.audit.subject", "check"),
}
_ERRORS = frozenset(__all__) - _PLACES.keys() - {"__version__", "aio"}


def __getattr__(name: str) -> Any:
    if name == "aio":
        return importlib.import_module("ledger.aio")
    if name not in _PLACES and name not in _ERRORS:
        raise AttributeError(f"module 'ledger' has no attribute {name!r}")
    module, path = _PLACES.get(name, ("schemas.errors", name))
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
