"""Objects in a directory: the names of docs/FORMAT.md are paths below it."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from schemas.errors import Missing, NotSound, OutcomeUnknown, StorageFailed
from store.durable import Disk, NotAFile, storage_errors

T = TypeVar("T")


class Folder:
    """Objects by name. Every write is durable when its call returns.

    Args:
        path: the directory.
        disk: the calls that it stands on.
    """

    def __init__(self, path: str | Path, disk: Disk | None = None) -> None:
        self.path = os.path.abspath(path)
        self.disk = disk or Disk()
        self._known: set[str] = set()

    def close(self) -> None:
        """Gives handles back."""
        self.disk.close()

    def at(self, name: str) -> str:
        """The path of an object."""
        return f"{self.path}/{name}"

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """An object's bytes, or a part of them.

        Raises:
            Missing: there is no such object.
            NotSound: something else lies in its place: a link, a pipe, a file longer than any of ours.
        """
        try:
            return self.disk.read(self.at(name), offset, length)
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(f"{name} is missing in {self.path}") from None
        except NotAFile as error:
            raise _not_sound(name, error) from None

    def find(self, name: str) -> bytes | None:
        """An object's bytes, or None where there is no such object. Raises NotSound as `get`."""
        try:
            return self.disk.read(self.at(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except NotAFile as error:
            raise _not_sound(name, error) from None

    def size(self, name: str) -> int | None:
        """Bytes of an object, or None where there is no such object."""
        return self.disk.size(self.at(name))

    def create(self, name: str, data: bytes) -> bool:
        """Creates an object; False, and nothing changed, where one of that name exists.

        Raises:
            StorageFailed: nothing was created.
            OutcomeUnknown: the name may be there now, or after a crash.
        """
        return self._again(lambda: self._create(name, data))

    def _create(self, name: str, data: bytes) -> bool:
        folder, target = self._folder_of(name), self.at(name)
        self.disk.open_folder(folder)
        staged = self._stage(data)
        try:
            self.disk.link(staged, target)
        except FileExistsError:
            self.disk.unlink(staged)
            return False
        except StorageFailed as error:
            if not self._may_be_there(target):
                self._drop([staged])
                raise
            raise OutcomeUnknown(f"{error.what}; {name} may or may not survive", hint=error.hint) from None
        # The name is there: from here on others may build on it, whatever happens to us.
        try:
            self.disk.sync_folder(folder)
        except StorageFailed as error:
            raise OutcomeUnknown(f"{error.what}; {name} may or may not survive", hint=error.hint) from None
        self._drop([staged])
        return True

    def _may_be_there(self, path: str) -> bool:
        try:
            return self.disk.size(path) is not None
        except StorageFailed:
            return True

    def sync(self, name: str) -> None:
        """Makes the name of an object that another process created durable, and those of its folders."""
        folder = os.path.dirname(self.at(name))
        while len(folder) >= len(self.path):
            self.disk.sync_folder(folder)
            folder = os.path.dirname(folder)

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Creates or replaces objects; each is whole at any moment. Folders are synced once for all."""
        self._again(lambda: self._put(objects))

    def _put(self, objects: Mapping[str, bytes]) -> None:
        folders = dict.fromkeys(self._folder_of(name) for name in objects)
        for folder in folders:
            self.disk.open_folder(folder)
        staged: list[str] = []
        try:
            for data in objects.values():
                staged.append(self._stage(data))
            for source, name in zip(list(staged), objects, strict=True):
                self.disk.rename(source, self.at(name))
                staged.remove(source)
        except StorageFailed:
            self._drop(staged)
            raise
        for folder in folders:
            self.disk.sync_folder(folder)

    def _again(self, do: Callable[[], T]) -> T:
        """Does it, and once more where a folder or a staged file went missing: somebody cleaned up `tmp/`."""
        try:
            return do()
        except (FileNotFoundError, NotADirectoryError):
            self._known.clear()
        try:
            return do()
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "removed while we write" if isinstance(error, FileNotFoundError) else "a file is in its way"
            raise StorageFailed(f"{error.filename2 or error.filename}: {what}", hint="who is at work there?") from None

    def _drop(self, staged: list[str]) -> None:
        """Takes away what will not be used; what a failing disk keeps, `doctor --gc` removes."""
        if self.disk.failed is None:
            for path in staged:
                try:
                    self.disk.unlink(path)
                except StorageFailed:
                    return

    def delete(self, name: str) -> None:
        """Takes an object away, if it is there."""
        self._check_way(os.path.dirname(self.at(name)))
        self.disk.unlink(self.at(name))

    def for_locks(self) -> Path:
        """The folder of what concerns this machine alone and need not survive it."""
        path = Path(self.at("tmp"))
        self._check_way(str(path))
        try:
            with storage_errors(path):
                path.mkdir(mode=0o700, exist_ok=True)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            raise StorageFailed(f"{path}: no folder can be made there", hint="a file is in its way") from None
        return path

    def list(self, prefix: str = "") -> Iterator[str]:
        """Names of the objects below a folder, in order."""
        folder = self.at(prefix) if prefix else self.path
        self._check_way(folder)
        for name, is_folder in self.disk.listdir(folder):
            whole = f"{prefix}/{name}" if prefix else name
            if is_folder:
                yield from self.list(whole)
            else:
                yield whole

    def _stage(self, data: bytes) -> str:
        self._make_folder(self.at("tmp"))
        path = self.at(f"tmp/{os.urandom(12).hex()}")
        try:
            self.disk.write(path, data)
        except BaseException:
            self._drop([path])
            raise
        return path

    def _folder_of(self, name: str) -> str:
        folder = os.path.dirname(self.at(name))
        self._make_folder(folder)
        return folder

    def _check_way(self, folder: str) -> None:
        """Refuses links among the folders of a ledger: they would lead what we write or remove elsewhere.

        Raises:
            StorageFailed: there is one.
        """
        while len(folder) > len(self.path):
            if self.disk.is_link(folder):
                raise StorageFailed(f"{folder} is a link", hint="a ledger holds none; who made it?")
            folder = os.path.dirname(folder)

    def _make_folder(self, folder: str) -> None:
        """Makes a folder. One that is there may have been made by a process that died before it synced its name."""
        if folder in self._known:
            return
        self._check_way(folder)
        new = []
        at = folder
        while at not in self._known and len(at) > len(self.path):
            new.append(at)
            at = os.path.dirname(at)
        for path in reversed(new):
            if self.disk.size(path) is None:
                try:
                    self.disk.mkdir(path)
                except FileExistsError:
                    pass
            self.disk.sync_folder(os.path.dirname(path))
            self._known.add(path)


_STEPS = {"ledger.toml": 2, "packs": 2, "checkpoint": 4, "tile": 7}


def _not_sound(name: str, error: NotAFile) -> NotSound:
    """The step of docs/FORMAT.md that looks at such an object first."""
    return NotSound(f"{name} is {error.what}", step=_STEPS.get(name.split("/")[0], 6))
