"""What a command runs on: which folders hold its tools, and a fingerprint of them that a replay is compared with."""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from blake3 import blake3

from schemas.errors import UsageError

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
_BINARIES = ("bin", "sbin", "libexec", "shims", "condabin")
_SHARED = ("/", "/opt", "/etc", "/var", "/tmp", "/srv", "/run", "/home", "/root")  # noqa: S108 - never shown whole
_SHEBANG = 512
_MOST_STEPS = 8
_PACKAGES = ("/var/lib/dpkg/status", "/lib/apk/db/installed", "/var/lib/rpm/rpmdb.sqlite")


class Toolchain(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fingerprint. What it does not hold may differ unseen.

    Attributes:
        programs: BLAKE3 of the command's program and of what interprets it, by path.
        packages: BLAKE3 of the lists of installed packages, by where they lie.
        kernel: its release.
        machine: as `uname -m`, with the processor's features as a digest.
        libc: name and version.
    """

    programs: dict[str, str] = {}
    packages: dict[str, str] = {}
    kernel: str = ""
    machine: str = ""
    libc: str = ""

    def differences(self, other: "Toolchain") -> list[str]:
        """What differs in another, for people: `kernel: 6.1 recorded, 6.8 now`."""
        found = []
        for name in ("kernel", "machine", "libc"):
            recorded, now = getattr(self, name), getattr(other, name)
            if recorded != now:
                found.append(f"{name}: {recorded} recorded, {now} now")
        for name in ("programs", "packages"):
            recorded, now = getattr(self, name), getattr(other, name)
            for path in sorted({*recorded, *now}):
                if path not in now:
                    found.append(f"{path}: is not here")
                elif path not in recorded:
                    found.append(f"{path}: was not there")
                elif recorded[path] != now[path]:
                    found.append(f"{path}: is another")
        return found


class NoProgram(UsageError):
    """The command's program is not there.

    Attributes:
        name: as it was asked for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: no such file or directory", hint="ledger record -- COMMAND [ARGUMENT]…")
        self.name = name


def find(command: str, folder: Path, path: str) -> Path:
    """The program that a command means.

    Args:
        folder: where it is started.
        path: as of `PATH`.

    Raises:
        NoProgram: there is none.
    """
    where = str(folder / command) if "/" in command else shutil.which(command, path=path)
    if where is None or not os.path.isfile(where) or not os.access(where, os.X_OK):
        raise NoProgram(command)
    return Path(os.path.abspath(where))


def roots(programs: list[Path], path: str, home: Path) -> tuple[str, ...]:
    """Folders and files beside the system's that programs, and those on `PATH`, need to run; none within another.

    Of a home folder only what lies in one of these is shown: never the folder itself.
    """
    found: set[str] = set()
    entries = [entry for entry in path.split(os.pathsep) if os.path.isabs(entry) and os.path.isdir(entry)]
    for entry in entries:
        found |= set(_of_folder(entry, home))
        for name in ("python", "python3", "node"):
            if os.path.exists(program := os.path.join(entry, name)):
                found |= set(_of_program(Path(program), home))
    for one in programs:
        found |= set(_of_program(one, home))
    kept = {root for root in found if not _is_in_system(root)}
    return tuple(sorted(root for root in kept if not any(_within(root, other) for other in kept if other != root)))


def _of_program(program: Path, home: Path) -> Iterator[str]:
    """The root of a program, of what its links lead to, and of what interprets it."""
    for one in _chain(program):
        yield from _of_folder(str(one.parent), home, fallback=str(one))
        config = one.parent.parent / "pyvenv.cfg"
        if config.is_file():
            for line in config.read_text("utf-8", "replace").splitlines():
                name, _, value = line.partition("=")
                if name.strip() == "home" and os.path.isdir(value.strip()):
                    yield from _of_folder(os.path.realpath(value.strip()), home)


def _chain(program: Path) -> Iterator[Path]:
    """A program, each link on the way to it, and the same of its interpreter."""
    waiting, seen = [program], 0
    while waiting and seen < _MOST_STEPS:
        one = waiting.pop()
        seen += 1
        yield one
        if one.is_symlink():
            waiting.append(Path(os.path.normpath(one.parent / os.readlink(one))))
            continue
        if (real := Path(os.path.realpath(one))) != one:
            waiting.append(real)
        elif (by := interpreter(one)) is not None:
            waiting.append(by)


def interpreter(program: Path) -> Path | None:
    """What a script names in its first line, where that is a path."""
    try:
        with program.open("rb") as file:
            first = file.read(_SHEBANG).split(b"\n")[0]
    except OSError:
        return None
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    return Path(words[0]) if words and os.path.isabs(words[0]) else None


def _of_folder(folder: str, home: Path, fallback: str = "") -> Iterator[str]:
    """The prefix that a folder of programs belongs to."""
    path = Path(folder)
    prefix = path.parent if path.name in _BINARIES else path
    forbidden = {home, home / ".local", *home.parents, *map(Path, _SHARED)}
    if prefix not in forbidden:
        yield str(prefix)
    elif path not in forbidden and path != prefix:
        yield str(path)
    elif fallback:
        yield fallback


def _is_in_system(path: str) -> bool:
    return any(_within(path, root) for root in _SYSTEM)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def fingerprint(program: Path, shown: tuple[str, ...]) -> Toolchain:
    """The fingerprint of what a program runs on.

    Args:
        shown: roots that it sees beside the system's.
    """
    programs = {}
    for one in _chain(program):
        if one.is_file() and not one.is_symlink():
            programs[str(one)] = _digest(one)
    packages = {path: _digest(Path(path)) for path in _PACKAGES if os.path.isfile(path)}
    for root in shown:
        names = sorted(str(found.name) for found in _installed(Path(root)))
        if names:
            packages[root] = blake3("\n".join(names).encode()).hexdigest()
    features = platform.machine()
    try:
        flags = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Feat"))
        )
        features += " " + blake3(flags.encode()).hexdigest()[:16]
    except (OSError, StopIteration):
        pass
    return Toolchain(programs, packages, platform.release(), features, " ".join(platform.libc_ver()))


def _installed(root: Path) -> Iterator[Path]:
    """What is installed under a root, its versions in the names where Python has them."""
    yield from root.glob("lib/python*/site-packages/*.dist-info")
    yield from root.glob("lib/node_modules/*")


def _digest(path: Path) -> str:
    hasher = blake3()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                hasher.update(piece)
    except OSError:
        return ""
    return hasher.hexdigest()


def handed(environment: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Of the environment what a recorded command gets: what says how to run, and what is named.

    Args:
        names: of variables that it gets beside those.
    """
    return {name: environment[name] for name in ("PATH", "TERM", "VIRTUAL_ENV", *names) if name in environment}
