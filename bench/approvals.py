"""What an approval costs: `python -m bench.approvals`. Microseconds, median of many."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median

import msgspec

from policies import sshsig
from policies.approvals import Answer, Request, state_of
from policies.history import History
from policies.requests import Action, Event, Requests
from policies.statement import sha512, text
from schemas.entries import ApprovalRequested, Decided, Known, ModelRequest, RunStarted
from tests.support.people import Person

WHEN, RUN = datetime(2026, 11, 20, tzinfo=UTC), "018f3c1e-7b2a-7c3d-8e4f-0123456789ab"
ADDRESS, DIGEST = "artifact://" + "ab" * 32, "cd" * 32


def timed(what: Callable[[], object], rounds: int = 2_000) -> float:
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        what()
        found.append(time.perf_counter() - began)
    return median(found) * 1e6


def asked() -> ApprovalRequested:
    return ApprovalRequested(
        v=1, time=WHEN, run=RUN, step=2, stage="release", content=ADDRESS, digest=DIGEST, action="model.request",
        subject=DIGEST, request=ADDRESS, policies=["11" * 32], quorum=["2 of lead"], requester="ci", nonce="0" * 32,
        expires=WHEN + timedelta(hours=1), model="m", reserved=1_000,
    )  # fmt: skip


def calls(count: int) -> list[Known]:
    entries: list[Known] = [RunStarted(v=1, time=WHEN, run=RUN, step=1, key="00" * 32)]
    common = {"v": 1, "time": WHEN, "run": RUN, "content": ADDRESS, "digest": DIGEST}
    for number in range(count):
        step = 2 * number + 2
        allowed = {"action": "model.request", "effect": "allow", "rules": [], "policies": ["11" * 32]}
        entries.append(Decided(**common, step=step, **allowed))
        sent = {"decision": step, "model": "m", "key": DIGEST, "attempt": number + 1, "envelope": ADDRESS}
        entries.append(ModelRequest(**common, step=step + 1, **sent))
    return entries


def main() -> None:
    people = [Person(f"p{number}", ("lead",)) for number in range(20)]
    approvers = tuple(person.approver() for person in people)
    request, entry = Request(asked()), asked()
    request.answers += [Answer(3 + number, people[number].public, "approve") for number in range(2)]
    requests = Requests()
    for number in range(20):
        one = msgspec.structs.replace(entry, nonce=f"{number:032x}")
        requests.add(Event(2 + number, one), "test.example/log", {})
    action = Action("model.request", DIGEST, "release", "", "", "m", 1_000, ["11" * 32])
    document = text("test.example/log", entry, "approve")
    blob, digest = people[19].blob(document), sshsig.digest(document)
    keys = [approver.key for approver in approvers]
    entries = calls(2_000)

    def fold() -> None:
        history = History()
        for index, one in enumerate(entries, 1):
            history.add(index, one)

    def check() -> None:
        requests.find(action)
        state_of(request, approvers, 9, WHEN)

    for name, what, rounds, count in (
        ("a request found among 20, and where it stands", check, 2_000, 1),
        ("the statement and its hash", lambda: sha512("test.example/log", entry, "approve"), 2_000, 1),
        ("one SSHSIG, among 20 keys", lambda: sshsig.verify(blob, digest, keys), 2_000, 1),
        ("the fold, an entry of a run without requests", fold, 20, len(entries)),
    ):
        print(f"{name:48} {timed(what, rounds) / count:7.2f} µs")


if __name__ == "__main__":
    main()
