"""The few calls by which bytes become durable, and no others.

What a power cut may take back is everything that was not synced: a file's bytes until its own sync, a name
until its folder's. A failed sync says nothing about what reached the disk, and a second one may report
success without it; so the first failure ends the use of this disk (`Disk.failed`).
"""

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from schemas.errors import StorageFailed

_REASONS = {
    errno.ENOSPC: ("no space is left", "free space and try again; nothing acknowledged is lost"),
    errno.EDQUOT: ("the quota is used up", "free space and try again; nothing acknowledged is lost"),
    errno.EROFS: ("the file system is read-only", "to look only, `ledger verify` never writes"),
    errno.EACCES: ("permission denied", "check who owns the folder"),
    errno.EPERM: ("permission denied", "check who owns the folder, and that the file system has hard links"),
    errno.EIO: ("the disk failed", "check the disk before writing to it again"),
}


LONGEST = 64 << 20
"""Bytes of the longest object: a pack."""


class NotAFile(Exception):
    """Where an object should be lies something else."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path)
        self.what = what


def _open_to_read(path: str, flags: int) -> int:
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotAFile(path, "no regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotAFile(path, "no regular file")
    return fd


class storage_errors:
    """Turns the system's errors into ours, naming the path. What says that a name is there, or isn't, passes."""

    __slots__ = ("path",)

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, OSError) or isinstance(
            error, FileExistsError | FileNotFoundError | NotADirectoryError
        ):
            return
        what, hint = _REASONS.get(error.errno or 0, (os.strerror(error.errno or 0).lower(), ""))
        raise StorageFailed(f"{self.path}: {what}", hint=hint) from None


def make_folders(path: Path) -> None:
    """Makes a folder, and those above it that are missing, durable and for this user alone, whatever the umask.

    Raises:
        StorageFailed: it can't be made.
    """
    try:
        with storage_errors(path):
            for folder in reversed([path, *path.parents]):
                if not folder.is_dir():
                    with suppress(FileExistsError):
                        folder.mkdir(mode=0o700)
                    sync_names(folder.parent)
        if path.is_dir():
            return
    except (FileNotFoundError, NotADirectoryError):
        pass
    raise StorageFailed(f"{path}: no folder can be made there", hint="a file is in its way")


def sync_names(folder: Path) -> None:
    """Makes the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Disk:
    """A real disk. Paths are absolute; file modes are 0600 and 0700 whatever the umask."""

    def __init__(self) -> None:
        self.failed: StorageFailed | None = None
        self._folders: dict[str, int] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Gives the handles of folders back."""
        with self._lock:
            while self._folders:
                os.close(self._folders.popitem()[1])

    def write(self, path: str, data: bytes) -> None:
        """Creates a file with these bytes and syncs it. It must not exist."""
        with self._writing(path):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(fd, left) :]
                self._sync(fd, path)
            finally:
                os.close(fd)

    def link(self, source: str, target: str) -> None:
        """Gives a file a second name. Raises FileExistsError where the name is taken."""
        with self._writing(target):
            os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        """Gives a file another name, replacing what bears it."""
        with self._writing(target):
            os.rename(source, target)

    def unlink(self, path: str) -> None:
        """Takes a name away, if it is there."""
        with self._writing(path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    def mkdir(self, path: str) -> None:
        """Creates a folder. Raises FileExistsError."""
        with self._writing(path):
            os.mkdir(path, 0o700)

    def sync_folder(self, path: str) -> None:
        """Makes the names in a folder durable, through a handle that is kept open."""
        with self._writing(path):
            self.open_folder(path)
            # A handle of our own, of the same open folder: another thread may give the kept one up.
            with self._lock:
                kept = self._folders.get(path)
                fd = os.dup(kept) if kept is not None else self._open(path)
            try:
                self._sync(fd, path)
            finally:
                os.close(fd)

    def open_folder(self, path: str) -> None:
        """Takes the handle before the names change, so that a later sync reports every failure since."""
        with self._writing(path), self._lock:
            if path not in self._folders:
                if len(self._folders) >= 64:
                    os.close(self._folders.pop(next(iter(self._folders))))
                self._folders[path] = self._open(path)

    @staticmethod
    def _open(path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file; fewer than asked for where it ends.

        Whoever can write the folder could put a device, a pipe, a link or a file without end in its place.

        Raises:
            FileNotFoundError: there is none.
            NotAFile: it is no regular file, or longer than any of ours.
        """
        with storage_errors(path), open(path, "rb", buffering=0, opener=_open_to_read) as file:
            if offset:
                file.seek(offset)
            if length is None:
                if os.fstat(file.fileno()).st_size > LONGEST:
                    raise NotAFile(path, f"longer than {LONGEST >> 20} MiB")
                return file.readall()
            parts: list[bytes] = []
            while length > 0 and (part := file.read(length)):
                parts.append(part)
                length -= len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def is_link(self, path: str) -> bool:
        """Whether a name leads elsewhere."""
        return os.path.islink(path)

    def size(self, path: str) -> int | None:
        """Bytes of a file, or None where there is none."""
        try:
            with storage_errors(path):
                return os.stat(path).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def listdir(self, path: str) -> list[tuple[str, bool]]:
        """Names in a folder, sorted, each with whether it is a folder; none where there is no folder."""
        try:
            with storage_errors(path), os.scandir(path) as found:
                return sorted((e.name, e.is_dir(follow_symlinks=False)) for e in found)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _sync(self, fd: int, path: str) -> None:
        try:
            os.fsync(fd)
        except OSError:
            self.failed = StorageFailed(
                f"{path}: a sync failed; what is on disk is unknown",
                hint="open the ledger again: it goes on from the last commit that is whole",
            )
            raise self.failed from None

    def _writing(self, path: str) -> storage_errors:
        if self.failed is not None:
            raise self.failed
        return storage_errors(path)
