"""What two verifiers say of a ledger: ours, and the independent one of examples/. They must agree."""

import subprocess
import sys
import tempfile
from pathlib import Path

import ledger
from ledger.audit.report import Report
from tests.support.machine import Machine

VERIFIER = Path(__file__).parent.parent.parent / "examples" / "verify.py"


def stranger(path: Path, vkey: str) -> tuple[bool, str]:
    """What the independent verifier says."""
    done = subprocess.run([sys.executable, str(VERIFIER), str(path), vkey], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0, done.stdout


def judged(path: Path, vkey: str) -> Report:
    """The verdict of an auditor who never saw the ledger, on which both verifiers agree."""
    with tempfile.TemporaryDirectory() as folder, Machine.under(Path(folder)).here():
        report = ledger.verify(path, trust=vkey)
    sound, said = stranger(path, vkey)
    assert report.sound == sound, f"ours: {report.findings or 'sound'}, the other: {said}"
    return report


def sound(path: Path, vkey: str) -> Report:
    """Both call it sound."""
    report = judged(path, vkey)
    assert report.sound, report.findings
    return report


def unsound(path: Path, vkey: str, *steps: int) -> Report:
    """Both reject it, ours at these steps and no other."""
    report = judged(path, vkey)
    assert not report.sound
    assert {finding.step for finding in report.findings} <= set(steps), report.findings
    return report
