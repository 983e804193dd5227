"""`ledger disclose`: hand out one content."""

import shlex
import sys
from pathlib import Path

import click

from ledger.cli import voice


@click.command("disclose")
@click.argument("what", metavar="artifact://…|INDEX|STEP")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write [default: standard output].")
@voice.identity_option
@voice.ledger_option
@voice.json_option
def command(what: str, output: Path | None, identity: str | None, where: str | None, as_json: bool) -> None:
    """Write a file that opens one content, by address or entry, to whoever has it, and proves that it is in the log.

    That it was disclosed is recorded. Nothing else of the ledger can be read with it.

    \b
    example:
      ledger disclose artifact://5f1c… -o plan.disclosure
    """
    import msgspec

    from ledger.cli import names
    from ledger.disclose import disclose
    from ledger.index.reader import Log

    voice.check_output(output)
    with Log.open(where, identity=identity) as log:
        address = names.content(log, what)
        data = disclose(log, address).encode()
    if output is not None:
        voice.save(output, data)
    if as_json:
        written = {"disclosure": msgspec.Raw(data.strip())} if output is None else {"output": voice.plain(str(output))}
        voice.out_json({"address": address, **written})
    elif output is None:
        sys.stdout.buffer.write(data)
    else:
        quoted = shlex.quote(str(output))
        voice.say(f"wrote {output}   check it: ledger verify {quoted}   read it: ledger cat {quoted}")
