"""Trees of files into the ledger and out of it: captured, scanned, sealed, and written to a folder again."""

import fnmatch
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from ledger import homes
from ledger.commit import Draft
from ledger.drafts import Detail
from ledger.gateway.records import Place
from ledger.index.reader import Log
from policies.redaction.exact import Exact
from policies.redaction.known import UNNAMED, find
from policies.redaction.pseudonym import REVERSIBLE
from schemas.entries import Artifact
from schemas.errors import TooLarge, UsageError
from schemas.ids import cid_of
from schemas.tree import Node, Tree
from store.blobs import Prepared
from store.seal import DataKey
from store.worktree import Found, Stamp, tree_of, walk

_TOGETHER = 24 << 20
"""Bytes of files that are committed at once."""

_LARGEST = 1 << 30
_RECENT = 2_000_000_000
"""Nanoseconds within which a file may change without its times showing it."""

_NEVER = (".ledger", ".git")


class HoldsSecret(UsageError):
    """A file that a command would be given holds a secret."""


class Wanted:
    """Which files of a folder are captured.

    Args:
        root: the folder.
        inputs: files and folders in it, relative; all of it where empty, without what git ignores.
        exclude: globs of what is left out.
        hidden: absolute paths that are shown otherwise, such as toolchains.

    Raises:
        UsageError: an input is not in the folder.
    """

    def __init__(
        self, root: Path, inputs: Iterable[str] = (), exclude: Iterable[str] = (), hidden: Iterable[str] = ()
    ) -> None:
        self._exclude = tuple(exclude)
        self._hidden = {os.path.relpath(path, root) for path in hidden}
        named = [self._relative(root, one) for one in inputs]
        self._all = "." in named
        self._named = set(named) if named else _known_to_git(root)
        self._above = {above for path in self._named or () for above in _parents(path)}

    @staticmethod
    def _relative(root: Path, given: str) -> str:
        found = os.path.relpath(os.path.join(root, given), root)
        if found.startswith("..") or not os.path.lexists(root / found):
            raise UsageError(f"{given}: not in {root}", hint="inputs are files and folders of the working directory")
        return found

    def __call__(self, path: str) -> bool:
        """Whether a path is captured, or something in it may be."""
        name = path.rpartition("/")[2]
        if name in _NEVER or path in self._hidden:
            return False
        if any(fnmatch.fnmatch(path, glob) or fnmatch.fnmatch(name, glob) for glob in self._exclude):
            return False
        if self._named is None or self._all:
            return True
        return path in self._named or path in self._above or any(above in self._named for above in _parents(path))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:at]) for at in range(1, len(parts))]


