"""What happened, as one pure fold over entries: which runs are open, how far each is, what breaks the rules.

The same fold decides at a commit and in step 11 of verify, so that the two can't disagree.
"""

from bisect import bisect_left
from collections import ChainMap
from collections.abc import MutableMapping
from typing import Any

import msgspec

from policies import requests
from policies.calls import LATE, Calls, Given
from policies.requests import Action, Event, Requests, Told
from schemas.entries import (
    Artifact,
    Erasure,
    Known,
    ModelRequest,
    Prompt,
    Response,
    RunFinished,
    RunStarted,
    TrustChanged,
    Uninterpreted,
)
from schemas.ids import belongs
from schemas.trust import Approver


class OpenRun(msgspec.Struct):
    """A run that may still grow.

    Attributes:
        started: index of its `run.started`.
        key: commitment to its data key.
        step: number of its last step.
        prompts: indexes of its prompts.
        calls: its model calls.
        finished: it has ended, and waits for nothing but the ends of calls that were open then.
        requests: its requests for approval.
    """

    started: int
    key: str
    step: int = 1
    prompts: list[int] = []
    calls: Calls = msgspec.field(default_factory=Calls)
    finished: bool = False
    requests: Requests = msgspec.field(default_factory=Requests)

    def copy(self) -> "OpenRun":
        """The same, to go on from."""
        prompts, calls, requests = self.prompts.copy(), self.calls.copy(), self.requests.copy()
        return OpenRun(self.started, self.key, self.step, prompts, calls, self.finished, requests)

    def asked(self, index: int) -> bool:
        """Whether a prompt of this run has that index."""
        at = bisect_left(self.prompts, index)
        return at < len(self.prompts) and self.prompts[at] == index


class _Copies(dict[str, OpenRun]):
    """Runs of another history, each copied when it is first asked for."""

    def __init__(self, runs: dict[str, OpenRun]) -> None:
        super().__init__()
        self._left = runs
        self._seen: set[str] = set()

    def get(self, run: str, default: Any = None) -> Any:
        """The copy, or None."""
        self._see(run)
        return super().get(run, default)

    def pop(self, run: str, default: Any = None) -> Any:
        """Takes the copy away."""
        self._see(run)
        return super().pop(run, default)

    def __missing__(self, run: str) -> OpenRun:
        found: OpenRun | None = self.get(run)
        if found is None:
            raise KeyError(run)
        return found

    def __contains__(self, run: object) -> bool:
        if isinstance(run, str):
            self._see(run)
        return super().__contains__(run)

    def _see(self, run: str) -> None:
        if run not in self._seen:
            self._seen.add(run)
            if (found := self._left.get(run)) is not None:
                self[run] = found.copy()


class Carried(msgspec.Struct):
    """What a part of a history says first of a run that began before the part, and takes for granted of it.

    Attributes:
        index, step: of its first entry.
        early: its first entry that may not follow `run.finished`; 0 where there is none.
        events: what its requests for approval have to do with.
    """

    index: int
    step: int
    early: int = 0
    given: Given = msgspec.field(default_factory=Given)
    events: list[Event] = []


class Part(msgspec.Struct):
    """A history of a stretch of entries whose beginning is not known: to be joined to what was before.

    Attributes:
        started: index of each run that began in it.
        runs: runs still open at the end of the stretch; `started` is -1 where that was before.
        ended: how runs ended in it.
        carried: runs that began before, with what the stretch first says of them.
        answers: index, run, and prompt of responses whose prompt is not in the stretch.
        erasing: index and run of erasures of runs that the stretch does not know.
        erased: entry that erased each data key.
    """

    started: dict[str, int] = {}
    runs: dict[str, OpenRun] = {}
    ended: dict[str, str] = {}
    carried: dict[str, Carried] = {}
    answers: list[tuple[int, str, int]] = []
    erasing: list[tuple[int, str]] = []
    erased: dict[str, int] = {}


