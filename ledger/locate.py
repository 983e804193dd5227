"""Which ledger is meant, whose it is, and what it says of itself."""

import os
import re
from pathlib import Path

from schemas.errors import NotFound, NotOurs, NotSound
from schemas.ids import check_origin
from store.folder import Folder

FOLDER = ".ledger"
SETTINGS = "ledger.toml"
_SETTINGS = re.compile(r'format = (0|[1-9][0-9]*)\norigin = "([^"\n]*)"\n')


def settings(origin: str) -> bytes:
    """The bytes of `ledger.toml`."""
    return f'format = 1\norigin = "{origin}"\n'.encode()


def locate(where: str | Path | None) -> Path:
    """The folder of the ledger: as named, else `LEDGER`, else `.ledger` here or above.

    Raises:
        NotFound: there is none.
    """
    named = where or os.environ.get("LEDGER")
    if named:
        path = Path(named)
        if not (path / SETTINGS).is_file() and (path / FOLDER / SETTINGS).is_file():
            path /= FOLDER
        if not path.exists():
            raise NotFound(f"no ledger at {path}", hint="check the path, or make one: ledger init PATH")
        return path
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER / SETTINGS).is_file():
            return folder / FOLDER
    raise NotFound("no ledger here or above", hint="make one: ledger init")


def read_origin(folder: Folder) -> str:
    """The origin that a ledger states.

    Raises:
        NotFound: it is no ledger.
        NotSound: it is of another format version, or its settings are malformed (step 2).
    """
    data = folder.find(SETTINGS)
    if data is None:
        raise NotFound(f"{folder.path} is not a ledger: it has no {SETTINGS}", hint="check the path, or: ledger init")
    match = _SETTINGS.fullmatch(data.decode("utf-8", "replace"))
    if match is None:
        raise NotSound(f"{folder.path}/{SETTINGS} is malformed", step=2)
    if match[1] != "1":
        raise NotSound(f"{folder.path} is of format {match[1]}; this program reads format 1", step=2, hint="upgrade")
    return check_origin(match[2])


def check_owner(path: Path) -> None:
    """Refuses a ledger that another user of this machine could have made to trick this one.

    Raises:
        NotOurs: the folder belongs to somebody else.
    """
    ours = {os.geteuid()}
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdigit():
        ours.add(int(os.environ["SUDO_UID"]))
    owner = path.stat().st_uid
    if owner not in ours:
        raise NotOurs(
            f"{path} belongs to user {owner}, not to you",
            hint="to check it, `ledger verify PATH --trust VKEY`; to use it, take a copy of your own",
        )
