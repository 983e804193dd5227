"""A simulated disk that forgets, as a power cut makes a real one forget.

Bytes and names are apart, as POSIX has them. A file's bytes are durable once the file was synced, a name once
its folder was. Of what was not synced a cut may leave nothing, all, a beginning, garbage, or any mixture: each
file and each name is decided for itself, so that later changes may survive where earlier ones are lost.

Every change is a `Step`. What one process did can thus be replayed up to any step, and cut there.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from schemas.errors import StorageFailed
from store.durable import Disk, storage_errors

Image = dict[str, bytes | None]
"""A tree of files: bytes by path, relative, folders before what is in them; None for a folder."""

SYNCS = ("sync", "sync_folder")


class Step(NamedTuple):
    """One change of the disk, as small as a power cut can tell apart."""

    kind: str
    path: str
    source: str = ""
    data: bytes = b""


class File:
    """A file: what is read from it, and what of that is durable."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.durable = data


class Directory:
    """A folder: its names now, those that are durable, and what each unsynced name stood for in between."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        self.unsynced: dict[str, list[Node | None]] = {}

    def put(self, name: str, node: "Node | None") -> None:
        """Lets a name stand for a node, or for nothing."""
        self.unsynced.setdefault(name, [self.durable.get(name)]).append(node)
        if node is None:
            del self.names[name]
        else:
            self.names[name] = node

    def sync(self) -> None:
        """Makes the names durable."""
        self.durable = dict(self.names)
        self.unsynced = {}


Node = File | Directory


class Platter:
    """What lies on the disk. Several processes may have it open: one `LossyDisk` each.

    Args:
        base: path of the folder that stands for the whole disk.
        image: what is durable at first.
    """

    def __init__(self, base: str | Path, image: Image) -> None:
        self.base = str(base)
        self.steps: list[Step] = []
        self.lock = threading.RLock()
        self._root = Directory()
        for path, data in image.items():
            folder, name = self._parent(f"{self.base}/{path}")
            folder.names[name] = folder.durable[name] = Directory() if data is None else File(data)

    def find(self, path: str) -> Node:
        """What a path stands for. Raises FileNotFoundError or NotADirectoryError."""
        node: Node = self._root
        for name in self._relative(path):
            if isinstance(node, File):
                raise NotADirectoryError(20, "not a folder", path)
            if name not in node.names:
                raise FileNotFoundError(2, "no such file", path)
            node = node.names[name]
        return node

    def file(self, path: str) -> File:
        """The file of a path."""
        node = self.find(path)
        if isinstance(node, Directory):
            raise IsADirectoryError(21, "a folder", path)
        return node

    def folder(self, path: str) -> Directory:
        """The folder of a path."""
        node = self.find(path)
        if isinstance(node, File):
            raise NotADirectoryError(20, "not a folder", path)
        return node

    def apply(self, step: Step) -> None:
        """Does a step, or raises what a real disk would."""
        if step.kind == "write":
            self.file(step.path).data += step.data
        elif step.kind == "sync":
            file = self.file(step.path)
            file.durable = file.data
        elif step.kind == "sync_folder":
            self.folder(step.path).sync()
        else:
            self._name(step)
        self.steps.append(step)

    def _name(self, step: Step) -> None:
        folder, name = self._parent(step.path)
        if step.kind == "rename":
            folder.put(name, self.find(step.source))
            self._remove(step.source)
        elif step.kind == "unlink":
            self._remove(step.path)
        elif name in folder.names:
            raise FileExistsError(17, "it exists", step.path)
        elif step.kind == "link":
            folder.put(name, self.find(step.source))
        else:
            folder.put(name, Directory() if step.kind == "mkdir" else File())

    def _remove(self, path: str) -> None:
        folder, name = self._parent(path)
        if name not in folder.names:
            raise FileNotFoundError(2, "no such file", path)
        folder.put(name, None)

    def survivors(self, seed: int) -> Image:
        """What is there after a power cut now: for seed 0 nothing that was not synced, for seed 1 all of it."""
        found: Image = {}
        self._survive(self._root, "", _chances(seed), found)
        return found

    def _survive(self, folder: Directory, prefix: str, chances: "_Chances", found: Image) -> None:
        for name in sorted(folder.durable.keys() | folder.unsynced.keys()):
            versions = folder.unsynced.get(name, [folder.durable.get(name)])
            node = chances.version(versions)
            if isinstance(node, Directory):
                found[prefix + name] = None
                self._survive(node, f"{prefix}{name}/", chances, found)
            elif node is not None:
                found[prefix + name] = chances.content(node)

    def _parent(self, path: str) -> tuple[Directory, str]:
        return self.folder(os.path.dirname(path)), os.path.basename(path)

    def _relative(self, path: str) -> list[str]:
        if path == self.base:
            return []
        if not path.startswith(self.base + "/"):
            raise AssertionError(f"{path} is not on the simulated disk at {self.base}")
        return path[len(self.base) + 1 :].split("/")


class _Chances:
    """Nothing that was not synced survives."""

    def version(self, versions: Sequence[Node | None]) -> Node | None:
        return versions[0]

    def content(self, file: File) -> bytes:
        return file.durable


class _Everything(_Chances):
    """All survives."""

    def version(self, versions: Sequence[Node | None]) -> Node | None:
        return versions[-1]

    def content(self, file: File) -> bytes:
        return file.data


class _Some(_Chances):
    """Each name and each file for itself."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def version(self, versions: Sequence[Node | None]) -> Node | None:
        return self.random.choice(versions)

    def content(self, file: File) -> bytes:
        if file.data == file.durable:
            return file.data
        how = self.random.choice(("lost", "kept", "beginning", "zeros", "garbage"))
        if how == "kept":
            return file.data
        if how == "beginning":
            return file.data[: self.random.randrange(len(file.data) + 1)]
        if how == "zeros":
            return bytes(len(file.data))
        if how == "garbage":
            return self.random.randbytes(len(file.data))
        return file.durable