def _known_to_git(root: Path) -> set[str] | None:
    """What git tracks or would add; None where there is no git, and everything counts."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return {os.fsdecode(path).rstrip("/") for path in done.stdout.split(b"\0") if path}


class _Cache:
    """Digest and address of files that did not change since they were captured."""

    def __init__(self, origin: str, key: DataKey, root: Path) -> None:
        name = blake3(os.fsencode(root), key=key.requests).hexdigest()[:32]
        self._path = homes.cache(origin) / "trees" / f"{key.id.hex()}-{name}"
        self._known: dict[str, tuple[Stamp, str, str]] = {}
        self._new: dict[str, tuple[Stamp, str, str]] = {}
        try:
            self._known = msgspec.msgpack.decode(self._path.read_bytes(), type=dict[str, tuple[Stamp, str, str]])
        except (OSError, msgspec.MsgspecError):
            # Made again.
            pass

    def find(self, found: Found) -> tuple[str, str] | None:
        known = self._known.get(found.path)
        if known is None or known[0] != found.stamp:
            return None
        self._new[found.path] = known
        return known[1], known[2]

    def note(self, found: Found, digest: str, address: str, now: int) -> None:
        if now - max(found.stamp.modified, found.stamp.changed) > _RECENT:
            self._new[found.path] = (found.stamp, digest, address)

    def save(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = self._path.with_suffix(".new")
            made.write_bytes(msgspec.msgpack.encode(self._new))
            made.replace(self._path)
        except OSError:
            # It saves time, and nothing else.
            pass


class Scan:
    """Looks for secrets in files.

    Args:
        values: known by name.
        allowed: globs of files that may hold some.
    """

    def __init__(self, values: Iterable[tuple[str, str]], allowed: Iterable[str] = ()) -> None:
        self._exact = Exact(values)
        self._scanner = find(UNNAMED, {}).scanner()
        self._allowed = tuple(allowed)

    def __call__(self, path: str, data: bytes) -> None:
        """Raises where a secret stands in a file."""
        if any(fnmatch.fnmatch(path, glob) for glob in self._allowed):
            return
        spans = [(span.start, span.rule) for span in self._scanner.find(data) if span.kind not in REVERSIBLE]
        spans += [(hit.start, "exact") for hit in self._exact.hits(data)]
        if spans:
            at, rule = min(spans)
            line = data.count(b"\n", 0, at) + 1
            raise HoldsSecret(
                f"{path}, line {line:,}: holds a secret (rule {rule})",
                hint="take it out, leave the file out: --exclude, or list it in the policy: secret_files",
            )


def measured(root: Path, wanted: Callable[[str], bool]) -> Tree:
    """A folder as a tree whose contents are kept nowhere, to be compared."""
    nodes = []
    for found in walk(root, wanted):
        data = found.read() if found.kind == "file" else b""
        digest = blake3(data).hexdigest() if found.kind == "file" else ""
        nodes.append(Node(found.path, found.kind, found.mode, len(data), digest, target=found.target))  # type: ignore[arg-type]
    return tree_of(nodes)


class Trees:
    """Captures trees for one run.

    Args:
        log: open.
        place: of the run's entries.
        now: nanoseconds of the clock that files' times are of.
    """

    def __init__(self, log: Log, place: Place, now: Callable[[], int]) -> None:
        self._log = log
        self._place = place
        self._now = now

    def capture(
        self,
        root: Path,
        wanted: Callable[[str], bool],
        key: DataKey,
        *,
        what: str,
        scan: Callable[[str, bytes], None] | None = None,
        cached: bool = False,
        seen: Callable[[int], None] = lambda count: None,
    ) -> tuple[Tree, list[Prepared]]:
        """Captures a folder.

        Args:
            key: that its files are sealed under.
            what: they are, for people.
            scan: looks at each file that is not known yet.
            cached: whether files are known again by their times.
            seen: told how many files there are so far.

        Returns:
            The tree, and what is to be committed with the entry that names it.

        Raises:
            Unreadable, HoldsSecret, TooLarge: names the file.
        """
        cache = _Cache(self._log.origin, key, root) if cached else None
        nodes: list[Node] = []
        waiting: list[Prepared] = []
        size = 0
        began = self._now()
        self._log.catch_up_places()
        for found in walk(root, wanted):
            seen(len(nodes))
            if found.kind != "file":
                nodes.append(Node(found.path, found.kind, found.mode, target=found.target))  # type: ignore[arg-type]
                continue
            known = cache.find(found) if cache else None
            if known is not None and self._log.places.find(cid_of(known[1])) is not None:
                nodes.append(Node(found.path, "file", found.mode, found.stamp.size, known[0], known[1]))
                continue
            if found.stamp.size > _LARGEST:
                raise TooLarge(f"{found.path}: over {_LARGEST >> 30} GiB", hint="leave it out: --exclude")
            data = found.read()
            if scan is not None:
                scan(found.path, data)
            prepared = self._log.blobs.prepare(key, data)
            digest = blake3(data).hexdigest()
            nodes.append(Node(found.path, "file", found.mode, len(data), digest, prepared.address))
            if cache:
                cache.note(found, digest, prepared.address, began)
            waiting.append(prepared)
            size += sum(len(blob.data) for blob in prepared.inside)
            if size > _TOGETHER:
                self._commit(waiting, what)
                waiting, size = [], 0
        tree = tree_of(nodes)
        if cache:
            cache.save()
        return tree, waiting

    def _commit(self, contents: list[Prepared], what: str) -> None:
        """A part of a large tree, with an entry that says what it is."""
        writer = self._log.writer
        key = writer.key(self._place.run)
        told = writer.blobs.prepare(key, msgspec.json.encode([one.address for one in contents]))
        detail = writer.blobs.prepare(key, msgspec.json.encode(Detail(name=f"{what}, a part")))
        common: dict[str, Any] = {"v": 1, "time": writer.clock(), **msgspec.structs.asdict(self._place)}
        entry = Artifact(**common, content=told.address, digest=told.digest, detail=detail.address)
        writer.commit(Draft([entry], [*contents, told, detail], [""]))
