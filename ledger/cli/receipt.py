"""`ledger receipt`: an offline proof of one entry."""

import sys
from pathlib import Path

import click

from ledger.cli import voice


@click.command("receipt")
@click.argument("what", metavar="INDEX|STEP")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write [default: standard output].")
@voice.ledger_option
def command(what: str, output: Path | None, where: str | None) -> None:
    """Write a proof (C2SP tlog-proof) that an entry is in the log, at its place, by its author.

    It is checked offline, with the owner's line alone: ledger verify FILE --trust VKEY

    \b
    example:
      ledger receipt 519 -o 519.tlog-proof
    """
    from ledger.cli import names
    from ledger.index.reader import Log

    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise click.UsageError(f"{output}: can't be written there")
    with Log.open(where) as log:
        data = log.receipt(names.entry(log, what).index).format()
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        output.write_bytes(data)
        voice.say(f"wrote {output}   check it: ledger verify {output}")
