"""How the command line speaks: data on stdout, the rest on stderr, colour on a terminal only."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click


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


def short(run: str) -> str:
    """A run's id as people see it: the last eight characters."""
    return run[-8:]


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
    """A bar on a terminal, nothing elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with click.progressbar(length=1000, label=label, file=sys.stderr, show_eta=True) as bar:
        done_before = 0

        def update(done: int, total: int) -> None:
            nonlocal done_before
            now = 1000 * done // max(1, total)
            bar.update(now - done_before)
            done_before = now

        yield update


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
