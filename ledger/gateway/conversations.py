"""Which calls go on with which: a conversation is known by the keys of what it has said so far."""

import sys
from collections import OrderedDict
from typing import NamedTuple

from ledger.gateway.records import Place
from ledger.gateway.requestkey import Key

_MOST = 20_000


_Task = tuple[str, str, str]


def _task(place: Place) -> _Task:
    """Tries are counted by run, lane and task: a conversation may go on in another stage."""
    # Interned: every token that is read brings a run's name of its own.
    return sys.intern(place.run), sys.intern(place.lane), sys.intern(place.task)


class _Said(NamedTuple):
    entry: int
    good: bool | None


class Conversations:
    """Remembers the last calls; forgetting one makes the next count as another try, never as fewer."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[_Task, bytes], _Said] = OrderedDict()
        self._where: dict[int, tuple[_Task, bytes]] = {}

    def find(self, place: Place, key: Key) -> tuple[int, bool]:
        """The call that a request goes on with, 0 for none; and whether that counts as another try.

        A request that only repeats an earlier one, or goes on after an answer that failed, is another try.
        """
        repeated = (_task(place), key.turns[-1]) in self._said
        for turn in reversed(key.turns[:-1]):
            found = self._said.get((_task(place), turn))
            if found is not None:
                return found.entry, repeated or found.good is False
        return 0, True

    def asked(self, place: Place, key: Key, index: int) -> None:
        """A request was recorded."""
        where = (_task(place), key.turns[-1])
        self._said[where] = _Said(index, None)
        self._said.move_to_end(where)
        self._where[index] = where
        while len(self._said) > _MOST:
            _, old = self._said.popitem(last=False)
            self._where.pop(old.entry, None)

    def answered(self, place: Place, index: int, *, good: bool) -> None:
        """Its call has ended."""
        where = self._where.get(index)
        if where is not None and where in self._said and self._said[where].entry == index:
            self._said[where] = _Said(index, good)
