"""One of several processes that spend from one run's budget at once.

usage: python spender.py LEDGER BARRIER RUN THREADS RESERVED CAP COST

Opens the ledger, says so, and waits until the file BARRIER exists. Each thread asks until the budget is full; where
COST is not negative it answers each call at that cost first. At the end one line of JSON: [[index, cost or -1], …]
"""

import json
import os
import sys
import threading
import time

import ledger
from tests.support.calls import Caller, OverBudget, fits


def main() -> None:
    path, barrier, run, *numbers = sys.argv[1:]
    threads, reserved, cap, cost = map(int, numbers)
    made: list[tuple[int, int]] = []
    failed: list[str] = []
    with ledger.open(path) as log:
        caller = Caller(log, run)
        log.author()
        print("ready", flush=True)
        while not os.path.exists(barrier):
            time.sleep(0.001)

        def spend(number: int) -> None:
            try:
                for turn in range(1000):
                    task = f"{os.getpid()}-{number}-{turn}"
                    asked = caller.ask(task, validate=fits(run, reserved, cap), reserved=reserved, cap=cap)
                    if cost >= 0:
                        caller.answer(asked.index, task, cost=cost, reserved=reserved)
                    made.append((asked.index, cost))
            except OverBudget:
                return
            except BaseException as error:
                failed.append(repr(error))

        workers = [threading.Thread(target=spend, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if failed:
        sys.exit("\n".join(failed))
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