class History:
    """The fold.

    Args:
        runs: open runs by id, to go on from.
        ended: how runs ended, by id, where the whole history is to be judged; None to forget ended runs.
        part: filled where this is the history of a stretch.
        origin: of the log: statements of approvers name it.

    Attributes:
        approvers: whom the owner's statement in force names.
        told: of entries that are to come: what they don't show by themselves.
    """

    def __init__(
        self,
        runs: dict[str, OpenRun] | None = None,
        ended: dict[str, str] | None = None,
        part: Part | None = None,
        origin: str = "",
        approvers: tuple[Approver, ...] = (),
    ) -> None:
        self.origin = origin
        self.approvers = approvers
        self.told = Told.nothing()
        self.runs = runs if runs is not None else {}
        self.ended = ended
        self.erased: MutableMapping[str, int] = {}
        self.part = part

    def find(self, run: str) -> OpenRun | None:
        """A run that may still grow, or None."""
        found = self.runs.get(run)
        return None if found is None or found.finished else found

    @classmethod
    def of_stretch(cls, origin: str = "", approvers: tuple[Approver, ...] = ()) -> "History":
        """A history of a stretch of entries; its `part` is what `join` takes."""
        part = Part()
        history = cls(part.runs, part.ended, part, origin, approvers)
        history.erased = part.erased
        return history

    def branch(self) -> "History":
        """A history to try entries on that are not committed yet; this one stays as it is."""
        history = History(_Copies(self.runs), origin=self.origin, approvers=self.approvers)
        history.erased = ChainMap({}, self.erased)
        return history

    def add(self, index: int, entry: Known | Uninterpreted) -> str | None:
        """Takes in the next entry.

        Returns:
            What rule it breaks, or None. It is taken in all the same: the fold has no gaps.
        """
        run = self.runs.get(entry.run)
        if run is not None and type(entry) is Artifact and entry.step == run.step + 1 and not run.finished:
            # What most entries are.
            run.step = entry.step
            return None
        if type(entry) in _SPECIAL:
            if isinstance(entry, Erasure):
                # Its own step first: it may be one of the run that it erases.
                problem = self._step(index, entry)
                return self._erase(index, entry) or problem
            if isinstance(entry, RunStarted):
                return self._start(index, entry)
            self.approvers = self.told.approvers.get(index, self.approvers)
        return self._step(index, entry)

    def _step(self, index: int, entry: Known | Uninterpreted) -> str | None:
        run = self.runs.get(entry.run)
        if not entry.run:
            return None
        if run is None:
            if self.part is None or entry.run in self.part.ended:
                return self._closed(entry.run)
            self.part.carried[entry.run] = Carried(index, entry.step)
            # It may have finished before: until an entry shows what it takes it for, nothing is said.
            run = self.runs[entry.run] = OpenRun(-1, "", entry.step - 1, calls=Calls.unknown(), finished=True)
        return self._continue(index, entry, run)

    def conflicts(self, part: Part) -> list[tuple[int, str]]:
        """What only this history and that of the stretch that comes next show together.

        Returns:
            Index and rule broken; at least one where any rule is broken, not every one: an entry that does not
            belong makes the stretch take what follows it for something else.
        """
        broken = []
        for id, carried in part.carried.items():
            run = self.runs.get(id)
            if run is None:
                broken.append((carried.index, self._closed(id)))
                continue
            if carried.step != run.step + 1:
                broken.append((carried.index, _gap(id, carried.step, run.step)))
            if run.finished and carried.early:
                broken.append((carried.early, self._closed(id)))
            broken += run.requests.conflicts(carried.events, self.origin, run.calls.allowed)
            broken += run.calls.conflicts(carried.given)
        for index, id, to in part.answers:
            if id not in self.runs or not self.runs[id].asked(to):
                broken.append((index, _no_prompt(to)))
        for index, id in part.erasing:
            if id not in self.runs and id not in (self.ended or {}):
                broken.append((index, _never_started(id)))
        for id, index in part.started.items():
            if id in self.runs or id in (self.ended or {}):
                broken.append((index, _twice(id)))
        return broken

    def join(self, part: Part) -> None:
        """Takes in the history of the stretch that comes next, which breaks no rule and has no conflicts."""
        for id, run in part.runs.items():
            mine = self.runs.get(id)
            if run.started >= 0:
                self.runs.setdefault(id, run)
            elif mine is not None:
                mine.step = run.step
                mine.prompts += run.prompts
                for event in part.carried[id].events:
                    mine.requests.add(event, self.origin, mine.calls.allowed)
                mine.calls.join(run.calls, part.carried[id].given)
                mine.finished |= run.finished and part.carried[id].early > 0
                self._end_if_settled(id, mine)
        for id, how in part.ended.items():
            self._end(id, how)
        for key, entry in part.erased.items():
            self.erased.setdefault(key, entry)

    def _start(self, index: int, entry: RunStarted) -> str | None:
        again = entry.run in self.runs or (self.ended is not None and entry.run in self.ended)
        if again:
            return _twice(entry.run)
        self.runs[entry.run] = OpenRun(index, entry.key)
        if self.part is not None:
            self.part.started[entry.run] = index
        return None if entry.step == 1 else f"run {entry.run} does not start with step 1"

    def _continue(self, index: int, entry: Known | Uninterpreted, run: OpenRun) -> str | None:
        problem, carried = None, self.part.carried.get(entry.run) if self.part and run.started < 0 else None
        if carried is not None and not carried.early and type(entry) not in LATE:
            carried.early, run.finished = index, False
        if run.finished and type(entry) not in LATE:
            problem = self._closed(entry.run)
        if entry.step != run.step + 1:
            problem = _gap(entry.run, entry.step, run.step)
        run.step = entry.step
        if isinstance(entry, Prompt):
            run.prompts.append(index)
        elif isinstance(entry, Response) and entry.to and not run.asked(entry.to):
            if self.part is None or run.started >= 0:
                problem = _no_prompt(entry.to)
            else:
                self.part.answers.append((index, entry.run, entry.to))
        elif isinstance(entry, RunFinished):
            run.finished = True
        elif type(entry) in requests.KINDS:
            problem = self._of_requests(index, entry, run, carried) or problem
        else:
            if type(entry) is ModelRequest and (carried is not None or run.requests.asked):
                action = Action.of(entry, run.calls.allowed.get(entry.decision))
                problem = self._of_requests(index, action, run, carried) or problem
            problem = run.calls.add(index, entry, carried.given if carried else None) or problem
        if run.finished and carried is None:
            self._end_if_settled(entry.run, run)
        return problem

    def _of_requests(self, index: int, entry: Any, run: OpenRun, carried: Carried | None) -> str | None:
        """What the requests for approval of its run say of an entry; of one whose beginning is not known, later."""
        told = () if type(entry) is Action else self.approvers
        event = Event(index, entry, self.told.signers.get(index, ""), told)
        if carried is None:
            return run.requests.add(event, self.origin, run.calls.allowed)
        carried.events.append(event)
        return None

    def _end_if_settled(self, id: str, run: OpenRun) -> None:
        """A finished run is over once no call of it is open."""
        if run.finished and not run.calls.open:
            self._end(id, "after it finished")

    def _closed(self, run: str) -> str:
        how = "after it finished" if run in self.runs else (self.ended or {}).get(run, _NEVER)
        return f"appended to run {run} {how}"

    def _erase(self, index: int, entry: Erasure) -> str | None:
        strange = [key for key in entry.keys if not belongs(bytes.fromhex(key), entry.of)]
        for key in entry.keys:
            if key not in strange:
                self.erased.setdefault(key, index)
        known = entry.of in self.runs or self.ended is None or entry.of in self.ended
        self._end(entry.of, f"after it was erased by entry {index}")
        if not known and self.part is not None:
            self.part.erasing.append((index, entry.of))
            known = True
        if strange:
            return f"erases data key {strange[0]}, which is not of run {entry.of}"
        return None if known else _never_started(entry.of)

    def _end(self, run: str, how: str) -> None:
        self.runs.pop(run, None)
        if self.ended is not None:
            self.ended[run] = how


_SPECIAL = frozenset((Erasure, RunStarted, TrustChanged))
_NEVER = "before it started, or after its end"


def _twice(run: str) -> str:
    return f"run {run} started twice"


def _gap(run: str, step: int, before: int) -> str:
    return f"step {step} of run {run} follows step {before}"


def _no_prompt(to: int) -> str:
    return f"a response answers entry {to}, which is no earlier prompt of its run"


def _never_started(run: str) -> str:
    return f"erases run {run}, which never started"
