"""`ledger init`: make a ledger and its keys."""

import sys
from pathlib import Path

import click

from ledger.cli import voice


@click.command("init")
@click.argument("path", default=".ledger", type=click.Path(path_type=Path))
@click.option("--origin", metavar="NAME", help="The log's unique name, e.g. acme.example/recompile.")
@voice.json_option
def command(path: Path, origin: str | None, as_json: bool) -> None:
    """Make a ledger at PATH (default .ledger), its keys, and the line for its auditors.

    \b
    examples:
      ledger init
      ledger init /srv/ledgers/recompile --origin acme.example/recompile
    """
    from ledger import homes
    from ledger.create import create

    trust = create(path, origin=origin)
    home = homes.keys(trust.origin)
    if as_json:
        voice.out_json({"path": str(path), "origin": trust.origin, "keys": str(home), "trust": trust.owner})
        return
    keys = str(home).replace(str(Path.home()), "~", 1) + "/"
    voice.say(f"created {path}   {trust.origin}   encrypted, ignored by git")
    voice.say(f"keys      {keys}   back up: without them nothing can be read")
    voice.say("give this line to your auditor:")
    indent = "  " if sys.stdout.isatty() else ""
    voice.out(indent + trust.owner)
    named = "" if path.name == ".ledger" and path.parent == Path(".") else f" --ledger {path}"
    voice.say(f"next: export LEDGER_RUN=$(ledger start demo{named}); echo hello | ledger append prompt -{named}")
