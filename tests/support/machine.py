"""A machine of its own: where keys, pins and caches of one user lie, and a ledger to go with them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import ledger
from schemas.trust import TrustRoot

ORIGIN = "test.example/log"


class Machine(NamedTuple):
    """The three folders outside of every ledger."""

    keys: Path
    state: Path
    cache: Path

    @classmethod
    def under(cls, folder: Path) -> "Machine":
        """A new machine, with folders in this one."""
        return cls(folder / "keys", folder / "state", folder / "cache")

    def forgetful(self, folder: Path) -> "Machine":
        """The same user's keys on a machine that never saw the ledger: it proves all from pack 0."""
        return Machine(self.keys, folder / "state", folder / "cache")

    @property
    def environment(self) -> dict[str, str]:
        """What a child process needs to be this machine."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEDGER", "XDG_"))}
        return kept | self._places

    @contextmanager
    def here(self) -> Iterator[None]:
        """Makes this process be this machine."""
        before = {name: os.environ.get(name) for name in self._places}
        os.environ.update(self._places)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    @property
    def _places(self) -> dict[str, str]:
        return {
            "XDG_CONFIG_HOME": str(self.keys),
            "XDG_STATE_HOME": str(self.state),
            "XDG_CACHE_HOME": str(self.cache),
        }


class Place(NamedTuple):
    """A ledger, and the machine whose user owns it."""

    path: Path
    machine: Machine
    trust: TrustRoot


def new_ledger(folder: Path) -> Place:
    """`ledger init` on a new machine, both in this folder."""
    machine = Machine.under(folder / "home")
    path = folder / "ledger"
    with machine.here():
        return Place(path, machine, ledger.init(path, origin=ORIGIN))


def copied(place: Place, to: Path) -> Place:
    """A copy of a ledger made by `new_ledger` and of its machine, to damage both."""
    shutil.copytree(place.path.parent, to)
    return Place(to / place.path.name, Machine.under(to / "home"), place.trust)
