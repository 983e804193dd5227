"""Who is trusted: what a reader is handed, and the two statements that an owner signs.

A statement is a few lines of text, signed as a C2SP note (`ledger.note`) and carried by an entry. Each has a
serial number, one more than that of the statement before it, so that an old one can't be put back.
"""

import base64
import re
from typing import Self

import msgspec

from schemas.errors import Malformed, UsageError
from schemas.ids import ROLE, check_origin

_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._@-]{0,99}")
_AUTHOR = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_RECIPIENT = re.compile(r"age1[0-9a-z]{10,4000}|ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]{20,4000}")


class TrustRoot(msgspec.Struct, frozen=True):
    """What an auditor is handed, and believes without the ledger's say.

    Attributes:
        owner: the owner's vkey, one line `<origin>+<key id>+<key>`.
    """

    owner: str

    @property
    def origin(self) -> str:
        """The log that it speaks of."""
        return self.owner.partition("+")[0]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a trust root: one line, a vkey; lines that begin with `#` are remarks.

        Raises:
            UsageError: it is something else.
        """
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if len(lines) != 1 or lines[0].count("+") < 2:
            raise UsageError(
                "not a trust root: expected one line NAME+KEYID+KEY",
                hint="`ledger init` printed it; the owner can print it again with `ledger keys`",
            )
        return cls(lines[0])


class Author(msgspec.Struct, frozen=True):
    """A key that may sign batches from index `since` to before `until`."""

    vkey: str
    since: int
    until: int | None = None

    @property
    def name(self) -> str:
        """The author's name, as in `ledger keys author NAME`."""
        return self.vkey.partition("+")[0].rpartition("/")[2]

    @property
    def id(self) -> str:
        """The key id in its vkey, 8 hex digits."""
        return self.vkey.split("+", 2)[1]


class Approver(msgspec.Struct, frozen=True):
    """A person's SSH key that may approve from index `since` to before `until`, in these roles."""

    name: str
    key: str
    since: int
    until: int | None = None
    roles: tuple[str, ...] = ()

    def holds(self, since: int, until: int) -> bool:
        """Whether the key may approve at both indexes, and all between."""
        return self.since <= since and (self.until is None or until < self.until)


def _until(value: int | None) -> str:
    return "-" if value is None else str(value)


class _Lines:
    """Reads the lines of a statement one by one."""

    def __init__(self, text: str, header: str) -> None:
        if not text.endswith("\n"):
            raise Malformed("a statement does not end with a newline")
        self.lines = text[:-1].split("\n")
        self.at = 0
        if self.take() != header:
            raise Malformed(f"not a statement of the kind {header}")

    def take(self) -> str:
        if self.at >= len(self.lines):
            raise Malformed("a statement ends too early")
        self.at += 1
        return self.lines[self.at - 1]

    def words(self, first: str, count: int) -> list[str] | None:
        """The words of the next line, if it begins with `first`."""
        if self.at >= len(self.lines) or not self.lines[self.at].startswith(first + " "):
            return None
        found = self.take().split(" ", count)
        if len(found) != count + 1:
            raise Malformed(f"a line {first!r} of a statement has too few words")
        return found[1:]

    def end(self) -> None:
        if self.at != len(self.lines):
            raise Malformed(f"a statement has an unknown line: {self.lines[self.at][:80]!r}")


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise Malformed(f"not a number: {text[:40]!r}")
    return int(text)


def _maybe(text: str) -> int | None:
    return None if text == "-" else _number(text)


