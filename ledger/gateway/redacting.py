"""Redaction of a gateway's calls: which profile holds, a redactor for each run, and its time.

A redactor remembers what it has looked at, so that a conversation is looked at once; it works for one call at a time.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ledger.gateway.answer import is_call
from ledger.gateway.stopped import Stopped
from policies.redaction.exact import Exact
from policies.redaction.known import UNNAMED, Known, find, strictest
from policies.redaction.pseudonym import REVERSIBLE
from policies.redaction.redact import Redacted, Redactor
from policies.redaction.scan import Scanner
from schemas.errors import LedgerError, Malformed
from schemas.policy import Policy
from store.seal import DataKey

T = TypeVar("T")

TIME_S = 20.0
"""Seconds that the redaction of one request may take; after that the request is denied."""

_SMALL = 64 << 10
"""Bytes up to which redacting takes less time than handing it to a thread and back."""

_RUNS = 16
_MEMORY = 8 << 20


class Redaction(NamedTuple):
    """What redaction of a request came to.

    Attributes:
        known: the profile that held.
        version: of profile and rules, hex.
        redacted: the request, and what was masked in it.
    """

    known: Known
    version: str
    redacted: Redacted


class Redacting:
    """The redactors of one gateway.

    Args:
        exact: values that are known by name.
        own: profiles beside those that come with agent-ledger.
    """

    def __init__(self, exact: Exact, own: Iterable[Known]) -> None:
        self._exact = exact
        self._own = {known.profile.profile_id: known for known in own}
        self._scanners: dict[str, Scanner] = {}
        self._redactors: OrderedDict[tuple[bytes, str], tuple[Redactor, asyncio.Lock]] = OrderedDict()

    def profile(self, policies: Sequence[Policy], asked: str = "") -> Known:
        """The profile that holds: of several, what any masks is masked, and what all restore comes back.

        Args:
            asked: by the request itself.

        Raises:
            Stopped: one of them is unknown.
        """
        # A policy that names none is not the weaker for another that does.
        named = [policy.redaction_profile or UNNAMED for policy in policies] or [UNNAMED]
        try:
            return strictest([find(name, self._own) for name in dict.fromkeys([*named, *filter(None, [asked])])])
        except Malformed as error:
            raise Stopped(error.what, code="redaction_profile", param="redaction_profile") from None

    def prepare(self, policies: Sequence[Policy]) -> None:
        """Makes now what would hold up the first request: rules are compiled once.

        Raises:
            Malformed: a profile is unknown, or its rules are none.
        """
        for name in {policy.redaction_profile or UNNAMED for policy in policies}:
            self._scanner(find(name, self._own))

    async def redact(self, known: Known, key: DataKey, request: dict[str, Any], size: int) -> Redaction:
        """4: a request as it may leave.

        Args:
            key: of the run.
            size: bytes of the request.

        Raises:
            Stopped: it can't be redacted: it took too long, or carries what the profile lets not leave.
        """
        redactor, working = self._of(known, key)

        def work() -> Redacted:
            return redactor.redact(request, _clock())

        async with working:
            try:
                redacted = work() if size <= _SMALL else await _in_thread(work)
            except LedgerError as error:
                what = f"it can't be redacted by profile {known.profile.profile_id}: {error.what}"
                raise Stopped(what, code="redaction", param=getattr(error, "place", None)) from None
        return Redaction(known, redactor.version, redacted)

    async def restore(
        self, known: Known, key: DataKey, items: list[dict[str, Any]], mapping: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Items of an output as their client gets them: complete calls with the values behind their pseudonyms.

        Raises:
            Stopped: it took too long.
        """
        redactor, working = self._of(known, key)

        def work() -> list[dict[str, Any]]:
            late = _clock()
            return [redactor.restore(item, mapping, late) if is_call(item) else item for item in items]

        async with working:
            try:
                return await _in_thread(work)
            except LedgerError as error:
                raise Stopped(f"a tool call can't be restored: {error.what}", code="redaction") from None

    def masked(self, text: str) -> str:
        """A text that will stand in clear, without what is secret by any rule or known by name."""
        data = text.encode("utf-8", "surrogatepass")
        found = [(hit.start, hit.end) for hit in self._exact.find(data)]
        spans = self._scanner(find(UNNAMED, {})).find(data)
        found += [(span.start, span.end) for span in spans if span.kind not in REVERSIBLE]
        for start, end in sorted(found, reverse=True):
            data = data[:start] + "⟦secret⟧".encode() + data[end:]
        return data.decode("utf-8", "replace")

    def _of(self, known: Known, key: DataKey) -> tuple[Redactor, asyncio.Lock]:
        profile = known.profile
        which = key.pseudonyms, profile.version
        found = self._redactors.get(which)
        if found is None:
            redactor = Redactor(profile, self._scanner(known), self._exact, key.pseudonyms, memory=_MEMORY)
            found = self._redactors[which] = redactor, asyncio.Lock()
            if len(self._redactors) > _RUNS:
                # Whoever works with it now goes on with it; the next call of that run begins anew.
                self._redactors.popitem(last=False)
        self._redactors.move_to_end(which)
        return found

    def _scanner(self, known: Known) -> Scanner:
        version = known.profile.version
        if version not in self._scanners:
            self._scanners[version] = known.scanner()
        return self._scanners[version]


def _clock() -> Callable[[], bool]:
    """Says whether time is up, from now on: what waits for its turn loses none."""
    ends = time.monotonic() + TIME_S
    return lambda: time.monotonic() > ends


async def _in_thread(work: Callable[[], T]) -> T:
    """Work in a thread, which nobody leaves before it ends: a redactor is never at two things at once."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        raise
