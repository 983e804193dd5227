"""How the command line speaks: data on stdout, the rest on stderr, colour on a terminal only."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

_SOON = 0.5
"""Seconds after which a bar appears."""


def standard_input() -> bytes:
    """All of standard input."""
    if sys.stdin is None:
        raise click.UsageError("standard input is closed")
    return sys.stdin.buffer.read()


def fail(what: str, hint: str = "") -> None:
    """`error:` and, below it, `hint:`."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {what}", err=True, color=_colour(sys.stderr))
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {hint}", err=True, color=_colour(sys.stderr))


def say(text: str) -> None:
    """A remark, on stderr."""
    click.echo(text, err=True, color=_colour(sys.stderr))


def out(text: str = "") -> None:
    """Data, on stdout."""
    click.echo(text, color=_colour(sys.stdout))


def out_json(value: Any) -> None:
    """Data as one line of JSON, on stdout."""
    import msgspec

    click.echo(msgspec.json.encode(value).decode())


def table(rows: Sequence[Sequence[str]]) -> None:
    """Rows in columns, on stdout; the last column as long as it is."""
    widths = [max(len(click.unstyle(row[i])) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)]
        out("  ".join(cells).rstrip())


def plain(text: str) -> str:
    """A name as it may reach a terminal: what is no printable character is shown as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def short(run: str) -> str:
    """A run's id as people see it: the last eight characters."""
    return run[-8:]


def count(number: int, what: str) -> str:
    """`1 run`, `38 runs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def dim(text: str) -> str:
    """Less important."""
    return click.style(text, dim=True)


def moment(time: datetime, now: datetime | None = None) -> str:
    """A time in this machine's zone: of today the hour, of this week the day, else the date."""
    local = time.astimezone()
    today = (now or datetime.now().astimezone()).date()
    days = (today - local.date()).days
    if days == 0:
        return local.strftime("%H:%M:%S")
    return local.strftime("%a %H:%M") if 0 < days < 7 else local.strftime("%Y-%m-%d")


@contextmanager
def progress(label: str, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, for what takes longer than a moment; it is gone in the end. Nothing elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    began = time.monotonic()
    drawn = False

    def update(done: int, total: int) -> None:
        nonlocal drawn
        passed = time.monotonic() - began
        if passed < _SOON:
            return
        part = min(1.0, done / max(1, total))
        left = f"{passed / part - passed:,.0f} s left" if part > 0.02 else ""
        bar = "█" * int(24 * part) + "░" * (24 - int(24 * part))
        click.echo(f"\r{label} {bar} {part:4.0%}  {left:<16}", nl=False, err=True)
        drawn = True

    try:
        yield update
    finally:
        if drawn:
            click.echo("\r" + " " * (len(label) + 50) + "\r", nl=False, err=True)


def _colour(stream: Any) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def ledger_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--ledger PATH`."""
    return click.option(
        "--ledger", "where", metavar="PATH", help="The ledger [default: LEDGER, else .ledger here or above]."
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def identity_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--identity URI`."""
    return click.option(
        "--identity",
        metavar="URI",
        help="Opens contents: file:PATH or env:NAME [default: LEDGER_IDENTITY, else yours].",
    )(command)
