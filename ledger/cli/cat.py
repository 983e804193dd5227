"""`ledger cat`: a content to stdout."""

import os
import sys
from pathlib import Path

import click

from ledger.cli import voice


@click.command("cat")
@click.argument("address", metavar="artifact://…|INDEX|STEP|FILE")
@click.option("--trust", metavar="VKEY|FILE", help="For a disclosure: the owner's line [default: yours].")
@voice.identity_option
@voice.ledger_option
def command(address: str, trust: str | None, identity: str | None, where: str | None) -> None:
    """Write the content of an address, an entry, or a disclosure's FILE to standard output, checked and decrypted.

    Of a disclosure nothing is written unless its proof holds.

    \b
    example:
      ledger cat artifact://5f1c… > plan.txt
    """
    from ledger import remote
    from ledger.cli import names
    from ledger.index.reader import Log

    if not address.isdecimal() and os.path.isfile(address):
        from ledger.audit.subject import disclosed

        for piece in disclosed(Path(address), trust):
            sys.stdout.buffer.write(piece)
        return
    if url := remote.address(where):
        with remote.Log.open(url) as over:
            sys.stdout.buffer.write(over.read(address))
            sys.stdout.buffer.flush()
        return
    with Log.open(where, identity=identity) as log:
        log.catch_up_places()
        for piece in log.blobs.pieces(names.content(log, address)):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