class TrustNote(msgspec.Struct, frozen=True):
    """The owner's statement of log key, authors and approvers (docs/FORMAT.md, "Statements")."""

    origin: str
    serial: int
    log: str
    authors: tuple[Author, ...]
    approvers: tuple[Approver, ...] = ()

    HEADER = "agent-ledger/trust@v1"

    def format(self) -> str:
        """The text that the owner signs."""
        lines = [self.HEADER, self.origin, str(self.serial), f"log {self.log}"]
        lines += [f"author {a.since} {_until(a.until)} {a.vkey}" for a in self.authors]
        lines += [
            f"approver {a.since} {_until(a.until)} {a.name} {','.join(a.roles) or '-'} {a.key}" for a in self.approvers
        ]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `format` writes.

        Raises:
            Malformed: it is anything else.
        """
        lines = _Lines(text, cls.HEADER)
        origin, serial = check_origin(lines.take()), _number(lines.take())
        log = lines.words("log", 1)
        if log is None:
            raise Malformed("a statement of trust names no log key")
        authors, approvers = [], []
        while words := lines.words("author", 3):
            if _AUTHOR.fullmatch(words[2].partition("+")[0].removeprefix(f"{origin}/")) is None:
                raise Malformed("an author's name is malformed", hint="lowercase letters, digits, '.', '_' and '-'")
            authors.append(Author(words[2], _number(words[0]), _maybe(words[1])))
        while words := lines.words("approver", 5):
            if _NAME.fullmatch(words[2]) is None or not _is_approver_key(words[4]):
                raise Malformed("an approver's name or key is malformed")
            roles = check_roles(() if words[3] == "-" else tuple(words[3].split(",")))
            approvers.append(Approver(words[2], words[4], _number(words[0]), _maybe(words[1]), roles))
        lines.end()
        return cls(origin, serial, log[0], tuple(authors), tuple(approvers))


class KeysNote(msgspec.Struct, frozen=True):
    """The owner's statement of who can read what is written from here on.

    Attributes:
        root: number of the newest root.
        recipient: that root's age recipient; new data keys are encrypted to it.
        project: commitment to the data key of that number that runs share.
        readers: age or SSH recipients of the roots.
    """

    origin: str
    serial: int
    root: int
    recipient: str
    project: str
    readers: tuple[str, ...]

    HEADER = "agent-ledger/keys@v1"

    def format(self) -> str:
        """The text that the owner signs."""
        lines = [self.HEADER, self.origin, str(self.serial), f"root {self.root} {self.recipient}"]
        lines += [f"project {self.project}", *(f"reader {r}" for r in self.readers)]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `format` writes.

        Raises:
            Malformed: it is anything else.
        """
        lines = _Lines(text, cls.HEADER)
        origin, serial = check_origin(lines.take()), _number(lines.take())
        root, project = lines.words("root", 2), lines.words("project", 1)
        if root is None or project is None or re.fullmatch("[0-9a-f]{64}", project[0]) is None:
            raise Malformed("a statement of keys names no root or no project key")
        readers = []
        while words := lines.words("reader", 1):
            readers.append(check_recipient(words[0]))
        lines.end()
        return cls(origin, serial, _number(root[0]), check_recipient(root[1]), project[0], tuple(readers))


def _is_approver_key(text: str) -> bool:
    """Whether it is an Ed25519 public key of SSH, a hardware key's included, without a comment."""
    kind, fields = text.partition(" ")[0], _ssh_fields(text)
    if kind not in ("ssh-ed25519", "sk-ssh-ed25519@openssh.com"):
        return False
    return len(fields) == (2 if kind == "ssh-ed25519" else 3) and len(fields[1]) == 32


def _ssh_fields(text: str) -> list[bytes]:
    """The fields of an SSH public key; none where it is malformed."""
    kind, _, encoded = text.partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        return []
    fields = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "big")
        fields.append(raw[at + 4 : end])
        at = end
    whole = at == len(raw) and base64.b64encode(raw).decode() == encoded and fields[:1] == [kind.encode()]
    short = kind == "ssh-ed25519" and (len(fields) != 2 or len(fields[1]) != 32)
    return fields if whole and not short else []


def check_recipient(text: str) -> str:
    """The text again, if it is an age recipient (`age1…`) or an SSH public key without its comment.

    Raises:
        Malformed: it is neither.
    """
    if _RECIPIENT.fullmatch(text) is None or (text.startswith("ssh-") and not _ssh_fields(text)):
        raise Malformed(
            f"not a recipient: {text[:60]!r}", hint="expected age1… or an ssh-ed25519 or ssh-rsa public key"
        )
    return text


def check_roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    """The roles again, if they are such, in order.

    Raises:
        Malformed: one is none, or they are not in order, or one occurs twice.
    """
    if any(re.fullmatch(ROLE, role) is None for role in roles) or list(roles) != sorted(set(roles)):
        raise Malformed("an approver's roles are malformed", hint="lowercase letters, digits, '.', '_' and '-'")
    return roles


def check_name(text: str) -> str:
    """The text again, if it may name an author or approver.

    Raises:
        Malformed: it may not.
    """
    if _NAME.fullmatch(text) is None:
        raise Malformed(f"not a name: {text[:60]!r}", hint="letters, digits, '.', '_', '@' and '-'")
    return text
