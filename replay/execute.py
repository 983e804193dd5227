"""One command on one tree, in a sandbox: what it is given is written out, what it prints is kept."""

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import socket
from typing import IO, Any

import msgspec

from ledger.gateway.door import OPEN
from replay import sandbox
from replay.sandbox import Ended, Sandbox
from replay.toolchain import Toolchain
from schemas.tree import Tree
from store import worktree

MOST_PRINTED = 64 << 20
"""Bytes of each stream that are kept."""

_CODEX = """model_provider = "ledger"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[model_providers.ledger]
name = "ledger"
base_url = "{url}"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
supports_websockets = false
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false

[otel]
metrics_exporter = "none"
"""


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is executed: the content of an `action.started`.

    Attributes:
        argv: the command.
        folder: where it works, absolute.
        environment: all of it.
        clock: Unix seconds at which it begins.
        roots: what it sees beside system and folder, read-only.
        hidden: of the folder, what is never captured.
        toolchain: fingerprint of what it ran on.
        terminal: it had one: what it printed is not kept, and what was typed neither.
    """

    argv: list[str]
    folder: str
    environment: dict[str, str]
    clock: int
    roots: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    toolchain: Toolchain = Toolchain()
    terminal: bool = False


class Used(msgspec.Struct, frozen=True, omit_defaults=True):
    """How it ended: the content of an `action.ended`.

    Attributes:
        seconds, user, system, memory: as of `Ended`.
        cut: streams that printed more than is kept.
        stdin: address of what it was fed; empty for nothing.
        why: of what was not captured.
    """

    seconds: float
    user: float
    system: float
    memory: int
    cut: list[str] = []
    stdin: str = ""
    why: str = ""


class Done(msgspec.Struct):
    """An executed command.

    Attributes:
        ended: how.
        printed: of `stdout` and `stderr`, what is kept.
        cut: streams of which more was printed.
        fed: what it was given on its standard input.
    """

    ended: Ended
    printed: dict[str, bytes]
    cut: list[str]
    fed: bytes = b""


def environment(run: str, clock: int, given: dict[str, str]) -> dict[str, str]:
    """What a command finds around it: alike in every run but for the run's id.

    Args:
        given: beside that.
    """
    url = f"http://127.0.0.1:{sandbox.PORT}"
    ours = {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": OPEN,
        "LEDGER_TOKEN": OPEN,
        "LEDGER": url,
        "LEDGER_RUN": run,
        "CODEX_HOME": f"{sandbox.HOME}/.codex",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    return sandbox.environment(given, clock) | ours


@contextmanager
def scratch(tree: Tree, read: Callable[[str], bytes], clock: int, keep: Path | None = None) -> Iterator[Path]:
    """A folder with a tree in it, gone in the end.

    Args:
        read: gives the content of an address.
        clock: Unix seconds that its files bear.
        keep: where it lies instead, and stays.
    """
    folder = Path(tempfile.mkdtemp(prefix="ledger-", dir=keep))
    try:
        folder.chmod(0o700)
        work = folder / "work"
        work.mkdir(mode=0o755)
        worktree.write(tree, read, work, clock)
        yield work
    finally:
        if keep is None:
            _remove(folder)


def _remove(folder: Path) -> None:
    """A folder, whatever modes a command has left in it."""
    import shutil

    for path, names, _ in os.walk(folder):
        for name in names:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                with suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def run(
    command: Command,
    work: Path,
    serve: Callable[[socket], Callable[[], None]],
    *,
    attach: Callable[[Any], None] = lambda process: None,
    show: bool = True,
    feed: bytes | None = None,
) -> Done:
    """Executes a command in a folder that lies ready.

    Args:
        serve: starts the gateway on a socket that listens within the sandbox; gives what ends it.
        attach: told the process, to hand signals on.
        show: whether what it prints is printed here too.
        feed: its standard input; None: ours, which is kept.

    Raises:
        NoSandbox: none works here.
    """
    box = Sandbox(
        folder=command.folder,
        scratch=work,
        roots=tuple(root for root in command.roots if os.path.lexists(root)),
        environment=command.environment,
        files={".codex/config.toml": _CODEX.format(url=command.environment["OPENAI_BASE_URL"]).encode()},
    )
    streams: dict[str, Any] = {} if command.terminal else {"stdin": -1, "stdout": -1, "stderr": -1}
    running = sandbox.start(box, command.argv, terminal=command.terminal, **streams)
    stop: Callable[[], None] | None = None
    pumps: dict[str, _Pump] = {}
    fed = _Feed(running.process.stdin, feed) if running.process.stdin is not None else None
    try:
        stop = serve(running.listener)
        attach(running.process)
        for name, pipe, fd in (("stdout", running.process.stdout, 1), ("stderr", running.process.stderr, 2)):
            if pipe is not None:
                pumps[name] = _Pump(pipe, fd if show else None)
        if fed is not None:
            fed.start()
        running.go()
        ended = running.wait()
        for pump in pumps.values():
            pump.join()
    except BaseException:
        running.process.kill()
        running.process.wait()
        raise
    finally:
        if stop is not None:
            stop()
        else:
            running.listener.close()
    printed = {name: bytes(pump.kept) for name, pump in pumps.items()}
    return Done(ended, printed, [name for name, pump in pumps.items() if pump.cut], bytes(fed.kept) if fed else b"")


class _Pump(threading.Thread):
    """Reads a stream to its end: shows it, keeps its beginning."""

    def __init__(self, pipe: IO[bytes], shown: int | None) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._shown = shown
        self.kept = bytearray()
        self.cut = False
        self.start()

    def run(self) -> None:
        while piece := os.read(self._pipe.fileno(), 1 << 16):
            if self._shown is not None:
                try:
                    _all(self._shown, piece)
                except OSError:
                    # Nobody reads any more: the command may go on all the same.
                    self._shown = None
            room = MOST_PRINTED - len(self.kept)
            self.kept += piece[:room]
            self.cut |= len(piece) > room
        self._pipe.close()


class _Feed(threading.Thread):
    """Writes a standard input, and keeps what was written."""

    def __init__(self, pipe: IO[bytes], content: bytes | None) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._content = content
        self.kept = bytearray()

    def run(self) -> None:
        with suppress(OSError, ValueError):
            if self._content is not None:
                _all(self._pipe.fileno(), self._content)
            else:
                while len(self.kept) < MOST_PRINTED and (piece := os.read(0, 1 << 16)):
                    self.kept += piece
                    _all(self._pipe.fileno(), piece)
        with suppress(OSError):
            self._pipe.close()


def _all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def has_terminal() -> bool:
    """Whether somebody sits at all three ends."""
    return all(os.isatty(fd) for fd in (0, 1, 2)) and sys.stdin is not None
