"""A gateway within a process, and a client through it, for `Run.openai()`."""

import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from ledger import homes
from ledger.gateway import server
from ledger.gateway.tokens import Token, load_secret
from ledger.index.reader import Log
from ledger.log import system_clock
from schemas.envelope import TaskScope
from schemas.errors import UsageError

if TYPE_CHECKING:
    import openai

_HOURS = 24


class Inside:
    """A gateway in a thread of this process. It ends when its ledger is closed.

    Attributes:
        url: base URL for clients.
    """

    def __init__(self, log: Log, serving: server.Serving) -> None:
        self._server = serving
        ready = threading.Event()
        self._thread = threading.Thread(
            target=server.run, args=(self._server, ready.set), name="ledger-gateway", daemon=True
        )
        self._thread.start()
        if not ready.wait(15):
            raise UsageError("the gateway did not start in time", hint="is the machine out of memory?")
        self.url = self._server.url
        log.closing.append(self.close)

    @classmethod
    def start(cls, log: Log, settings: server.Settings) -> Self:
        """One that asks models, at an address of its own."""
        return cls(log, server.Server(log, settings, server.listen("127.0.0.1:0")))

    def close(self) -> None:
        """Lets what is under way end."""
        self._server.stop()
        self._thread.join(30)


def token(
    log: Log, run: str, stage: str = "", lane: str = "", task: str = "", *, scope: TaskScope | None = None
) -> str:
    """A token for a run of an open ledger."""
    secret = load_secret(homes.keys(log.origin), os.urandom(32))
    expires = int((system_clock() + timedelta(hours=_HOURS)).timestamp())
    return Token(run, expires, stage, lane, task, scope or TaskScope("stage", stage or "any")).sign(secret)


_inside: dict[tuple[int, server.Settings], Inside] = {}


def client(log: Log, place: tuple[str, str, str, str], **how: Any) -> "openai.OpenAI":
    """A client whose requests go through a gateway of this process.

    Args:
        place: run, stage, lane, task.
        how: members of `server.Settings`.
    """
    import openai

    try:
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in how.items()
        }
        settings = server.Settings(**given)
    except TypeError:
        raise UsageError("not a setting of the gateway", hint=", ".join(server.Settings._fields)) from None
    key = (id(log), settings)
    if key not in _inside:
        _inside[key] = Inside.start(log, settings)
        log.closing.append(lambda: _inside.pop(key, None))
    # No proxy of the environment's stands between this process and itself.
    direct = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=_inside[key].url, api_key=token(log, *place), http_client=direct)
