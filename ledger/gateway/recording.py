"""`ledger record`: a command whose model requests all go through a gateway of its own.

Advisory: nothing stops the command from another way out. What it is given is the gateway's address, and a token in
the place of the real key.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ledger.gateway import server
from ledger.gateway.client import Inside, token
from ledger.index.reader import Log
from ledger.run import Run
from schemas.errors import UsageError

CANNOT = 125
"""Exit status where the recording failed, and not the command."""

# What the Codex CLI needs: it ignores OPENAI_BASE_URL, and dials other hosts unless told not to.
_CODEX = """model_provider = "ledger"
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


class Recorded(NamedTuple):
    """How a recording ended.

    Attributes:
        status: the command's exit status; 128 and its number where a signal ended it.
        seconds: how long it took.
    """

    run: str
    status: int
    seconds: float


def record(
    log: Log,
    run: Run,
    child: "Child",
    command: list[str],
    settings: server.Settings,
    place: tuple[str, str, str],
    environment: dict[str, str],
) -> Recorded:
    """Runs a command with its terminal passed through, and finishes the run.

    Args:
        child: from `signals`, which is open from before the run began until it is over: what ends us in between ends
            the command, and leaves no run open.
        place: stage, lane, task.
        environment: what the command gets of ours (`ledger.gateway.environment`).

    Raises:
        UsageError: there is no such command.
    """
    began = time.monotonic()
    gateway = Inside.start(log, settings)
    try:
        status = _run(run.id, child, command, environment, gateway.url, token(log, run.id, *place))
    except UsageError:
        run.finish("failed", reason="the command could not be started")
        raise
    finally:
        # What the command left under way is recorded before the run is over.
        gateway.close()
    status = 128 - status if status < 0 else status
    # The command may have finished its run itself.
    log.catch_up()
    if log.chain.state.history.find(run.id) is not None:
        run.finish("succeeded" if status == 0 else "failed", reason="" if status == 0 else f"exit {status}")
    return Recorded(run.id, status, time.monotonic() - began)


def _run(run: str, child: "Child", command: list[str], environment: dict[str, str], url: str, key: str) -> int:
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        (Path(folder) / "config.toml").write_text(_CODEX.format(url=url))
        environment = environment | {
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": key,
            "LEDGER_TOKEN": key,
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "CODEX_HOME": folder,
            "LEDGER": url.removesuffix("/v1"),
            "LEDGER_RUN": run,
        }
        try:
            return child.run(command, environment)
        except OSError as error:
            what = f"{command[0]}: {(error.strerror or 'can not be started').lower()}"
            raise UsageError(what, hint="ledger record -- COMMAND [ARGUMENT]…") from None


class Child:
    """The command, once it runs; signals that came before reach it then."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[Any] | None = None
        self._came: list[int] = []

    def run(self, command: list[str], environment: dict[str, str]) -> int:
        """Runs it to its end."""
        process = subprocess.Popen(command, env=environment)
        self.attach(process)
        return process.wait()

    def attach(self, process: "subprocess.Popen[Any]") -> None:
        """From here on signals reach this process; those that came before do now."""
        self._process = process
        for number in self._came:
            process.send_signal(number)

    def hand_on(self, number: int, frame: object) -> None:
        """Handles a signal."""
        if number == signal.SIGINT and _is_of_a_terminal():
            # An interrupt of the terminal reaches the command by itself.
            return
        self._came.append(number)
        if self._process is not None:
            self._process.send_signal(number)


@contextmanager
def signals() -> Iterator[Child]:
    """What would end us ends the command instead, and is recorded."""
    child = Child()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.signal(number, child.hand_on)) for number in numbers]
    try:
        yield child
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _is_of_a_terminal() -> bool:
    """Whether we are what a terminal's interrupt goes to, and so is the command."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
