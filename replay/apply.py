"""What a command changed, and how it is written to the real folder: whole or not at all, and again after a crash.

The two trees in the ledger are the journal: a path is either as it was or as it shall be, so that whoever is
interrupted begins again, and goes on where it was. Anything else at one of the paths refuses the whole.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from blake3 import blake3

from schemas.errors import LedgerError, StorageFailed
from schemas.tree import Node, Tree, from_disk, on_disk

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = ".ledger-new"


class Conflict(LedgerError):
    """The real folder is not as it was when the command was given it."""


class Change(NamedTuple):
    """One path that differs.

    Attributes:
        before, after: what stands there; None where nothing does.
    """

    path: str
    before: Node | None
    after: Node | None

    @property
    def how(self) -> Literal["added", "removed", "changed", "mode"]:
        """In one word."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        return (
            "mode" if (self.before.digest, self.before.kind, self.before.target) == _content(self.after) else "changed"
        )

    def back(self) -> "Change":
        """The change that undoes this one."""
        return Change(self.path, self.after, self.before)


def _content(node: Node) -> tuple[str, str, str]:
    return node.digest, node.kind, node.target


def changes(before: Tree, after: Tree) -> list[Change]:
    """What differs, in the order of paths."""
    was, now = before.by_path(), after.by_path()
    paths = [node.path for node in Tree.of([*was.values(), *(n for path, n in now.items() if path not in was)]).nodes]
    found = (Change(path, was.get(path), now.get(path)) for path in paths)
    return [change for change in found if change.before is None or not change.before.same(change.after)]


def lines(change: Change, read: Callable[[str], bytes]) -> tuple[int, int] | None:
    """Lines added and removed; None where one side is no text."""
    import difflib

    texts: list[list[bytes]] = []
    for node in (change.before, change.after):
        data = read(node.content) if node is not None and node.kind == "file" else b""
        if b"\0" in data or len(data) > 1 << 20:
            return None
        texts.append(data.splitlines())
    added = removed = 0
    for tag, a, b, c, d in difflib.SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes():
        if tag != "equal":
            removed, added = removed + b - a, added + d - c
    return added, removed


def apply(root: Path, found: list[Change], read: Callable[[str], bytes]) -> int:
    """Writes changes to a folder.

    Args:
        read: gives the content of an address.

    Returns:
        How many paths were written; those that were as they shall be already don't count.

    Raises:
        Conflict: a path is neither as it was nor as it shall be; nothing was written. Names it.
        StorageFailed: the disk refused; what is done stays, and the next try goes on.
    """
    try:
        top = os.open(root, _DIR)
    except OSError as error:
        raise Conflict(
            f"{root}: {(error.strerror or '').lower()}", hint="the folder in which it was recorded"
        ) from None
    try:
        left = []
        for change in found:
            now = _now(top, change.path)
            if _is(now, change.after):
                continue
            if not _is(now, change.before):
                what = "is there" if change.before is None else "changed" if now is not None else "is gone"
                raise Conflict(
                    f"{change.path}: {what} since the command was given it; nothing was written",
                    hint="put it back, or take what is wanted from `ledger show`",
                )
            left.append(change)
        for change in _ordered(left):
            _write(top, change, read)
        return len(left)
    except OSError as error:
        raise StorageFailed(
            f"{root}: {(error.strerror or 'can not be written').lower()}", hint="mend it, and run: ledger apply RUN"
        ) from None
    finally:
        os.close(top)


def _ordered(left: list[Change]) -> Iterator[Change]:
    """What goes first makes room; folders come before what they hold, and go after it."""
    gone = [change for change in left if change.after is None or _swaps(change)]
    yield from (Change(change.path, change.before, None) for change in reversed(gone))
    for change in left:
        if change.after is not None:
            yield Change(change.path, None, change.after) if _swaps(change) else change


def _swaps(change: Change) -> bool:
    kinds = [node.kind for node in (change.before, change.after) if node is not None]
    return len(kinds) == 2 and kinds[0] != kinds[1]


class _At:
    """The open folder of a path, reached without a link, and the name there."""

    def __init__(self, top: int, path: str) -> None:
        *above, self.name = on_disk(path).split(b"/")
        self.fd = os.dup(top)
        try:
            for part in above:
                inner = os.open(part, _DIR, dir_fd=self.fd)
                os.close(self.fd)
                self.fd = inner
        except BaseException:
            os.close(self.fd)
            raise

    def __enter__(self) -> "_At":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)


def _now(top: int, path: str) -> Node | None:
    """What stands at a path; contents are not named."""
    try:
        with _At(top, path) as at:
            found = os.stat(at.name, dir_fd=at.fd, follow_symlinks=False)
            mode = found.st_mode & 0o777
            if stat.S_ISDIR(found.st_mode):
                return Node(path, "folder", mode)
            if stat.S_ISLNK(found.st_mode):
                return Node(path, "link", 0o777, target=from_disk(os.readlink(at.name, dir_fd=at.fd)))
            if not stat.S_ISREG(found.st_mode):
                return Node(path, "file", mode, digest="?")
            fd = os.open(at.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at.fd)
            with os.fdopen(fd, "rb") as file:
                data = file.read()
            return Node(path, "file", mode, len(data), blake3(data).hexdigest())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def _is(now: Node | None, node: Node | None) -> bool:
    if now is None or node is None:
        return now is None and node is None
    return now.same(node)


def _write(top: int, change: Change, read: Callable[[str], bytes]) -> None:
    after = change.after
    with _At(top, change.path) as at:
        if after is None:
            if change.before is not None and change.before.kind == "folder":
                with suppress(OSError):
                    # One that holds something of somebody else's stays.
                    os.rmdir(at.name, dir_fd=at.fd)
            else:
                os.unlink(at.name, dir_fd=at.fd)
        elif after.kind == "folder":
            with suppress(FileExistsError):
                os.mkdir(at.name, dir_fd=at.fd)
            os.chmod(at.name, after.mode, dir_fd=at.fd)
        else:
            content = read(after.content) if after.kind == "file" else b""
            new = at.name[:200] + _NEW.encode()
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=at.fd)
            try:
                _make(at.fd, new, after, content)
                os.rename(new, at.name, src_dir_fd=at.fd, dst_dir_fd=at.fd)
            except BaseException:
                with suppress(OSError):
                    os.unlink(new, dir_fd=at.fd)
                raise
        os.fsync(at.fd)


def _make(folder: int, name: bytes, node: Node, content: bytes) -> None:
    if node.kind == "link":
        os.symlink(on_disk(node.target), name, dir_fd=folder)
        return
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(fd, node.mode)
        os.fsync(fd)
