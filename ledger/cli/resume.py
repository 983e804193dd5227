"""`ledger resume`: a paused run may go on."""

import click

from ledger.cli import voice


@click.command("resume")
@click.argument("run", required=False)
@click.option("--reason", default="", help="Why; sealed.")
@voice.ledger_option
@voice.json_option
def command(run: str | None, reason: str, where: str | None, as_json: bool) -> None:
    """Let the paused RUN (default LEDGER_RUN) make model requests again.

    \b
    example:
      ledger resume c41f9e02
    """
    from ledger import steer
    from ledger.cli import names
    from ledger.log import Log

    with Log.open(where) as log:
        id = names.open_run(log, run)
        index = steer.resume(log, id, reason)
    if as_json:
        voice.out_json({"run": id, "index": index, "paused": False})
    else:
        voice.say(f"{voice.short(id)} goes on, by entry {index:,}")
