"""`ledger init`: make a ledger and its keys."""

import os
import shlex
import sys
from pathlib import Path

import click

from ledger.cli import voice


@click.command("init")
@click.argument("path", required=False)
@click.option("--origin", metavar="NAME", help="The log's unique name, e.g. acme.example/recompile.")
@click.option("--owner", default="", metavar="URI", callback=voice.check_uris, help="A key of yours, such as pkcs11:…")
@click.option("--log-key", default="", metavar="URI", callback=voice.check_uris, help="Likewise, for checkpoints.")
@click.option("--author", default="", metavar="URI", callback=voice.check_uris, help="Likewise, for what is appended.")
@voice.json_option
def command(path: str | None, origin: str | None, owner: str, log_key: str, author: str, as_json: bool) -> None:
    """Make a ledger at PATH (default LEDGER, else .ledger), its keys, and the line for its auditors.

    \b
    examples:
      ledger init
      ledger init /srv/ledgers/recompile --origin acme.example/recompile
      ledger init --owner 'pkcs11:token=hsm;object=owner?pin-source=file:/run/pin'
    """
    from ledger import homes
    from ledger.create import create
    from ledger.locate import FOLDER

    named = path if path is not None else os.environ.get("LEDGER") or FOLDER
    open_before = os.path.isdir(named) and os.stat(named).st_mode & 0o077
    trust = create(named, origin=origin, owner=owner, log=log_key, author=author)
    home = homes.keys(trust.origin)
    if as_json:
        voice.out_json({"path": voice.plain(named), "origin": trust.origin, "keys": str(home), "trust": trust.owner})
        return
    keys = str(home).replace(str(Path.home()), "~", 1) + "/"
    voice.say(f"created {named}   {trust.origin}   encrypted, ignored by git")
    if open_before:
        voice.say(f"closed    {named}   other users could look into it")
    voice.say(f"keys      {keys}   back up: without them nothing can be read")
    voice.say("give this line to your auditor:")
    indent = "  " if sys.stdout.isatty() else ""
    voice.out(indent + trust.owner)
    found = path is None or Path(path) == Path(FOLDER)
    more = "" if found else f" --ledger {shlex.quote(named)}"
    voice.say(f"next: export LEDGER_RUN=$(ledger start demo{more}); echo hello | ledger append prompt -{more}")
