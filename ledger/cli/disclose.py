"""`ledger disclose`: hand out one content."""

import sys
from pathlib import Path

import click

from ledger.cli import voice


@click.command("disclose")
@click.argument("address", metavar="artifact://…")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write [default: standard output].")
@voice.identity_option
@voice.ledger_option
def command(address: str, output: Path | None, identity: str | None, where: str | None) -> None:
    """Write a file that opens this one content to whoever has it, and proves that it is in the log.

    That it was disclosed is recorded. Nothing else of the ledger can be read with it.

    \b
    example:
      ledger disclose artifact://5f1c… -o plan.disclosure
    """
    from ledger.disclose import disclose
    from ledger.index.reader import Log

    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise click.UsageError(f"{output}: can't be written there")
    with Log.open(where, identity=identity) as log:
        data = disclose(log, address).encode()
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        output.write_bytes(data)
        voice.say(f"wrote {output}   check it: ledger verify {output}   read it: ledger cat {output}")
