"""What redaction finds, what it takes for a secret, and what it costs: beside gitleaks and kingfisher.

All see the same texts and one judge. `GITLEAKS` and `KINGFISHER` name their programs; those on the path are found.
"""

import json
import os
import shutil
import statistics
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from policies.redaction.profile import shipped as shipped_profile
from policies.redaction.scan import Scanner
from tests.support.clean_texts import Clean, clean
from tests.support.scanned import BARS, HELD_OUT, OFTEN, OURS, SOURCE, Alarms, alarms, missed, recall, scanner
from tests.support.secrets_corpus import PLACEMENTS, Planted, leaked, planted

Report = Callable[..., None]
_Masked = list[list[tuple[int, int]]]


def bench(report: Report, base: Path, rounds: int, *, quick: bool) -> None:
    corpus, held_out = list(planted()), list(planted(20_261_125, held_out=True))
    texts = list(clean(4 if quick else 20, base / "clean"))
    ours = scanner()
    lost = missed(corpus, ours)
    _recall(report, "ours", recall(corpus, lost), BARS)
    _recall(
        report, "ours, lines held out", recall(held_out, missed(held_out, ours)), dict.fromkeys(PLACEMENTS, HELD_OUT)
    )
    _kinds(report, corpus, lost)
    raised = alarms(texts, lambda text: (span.rule for span in ours.find(text.text)))
    _alarms(report, raised)
    _excess(report, corpus, ours)
    _speed(report, ours, texts, rounds)
    _turns(report, ours)
    for name, run in (("gitleaks", _gitleaks), ("kingfisher", _kingfisher)):
        program = os.environ.get(name.upper()) or shutil.which(name)
        if program is None:
            report(f"{name}: skipped, {name.upper()} names none", "")
            continue
        folders = base / f"{name}-planted", base / f"{name}-clean"
        _laid_out(folders[0], [(one.ending, one.text) for one in corpus])
        _laid_out(folders[1], [(text.ending, text.text) for text in texts])
        masked = _masks(corpus, run(program, folders[0]))
        theirs = recall(corpus, [one for one, spans in zip(corpus, masked, strict=True) if leaked(one, spans)])
        _recall(report, name, theirs, {}, recall(corpus, lost))
        began = time.perf_counter()
        found = run(program, folders[1])
        _raised(report, name, texts, found, raised, time.perf_counter() - began)


# --- Rows ------------------------------------------------------------------------------------------------------


def _recall(
    report: Report, whose: str, shares: dict[str, float], bars: Mapping[str, float], ours: Mapping[str, float] = {}
) -> None:
    for placement, share in shares.items():
        target, ok = "", None
        if placement in bars:
            target, ok = f">= {bars[placement]:.0%}", share >= bars[placement]
        if placement in ours:
            target, ok = "less than ours", share < ours[placement]
        report(f"redaction, recall, {placement}: {whose}", f"{share:.1%}", target, ok, share)


def _kinds(report: Report, corpus: list[Planted], lost: list[Planted]) -> None:
    """How many of a kind were found, raw, in escaped JSON once and twice, and so on."""
    every, not_ = (Counter((one.kind, one.placement) for one in some) for some in (corpus, lost))
    report("  found of each kind: " + ", ".join(PLACEMENTS), "")
    for kind in dict.fromkeys(one.kind for one in corpus):
        found = [every[kind, placement] - not_[kind, placement] for placement in PLACEMENTS]
        report(f"    {kind}", " ".join(map(str, found)), f"of {every[kind, PLACEMENTS[0]]} each", None, found)


def _alarms(report: Report, raised: Alarms) -> None:
    for of, megabytes in raised.megabytes.items():
        worst = ", ".join(f"{rule} {count}" for rule, count in raised.rules.get(of, Counter()).most_common(2))
        report(
            f"redaction, false alarms, {of}",
            f"{raised.found[of]} in {megabytes:.2f} MB",
            worst,
            None,
            raised.rules.get(of),
        )
    often, own = raised.often(*SOURCE), sum(raised.found[of] for of in OURS)
    report("redaction, false alarms, source", f"{often:.2f} per MB", f"<= {OFTEN:.0f}", often <= OFTEN, often)
    report("redaction, false alarms, our own records and requests", str(own), "0", own == 0, own)
    report("redaction, false alarms, all of it", f"{raised.often():.2f} per MB", "", None, raised.often())


def _excess(report: Report, corpus: list[Planted], ours: Scanner) -> None:
    """What is masked of the text around the secrets: a scanner that masked everything would find everything."""
    more = beside = 0
    for one in corpus:
        secret = set().union(*(range(start, end) for start, end in one.places))
        masked = set().union(*(range(span.start, span.end) for span in ours.find(one.text)))
        more += len(masked - secret)
        beside += len(one.text) - len(secret)
    report("redaction, masked of what stands around a secret", f"{more / beside:.1%}", "", None, more / beside)


