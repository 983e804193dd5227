"""`ledger receipt`: an offline proof of one entry."""

import shlex
import sys
from pathlib import Path

import click

from ledger.cli import voice


@click.command("receipt")
@click.argument("what", metavar="INDEX|STEP")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write [default: standard output].")
@voice.ledger_option
@voice.json_option
def command(what: str, output: Path | None, where: str | None, as_json: bool) -> None:
    """Write a proof (C2SP tlog-proof) that an entry is in the log, at its place, by its author.

    It is checked offline, with the owner's line alone: ledger verify FILE --trust VKEY

    \b
    example:
      ledger receipt 519 -o 519.tlog-proof
    """
    from ledger.cli import names
    from ledger.index.reader import Log

    voice.check_output(output)
    if what.startswith("artifact://"):
        raise click.UsageError("a receipt is of an entry, and an address may be in many: `ledger show` lists them")
    with Log.open(where) as log:
        index = names.entry(log, what).index
        data = log.receipt(index).format()
    if output is not None:
        voice.save(output, data)
    if as_json:
        written = {"receipt": data.decode()} if output is None else {"output": voice.plain(str(output))}
        voice.out_json({"index": index, **written})
    elif output is None:
        sys.stdout.buffer.write(data)
    else:
        quoted = shlex.quote(str(output))
        voice.say(f"wrote {output}   check it: ledger verify {quoted}")
