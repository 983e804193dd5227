"""Recording a command in a sandbox: what it is given, asks, prints and leaves; nothing but the gateway is reachable."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any, NamedTuple

import msgspec

from ledger.commit import Draft
from ledger.gateway import server
from ledger.gateway.client import Inside
from ledger.gateway.recording import Child
from ledger.gateway.records import Place
from ledger.gateway.server import Server, Settings
from ledger.gateway.tokens import Token
from ledger.index.reader import Log
from ledger.log import system_clock
from replay import execute, toolchain
from replay.apply import Change, changes
from replay.execute import Command, Done, Used
from replay.trees import Scan, Trees, Wanted
from schemas.entries import ActionEnded, ActionStarted
from schemas.envelope import TaskScope
from schemas.tree import Tree
from store.blobs import Prepared

_FOREVER = 2**40


class Given(NamedTuple):
    """What a command is given beside its arguments.

    Attributes:
        inputs: files and folders of the working directory; all that git does not ignore where empty.
        exclude: globs of what is left out.
        names: of variables that are handed on.
        show: further folders that it may read.
    """

    inputs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    show: tuple[str, ...] = ()


class Recorded(NamedTuple):
    """How a recording went.

    Attributes:
        run: its id.
        status: exit status of the command.
        seconds: how long it ran.
        changed: what it changed, in the order of paths.
        ended: index of the entry that says so.
    """

    run: str
    status: int
    seconds: float
    changed: list[Change]
    ended: int


class Recorder:
    """Records commands of one run.

    Args:
        log: open.
        place: of the run's entries.
        settings: of the gateway.
        environment: variables that may be handed on.
        say: tells progress to people.
    """

    def __init__(
        self,
        log: Log,
        place: Place,
        settings: Settings,
        environment: dict[str, str],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._log = log
        self._place = place
        self._settings = settings
        self._environment = environment
        self._say = say
        self._trees = Trees(log, place, time.time_ns)

    def record(self, argv: list[str], folder: Path, given: Given, child: Child) -> Recorded:
        """Executes a command, and records all of it.

        Args:
            folder: where it works; nothing in it is changed.

        Raises:
            NoSandbox, NoProgram, HoldsSecret, Unreadable: before anything began.
        """
        log, key = self._log, self._log.writer.key(self._place.run)
        clock = int(system_clock().timestamp())
        command = self._command(argv, folder, given, clock)
        wanted = Wanted(folder, given.inputs, given.exclude, command.hidden)
        values, allowed = server.known(self._settings, log.origin), self._allowed()
        before, contents = self._trees.capture(
            folder,
            wanted,
            log.writer.project_key(),
            what="inputs",
            scan=Scan(values, allowed),
            cached=True,
        )
        started = self._start(command, before, contents)
        with execute.scratch(before, log.read, clock) as work:
            done = execute.run(command, work, self._gateway, attach=child.attach)
            after, left = self._trees.capture(
                work, Wanted(work, ["."], (), _moved(command.hidden, folder, work)), key, what="outputs"
            )
        ended = self._end(started, done, after, left)
        return Recorded(self._place.run, done.ended.status, done.ended.seconds, changes(before, after), ended)

    def _command(self, argv: list[str], folder: Path, given: Given, clock: int) -> Command:
        variables = toolchain.handed(self._environment, given.names)
        path = variables.get("PATH", os.defpath)
        home = Path(os.path.expanduser("~"))
        program = toolchain.find(argv[0], folder, path)
        roots = tuple(sorted({*toolchain.roots([program], path, home), *given.show}))
        hidden = tuple(root for root in roots if root.startswith(f"{folder}/"))
        if any(_holds(root, str(folder)) for root in roots):
            roots = tuple(root for root in roots if not _holds(root, str(folder)))
        return Command(
            argv=argv,
            folder=str(folder),
            environment=execute.environment(self._place.run, clock, variables),
            clock=clock,
            roots=roots,
            hidden=hidden,
            toolchain=toolchain.fingerprint(program, roots),
            terminal=execute.has_terminal(),
        )

    def _allowed(self) -> list[str]:
        policies = map(server.load_policy, self._settings.policies)
        return [glob for policy in policies for glob in policy.secret_files or ()]

    def _gateway(self, listener: socket) -> Callable[[], None]:
        place = self._place
        scope = TaskScope("stage", place.stage or "any")
        only = Token(place.run, _FOREVER, place.stage, place.lane, place.task, scope)
        return Inside(self._log, Server(self._log, self._settings, listener, only=only)).close

    def _common(self) -> dict[str, Any]:
        return {"v": 1, "time": self._log.writer.clock(), **msgspec.structs.asdict(self._place)}

    def _start(self, command: Command, tree: Tree, contents: list[Prepared]) -> int:
        writer = self._log.writer
        key = writer.key(self._place.run)
        told = writer.blobs.prepare(key, msgspec.json.encode(command))
        given = writer.blobs.prepare(key, tree.encode())
        entry = ActionStarted(
            **self._common(), content=told.address, digest=told.digest, egress="enforced", inputs=given.address
        )
        return writer.commit(Draft([entry], [*contents, told, given], [""]))[0].index

    def _end(self, started: int, done: Done, tree: Tree, contents: list[Prepared]) -> int:
        writer = self._log.writer
        key = writer.key(self._place.run, late=True)
        printed = {name: writer.blobs.prepare(key, data) for name, data in done.printed.items() if data}
        fed = writer.blobs.prepare(key, done.fed) if done.fed else None
        used = Used(
            done.ended.seconds,
            done.ended.user,
            done.ended.system,
            done.ended.memory,
            done.cut,
            fed.address if fed else "",
        )
        told = writer.blobs.prepare(key, msgspec.json.encode(used))
        left = writer.blobs.prepare(key, tree.encode())
        addresses = {name: one.address for name, one in printed.items()}
        entry = ActionEnded(
            **self._common(),
            content=told.address,
            digest=told.digest,
            to=started,
            exit=done.ended.status,
            outputs=left.address,
            stdout=addresses.get("stdout", ""),
            stderr=addresses.get("stderr", ""),
        )
        sealed = [*contents, told, left, *printed.values(), *([fed] if fed else [])]
        return writer.commit(Draft([entry], sealed, [""]))[0].index


def _holds(root: str, folder: str) -> bool:
    """Whether a root would show the folder that a command works in."""
    return folder == root or folder.startswith(root.rstrip("/") + "/")


def _moved(paths: tuple[str, ...], folder: Path, work: Path) -> list[str]:
    return [str(work / os.path.relpath(path, folder)) for path in paths]
