"""What the calls of one gateway share: the ledger, the way up, policies, what is under way."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ledger.gateway.conversations import Conversations
from ledger.gateway.redacting import Redacting
from ledger.gateway.tokens import PREFIX, Token, TokenRefused
from ledger.gateway.upstream import Leak, Nowhere, Upstream
from ledger.index.reader import Log
from ledger.index.tasks import Committing
from policies.redaction.exact import Exact
from policies.redaction.known import Known
from schemas.entries import RunStarted
from schemas.policy import Policy
from store.spool import Spool

if TYPE_CHECKING:
    from ledger.gateway.steps import Call

_TURNS = 32
"""Turns of the loop in which a client that hung up and asks again is noticed as gone, before its request is another."""

_FORGET_S = 600.0
"""Seconds for which an answer that was not taken is kept for a client who comes again."""

_SOON_S = 2.0
"""Seconds in which who waits for any other has come to read it."""

_UNHEARD = 200
_UNHEARD_BYTES = 256 << 20
"""How many such answers, and bytes of them, are kept: the oldest go first."""

OPEN = f"{PREFIX}within-a-sandbox"
"""What is shown where the socket itself is the credential: alike in every run, so that none tells them apart."""

_log = logging.getLogger("ledger.gateway")


class Door:
    """A gateway's state.

    Args:
        log: where everything is recorded.
        upstream: base URL; where empty, nothing leaves.
        key: gives the real API key.
        policies: those that apply to every call; by id, those that a token may name beside them.
        secret: of this user's tokens.
        values: secrets that must not leave, by the name of each.
        profiles: of redaction, beside those that come with agent-ledger.
        now: the time, in UTC.
        only: what everybody is bound to who reaches the socket, and shows `OPEN`; None where each shows a token.
    """

    def __init__(
        self,
        log: Log,
        upstream: str,
        key: Callable[[], str],
        policies: list[Policy],
        named: dict[str, Policy],
        secret: bytes,
        values: Iterable[tuple[str, str]],
        profiles: Iterable[Known],
        now: Callable[[], datetime],
        only: Token | None = None,
    ) -> None:
        self.log = log
        self.only = only
        self.now = now
        self.secret = secret
        self.policies = policies
        self.named = named
        self.exact = Exact(values)
        self.redacting = Redacting(self.exact, profiles)
        self.redacting.prepare(policies)
        self.upstream = Upstream(upstream, key, self._scan) if upstream else Nowhere()
        self.committing = Committing(log.writer)
        self.conversations = Conversations()
        self._waiting: dict[tuple[str, bytes], list[Call]] = {}
        self._unheard: dict[Call, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._recorded: set[tuple[str, str]] = set()
        self._started: dict[str, datetime] = {}
        self._settled = asyncio.Event()

    def spool(self) -> Spool:
        """For bytes on their way."""
        return Spool(self.log.writer.random(32))

    def _scan(self, body: bytes) -> None:
        if self.exact.found(body):
            raise Leak

    def authenticate(self, authorization: str) -> Token:
        """The token of a request.

        Raises:
            TokenRefused: there is none that holds.
        """
        scheme, _, text = authorization.partition(" ")
        if self.only is not None and text.strip() == OPEN:
            return self.only
        if scheme.lower() != "bearer":
            raise TokenRefused("no token", hint="Authorization: Bearer TOKEN; ledger token --run RUN makes one")
        return Token.read(text.strip(), self.secret, self.now())

    def policies_for(self, token: Token) -> list[Policy]:
        """All policies that apply; the strictest wins. Where a token names an unknown one, none does: it denies."""
        if not token.policy:
            return self.policies
        found = self.named.get(token.policy)
        if found is None:
            return []
        return [*self.policies, *([] if found in self.policies else [found])]

    async def look_for(self, run: str) -> None:
        """Learns of a run that another process has started."""
        if self.log.chain.state.history.find(run) is None:
            await asyncio.to_thread(self.log.catch_up)

    def started(self, run: str) -> datetime:
        """When a run began, as it says."""
        if run not in self._started:
            found = self.log.chain.state.history.runs.get(run)
            entry = self.log.entry(found.started).entry if found is not None else None
            self._started[run] = entry.time if isinstance(entry, RunStarted) else self.now()
        return self._started[run]

    def unrecorded(self, run: str, policies: list[Policy]) -> list[Policy]:
        """Policies that this gateway has not recorded in a run yet."""
        return [policy for policy in policies if (run, policy.version) not in self._recorded]

    def recorded(self, run: str, policies: list[Policy]) -> None:
        """They are recorded now."""
        self._recorded.update((run, policy.version) for policy in policies)

    def settled(self) -> None:
        """A call has ended: budgets may have room again."""
        self._settled.set()
        self._settled = asyncio.Event()

    async def settlement(self, seconds: float) -> float:
        """Waits for a call to end, here or in another process.

        Returns:
            Seconds that it took.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await asyncio.wait_for(self._settled.wait(), min(seconds, 0.25))
        except TimeoutError:
            await asyncio.to_thread(self.log.catch_up)
        return loop.time() - began

    async def under_way(self, run: str, came: bytes, *, retry: bool) -> "Call | None":
        """The call that a request is a second try at, if it is: its client hung up, or lost the answer."""
        for _ in range(_TURNS):
            found = self._under_way(run, came, retry=retry)
            if found is not None or (run, came) not in self._waiting:
                return found
            await asyncio.sleep(0)
        return None

    def _under_way(self, run: str, came: bytes, *, retry: bool) -> "Call | None":
        for call in self._waiting.get((run, came), ()):
            alone = not call.outlet.listeners and not call.outlet.delivered
            if alone and (retry or call.outlet.ended or call.left):
                return call
            if retry and not call.outlet.delivered:
                return call
        return None

    def watch(self, call: "Call") -> None:
        """Keeps a call findable until its answer was taken."""
        self._waiting.setdefault((call.place.run, call.came), []).append(call)

    def done(self, call: "Call") -> None:
        """A call has ended."""
        # What was never sent costs nothing to refuse once more.
        kept = call.index and not call.outlet.delivered
        later = asyncio.get_running_loop().call_later
        call.forgetting = later(_FORGET_S if kept else _SOON_S, self._forget, call)
        if kept:
            self._unheard[call] = None
            while len(self._unheard) > _UNHEARD or sum(one.outlet.length for one in self._unheard) > _UNHEARD_BYTES:
                self._forget(next(iter(self._unheard)))

    def taken(self, call: "Call") -> None:
        """A client has all of a call's answer."""
        if call.outlet.ended:
            self._forget(call)

    def _forget(self, call: "Call") -> None:
        # A timer that goes on would keep the call, and all that it holds, for as long as it runs.
        for timer in (call.forgetting, call.giving_up):
            if timer is not None:
                timer.cancel()
        self._unheard.pop(call, None)
        if not call.outlet.listeners:
            call.outlet.forget()
        waiting = self._waiting.get((call.place.run, call.came), [])
        if call in waiting:
            waiting.remove(call)
        if not waiting:
            self._waiting.pop((call.place.run, call.came), None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task that nobody need wait for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def bug(self, error: Exception) -> None:
        """Our own bug: its type and place are logged, and never its message, which could hold what it should not."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
        _log.error("our own bug: %s at %s", type(error).__name__, where)

    async def close(self) -> None:
        """Waits for what is under way, a while, and gives connections back."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await self.upstream.close()
