"""`ledger token`: what a client shows to the gateway instead of the real key."""

from datetime import timedelta

import click

from ledger.cli import voice


@click.command("token")
@click.option("--run", metavar="RUN", help="The run [default: LEDGER_RUN].")
@click.option("--stage", default="", help="Bind it to a stage.")
@click.option("--lane", default="", help="Bind it to a lane.")
@click.option("--task", default="", help="Bind it to a task.")
@click.option("--task-scope", metavar="KIND:TARGET", default="", help="function:PATH::NAME, file:PATH or stage:NAME.")
@click.option("--policy", default="", help="A policy that applies beside the gateway's own.")
@click.option(
    "--hours", type=click.FloatRange(0.01, 24 * 30), default=24.0, show_default=True, help="How long it holds."
)
@voice.ledger_option
@voice.json_option
def command(
    run: str | None,
    stage: str,
    lane: str,
    task: str,
    task_scope: str,
    policy: str,
    hours: float,
    where: str | None,
    as_json: bool,
) -> None:
    """Print a token for one run: clients use it as their API key, with the gateway as their base URL.

    \b
    example:
      export OPENAI_API_KEY=$(ledger token --run nightly --stage lift --task-scope file:src/calc.py)
    """
    import os

    from ledger import homes
    from ledger.cli import names
    from ledger.gateway.tokens import Token, load_secret
    from ledger.log import Log, system_clock
    from schemas.envelope import read_scope

    scope = read_scope(task_scope or f"stage:{stage or 'any'}")
    with Log.open(where) as log:
        id = names.open_run(log, run)
        secret = load_secret(homes.keys(log.origin), os.urandom(32))
    expires = system_clock() + timedelta(hours=hours)
    made = Token(id, int(expires.timestamp()), stage, lane, task, scope, policy).sign(secret)
    if as_json:
        voice.out_json({"token": made, "run": id, "expires": expires})
    else:
        voice.out(made)
