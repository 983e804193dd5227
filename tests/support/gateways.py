"""A real gateway before the fake upstream, over a real ledger; and what tests ask of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

import ledger
from ledger.gateway import server
from ledger.gateway.client import Inside, token
from ledger.index.reader import Log
from ledger.run import Run
from ledger.state import Recorded
from schemas.entries import kind_of
from tests.support.scanned import secrets_in
from tests.support.upstream import Upstream

POLICY = """policy_id = "test"
requires_approval = false
allowed_models = ["gpt-5.4-mini", "gpt-5.3-codex"]
max_cost_usd = 50
"""


class Gate:
    """A gateway, its ledger, and a run.

    Attributes:
        url, token: for clients.
        http: posts to it.
    """

    def __init__(self, log: Log, run: Run, upstream: Upstream, policy: Path, **how: Any) -> None:
        self.log, self.run, self.upstream = log, run, upstream
        settings = server.Settings(upstream=upstream.url, key="env:UPSTREAM_KEY", policies=(str(policy),), **how)
        self.inside = Inside.start(log, settings)
        self.url = self.inside.url
        self.token = token(log, run.id)
        self.http = httpx2.Client(timeout=60)

    def post(self, body: Any, *, path: str = "/responses", **headers: str) -> httpx2.Response:
        """Posts a body, a dictionary as JSON, with the run's token."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(
            self.url + path,
            content=content,
            headers={"authorization": f"Bearer {self.token}", "content-type": "application/json", **named},
        )

    def ask(self, said: str = "hello", **more: Any) -> httpx2.Response:
        """A small request."""
        return self.post({"model": "gpt-5.4-mini", "input": said, **more})

    def entries(self, kind: str = "") -> list[Recorded]:
        """The run's entries, of one kind or all."""
        self.log.catch_up()
        found = list(self.log.entries(self.run))
        return [recorded for recorded in found if kind in ("", kind_of(recorded.entry))]

    def last(self, kind: str) -> Any:
        """The newest entry of a kind."""
        return self.entries(kind)[-1].entry


@contextmanager
def gate(
    path: Path, upstream: Upstream, folder: Path, policy: str = POLICY, *, log: Log | None = None, **how: Any
) -> Iterator[Gate]:
    """Opens a ledger and a gateway for it; in the end the ledger is sound, whatever happened."""
    file = folder / "policy.toml"
    file.write_text(policy)
    with ledger.open(path) as opened:
        run = opened.run("asked", stage="lift")
        found = Gate(opened, run, upstream, file, **how)
        try:
            yield found
        finally:
            found.http.close()
            found.inside.close()
    report = ledger.verify(path)
    assert report.sound, report.findings
    with ledger.open(path) as opened:
        in_clear = b"\n".join(recorded.raw for recorded in opened.entries())
    found = [(rule, in_clear[max(0, at - 80) : at + 80]) for rule, at in secrets_in(in_clear)]
    assert found == [], "a secret stands in an entry"


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    """The events of a streamed answer."""
    found = []
    for block in response.text.replace("\r\n", "\n").split("\n\n"):
        data = [line[6:] for line in block.splitlines() if line.startswith("data: ")]
        if data:
            found.append(msgspec.json.decode("\n".join(data)))
    return found
