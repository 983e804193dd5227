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


def record(log: Log, run: Run, command: list[str], settings: server.Settings, place: tuple[str, str, str]) -> Recorded:
    """Runs a command with its terminal passed through, and finishes the run.

    Args:
        place: stage, lane, task.

    Raises:
        UsageError: there is no such command.
    """
    gateway = Inside(log, settings)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        (Path(folder) / "config.toml").write_text(_CODEX.format(url=gateway.url))
        environment = _environment(settings) | {
            "OPENAI_BASE_URL": gateway.url,
            "OPENAI_API_KEY": token(log, run.id, *place),
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "CODEX_HOME": folder,
            "LEDGER": str(log.path.absolute()),
            "LEDGER_RUN": run.id,
        }
        try:
            with _signals() as child:
                try:
                    child.append(subprocess.Popen(command, env=environment))
                except OSError as error:
                    what = f"{command[0]}: {(error.strerror or 'can not be started').lower()}"
                    raise UsageError(what, hint="ledger record -- COMMAND [ARGUMENT]…") from None
                status = child[0].wait()
        except UsageError:
            run.finish("failed", reason="the command could not be started")
            raise
    # What the command left under way is recorded before the run is over.
    gateway.close()
    status = 128 - status if status < 0 else status
    if log.chain.state.history.find(run.id) is not None:
        run.finish("succeeded" if status == 0 else "failed", reason="" if status == 0 else f"exit {status}")
    return Recorded(run.id, status, time.monotonic() - began)


def _environment(settings: server.Settings) -> dict[str, str]:
    """This process's, without the secrets that it holds by name."""
    secret = {uri[4:] for uri in (settings.key, *settings.secrets) if uri.startswith("env:")}
    return {name: value for name, value in os.environ.items() if name not in secret}


@contextmanager
def _signals() -> Iterator[list["subprocess.Popen[Any]"]]:
    """An interrupt of the terminal reaches the command by itself; what ends us ends the command, and is recorded."""
    child: list[subprocess.Popen[Any]] = []

    def hand_on(number: int, frame: object) -> None:
        for process in child:
            process.send_signal(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    try:
        yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
