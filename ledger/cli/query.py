"""`ledger query`: SQL over the index."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ledger.cli import voice

if TYPE_CHECKING:
    import pyarrow as pa


@click.command("query")
@click.argument("sql", callback=voice.check_text)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@voice.ledger_option
@voice.json_option
def command(sql: str, as_csv: bool, where: str | None, as_json: bool) -> None:
    """Ask the index by SQL (DuckDB). Reads only; contents stay sealed.

    Views: entries, runs, calls, blobs, decisions, violations, costs, retries, approvals, requests.

    \b
    examples:
      ledger query "SELECT kind, count(*) FROM entries GROUP BY kind"
      ledger query "SELECT stage, count(*) FROM calls GROUP BY stage" --csv
      ledger query "DESCRIBE entries"
    """
    from ledger.index.reader import Log

    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    with Log.open(where) as log:
        table = log.query(sql)
    if as_csv:
        _print_csv(table)
    elif as_json:
        with _castable():
            for row in table.to_pylist():
                voice.out_json(row)
    else:
        with _castable():
            _print(table)


def _print_csv(table: "pa.Table") -> None:
    import pyarrow
    from pyarrow import csv

    from schemas.errors import UsageError

    try:
        csv.write_csv(table, sys.stdout.buffer)
    except pyarrow.ArrowException:
        raise UsageError(
            "a column can't be written as CSV", hint="cast lists, structs and intervals to text, or --json"
        ) from None


@contextmanager
def _castable() -> Iterator[None]:
    """Where Python or JSON has no such value, as of a time that never comes, the database's own text has."""
    import pyarrow

    from schemas.errors import UsageError

    try:
        yield
    except (ValueError, OverflowError, TypeError, pyarrow.ArrowException):
        raise UsageError("a value can't be printed", hint="cast its column to text: name::VARCHAR") from None


def _print(table: "pa.Table") -> None:
    names = [click.style(name, bold=True) for name in table.column_names]
    columns = [column.to_pylist() for column in table.columns]
    voice.table([names, *([voice.plain(_cell(value)) for value in row] for row in zip(*columns, strict=True))])
    voice.say(voice.dim(f"{voice.count(table.num_rows, 'row')}"))


def _cell(value: object) -> str:
    return "" if value is None else str(value)
