"""The publisher: writes tiles, then signs and replaces `checkpoint`. The log key signs nowhere else.

It signs only what is durable and proven, and never replaces a checkpoint by a smaller one. One publisher at
a time works on a machine; what a crash leaves half done is done again.
"""

import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from ledger import checkpoint, pins
from ledger.chain import Chain
from ledger.checkpoint import Checkpoint, Head
from ledger.merkle import leaf_hash
from ledger.tiles import Builder
from schemas.errors import KeyUnusable, LedgerError, Malformed, Missing, NotSound, StorageFailed
from store.folder import Folder
from store.signers import Signer


class NotPublished(UserWarning):
    """What was committed is durable, but tiles, checkpoint or pin could not be written."""


INTERVAL = 1.0
"""Seconds between two checkpoints at least."""


def publish(
    folder: Folder, chain: Chain, log: Signer, builder: Builder | None, head: Head, *, again: bool = False
) -> Builder | None:
    """Publishes a proven head, unless a checkpoint of that size or more is there.

    Args:
        builder: from an earlier call, to go on from.
        again: write everything from the builder on, even if it is published; the checkpoint is not made smaller.

    Returns:
        The builder at the published size, for the next call; None where another one has published more.

    Raises:
        NotSound: what lies in the store is not what was proven (step 4).
    """
    found = _published(folder, chain)
    if found is not None and (found.head.size > head.size or (found.head.size == head.size and not again)):
        return None
    if builder is None or (not again and (found is None or builder.size != found.head.size)):
        builder = _go_on(folder, found)
    for stretch in chain.leaves(builder.size, head.size):
        for leaf, hash in zip(stretch.leaves, stretch.hashes or map(leaf_hash, stretch.leaves), strict=True):
            builder.append(leaf, hash)
    if builder.size != head.size or builder.root() != head.root:
        raise NotSound("the packs do not make the tree that was proven: nothing was published", step=4)
    folder.put(builder.flush())
    signed = checkpoint.sign(chain.state.origin, head, log)
    folder.put({"checkpoint": signed})
    chain.checkpoint, chain.published = signed, head.size
    for name in builder.filled:
        for partial in list(folder.list(f"{name}.p")):
            folder.delete(partial)
    builder.filled = []
    return builder


def _published(folder: Folder, chain: Chain) -> Checkpoint | None:
    data = folder.find("checkpoint")
    try:
        return Checkpoint.parse(data, chain.state.trusted().log) if data is not None else None
    except Malformed:
        return None


def _go_on(folder: Folder, found: Checkpoint | None) -> Builder:
    """The builder at the last checkpoint where its tiles are whole, else at nothing."""
    if found is not None:
        try:
            builder = Builder.load(folder, found.head.size)
            if builder.root() == found.head.root:
                return builder
        except (Missing, NotSound):
            pass
    return Builder()


class Publisher:
    """Publishes in the background, at most once a second, and when it is closed.

    Args:
        lock: held while the committer changes `chain`.
        home: where this machine keeps its pins.
        log: the log's key, or what opens it; None where this machine lacks it: then only pins are kept.
        after: called in the background after each time, for what else is derived.
    """

    def __init__(
        self,
        chain: Chain,
        lock: threading.Lock,
        home: Path,
        log: Signer | Callable[[], Signer] | None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.chain = chain
        self.lock = lock
        self.home = home
        self._log = log
        self._after = after
        self._builder: Builder | None = None
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._pinned = chain.state.packs
        self._committed = False
        self._last = 0.0

    @property
    def log(self) -> Signer | None:
        """The log's key, opened when it is first asked for.

        Raises:
            KeyUnusable: it can't be.
        """
        if self._log is not None and not isinstance(self._log, Signer):
            self._log = self._log()
        return self._log

    def nudge(self) -> None:
        """Says that this process has committed something."""
        self._committed = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ledger-publisher", daemon=True)
            self._thread.start()
        self._wake.set()

    def now(self) -> None:
        """Publishes at once, and keeps the pin."""
        folder = self.chain.folder
        if self.log is not None:
            with pins.locked(folder.for_locks() / "publisher.lock"):
                with self.lock:
                    head = self.chain.head
                # After the head is fixed: nothing that it covers may be lost alone.
                self.chain.settle()
                self._builder = publish(folder, self.chain, self.log, self._builder, head)
        self._pin()
        self._last = time.monotonic()

    def close(self) -> None:
        """Publishes what is left.

        What could not be published or pinned is made up for by whoever comes next: what was acknowledged is durable
        all the same. Who has committed something is warned, who only reads is not.
        """
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if self.chain.folder.disk.failed is not None or not self.chain.state.packs:
            return
        try:
            if self.chain.published >= self.chain.state.size or self.log is None:
                self._pin()
            else:
                self.now()
        except (StorageFailed, KeyUnusable) as error:
            if self._committed:
                warnings.warn(
                    f"what was appended is durable, but could not be published: {error.what}",
                    NotPublished,
                    stacklevel=3,
                )
            self._pin_if_possible()

    def _pin_if_possible(self) -> None:
        try:
            self._pin()
        except StorageFailed:
            # Without a pin a later rollback shows by --since alone; nothing is lost.
            return

    def _pin(self) -> None:
        with self.lock:
            pin = pins.of(self.chain.state)
        if pin.packs != self._pinned:
            self.chain.settle()
            pins.save(self.home, self.chain.state.owner, pin)
            self._pinned = pin.packs

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(max(0.0, self._last + INTERVAL - time.monotonic()))
            if self._closing.is_set():
                return
            self._wake.clear()
            try:
                self.now()
                self._after()
            except (LedgerError, OSError):
                # What is derived can wait; if the fault stays, close() meets it and reports it.
                self._last = time.monotonic()
                if self.chain.folder.disk.failed is not None:
                    return
                self._wake.set()
