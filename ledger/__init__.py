"""agent-ledger: the flight recorder and gatekeeper for pipelines in which language models act.

    import ledger

    ledger.init()
    with ledger.open() as log, log.run("nightly") as run:
        asked = run.prompt("Write a parser.", model="gpt-5.2-codex")
        run.response("def parse(): ...", to=asked)

Nothing heavy is imported before it is used.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


def _check_neighbours() -> None:
    """Our other packages have common names; another project's of that name would be mistaken for ours."""
    home = Path(__file__).resolve().parent.parent
    for name in ("schemas", "store", "policies", "replay"):
        spec = importlib.util.find_spec(name)
        found = spec.origin if spec else None
        if found is None or Path(found).resolve().parent.parent != home:
            raise ImportError(
                f"agent-ledger needs its own package {name!r}, but {found or 'none'} would be imported;"
                " rename or move what is in the way, or install agent-ledger in an environment of its own"
            )


_check_neighbours()

if TYPE_CHECKING:
    from ledger.audit.report import Report as Report
    from ledger.audit.subject import check as verify
    from ledger.commit import Appended as Appended
    from ledger.create import create as init
    from ledger.drafts import Item as Item
    from ledger.log import Log as Log
    from ledger.run import Run as Run
    from schemas.errors import LedgerError as LedgerError
    from schemas.trust import TrustRoot as TrustRoot

    open = Log.open

_PLACES = {
    "Appended": ("ledger.commit", "Appended"),
    "Item": ("ledger.drafts", "Item"),
    "LedgerError": ("schemas.errors", "LedgerError"),
    "Log": ("ledger.log", "Log"),
    "Report": ("ledger.audit.report", "Report"),
    "Run": ("ledger.run", "Run"),
    "TrustRoot": ("schemas.trust", "TrustRoot"),
    "init": ("ledger.create", "create"),
    "open": ("ledger.log", "Log.open"),
    "verify": ("ledger.audit.subject", "check"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ledger' has no attribute {name!r}")
    module, path = _PLACES[name]
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*_PLACES, "__version__"])