def _chances(seed: int) -> _Chances:
    if seed < 2:
        return _Everything() if seed else _Chances()
    return _Some(Random(seed))


class Fault(NamedTuple):
    """One failing step.

    Attributes:
        at: which step of this process fails, from 1.
        error: the errno.
        late: the step was done all the same: only its answer was lost.
    """

    at: int
    error: int
    late: bool = False


class LossyDisk(Disk):
    """One process's way to the platter, with the methods and the contract of a real `Disk`.

    Attributes:
        count: steps so far.
        faulty: the step that met the fault.
        too_late: steps that were asked for after a failed sync; all were refused.
    """

    def __init__(self, platter: Platter, fault: Fault | None = None) -> None:
        super().__init__()
        self.platter = platter
        self.fault = fault
        self.count = 0
        self.faulty: Step | None = None
        self.too_late: list[Step] = []

    def close(self) -> None:
        """Nothing to give back."""

    def write(self, path: str, data: bytes) -> None:
        self._do(Step("create", path))
        self._do(Step("write", path, data=data))
        self._do(Step("sync", path))

    def link(self, source: str, target: str) -> None:
        self._do(Step("link", target, source))

    def rename(self, source: str, target: str) -> None:
        self._do(Step("rename", target, source))

    def unlink(self, path: str) -> None:
        try:
            self._do(Step("unlink", path))
        except FileNotFoundError:
            pass

    def mkdir(self, path: str) -> None:
        self._do(Step("mkdir", path))

    def sync_folder(self, path: str) -> None:
        self._do(Step("sync_folder", path))

    def open_folder(self, path: str) -> None:
        with self._writing(path):
            self.platter.folder(path)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        with self.platter.lock, storage_errors(path):
            data = self.platter.file(path).data
            return data[offset:] if length is None else data[offset : offset + length]

    def size(self, path: str) -> int | None:
        with self.platter.lock:
            try:
                node = self.platter.find(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return len(node.data) if isinstance(node, File) else 4096

    def listdir(self, path: str) -> list[tuple[str, bool]]:
        with self.platter.lock:
            try:
                names = self.platter.folder(path).names
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted((name, isinstance(node, Directory)) for name, node in names.items())

    def _do(self, step: Step) -> None:
        with self.platter.lock:
            if self.failed is not None:
                self.too_late.append(step)
            with self._writing(step.path):
                self.count += 1
                fault = self.fault if self.fault and self.fault.at == self.count else None
                if fault is None or fault.late:
                    self.platter.apply(step)
                if fault is not None:
                    self._fail(step, fault)

    def _fail(self, step: Step, fault: Fault) -> None:
        self.faulty = step
        if step.kind in SYNCS:
            self.failed = StorageFailed(f"{step.path}: a sync failed; what is on disk is unknown")
            raise self.failed
        raise OSError(fault.error, os.strerror(fault.error), step.path)


def read_image(folder: Path) -> Image:
    """A tree of real files."""
    found: Image = {}
    for path in sorted(folder.rglob("*")):
        found[str(path.relative_to(folder))] = None if path.is_dir() else path.read_bytes()
    return found


def write_image(image: Mapping[str, bytes | None], folder: Path) -> None:
    """Makes a tree of real files."""
    folder.mkdir(mode=0o700)
    for name, data in image.items():
        path = folder / name
        if data is None:
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(data)


def cuts(base: str | Path, image: Image, steps: Sequence[Step]) -> Iterator[tuple[int, Platter]]:
    """The disk before the first of these steps, and after each; with how many were done."""
    platter = Platter(base, image)
    yield 0, platter
    for done, step in enumerate(steps, 1):
        platter.apply(step)
        yield done, platter
