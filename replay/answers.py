"""A gateway that answers from the ledger: what a program asks is looked for among what it asked when it was recorded.

A request is known again by its key (`ledger.gateway.requestkey`); of several alike in one lane, the first that was not
answered yet comes next. What was never asked is refused with the nearest request and where it differs: nothing goes to
a model.
"""

import socket
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import msgspec

from ledger.commit import Appended, Draft
from ledger.gateway.app import application
from ledger.gateway.client import Inside
from ledger.gateway.door import Door
from ledger.gateway.records import Came
from ledger.gateway.requestkey import VERSION, Key, normalised
from ledger.gateway.server import Serving
from ledger.gateway.steps import Call
from ledger.gateway.stopped import Stopped, spell
from ledger.gateway.tokens import Token
from ledger.index.reader import Log
from ledger.writer import Writer
from replay.compare import Difference, differences, likeness
from replay.story import Asked, Story, delivered
from schemas.entries import Known, kind_of
from schemas.errors import LedgerError, NotFound, UsageError
from schemas.ids import run_key_id
from store.seal import DataKey

_NEAR = 64
"""Requests that are compared with one that is not known again."""


class Unknown(NamedTuple):
    """A request that was not recorded.

    Attributes:
        nearest: index of the recorded request that is most like it; 0 where all are answered.
        differences: from that, in order.
    """

    nearest: int
    differences: list[Difference]

    def say(self) -> str:
        """For its client, and for people."""
        if not self.nearest:
            return "the recorded run asked nothing more"
        if not self.differences:
            return f"it is asked more often than in the recorded run (nearest: entry {self.nearest})"
        path, recorded, now = self.differences[0]
        more = len(self.differences) - 1
        beside = f", and {more} more" if more else ""
        return f"nearest is entry {self.nearest}; {path}: recorded {recorded!r}, now {now!r}{beside}"


class Answers:
    """What a run was answered, to be answered again.

    Args:
        story: the run.
        read: gives the content of an address.
        secret: of the run's request keys.

    Attributes:
        unknown: requests that were not recorded, in order.
        answered: how many were.
        ambiguous: indexes of requests that were under way together, were alike, and were answered differently: which
            of them comes first is chance.
        strange: what the program appended otherwise than recorded, for people.
    """

    def __init__(self, story: Story, read: Callable[[str], bytes], secret: bytes) -> None:
        self._read = read
        self._secret = secret
        self.unknown: list[Unknown] = []
        self.answered = 0
        self.ambiguous: list[int] = []
        self.strange: list[str] = []
        self._left: dict[int, Asked] = {}
        self._queues: dict[tuple[str, str], deque[Asked]] = {}
        for asked in story.asked:
            if not delivered(asked, read):
                continue
            key = asked.key
            if asked.normaliser != VERSION:
                # By another normaliser: its bytes as they left are what there is to make a key of.
                key = Key(secret, msgspec.json.decode(read(asked.request))).whole
            self._left[asked.index] = asked
            self._queues.setdefault((key, asked.lane), deque()).append(asked)
        self._is_old = any(asked.normaliser != VERSION for asked in self._left.values())

    @property
    def left(self) -> list[int]:
        """Indexes of what was recorded and is not asked."""
        return list(self._left)

    def take(self, key: str, out: bytes, lane: str) -> Asked | None:
        """The recorded request that this one is, or None, which is noted.

        Args:
            key: of the request.
            out: as it would leave.
        """
        queue = self._queues.get((key, lane))
        if not queue and self._is_old:
            queue = self._queues.get((Key(self._secret, msgspec.json.decode(out)).whole, lane))
        if not queue:
            self.unknown.append(self._nearest(out))
            return None
        asked = queue.popleft()
        if queue and queue[0].index < (asked.ended or asked.index) and _answer(queue[0]) != _answer(asked):
            self.ambiguous.append(asked.index)
        del self._left[asked.index]
        self.answered += 1
        return asked

    def _nearest(self, out: bytes) -> Unknown:
        now = normalised(msgspec.json.decode(out))
        best: tuple[int, int, dict[str, Any]] | None = None
        for asked in list(self._left.values())[:_NEAR]:
            recorded = normalised(msgspec.json.decode(self._read(asked.request)))
            score = likeness(recorded, now)
            if best is None or score > best[0]:
                best = score, asked.index, recorded
        return Unknown(best[1], differences(best[2], now)) if best else Unknown(0, [])


def _answer(asked: Asked) -> str:
    if asked.response is not None:
        return asked.response.digest
    return asked.told.message if asked.told else ""


class Closed(Writer):
    """Seals as the run did, and appends nothing: what a program appends is compared with what it appended."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer.chain, writer.blobs, _nothing, writer.clock, writer.random)
        self.log = writer.log

    def key(self, run: str, *, late: bool = False) -> DataKey:
        """The run's data key, whether or not it has ended."""
        return self.blobs.keyring.open(run_key_id(run))


