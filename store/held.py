"""A secret that is asked for often: from a file or variable each time, from a slow store now and then."""

import threading
import time
from collections.abc import Callable

from schemas.errors import KeyUnusable
from store import secrets

FRESH_S = 60.0
"""Seconds after which a slow store is asked again, behind the caller's back: a rotated key is taken up so."""

STALE_S = 600.0
"""Seconds after which a value is given out no longer: the caller waits until the store has answered again."""


class Held:
    """A secret by URI; of a slow store it is looked up at the start.

    Args:
        clock: monotonic seconds.

    Raises:
        KeyUnusable: it can't be had.
    """

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._uri = uri
        self._clock = clock
        self._slow = not uri.startswith(("file:", "env:"))
        self._value = secrets.load(uri) if self._slow else ""
        self._at = clock()
        self._asking = threading.Lock()

    def __call__(self) -> str:
        """The value; of a slow store without waiting, unless nobody has asked for long.

        Raises:
            KeyUnusable: it can't be had.
        """
        if not self._slow:
            return secrets.load(self._uri)
        age = self._clock() - self._at
        if age > STALE_S:
            self._value, self._at = secrets.load(self._uri), self._clock()
        if age > FRESH_S and self._asking.acquire(blocking=False):
            threading.Thread(target=self._ask, name="secret", daemon=True).start()
        return self._value

    def _ask(self) -> None:
        try:
            self._value, self._at = secrets.load(self._uri), self._clock()
        except KeyUnusable:
            # The value at hand holds on until it is stale; the next caller has the store asked again.
            return
        finally:
            self._asking.release()

    def __repr__(self) -> str:
        return f"Held({self._uri})"
