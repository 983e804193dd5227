"""What it takes to append: the committer, the contents, the keys of runs, a clock."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ledger.chain import Chain
from ledger.commit import Appended, Committer, Draft
from schemas.errors import NotFound, RunClosed
from schemas.ids import is_run_id, run_key_id
from store.blobs import Blobs
from store.datakeys import Random, project_id
from store.seal import DataKey

Clock = Callable[[], datetime]


class Writer:
    """Appends on behalf of runs.

    Args:
        committer: gives the committer; asked for when first needed, so that a reader needs no author key.

    Attributes:
        log: the open ledger that it belongs to.
    """

    def __init__(
        self, chain: Chain, blobs: Blobs, committer: Callable[[], Committer], clock: Clock, random: Random
    ) -> None:
        self.chain = chain
        self.blobs = blobs
        self.clock = clock
        self.random = random
        self._find_committer = committer
        self._committer: Committer | None = None
        self.log: Any = None
        self._keys: dict[str, DataKey] = {}

    @property
    def committer(self) -> Committer:
        """The committer.

        Raises:
            KeyUnusable: this process has no author key.
        """
        if self._committer is None:
            self._committer = self._find_committer()
        return self._committer

    def close(self) -> None:
        """Commits what was handed in, and takes no more."""
        if self._committer is not None:
            self._committer.close()

    def commit(self, draft: Draft) -> list[Appended]:
        """Commits a draft; returns when it is durable."""
        result = self.committer.append(draft)
        self.learn(draft)
        return result

    def learn(self, draft: Draft) -> None:
        """Remembers the lists of a draft that was committed, and that their pieces are there."""
        for prepared in draft.contents:
            if prepared.learned or prepared.pieces:
                self.blobs.prefixes.learn(prepared.learned)
                self.blobs.learn(prepared)

    def new_key(self, run: str) -> DataKey:
        """Makes the data key of a new run."""
        key = self.blobs.keyring.make(run_key_id(run), self.chain.state.readable().note.recipient)
        self._keys[run] = key
        return key

    def key(self, run: str, *, late: bool = False) -> DataKey:
        """The data key to seal a run's contents under.

        Args:
            late: for the end of a call that was open when the run finished.

        Raises:
            RunClosed: the run is not open.
            NotFound: it is no run id.
        """
        history = self.chain.state.history
        found = history.runs.get(run) if late else history.find(run)
        if found is None:
            self._keys.pop(run, None)
            if not is_run_id(run):
                raise NotFound(f"not a run id: {run[:60]!r}", hint="`ledger log` lists runs")
            raise RunClosed(f"run {run} is not open", hint="it finished, was erased, or never started in this ledger")
        key = self._keys.get(run)
        if key is None:
            recipient = self.chain.state.readable().note.recipient
            key = self._keys[run] = self.blobs.keyring.to_write(run_key_id(run), found.key, recipient)
        return key

    def project_key(self) -> DataKey:
        """The data key that runs share."""
        note = self.chain.state.readable().note
        return self.blobs.keyring.to_write(project_id(note.root), note.project, note.recipient)
