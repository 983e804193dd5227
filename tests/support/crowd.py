"""One of many processes that append to one ledger at once.

usage: python crowd.py LEDGER BARRIER ENTRIES THREADS [RUN]

Waits until the file BARRIER exists. Its threads share ENTRIES among them, singly and in groups, in runs of their
own, or all in RUN. At the end one line of JSON: [[index, step, run, address, digest], …]
"""

import json
import os
import sys
import threading
import time
from hashlib import sha256

import ledger


def main() -> None:
    path, barrier, entries, threads, *named = sys.argv[1:]
    share = int(entries) // int(threads)
    made: list[tuple[int, int, str, str, str]] = []
    failed: list[str] = []
    print("ready", flush=True)
    while not os.path.exists(barrier):
        time.sleep(0.001)

    def append(log: ledger.Log) -> None:
        run = log.resume(named[0]) if named else log.run("crowd")
        done = 0
        while done < share:
            # Alone, or some at once: then they stand together, in order.
            count = 1 if done % 2 else min(4, share - done)
            contents = [os.urandom(50) for _ in range(count)]
            found = run.append_many(ledger.Item(kind="prompt", content=content) for content in contents)
            steps = [one.step for one in found]
            if steps != list(range(steps[0], steps[0] + count)):
                failed.append(f"a group was torn: steps {steps}")
            for one, content in zip(found, contents, strict=True):
                made.append((one.index, one.step, run.id, one.address, sha256(content).hexdigest()))
            done += count

    def guarded(log: ledger.Log) -> None:
        try:
            append(log)
        except BaseException as error:
            failed.append(repr(error))

    with ledger.open(path) as log:
        workers = [threading.Thread(target=guarded, args=(log,)) for _ in range(int(threads))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if failed:
        sys.exit("\n".join(failed))
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
