"""Which ledger is meant, whose it is, and what it says of itself."""

import os
import re
import shlex
from pathlib import Path

from schemas.errors import CannotTell, Malformed, NotFound, NotOurs, NotSound, StorageFailed, UsageError
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
        UsageError: it is not a folder, but served by a gateway.
    """
    named = where or os.environ.get("LEDGER")
    if named:
        if str(named).startswith(("http://", "https://")):
            raise UsageError(
                f"{named} is a gateway's socket, and this needs the ledger itself",
                hint="over the socket: ledger append, cat, finish; otherwise --ledger PATH",
            )
        path = Path(named)
        if not _is_ledger(path) and _is_ledger(path / FOLDER):
            path /= FOLDER
        if not os.path.exists(path):
            raise NotFound(f"no ledger at {path}", hint="check the path, or make one: ledger init PATH")
        return path
    here = Path.cwd()
    for folder in (here, *here.parents):
        if _is_ledger(folder / FOLDER):
            return folder / FOLDER
    raise NotFound("no ledger here or above", hint="make one: ledger init")


def _is_ledger(path: Path) -> bool:
    try:
        return (path / SETTINGS).is_file()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> StorageFailed:
    why = os.strerror(error.errno or 0).lower()
    try:
        owner = path.stat().st_uid
    except OSError:
        return StorageFailed(f"{path} can't be read: {why}", hint="check who may read the folders above it")
    if owner == os.geteuid():
        return StorageFailed(
            f"{path}, which is yours, can't be read: {why}", hint=f"chmod u+rwx {shlex.quote(str(path))}"
        )
    return StorageFailed(
        f"{path}, which belongs to user {owner}, can't be read: {why}",
        hint="ask for a copy, or name your own by --ledger",
    )


def read_origin(folder: Folder) -> str:
    """The origin that a ledger states.

    Raises:
        NotFound: it is no ledger.
        CannotTell: it is of another format version.
        NotSound: its settings are malformed (step 2).
    """
    data = folder.find(SETTINGS)
    if data is None:
        raise NotFound(f"{folder.path} is not a ledger: it has no {SETTINGS}", hint="check the path, or: ledger init")
    match = _SETTINGS.fullmatch(data.decode("utf-8", "replace"))
    if match is None:
        raise NotSound(f"{folder.path}/{SETTINGS} is malformed", step=2)
    if match[1] != "1":
        raise CannotTell(
            f"{folder.path} is of format {match[1]}; this program reads format 1",
            hint="pip install --upgrade agent-ledger",
        )
    try:
        return check_origin(match[2])
    except Malformed:
        raise NotSound(f"{folder.path}/{SETTINGS} names an origin that can't be: {match[2][:80]!r}", step=2) from None


def check_owner(path: Path) -> None:
    """Refuses a ledger that another user of this machine could have made to trick this one.

    Raises:
        NotOurs: the folder belongs to somebody else.
    """
    ours = {os.geteuid()}
    if os.geteuid() == 0 and (caller := re.fullmatch("[0-9]{1,10}", os.environ.get("SUDO_UID", ""))):
        ours.add(int(caller[0]))
    owner = path.stat().st_uid
    if owner not in ours:
        raise NotOurs(
            f"{path} belongs to user {owner}, not to you",
            hint="to check it, `ledger verify PATH --trust VKEY`; to use it, take a copy of your own",
        )
