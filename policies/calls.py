"""The model calls of a run: what they have cost and still hold, what was allowed, how often a task was tried.

Part of the fold of `policies.history`: exact at a commit, and, for a stretch of entries whose beginning is not
known, exact once the stretch is joined to what was before (`Given`).
"""

import msgspec

from schemas.entries import (
    Decided,
    Known,
    ModelRequest,
    ModelResponse,
    ReservationReleased,
    RunPaused,
    RunResumed,
    Uninterpreted,
    kind_of,
)

LATE = frozenset((ModelResponse, ReservationReleased))
"""Kinds that may follow `run.finished`, for calls that were open then."""


class Given(msgspec.Struct):
    """What a stretch takes for granted of the calls before it.

    Attributes:
        room: the least that any of its caps leaves free, with the index where; None where nothing is capped.
        settled: index of a settlement, of its request, and what that had reserved.
        used: index of a request, and of the decision that allows it.
        attempts: first request of each lane and task: index, attempt, whether it begins a conversation.
        asked: first request before anything pauses or resumes the run; 0 where there is none.
    """

    room: tuple[int, int] | None = None
    settled: list[tuple[int, int, int]] = []
    used: list[tuple[int, int]] = []
    attempts: dict[str, tuple[int, int, bool]] = {}
    asked: int = 0


class Calls(msgspec.Struct):
    """The fold, of one run.

    Attributes:
        spent: micro-USD of settled calls.
        held: micro-USD that open calls have reserved; of a stretch, less what it has freed of earlier ones.
        open: requests without a response, by index, with what each has reserved.
        allowed: decisions that allow a request which has not come yet, with the policies that were asked.
        attempts: tries of each lane and task.
        paused: whether no request may be made; None where the stretch doesn't know.
    """

    spent: int = 0
    held: int = 0
    open: dict[int, int] = {}
    allowed: dict[int, list[str]] = {}
    attempts: dict[str, int] = {}
    paused: bool | None = False

    @classmethod
    def unknown(cls) -> "Calls":
        """The calls of a run that began before the stretch."""
        return cls(paused=None)

    def copy(self) -> "Calls":
        """The same, to go on from."""
        copied = (self.open.copy(), self.allowed.copy(), self.attempts.copy())
        return Calls(self.spent, self.held, *copied, self.paused)

    def tries(self, lane: str, task: str) -> int:
        """How often a task was tried in a lane."""
        return self.attempts.get(_place(lane, task), 0)

    def add(self, index: int, entry: Known | Uninterpreted, given: Given | None = None) -> str | None:
        """Takes in the next entry of the run.

        Args:
            given: takes what can't be judged here; None where the whole run is known.

        Returns:
            What rule it breaks, or None.
        """
        if isinstance(entry, ModelRequest):
            return self._ask(index, entry, given)
        if isinstance(entry, ModelResponse):
            self.spent += entry.cost
            return self._settle(index, entry, given)
        if isinstance(entry, ReservationReleased):
            return self._settle(index, entry, given)
        if isinstance(entry, Decided):
            if entry.action == _REQUEST and entry.effect == "allow":
                self.allowed[index] = entry.policies
        elif isinstance(entry, RunPaused):
            self.paused = True
        elif isinstance(entry, RunResumed):
            self.paused = False
        return None

    def _ask(self, index: int, entry: ModelRequest, given: Given | None) -> str | None:
        problem = None
        if self.paused:
            problem = PAUSED
        elif self.paused is None and given is not None:
            given.asked = given.asked or index
        if self.allowed.pop(entry.decision, None) is None:
            if given is not None:
                given.used.append((index, entry.decision))
            else:
                problem = _not_allowed(entry.decision)
        place, fresh = _place(entry.lane, entry.task), not entry.continues
        if place in self.attempts or given is None:
            problem = _wrong_attempt(self.attempts.get(place, 0), entry.attempt, fresh) or problem
        else:
            given.attempts[place] = (index, entry.attempt, fresh)
        self.attempts[place] = entry.attempt
        self.open[index] = entry.reserved
        self.held += entry.reserved
        if entry.cap:
            room = entry.cap - self.spent - self.held
            if given is not None:
                given.room = min(given.room or (room, index), (room, index))
            elif room < 0:
                problem = _over(room)
        return problem

    def _settle(self, index: int, entry: ModelResponse | ReservationReleased, given: Given | None) -> str | None:
        self.held -= entry.reserved
        reserved = self.open.pop(entry.to, None)
        if reserved is None and given is not None:
            given.settled.append((index, entry.to, entry.reserved))
            return None
        return None if reserved == entry.reserved else _not_open(entry, reserved)

    def conflicts(self, given: Given) -> list[tuple[int, str]]:
        """What only these calls and a stretch that comes next show together.

        Returns:
            Index and rule broken; at least one where any rule is broken.
        """
        broken = []
        if given.room is not None and (room := given.room[0] - self.spent - self.held) < 0:
            broken.append((given.room[1], _over(room)))
        allowed, waiting = self.allowed.copy(), self.open.copy()
        for index, decision in given.used:
            if allowed.pop(decision, None) is None:
                broken.append((index, _not_allowed(decision)))
        for index, to, reserved in given.settled:
            if waiting.pop(to, None) != reserved:
                broken.append((index, f"it settles entry {to}, which is no open call of its run, or for another sum"))
        for place, (index, attempt, fresh) in given.attempts.items():
            if problem := _wrong_attempt(self.attempts.get(place, 0), attempt, fresh):
                broken.append((index, problem))
        if given.asked and self.paused:
            broken.append((given.asked, PAUSED))
        return broken

    def join(self, calls: "Calls", given: Given) -> None:
        """Takes in the calls of the stretch that comes next, with which there are no conflicts."""
        for _, decision in given.used:
            del self.allowed[decision]
        for _, to, _ in given.settled:
            del self.open[to]
        self.spent += calls.spent
        self.held += calls.held
        self.open |= calls.open
        self.allowed |= calls.allowed
        self.attempts |= calls.attempts
        self.paused = self.paused if calls.paused is None else calls.paused


_REQUEST = "model.request"
PAUSED = "a model request of a paused run"


def _place(lane: str, task: str) -> str:
    # Both may hold any character: the length tells where one ends.
    return f"{len(lane)} {lane} {task}"


def _wrong_attempt(before: int, attempt: int, fresh: bool) -> str | None:
    """A conversation that begins is another try; one that goes on may be, where the call before it failed."""
    if attempt == before + 1 or (attempt == before and attempt and not fresh):
        return None
    return f"attempt {attempt} of a task follows attempt {before}"


def _not_allowed(decision: int) -> str:
    return f"entry {decision} is no decision that allows it, or was used before"


def _over(room: int) -> str:
    return f"it reserves {-room:,} micro-USD more than the budget of its run has left"


def _not_open(entry: ModelResponse | ReservationReleased, reserved: int | None) -> str:
    if reserved is None:
        return f"a {kind_of(entry)} to entry {entry.to}, which is no open call of its run"
    return f"it frees {entry.reserved:,} micro-USD, and its request reserved {reserved:,}"
