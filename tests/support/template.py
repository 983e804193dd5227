"""A ledger and its user's home, made once and copied for each test that damages or extends it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import ledger

ORIGIN = "test.example/log"


class Template(NamedTuple):
    """A home with keys, and the ledger that goes with it."""

    home: Path
    ledger: Path
    vkey: str

    def copy(self, home: Path, to: Path) -> Path:
        """A copy of both: `home` is there already, `to` is not."""
        shutil.copytree(self.home, home, dirs_exist_ok=True)
        return shutil.copytree(self.ledger, to)


def make(base: Path, fill: Callable[[Path], None]) -> Template:
    """Makes a ledger in a home of its own, and fills it.

    Args:
        base: an empty folder.
        fill: is given the ledger's path.
    """
    home, before = base / "home", os.environ.get("HOME")
    home.mkdir()
    os.environ["HOME"] = str(home)
    try:
        vkey = ledger.init(base / "ledger", origin=ORIGIN).owner
        fill(base / "ledger")
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before
    return Template(home, base / "ledger", vkey)
