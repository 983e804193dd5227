"""`ledger finish`: finish a run."""

from typing import Literal

import click

from ledger.cli import voice


@click.command("finish")
@click.argument("run", required=False)
@click.option("--status", type=click.Choice(["succeeded", "failed"]), default="succeeded", show_default=True)
@click.option("--reason", default="", help="Why it failed; sealed.")
@voice.ledger_option
@voice.json_option
def command(
    run: str | None, status: Literal["succeeded", "failed"], reason: str, where: str | None, as_json: bool
) -> None:
    """Finish RUN (default LEDGER_RUN). Nothing can be appended to it afterwards.

    \b
    examples:
      ledger finish
      ledger finish c41f9e02 --status failed --reason "tests are red"
    """
    from ledger.cli import names

    with names.open_log(where) as log:
        id = names.open_run(log, run)
        appended = log.resume(id).finish(status, reason=reason)
    if as_json:
        voice.out_json({"run": id, "index": appended.index, "status": status})
    else:
        voice.say(f"{voice.short(id)} {status}   {voice.count(appended.step, 'step')}")
