"""`ledger pause`: no model request of a run passes any more."""

import click

from ledger.cli import voice


@click.command("pause")
@click.argument("run", required=False)
@click.option("--reason", default="", help="Why; sealed.")
@voice.ledger_option
@voice.json_option
def command(run: str | None, reason: str, where: str | None, as_json: bool) -> None:
    """Pause RUN (default LEDGER_RUN): from the next call on, the gateway denies its model requests.

    \b
    example:
      ledger pause c41f9e02 --reason "looks stuck"
    """
    from ledger import steer
    from ledger.cli import names
    from ledger.log import Log

    with Log.open(where) as log:
        id = names.open_run(log, run)
        index = steer.pause(log, id, reason)
    if as_json:
        voice.out_json({"run": id, "index": index, "paused": True})
    else:
        voice.say(f"{voice.short(id)} paused by entry {index:,}   next: ledger resume {voice.short(id)}")
