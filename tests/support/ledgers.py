"""Real ledgers to try things on."""

import shutil
from pathlib import Path

import ledger


def make(path: Path, *, entries: int = 3, origin: str | None = None) -> str:
    """A ledger with one finished run; returns the owner's vkey."""
    root = ledger.init(path, origin=origin)
    with ledger.open(path) as log, log.run("demo", stage="plan") as run:
        asked = run.prompt("what is asked", model="m")
        run.response({"answer": 42}, to=asked)
        for number in range(entries):
            run.artifact(f"artifact {number}".encode() * 20, name=f"a{number}.txt")
    return root.owner


def copy(path: Path, to: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(path, to)
    return to


def flip(path: Path, offset: int, mask: int = 1) -> None:
    """Changes one byte."""
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def packs(path: Path) -> list[Path]:
    """The packs of a ledger, in order."""
    return sorted((path / "packs").rglob("*.pack"))
