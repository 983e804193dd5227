"""One of several processes that use one approval at once.

usage: python consumer.py LEDGER BARRIER RUN REQUEST

Opens the ledger, says "ready", waits until the file BARRIER exists, and sends what was approved. Says "sent INDEX",
or "refused WHY".
"""

import os
import sys
import time

import ledger
from schemas.errors import LedgerError
from tests.support.people import Asker


def main() -> None:
    path, barrier, run, request = sys.argv[1:]
    with ledger.open(path) as log:
        asker = Asker(log, run)
        log.author()
        print("ready", flush=True)
        while not os.path.exists(barrier):
            time.sleep(0.001)
        try:
            print("sent", asker.send(int(request), task="")[-1].index)
        except LedgerError as error:
            print("refused", error.what)


if __name__ == "__main__":
    main()
