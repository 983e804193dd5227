"""`ledger cat`: a content to stdout."""

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
    from ledger.cli import names
    from ledger.cli.show import summary
    from ledger.index.reader import Log
    from schemas.errors import NotFound

    if not address.isdecimal() and Path(address).is_file():
        from ledger.audit.subject import disclosed

        sys.stdout.buffer.write(disclosed(Path(address), trust))
        return
    with Log.open(where, identity=identity) as log:
        log.catch_up_places()
        if not address.startswith("artifact://"):
            value = summary(log, names.entry(log, address))
            named = address
            address = str(value.get("content") or value.get("request") or "")
            if not address:
                raise NotFound(f"{named} has no content", hint=f"ledger show {named}")
        for piece in log.blobs.pieces(address):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
