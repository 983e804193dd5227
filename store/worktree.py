"""Folders of files on disk: read without following a link, written to where nothing is yet.

What is walked is reached from open folders, name by name, so that nobody who swaps a folder for a link meanwhile leads
out of it.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from schemas.errors import StorageFailed, TooLarge, UsageError
from schemas.tree import MOST, Node, Tree, from_disk, on_disk

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 3


class Unreadable(UsageError):
    """A file of a folder can't be captured."""


class Stamp(NamedTuple):
    """By what a file that did not change is known again."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class Found(NamedTuple):
    """What stands at a path.

    Attributes:
        path: as a node has it.
        kind, mode, target: as of a node.
        stamp: of a file.
        read: gives a file's bytes, all at once; raises `Unreadable` where they change while they are read.
    """

    path: str
    kind: str
    mode: int
    target: str
    stamp: Stamp
    read: Callable[[], bytes]


def walk(root: Path, wanted: Callable[[str], bool]) -> Iterator[Found]:
    """Everything under a folder, a folder before what it holds.

    Args:
        wanted: whether what stands at a path is captured; of a folder, whether anything in it may be.

    Raises:
        Unreadable: something can't be read, or is neither file, link nor folder; names it.
    """
    with _errors(str(root)):
        top = os.open(root, _DIR)
    try:
        yield from _within(top, b"", wanted)
    finally:
        os.close(top)


def _within(folder: int, above: bytes, wanted: Callable[[str], bool]) -> Iterator[Found]:
    with _errors(os.fsdecode(above) or "."):
        names = sorted(map(os.fsencode, os.listdir(folder)))
    for name in names:
        spelled = above + name
        path = from_disk(spelled)
        if not wanted(path):
            continue
        with _errors(path):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        stamp = Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        mode = found.st_mode & 0o777
        if stat.S_ISDIR(found.st_mode):
            yield Found(path, "folder", mode, "", stamp, bytes)
            with _errors(path):
                inner = os.open(name, _DIR, dir_fd=folder)
            try:
                yield from _within(inner, spelled + b"/", wanted)
            finally:
                os.close(inner)
        elif stat.S_ISLNK(found.st_mode):
            with _errors(path):
                target = from_disk(os.readlink(name, dir_fd=folder))
            yield Found(path, "link", 0o777, target, stamp, bytes)
        elif stat.S_ISREG(found.st_mode):
            yield Found(path, "file", mode, "", stamp, lambda name=name, path=path: _read(folder, name, path))  # type: ignore[misc]
        else:
            raise Unreadable(f"{path}: neither file, link nor folder", hint="leave it out: --exclude")


def _read(folder: int, name: bytes, path: str) -> bytes:
    for _ in range(_TRIES):
        with _errors(path):
            fd = os.open(name, _FILE, dir_fd=folder)
            with os.fdopen(fd, "rb") as file:
                before = os.fstat(fd)
                data = file.read()
                after = os.fstat(fd)
        if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, len(data)):
            return data
    raise Unreadable(f"{path}: it changes while it is read", hint="stop what writes to it, or leave it out: --exclude")


@contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = (os.strerror(error.errno) if error.errno else "can't be read").lower()
        raise Unreadable(f"{path}: {why}", hint="make it readable, or leave it out: --exclude") from None


def write(tree: Tree, read: Callable[[str], bytes], root: Path, time: int) -> None:
    """Writes a tree to a folder that is there and empty.

    Args:
        read: gives the content of an address.
        time: Unix seconds that every file bears.

    Raises:
        StorageFailed: the disk refuses.
    """
    top = os.open(root, _DIR)
    try:
        for node in tree.nodes:
            path = on_disk(node.path)
            if node.kind == "folder":
                os.mkdir(path, 0o700, dir_fd=top)
            elif node.kind == "link":
                os.symlink(on_disk(node.target), path, dir_fd=top)
            else:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=top)
                with os.fdopen(fd, "wb") as file:
                    file.write(read(node.content))
                    file.flush()
                    os.fchmod(fd, node.mode)
                    os.utime(fd, (time, time))
        # From the innermost out: what is written into a folder changes its time.
        for node in reversed(tree.nodes):
            if node.kind == "folder":
                os.chmod(on_disk(node.path), node.mode | 0o700, dir_fd=top)
            os.utime(on_disk(node.path), (time, time), dir_fd=top, follow_symlinks=False)
        os.utime(top, (time, time))
    except OSError as error:
        raise StorageFailed(f"{root}: {(error.strerror or 'can not be written').lower()}", hint="free space?") from None
    finally:
        os.close(top)


def tree_of(nodes: list[Node]) -> Tree:
    """A tree of what was found.

    Raises:
        TooLarge: over a million nodes.
    """
    if len(nodes) > MOST:
        raise TooLarge(f"a folder of over {MOST:,} files", hint="capture less: --input PATH, --exclude GLOB")
    return Tree.of(nodes)