def _speed(report: Report, ours: Scanner, texts: list[Clean], rounds: int) -> None:
    """Cold: nothing is remembered from one text to another; source first, then each class."""
    classes: dict[str, tuple[str, ...]] = {"source": SOURCE}
    classes |= {text.of: (text.of,) for text in texts if text.of != "placeholders"}
    for name, of in classes.items():
        some, speeds = [text.text for text in texts if text.of in of], []
        for _ in range(rounds):
            began = time.perf_counter()
            for text in some:
                ours.find(text)
            speeds.append(sum(map(len, some)) / 1e6 / (time.perf_counter() - began))
        speed = statistics.median(speeds)
        target, ok = (">= 20 MB/s", speed >= 20) if name == "source" else ("", None)
        report(f"redaction, cold, one core: {name}", f"{speed:.1f} MB/s", target, ok, speeds)


def _turns(report: Report, ours: Scanner) -> None:
    """A conversation that grows: what its next turn costs when it holds 40 kB that were seen before."""
    from bench.gateway import body
    from policies.redaction.exact import Exact
    from policies.redaction.redact import Redactor

    redactor = Redactor(shipped_profile("homebrew"), ours, Exact([]), bytes(32))
    request = json.loads(body("turn"))
    redactor.redact(request)
    took = []
    for number in range(60):
        request["input"].append({"type": "message", "role": "user", "content": f"go on, {number}"})
        began = time.perf_counter()
        redactor.redact(request)
        took.append((time.perf_counter() - began) * 1000)
    middle = statistics.median(took)
    report("redaction, a memoised turn of 40 kB", f"{middle:.2f} ms", "<= 0.3 ms", middle <= 0.3, took)


# --- Others ----------------------------------------------------------------------------------------------------


class _Finding(NamedTuple):
    """What another scanner reports: the file, the lines, and the text that it takes for a secret."""

    file: str
    first: int
    last: int
    secret: str
    rule: str


def _raised(report: Report, name: str, texts: list[Clean], found: list[_Finding], ours: Alarms, seconds: float) -> None:
    """False alarms of another scanner beside ours."""
    by_text: defaultdict[int, list[str]] = defaultdict(list)
    for finding in found:
        by_text[_number(finding.file)].append(finding.rule)
    numbers = iter(range(len(texts)))
    theirs = alarms(texts, lambda _: by_text[next(numbers)])
    for what, of in {"source": SOURCE, "our own records and requests": OURS, "all of it": ()}.items():
        often, least = theirs.often(*of), ours.often(*of)
        report(f"redaction, false alarms, {what}: {name}", f"{often:.2f} per MB", "not less than ours", least <= often)
    size = sum(theirs.megabytes.values())
    report(f"redaction, whole run: {name}", f"{size / seconds:.1f} MB/s", "", None, theirs.rules)


def _laid_out(folder: Path, texts: list[tuple[str, bytes]]) -> None:
    folder.mkdir()
    for number, (ending, text) in enumerate(texts):
        (folder / f"f{number}.{ending}").write_bytes(text)


def _number(file: str) -> int:
    return int(Path(file).name[1:].split(".")[0])


def _masks(corpus: list[Planted], found: list[_Finding]) -> _Masked:
    """What would be masked if every finding were: the text wherever it stands, or its lines where it was decoded."""
    masked: _Masked = [[] for _ in corpus]
    for finding in found:
        number = _number(finding.file)
        text, secret = corpus[number].text, finding.secret.encode()
        at = text.find(secret) if secret else -1
        if at < 0:
            lines = text.splitlines(keepends=True)
            start = len(b"".join(lines[: finding.first - 1]))
            masked[number].append((start, start + len(b"".join(lines[finding.first - 1 : finding.last]))))
        while at >= 0:
            masked[number].append((at, at + len(secret)))
            at = text.find(secret, at + 1)
    return masked


def _gitleaks(program: str, folder: Path) -> list[_Finding]:
    out = folder.with_suffix(".gitleaks.json")
    command = [program, "detect", "--no-git", "--no-banner", "--exit-code", "0", "-s", str(folder), "-r", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=1800)
    return [
        _Finding(one["File"], one["StartLine"], one["EndLine"], one["Secret"] or one["Match"], one["RuleID"])
        for one in json.loads(out.read_bytes())
    ]


def _kingfisher(program: str, folder: Path) -> list[_Finding]:
    """Without asking a vendor whether a secret works: none does."""
    out = folder.with_suffix(".kingfisher.json")
    command = [
        program,
        "scan",
        str(folder),
        "--no-validate",
        "--no-dedup",
        "--no-update-check",
        "--git-history",
        "none",
    ]
    command += ["--jobs", "1", "--format", "json", "--output", str(out)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=1800)
    if not out.is_file():
        raise RuntimeError(done.stderr.decode("utf-8", "replace")[-500:])
    return list(_kingfisher_findings(json.loads(out.read_bytes())))


def _kingfisher_findings(told: Any) -> Iterable[_Finding]:
    for one in told["findings"]:
        at = one["finding"]
        lines = at["snippet"].count("\n")
        yield _Finding(at["path"], at["line"], at["line"] + lines, at["snippet"], one["rule"]["id"])
