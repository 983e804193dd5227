"""Runs the gateway: uvicorn on a socket, the ledger open for as long as it serves."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ledger import homes, registry
from ledger.gateway.tokens import Token, load_secret
from ledger.gateway.upstream import check_url
from ledger.index.reader import Log
from ledger.log import system_clock
from policies import prices
from policies.redaction.known import find, load
from policies.shipped import names, shipped
from schemas.errors import NotFound, UsageError
from schemas.policy import Policy, read_policy
from store import secrets
from store.held import Held

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ledger.gateway.door import Door

UPSTREAM = "https://api.openai.com/v1"
KEY = "env:OPENAI_API_KEY"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(NamedTuple):
    """How a gateway is to run.

    Attributes:
        upstream: base URL.
        key: URI of the real API key; where empty, the registered one, else `KEY`.
        policies: names of shipped policies, or files.
        secrets: URIs of values that must not leave.
        certificate, private: files, for TLS.
        profiles: files of redaction profiles, beside those that come with agent-ledger.
    """

    upstream: str = UPSTREAM
    key: str = ""
    policies: tuple[str, ...] = ("local",)
    secrets: tuple[str, ...] = ()
    certificate: str = ""
    private: str = ""
    profiles: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # What should be URIs may be the secrets themselves, until they are checked.
        return f"Settings({self.upstream}, policies={self.policies})"


def load_policy(name: str) -> Policy:
    """A shipped policy by its name, or one in a file.

    Raises:
        NotFound: there is none.
        Malformed: the file holds none.
    """
    found = shipped(name)
    if found is not None:
        return found
    try:
        return read_policy(Path(name).read_bytes(), name)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no policy {name!r}", hint=f"a file, or one of: {', '.join(names())}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: can't be read: {type(error).__name__}", hint="check the path") from None


def registered(settings: Settings, origin: str) -> Settings:
    """The settings with the upstream's key that is registered, where they name none."""
    return settings._replace(key=settings.key or registry.of(origin, "upstream") or KEY)


def check(settings: Settings, origin: str = "") -> None:
    """Refuses now what would fail at the first request.

    Args:
        origin: of the ledger whose registered secrets are looked at too.

    Raises:
        LedgerError: a policy, a profile, a registered secret, the key or the upstream's URL can't be used.
    """
    secrets.check(settings.key)
    check_url(settings.upstream)
    own = {known.profile.profile_id: known for known in map(load, settings.profiles)}
    # Loaded now, so that no request waits for it.
    prices.snapshot()
    for name in settings.policies:
        if profile := load_policy(name).redaction_profile:
            find(profile, own)
    if settings.key not in dict(registry.values(registry.read(origin)) if origin else ()):
        secrets.load(settings.key)


def listen(address: str) -> socket.socket:
    """A listening socket at `HOST:PORT`, or `unix:PATH`.

    Raises:
        UsageError: nothing can listen there.
    """
    if address.startswith("unix:"):
        made = socket.socket(socket.AF_UNIX)
        path = Path(address[5:])
        with suppress(FileNotFoundError):
            path.unlink()
        try:
            made.bind(str(path))
        except OSError as error:
            raise UsageError(f"{address}: {(error.strerror or '').lower()}", hint="another path") from None
        path.chmod(0o600)
        made.listen(512)
        return made
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{address}: not HOST:PORT", hint="for example 127.0.0.1:8377")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, int(port)))
    except OSError as error:
        raise UsageError(f"{address}: {(error.strerror or '').lower()}", hint="another port, or 0 for any") from None
    made.listen(512)
    return made


def check_transport(address: str, settings: Settings) -> None:
    """Refuses to serve in clear where others may listen.

    Raises:
        UsageError: not on loopback, and without a certificate.
    """
    host = address.rpartition(":")[0].strip("[]")
    if not address.startswith("unix:") and host not in ("", *_LOOPBACK) and not settings.certificate:
        raise UsageError(
            f"{address} is not loopback, and there is no certificate", hint="--certificate FILE --private FILE"
        )


class Serving:
    """Serves one gateway on a socket, until it is told to stop.

    Args:
        listener: listening.
        open: makes the gateway and its routes; called within the loop that serves them.
        options: of uvicorn.
    """

    def __init__(self, listener: socket.socket, open: "Callable[[], tuple[Door, Starlette]]", **options: Any) -> None:
        self._listener = listener
        self._open = open
        self._options: dict[str, Any] = {
            "log_config": None,
            "access_log": False,
            "lifespan": "off",
            "server_header": False,
            "timeout_graceful_shutdown": 10,
            "timeout_keep_alive": 75,
            "limit_concurrency": 2000,
            **options,
        }
        self._server: Any = None

    async def serve(self, ready: Callable[[], None] | None = None) -> None:
        """Serves until `stop`."""
        import uvicorn

        from ledger.gateway.connections import Connection

        door, routes = self._open()
        self._server = uvicorn.Server(uvicorn.Config(routes, http=Connection, **self._options))
        # Signals are the caller's business.
        self._server.capture_signals = nullcontext
        serving = asyncio.ensure_future(self._server.serve(sockets=[self._listener]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.005)
        if ready is not None and not serving.done():
            ready()
        try:
            await serving
        finally:
            await door.close()

    def stop(self) -> None:
        """Takes no more requests, and ends when those under way have."""
        if self._server is not None:
            self._server.should_exit = True

    @property
    def url(self) -> str:
        """Base URL for clients."""
        name = self._listener.getsockname()
        if isinstance(name, str):
            return "http://localhost/v1"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        scheme = "https" if "ssl_certfile" in self._options else "http"
        return f"{scheme}://{host}:{name[1]}/v1"


class Server(Serving):
    """A gateway that asks models.

    Args:
        log: open; closed by who opened it.
        only: as of `Door`.
    """

    def __init__(
        self,
        log: Log,
        settings: Settings,
        listener: socket.socket,
        now: Callable[[], datetime] = system_clock,
        only: Token | None = None,
    ) -> None:
        from ledger.gateway.app import application
        from ledger.gateway.door import Door

        shared = {name: found for name in names() if (found := shipped(name)) is not None}
        own = [load_policy(name) for name in settings.policies]
        named = shared | {policy.policy_id: policy for policy in own}
        secret = load_secret(homes.keys(log.origin), os.urandom(32))
        profiles = [load(name) for name in settings.profiles]
        settings = registered(settings, log.origin)
        key = Held(settings.key)
        values = known(settings, log.origin)

        def open() -> tuple[Door, "Starlette"]:
            door = Door(log, settings.upstream, key, own, named, secret, values, profiles, now, only)
            return door, application(door)

        options: dict[str, Any] = {}
        if settings.certificate:
            options = {"ssl_certfile": settings.certificate, "ssl_keyfile": settings.private or None}
        super().__init__(listener, open, **options)


def known(settings: Settings, origin: str) -> list[tuple[str, str]]:
    """Secrets that must not leave, by their URIs: those of the settings, and those that are registered."""
    return [*_values((settings.key, *settings.secrets)), *registry.values(registry.read(origin))]


def _values(uris: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Secrets that are there. A file or variable that is not can't leave; of a store that is silent, who knows."""
    from schemas.errors import KeyUnusable

    for uri in uris:
        try:
            yield uri, secrets.load(uri)
        except KeyUnusable:
            if not uri.startswith(("file:", "env:")):
                raise


def run(server: Serving, ready: Callable[[], None] | None = None) -> None:
    """Runs a server in this thread, on uvloop where it is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(server.serve(ready))
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(ready))
