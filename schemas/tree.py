"""A tree of files, as a record: what a command was given, and what it left.

The record is sealed as a whole, so its digests need no key. Nodes are in the order of their paths' bytes; a folder
stands before what it holds.
"""

import re
from typing import Annotated, Literal, Self

import msgspec

from schemas.errors import Malformed, TooLarge

MOST = 1_000_000
"""Nodes of one tree."""

_HEX = re.compile("[0-9a-f]{64}")
_ADDRESS = re.compile("artifact://[0-9a-f]{64}")
_LONGEST = 4096
"""Bytes of a path."""


class Node(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One file, link or folder.

    Attributes:
        path: relative, its parts joined by `/`; bytes that are no UTF-8 as lone surrogates are spelled (`\\\\udcXX`).
        kind: what it is.
        mode: permission bits.
        size: bytes of a file.
        digest: BLAKE3 of a file's content, hex.
        content: address of it.
        target: of a link, as it stands there.
    """

    path: str
    kind: Literal["file", "link", "folder"]
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o777)] = 0
    size: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)] = 0
    digest: str = ""
    content: str = ""
    target: str = ""

    def same(self, other: "Node | None") -> bool:
        """Whether another is this one, wherever its content is kept."""
        return other is not None and msgspec.structs.replace(other, content=self.content) == self


class Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tree.

    Attributes:
        v: version of the record.
        nodes: in order.
    """

    v: Literal[1]
    nodes: list[Node]

    def encode(self) -> bytes:
        """Its bytes: JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Reads a tree.

        Raises:
            Malformed: it is none, or one that could be written to another place than its folder.
            TooLarge: over a million nodes.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"not a tree: {str(error)[:200]}") from None
        if len(found.nodes) > MOST:
            raise TooLarge(f"a tree of {len(found.nodes):,} nodes; the limit is {MOST:,}")
        folders = {""}
        before = b""
        for node in found.nodes:
            spelled = node.path.encode("utf-8", "backslashreplace")
            parent, _, name = node.path.rpartition("/")
            if (
                not name
                or name in (".", "..")
                or node.path[0] == "/"
                or "\0" in node.path
                or "//" in node.path
                or len(spelled) > _LONGEST
            ):
                raise Malformed(f"a tree has a path that is none: {node.path[:80]!r}")
            if parent not in folders:
                raise Malformed(f"a tree has a path whose folder is none: {node.path[:80]!r}")
            if (order := _order(node.path)) <= before:
                raise Malformed(f"a tree's paths are not in order, or one is there twice: {node.path[:80]!r}")
            before = order
            if node.kind == "folder":
                folders.add(node.path)
            _check(node)
        return found

    @classmethod
    def of(cls, nodes: list[Node]) -> Self:
        """A tree of nodes in any order."""
        return cls(1, sorted(nodes, key=lambda node: _order(node.path)))

    def by_path(self) -> dict[str, Node]:
        """Nodes by their paths."""
        return {node.path: node for node in self.nodes}


def on_disk(path: str) -> bytes:
    """A node's path as the system takes it."""
    return path.encode("utf-8", "surrogateescape") if "\\udc" not in path else _unescape(path)


def from_disk(path: bytes) -> str:
    """A path of the system as a node has it: valid Unicode, whatever its bytes."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        text = path.decode("utf-8", "surrogateescape")
        return "".join(f"\\udc{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else _escaped(c) for c in text)
    return text.replace("\\udc", "\\udc5cudc")


def _escaped(character: str) -> str:
    return "\\udc5c" if character == "\\" else character


_ESCAPED = re.compile(r"\\udc([0-9a-f]{2})")


def _unescape(path: str) -> bytes:
    parts = _ESCAPED.split(path)
    # Every second part is an escape's digits.
    return b"".join(bytes.fromhex(part) if at % 2 else part.encode() for at, part in enumerate(parts))


def _order(path: str) -> bytes:
    # A folder's contents come right behind it, before a name that goes on where it ends.
    return path.encode("utf-8", "backslashreplace").replace(b"/", b"\0")


def _check(node: Node) -> None:
    is_file, is_link = node.kind == "file", node.kind == "link"
    ok = (
        (_HEX.fullmatch(node.digest) is not None and _ADDRESS.fullmatch(node.content) is not None)
        if is_file
        else not (node.digest or node.content or node.size)
    )
    if not ok or bool(node.target) is not is_link or "\0" in node.target:
        raise Malformed(f"a tree has a {node.kind} with members of another: {node.path[:80]!r}")
