"""How the command line speaks: data on stdout, the rest on stderr, colour on a terminal only."""

import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

_SOON = 0.5
"""Seconds after which a bar appears."""


def prepare() -> bool:
    """Makes standard output take every name there is; False where it is closed, so that nothing can be told."""
    if sys.stderr is None:
        # Its number must not go to a file of ours, which C libraries would then write to.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        return False
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return True


def check_text(context: click.Context, parameter: click.Parameter, text: str) -> str:
    """The text again; bytes that are no UTF-8 reach us as surrogates, which no text holds."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise click.UsageError(f"{parameter.opts[0]}: not in UTF-8", context)
    return text


def standard_input() -> bytes:
    """All of standard input."""
    if sys.stdin is None:
        raise click.UsageError("standard input is closed")
    return sys.stdin.buffer.read()


def fail(what: str, hint: str = "") -> None:
    """`error:` and, below it, `hint:`."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {plain(what)}", err=True, color=_colour(sys.stderr))
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {plain(hint)}", err=True, color=_colour(sys.stderr))


def warn(what: str) -> None:
    """`warning:`, of what was done all the same."""
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {what}", err=True, color=_colour(sys.stderr))


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


def table(rows: Sequence[Sequence[str]], *, whole: bool = False) -> None:
    """Rows in columns, on stdout. On a terminal long cells are cut so that a row fits, unless `whole` is wanted."""
    widths = [max(len(click.unstyle(row[i])) for row in rows) for i in range(len(rows[0]))] if rows else []
    if sys.stdout.isatty() and not whole:
        _narrow(widths, shutil.get_terminal_size().columns - 2 * (len(widths) - 1))
    for row in rows:
        cells = [_cut(cell, width) for cell, width in zip(row, widths, strict=True)]
        out("  ".join(cells).rstrip())


_NARROWEST = 8


def _narrow(widths: list[int], room: int) -> None:
    """Takes from the widest columns what is too much."""
    widths[:] = [min(width, max(room, _NARROWEST)) for width in widths]
    while sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1


def _cut(cell: str, width: int) -> str:
    """A cell, styled as a whole, at this width."""
    text = click.unstyle(cell)
    if len(text) <= width:
        return cell + " " * (width - len(text))
    return cell.replace(text, text[: width - 1] + "…")


def check_output(path: Path | None) -> None:
    """Refuses, before there is anything to write, a place where no file can be."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise click.UsageError(f"{path}: can't be written there")


def save(path: Path, data: bytes) -> None:
    """Writes a file as a whole: it is there in the end, or nothing is."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        # A device or a pipe: nothing may take its place.
        path.write_bytes(data)
        return
    staged = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        staged.write_bytes(data)
        staged.replace(path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise


def plain(text: str) -> str:
    """A name as it may reach a terminal: what is no printable character is shown as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def short(run: str) -> str:
    """A run's id as people see it: the last eight characters."""
    return run[-8:]


def count(number: int, what: str, several: str = "") -> str:
    """`1 run`, `38 runs`."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def dim(text: str) -> str:
    """Less important."""
    return click.style(text, dim=True)


def moment(time: object, now: datetime | None = None) -> str:
    """A time in this machine's zone: of today the hour, of this week the day, else the date.

    Of what is no time, such as an entry of an unknown kind may have in its place, nothing.
    """
    try:
        local = (time if isinstance(time, datetime) else datetime.fromisoformat(str(time))).astimezone()
    except (ValueError, OverflowError):
        return ""
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
    if forced := os.environ.get("FORCE_COLOR"):
        return forced != "0"
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def check_uris(context: click.Context, parameter: click.Parameter, given: Any) -> Any:
    """URIs of secrets again; a secret in the place of its URI is refused, and not repeated."""
    from schemas.errors import KeyUnusable
    from store.secrets import check

    for uri in (given,) if isinstance(given, str) else given or ():
        try:
            check(uri or "env:_")
        except KeyUnusable as wrong:
            error = click.UsageError(f"{parameter.opts[0]}: {wrong.what}", context)
            error.hint = wrong.hint  # type: ignore[attr-defined]
            raise error from None
    return given


def key_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--key URI`."""
    return click.option(
        "--key",
        default="",
        metavar="URI",
        callback=check_uris,
        help="The real API key [default: the registered one, else env:OPENAI_API_KEY].",
    )(command)


def secrets_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--secret URI`, any number."""
    return click.option(
        "--secret",
        "values",
        multiple=True,
        metavar="URI",
        callback=check_uris,
        help="A value that must never leave, beside those of `ledger keys list`.",
    )(command)


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
        callback=check_uris,
        help="Opens contents: file:PATH, env:NAME, … [default: LEDGER_IDENTITY, else yours].",
    )(command)
