"""What came of a replay: a verdict, and everything that was not alike; for people, as JSON, and as an entry."""

from typing import Literal

import msgspec

from replay.compare import Difference

Verdict = Literal["reproduced", "diverged", "not_replayable"]
EXIT: dict[str, int] = {"reproduced": 0, "diverged": 1, "not_replayable": 3}


class Strange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that was not recorded.

    Attributes:
        nearest: index of the recorded request that is most like it; 0 for none.
        differences: from that.
    """

    nearest: int
    differences: list[Difference] = []


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """A path that was left otherwise than recorded.

    Attributes:
        recorded, now: what stands there, in a word and a digest; empty where nothing does.
        at: where a text differs first, in words.
    """

    path: str
    recorded: str
    now: str
    at: str = ""


class Step(msgspec.Struct):
    """One command.

    Attributes:
        index: of its `action.started`.
        argv: the command.
        recorded, now: exit statuses; None where it was interrupted.
        changed: how many files it changed when it was recorded.
        files: what it left otherwise.
        printed: streams on which it printed something else; not decisive.
        toolchain: what it ran on that was otherwise.
        seconds: how long it took.
    """

    index: int
    argv: list[str]
    recorded: int | None = None
    now: int | None = None
    changed: int = 0
    files: list[File] = []
    printed: list[str] = []
    toolchain: list[str] = []
    seconds: float = 0.0

    @property
    def is_alike(self) -> bool:
        """Whether everything that decides is."""
        return not self.files and (self.recorded is None or self.recorded == self.now)


class Report(msgspec.Struct):
    """All of it.

    Attributes:
        run: that was executed again.
        verdict: of everything that decides.
        recorded, matched: how many requests there were, and how many were asked again.
        unknown: requests that were not recorded.
        unasked: indexes of those that were recorded, and not asked.
        ambiguous: indexes of those whose order was chance.
        appended: what programs appended otherwise.
        steps: the commands.
        missing: what keeps it from being executed.
        remarks: what is worth knowing.
        seconds: how long it took.
        entry: index of the entry that says so.
    """

    run: str
    verdict: Verdict = "reproduced"
    recorded: int = 0
    matched: int = 0
    unknown: list[Strange] = []
    unasked: list[int] = []
    ambiguous: list[int] = []
    appended: list[str] = []
    steps: list[Step] = []
    missing: list[str] = []
    remarks: list[str] = []
    seconds: float = 0.0
    entry: int = 0

    def settle(self) -> None:
        """Says the verdict."""
        alike = not (self.unknown or self.unasked or self.appended) and all(step.is_alike for step in self.steps)
        self.verdict = "not_replayable" if self.missing else "reproduced" if alike else "diverged"

    def lines(self) -> list[str]:
        """For people: the verdict, then what came first."""
        files = sum(step.changed for step in self.steps)
        wrong = sum(len(step.files) for step in self.steps)
        now = [step.now for step in self.steps if step.now is not None]
        parts = [self.verdict.replace("_", " ")]
        if not self.missing:
            parts.append(f"{self.matched:,}/{self.recorded:,} requests")
            parts.append(f"{max(files - wrong, 0):,}/{files:,} files")
            parts += [f"exit {now[-1]}"] if now else []
            parts += [f"{self.seconds:,.1f} s", "no network"]
        told = ["   ".join(parts), *(f"  missing: {what}" for what in self.missing)]
        for step in self.steps:
            told += [f"  toolchain: {what}" for what in step.toolchain]
        for number, one in enumerate(self.unknown):
            told += _request(one, first=number == 0)
        told += [f"  entry {index} was asked when recorded, and is not now" for index in self.unasked[:5]]
        told += [f"  {what}" for what in self.appended[:5]]
        for step in self.steps:
            told += _step(step)
        told += [
            f"  entry {index}: alike requests under way together; their order is chance" for index in self.ambiguous[:5]
        ]
        return [*told, *(f"  {what}" for what in self.remarks)]


def _request(one: Strange, *, first: bool) -> list[str]:
    if not one.nearest:
        return ["  a request more than recorded"]
    told = [f"  {'first ' if first else ''}request that was not recorded; nearest is entry {one.nearest}"]
    for path, recorded, now in one.differences[:3] if first else ():
        told += [f"    {path}", f"    - {recorded}", f"    + {now}"]
    return told


def _step(step: Step) -> list[str]:
    name = " ".join(step.argv)[:60]
    told = []
    if step.recorded is not None and step.recorded != step.now:
        told.append(f"  {name}: exit {step.recorded} recorded, {step.now} now")
    for file in step.files[:5]:
        told.append(f"  {file.path}: {file.recorded or 'nothing'} recorded, {file.now or 'nothing'} now")
        told += [f"    {file.at}"] if file.at else []
    more = len(step.files) - 5
    told += [f"  and {more:,} more files"] if more > 0 else []
    told += [f"  {name}: printed something else on {', '.join(step.printed)} (not decisive)"] if step.printed else []
    return told
