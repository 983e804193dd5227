"""A real process that appends, for tests that stop it, kill it, or fail its system calls.

usage: [CLOSE_FAILS=N] python appender.py LEDGER COUNT [RUN]

Says "ready PID" once all is loaded, waits for a line, then opens the ledger and appends COUNT prompts, a large
artifact among them (for ever where COUNT is 0). Each acknowledgement is one line, "kept [index, address, digest]";
an error of ours is "refused NAME", any other is "leaked TRACEBACK" and exit status 70.

It speaks by `writev` and hears by `readv`, so that faults in `write` and `read` meet the ledger alone. With
CLOSE_FAILS the Nth `os.close` closes and then reports EIO, as Linux does it (strace can only fail a close by
leaving the file open).
"""

import errno
import itertools
import json
import os
import sys
import traceback
from ctypes import CDLL, c_long, c_ulong

import ledger
from schemas.errors import LedgerError
from tests.support.proof import Promise


def say(text: str) -> None:
    os.writev(1, [text.encode() + b"\n"])


def append(path: str, count: int, id: str) -> None:
    with ledger.open(path) as log:
        run = log.resume(id) if id else log.run("appender")
        say(f"run {run.id}")
        done = 0
        while done < count or not count:
            content = os.urandom(70_000 if done % 5 == 2 else 40)
            made = run.prompt(content)
            say("kept " + json.dumps(Promise.of(made, content)))
            done += 1


def fail_close(at: int) -> None:
    close, calls = os.close, itertools.count(1)

    def failing(fd: int) -> None:
        close(fd)
        if next(calls) == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    os.close = failing


def main() -> None:
    # Whoever started us may trace us, also where tracing is limited to descendants (Yama).
    CDLL(None).prctl(0x59616D61, c_ulong(-1 & (2**64 - 1)), c_long(0), c_long(0), c_long(0))
    path, count, *run = sys.argv[1:]
    # Reads only, and loads all modules that are loaded late.
    ledger.open(path).folder.close()
    say(f"ready {os.getpid()}")
    os.readv(0, [bytearray(100)])
    fail_close(int(os.environ.get("CLOSE_FAILS", "0")))
    try:
        append(path, int(count), "".join(run))
    except LedgerError as error:
        say(f"refused {type(error).__name__} {error.what}")
    except BaseException:
        say(f"leaked {traceback.format_exc()!r}")
        sys.exit(70)
    say("done")


if __name__ == "__main__":
    main()
