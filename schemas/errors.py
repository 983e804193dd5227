"""The errors of agent-ledger: each says what happened, to what, and what to do next."""

import re
from typing import ClassVar

_LOOKS = (
    r"AGE-SECRET-KEY-\S*|PRIVATE\+KEY\+\S*|\bsk-ledger-v1\.\S*|\bsk-(?!ssh-|ecdsa-)[\w-]{16,}|\b(?:gh[opsu]|github_pat)_\w{20,}"
    r"|\bxox[a-z]-[\w-]{10,}|\bAKIA[A-Z0-9]{16}\b|(?<=pin-value=)[^&\s…][^&\s]*"
)


def untold(text: str) -> str:
    """A text without what is a secret by its looks: whoever typed it took one for a name, a path or a URI."""
    # Compiled where there is an error, and not at every start.
    return re.sub(_LOOKS, "[a secret]", text)


class LedgerError(Exception):
    """The root of the tree; nothing else leaves this project on purpose.

    Attributes:
        what: one lowercase line: what happened, and to what.
        hint: what to do next; may be empty.
        exit_status: the status with which the command line ends.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str = "") -> None:
        # Whatever was handed in where a name or address belongs: a secret is never repeated.
        what = untold(what)
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\nhint: {self.hint}" if self.hint else self.what


class UsageError(LedgerError):
    """The caller asked for something that can't be: an argument, a name, an input."""

    exit_status = 2


class NotFound(UsageError):
    """No such ledger, run, step, entry or address."""


class Ambiguous(UsageError):
    """A shortened name fits more than one thing."""


class Malformed(UsageError):
    """Bytes handed in do not parse as what they should be."""


class TooLarge(UsageError):
    """An entry, a blob or a file is over its limit."""


class RunClosed(UsageError):
    """The run has finished or was erased; nothing can be appended to it."""


class NotSound(LedgerError):
    """What is stored contradicts the format, its hashes or its signatures.

    Attributes:
        step: the step of docs/FORMAT.md ("Verify") that failed.
    """

    def __init__(self, what: str, *, step: int, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.step = step


class RolledBack(LedgerError):
    """The ledger is behind, or against, the highest head that this machine has seen."""


class CannotTell(LedgerError):
    """The question can't be answered with what is at hand: no trust root, no identity."""

    exit_status = 3


class KeyUnusable(LedgerError):
    """A key or identity is missing, malformed, readable by others, or not the right one."""


class NotOurs(LedgerError):
    """The ledger belongs to another user of this machine."""


class Erased(LedgerError):
    """The content was erased: its data key is gone."""


class Missing(LedgerError):
    """An object that the ledger refers to is not in the store."""


class StorageFailed(LedgerError):
    """The disk or bucket refused: full, read-only, or failing."""


class OutcomeUnknown(LedgerError):
    """A commit was sent and its answer lost; it may or may not have landed."""
