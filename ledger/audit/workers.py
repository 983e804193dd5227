"""Workers on all cores: processes of their own, asked over pipes.

Not `multiprocessing`: its children either copy a process that may have threads, or run the caller's main
module again.
"""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, TypeVar

import msgspec

from schemas.errors import LedgerError, StorageFailed

_DONE, _FAILED = b"+", b"-"
T = TypeVar("T")
R = TypeVar("R")


class WorkerFailed(LedgerError):
    """A worker ended before its answer: killed, or a fault of ours."""

    exit_status = 70


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def send(pipe: IO[bytes], data: bytes) -> None:
    """Writes one message: its length, then itself."""
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """Reads one message; empty at the end."""
    head = pipe.read(8)
    return pipe.read(int.from_bytes(head, "little")) if len(head) == 8 else b""


class _Worker:
    def __init__(self, module: str) -> None:
        # The module's folder first: the same code as ours, wherever the caller was started.
        home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self.process = subprocess.Popen(
            # -P: never what lies in the folder that the caller happens to be in.
            [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {home!r}); import {module} as m; m.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # An interrupt is ours to handle: we end them.
            start_new_session=True,
        )

    def ask(self, data: bytes) -> bytes:
        if self.process.stdin is None or self.process.stdout is None:
            raise WorkerFailed("a worker has no pipes")
        try:
            send(self.process.stdin, data)
            answer = receive(self.process.stdout)
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise WorkerFailed("a worker of the audit ended early", hint="out of memory? try again; it left no trace")
        if answer[:1] == _FAILED:
            raise StorageFailed(answer[1:].decode())
        return answer[1:]

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


def each(
    module: str, tasks: Iterable[T], answer: type[R], here: Callable[[T], R], parallel: bool
) -> Iterator[tuple[T, R]]:
    """Answers of tasks, in order of the tasks; a few are under way ahead of the caller.

    Args:
        module: has `serve()`, which answers what `here` does.
        here: does it in this process, where it is not worth workers.
        parallel: whether it is.
    """
    count = cores()
    if not parallel or count < 2:
        for task in tasks:
            yield task, here(task)
        return
    idle: SimpleQueue[_Worker] = SimpleQueue()
    made: list[_Worker] = []
    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(answer)

    def ask(task: T) -> R:
        worker = idle.get()
        try:
            return decoder.decode(worker.ask(encoder.encode(task)))
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(count, thread_name_prefix="ledger-audit")
    try:
        for _ in range(count):
            made.append(_Worker(module))
            idle.put(made[-1])
        waiting: deque[tuple[T, Future[R]]] = deque()
        for task in tasks:
            waiting.append((task, pool.submit(ask, task)))
            if len(waiting) > 2 * count:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for worker in made:
            worker.process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
        for worker in made:
            worker.close()


def serve(task: type[T], do: Callable[[T], object]) -> None:
    """The worker's side: answers until the pipe ends."""
    decoder, encoder = msgspec.msgpack.Decoder(task), msgspec.msgpack.Encoder()
    while data := receive(sys.stdin.buffer):
        try:
            answer = _DONE + encoder.encode(do(decoder.decode(data)))
        except LedgerError as error:
            answer = _FAILED + error.what.encode()
        send(sys.stdout.buffer, answer)
