"""What an audit found, and always what it did not check."""

from datetime import datetime
from typing import Any

import msgspec

from ledger.checkpoint import Head
from schemas.errors import NotSound


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        step: of docs/FORMAT.md, "Verify".
        what: where, and what.
        hint: what to do next; may be empty.
    """

    step: int
    what: str
    hint: str = ""

    @classmethod
    def of(cls, error: NotSound) -> "Finding":
        """The finding that an error states."""
        return cls(error.step, error.what, error.hint)


class Report(msgspec.Struct):
    """The outcome of an audit.

    Attributes:
        what: `ledger`, `receipt` or `disclosure`.
        findings: what is wrong; empty where it is sound.
        remarks: what is not wrong, and worth knowing.
        unchecked: what this audit says nothing about.
        head: size and root that it speaks of.
        published: size of the checkpoint.
        first, last: times of the first and last entry, as recorded.
        seconds: how long it took.
        kept: whether this machine keeps the head: the next audit starts there.
    """

    what: str
    origin: str
    findings: list[Finding] = []
    remarks: list[str] = []
    unchecked: list[str] = []
    head: Head | None = None
    published: int = 0
    packs: int = 0
    entries: int = 0
    runs: int = 0
    first: datetime | None = None
    last: datetime | None = None
    seconds: float = 0.0
    kept: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.findings

    @property
    def exit_status(self) -> int:
        """0 sound, 1 not sound."""
        return 0 if self.sound else 1

    def as_json(self) -> dict[str, Any]:
        """For `--json`: the same, with the verdict and the head as text."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["head"] = self.head.one_line() if self.head else None
        return {"sound": self.sound, **found}