def _nothing() -> NoReturn:
    raise UsageError("a replay appends nothing to the run that it replays", hint="ledger log shows the replay's own")


class Echo:
    """Takes what a program appends, and gives it the place that it had when it was recorded."""

    def __init__(self, story: Story, answers: Answers, read: Callable[[str], bytes]) -> None:
        self._answers = answers
        self._read = read
        self._left: dict[tuple[str, ...], deque[tuple[int, Any]]] = {}
        for index, entry in story.appended:
            self._left.setdefault(_of(entry), deque()).append((index, entry))

    async def commit(self, draft: Draft) -> list[Appended]:
        """As `ledger.index.tasks.Committing`."""
        return [self._place(entry) for entry in draft.entries]

    def _place(self, entry: Known) -> Appended:
        kind, queue = kind_of(entry), self._left.get(_of(entry))
        if not queue:
            self._answers.strange.append(f"one {kind} more than recorded")
            raise NotFound(f"the recorded run appended no further {kind} here", hint="the replay has diverged")
        index, recorded = queue.popleft()
        digest = getattr(recorded, "digest", "")
        if digest != getattr(entry, "digest", ""):
            self._answers.strange.append(f"{kind} of entry {index} has another content")
        return Appended(index, getattr(recorded, "content", ""), recorded.step)

    def value(self, entry: Known) -> bytes:
        """The content of the next recorded value."""
        queue = self._left.get(_of(entry))
        if not queue:
            self._answers.strange.append("one value more than recorded")
            raise NotFound("the recorded run kept no further value here", hint="the replay has diverged")
        _, recorded = queue.popleft()
        return self._read(recorded.content)

    @property
    def left(self) -> list[tuple[int, str]]:
        """Index and kind of what was recorded and is not appended."""
        return sorted((index, kind_of(entry)) for queue in self._left.values() for index, entry in queue)


def _of(entry: Any) -> tuple[str, ...]:
    return (kind_of(entry), entry.stage, entry.lane, entry.task)


class Again(Call):
    """A request that is answered as it was."""

    async def run(self) -> None:
        """Steps 1 to 5 as ever; then the answer from the ledger."""
        door = self.door
        if not isinstance(door, Answering):
            raise TypeError("a gateway that asks models makes no answers")
        try:
            await self.resolve()
            await self.redact()
            self.route()
            self.set_forth()
            asked = door.answers.take(self.key.whole, self.body.encode(), self.place.lane)
            if asked is None:
                raise Stopped(
                    f"not in the recorded run: {door.answers.unknown[-1].say()}", code="not_recorded", param="input"
                )
            if asked.told is not None:
                raise self.denied(asked.told, asked.index)
            if asked.response is not None:
                came = Came.read(door.log.read, asked.response)
                await self.tell(asked.response, came._replace(wire=_at_once(came.wire)))
        except Stopped as stopped:
            await self.refuse(stopped)
        except LedgerError as error:
            await self.refuse(Stopped(spell(error), code="ledger_error", http=503, again=False))
        except Exception as error:  # noqa: BLE001
            # Fails closed: the program learns that it has no answer.
            door.bug(error)
            await self.refuse(Stopped("the replay failed", code="gateway_error", http=500))
        finally:
            self._let_go_of_memory()
            self.outlet.end()
            door.done(self)


_WAITS = ("retry-after", "retry-after-ms")


def _at_once(wire: Any) -> Any:
    """Headers that make nobody wait."""
    headers = {name: "0" if name in _WAITS else value for name, value in wire.headers.items()}
    return msgspec.structs.replace(wire, headers=headers)


class Answering(Door):
    """The state of a gateway that answers from the ledger.

    Args:
        log: opened for this alone; nothing can be appended through it any more.
        story: the run.
        token: what everybody is bound to who reaches it.
        answers, echo: shared by the gateways of one replay.
    """

    def __init__(self, log: Log, story: Story, token: Token, answers: Answers, echo: Echo) -> None:
        log.writer = Closed(log.writer)
        super().__init__(log, "", _nothing, story.policies, {}, bytes(32), (), (), log.writer.clock, token)
        self.answers = answers
        self.committing = echo  # type: ignore[assignment]

    async def look_for(self, run: str) -> None:
        """It is known."""


class Replaying:
    """What the gateways of one replay share.

    Args:
        log: opened for this alone.
        story: the run.
    """

    def __init__(self, log: Log, story: Story) -> None:
        self._log = log
        self._story = story
        key = log.blobs.keyring.open(run_key_id(story.run))
        self.answers = Answers(story, log.read, key.requests)
        self.echo = Echo(story, self.answers, log.read)

    def serve(self, listener: socket.socket, token: Token) -> Inside:
        """Starts a gateway that answers from the ledger, in a thread of this process.

        Args:
            listener: where programs reach it.
            token: what everybody is bound to who does.
        """
        door = Answering(self._log, self._story, token, self.answers, self.echo)
        return Inside(self._log, Serving(listener, lambda: (door, application(door, Again))))
