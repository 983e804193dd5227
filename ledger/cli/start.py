"""`ledger start`: start a run."""

import click

from ledger.cli import voice


@click.command("start")
@click.argument("name", default="")
@click.option("--stage", default="", help="Stage of its first entry.")
@click.option("--lane", default="", help="Lane of its first entry.")
@click.option("--task", default="", help="Task of its first entry.")
@voice.ledger_option
@voice.json_option
def command(name: str, stage: str, lane: str, task: str, where: str | None, as_json: bool) -> None:
    """Start a run, under a NAME for people (it is sealed), and print its id.

    \b
    example:
      export LEDGER_RUN=$(ledger start nightly)
    """
    from ledger.log import Log

    with Log.open(where) as log:
        run = log.run(name, stage=stage, lane=lane, task=task)
    if as_json:
        voice.out_json({"run": run.id})
    else:
        voice.out(run.id)
