"""What must hold after any crash: nothing acknowledged is lost, all is sound, and appending goes on.

Soundness is decided in one place, `why_not_sound`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import ledger
from ledger.commit import Appended
from tests.support.machine import Place

_EXAMPLE = Path(__file__).parents[2] / "examples" / "verify.py"


class Promise(NamedTuple):
    """What an acknowledgement promised: a content with this SHA-256 at this index; both empty without content."""

    index: int
    address: str = ""
    digest: str = ""

    @classmethod
    def of(cls, made: Appended, content: bytes) -> "Promise":
        """What the append of a content returned."""
        return cls(made.index, made.address, sha256(content).hexdigest())


def why_not_sound(place: Place) -> str:
    """What an auditor who never saw the ledger finds wrong; empty where it is sound."""
    with tempfile.TemporaryDirectory(dir=place.path.parent) as empty, place.machine.forgetful(Path(empty)).here():
        report = ledger.verify(place.path)
    return "\n".join(f"({finding.step}) {finding.what}" for finding in report.findings)


def why_not_sound_elsewhere(place: Place) -> str:
    """The same by the verifier that shares no code with ours."""
    command = [sys.executable, str(_EXAMPLE), str(place.path), place.trust.owner]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def assert_kept(place: Place, promises: Iterable[Promise]) -> None:
    """The ledger is sound as it lies, and every promised entry is in its place with its content."""
    wrong = why_not_sound(place)
    assert not wrong, wrong
    with tempfile.TemporaryDirectory(dir=place.path.parent) as empty, place.machine.forgetful(Path(empty)).here():
        log = ledger.open(place.path)
        try:
            for promise in promises:
                entry = log.entry(promise.index).entry
                assert getattr(entry, "content", "") == promise.address, f"entry {promise.index} is another"
                if promise.address:
                    found = sha256(log.read(promise.address)).hexdigest()
                    assert found == promise.digest, f"entry {promise.index} has another content"
        finally:
            log.places.close()
            log.folder.close()


def assert_goes_on(place: Place) -> Promise:
    """Whoever wrote before the crash, with the pins of that time, opens the ledger and appends."""
    content = os.urandom(24)
    with place.machine.here(), ledger.open(place.path) as log:
        made = log.run("afterwards").prompt(content)
    return Promise.of(made, content)


def assert_survived(place: Place, promises: Iterable[Promise]) -> None:
    """All of it: sound without a repair, then appended to, then sound again, and everything kept."""
    wrong = why_not_sound(place)
    assert not wrong, wrong
    assert_kept(place, [*promises, assert_goes_on(place)])


def read_promises(lines: Iterable[str]) -> list[Promise]:
    """The acknowledgements that `tests/support/appender.py` printed."""
    found = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "kept":
            found.append(Promise(*json.loads(rest)))
    return found
