"""Model calls written by hand: what the gateway commits, without a gateway."""

from typing import Any

from ledger.commit import Appended, Draft, Validate
from ledger.log import Log
from ledger.state import Recorded, State
from schemas.entries import Decided, Known, ModelRequest, ModelResponse, ReservationReleased
from schemas.errors import UsageError


class OverBudget(UsageError):
    """The call does not fit any more."""


def fits(run: str, reserved: int, cap: int) -> Validate:
    """Decides at the commit whether a reservation fits, against exactly what is committed before it."""

    def validate(state: State, since: list[Recorded]) -> None:
        calls = state.history.runs[run].calls
        if calls.spent + calls.held + reserved > cap:
            raise OverBudget("over budget")

    return validate


class Caller:
    """Asks and answers on behalf of one run."""

    def __init__(self, log: Log, run: str, lane: str = "general") -> None:
        self.log = log
        self.run = run
        self.lane = lane

    def _common(self, task: str) -> dict[str, Any]:
        return {"v": 1, "time": self.log.writer.clock(), "run": self.run, "lane": self.lane, "task": task}

    def _content(self, text: bytes, *, late: bool = False) -> Any:
        return self.log.blobs.prepare(self.log.writer.key(self.run, late=late), text)

    def request(self, task: str, *, validate: Validate | None = None, **members: Any) -> Draft:
        """A decision that allows, and the request that it allows."""
        question, sent, envelope = self._content(b"{}"), self._content(b'{"input":"x"}'), self._content(b'{"stage":""}')
        common = self._common(task)
        decided = Decided(
            **common,
            content=question.address,
            digest=question.digest,
            action="model.request",
            effect="allow",
            rules=[],
            policies=[],
        )
        fields = {"decision": 0, "model": "m", "key": "00" * 32, "attempt": 1, "envelope": envelope.address} | members
        asked = ModelRequest(**common, content=sent.address, digest=sent.digest, **fields)
        draft = Draft([decided, asked], [question, sent, envelope], ["", ""], validate)
        if "decision" not in members:
            draft.links = {1: ("decision", 0)}
        return draft

    def ask(self, task: str, **how: Any) -> Appended:
        """Commits a request; returns where it is."""
        return self.log.writer.commit(self.request(task, **how))[1]

    def answer(self, to: int, task: str, *, cost: int, reserved: int, late: bool = False) -> Appended:
        """Commits the response to a request."""
        got = self._content(b'{"output":[]}', late=late)
        entry = ModelResponse(
            **self._common(task),
            content=got.address,
            digest=got.digest,
            to=to,
            status="completed",
            verdict="valid",
            cost=cost,
            reserved=reserved,
        )
        return self.commit(entry, got)

    def release(self, to: int, task: str, reserved: int) -> Appended:
        """Commits the release of a reservation."""
        return self.commit(ReservationReleased(**self._common(task), to=to, reserved=reserved))

    def commit(self, entry: Known, *contents: Any) -> Appended:
        return self.log.writer.commit(Draft([entry], list(contents), [""]))[0]
