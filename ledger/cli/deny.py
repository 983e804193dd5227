"""`ledger deny`: a no to what waits for approval."""

from pathlib import Path

import click

from ledger.cli import asked, voice


@click.command("deny")
@click.argument("request", metavar="ID")
@click.option("--reason", default="", help="Why; sealed.")
@click.option("--key", default="", metavar="FILE|agent", help="Signs [default: yours that may, of agent or ~/.ssh].")
@click.option("--yes", is_flag=True, help="Sign without asking.")
@click.option("--all", "whole", is_flag=True, help="Show all of the content, not its beginning.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what somebody elsewhere signs.",
)
@voice.identity_option
@voice.ledger_option
@voice.json_option
def command(
    request: str,
    reason: str,
    key: str,
    yes: bool,
    whole: bool,
    out: Path | None,
    identity: str | None,
    where: str | None,
    as_json: bool,
) -> int:
    """Deny the request ID: one signed no ends it, however many have approved. `ledger approve` lists what waits.

    \b
    example:
      ledger deny 519 --reason "not on a Friday"
    """
    how = asked.How(reason, key, yes, whole, out, as_json)
    return asked.answer(request, asked.DENY, how, where, identity)
