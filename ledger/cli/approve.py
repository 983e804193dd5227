"""`ledger approve`: what waits for people; and a yes to one of it."""

from pathlib import Path

import click

from ledger.cli import asked, voice


@click.command("approve")
@click.argument("request", required=False, metavar="[ID]")
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
@click.option("--break-glass", is_flag=True, help="Let it go alone, without the quorum; every audit says so.")
@voice.identity_option
@voice.ledger_option
@voice.json_option
def command(
    request: str | None,
    reason: str,
    key: str,
    yes: bool,
    whole: bool,
    out: Path | None,
    break_glass: bool,
    identity: str | None,
    where: str | None,
    as_json: bool,
) -> int:
    """List what waits for approval in open runs; or approve ID, an index, or a part of its nonce or digest.

    Exit status 0: listed, signed, or written; 1: you said no at the prompt, and nothing was signed; 2: refused.

    \b
    examples:
      ledger approve
      ledger approve 519 --reason "read the diff"
      ledger approve 519 --out release.txt
      ssh-keygen -Y sign -n ledger-approval@v1 -f KEY release.txt
      ledger append approval release.txt
      ledger approve --break-glass 519 --reason "on call, nobody else awake"
    """
    if request is None:
        if reason or key or yes or whole or out or break_glass:
            raise click.UsageError("which one? ID is missing")
        asked.list_waiting(where, identity, as_json)
        return 0
    if break_glass and not reason:
        raise click.UsageError("--break-glass needs a --reason")
    verdict = asked.BREAK_GLASS if break_glass else asked.APPROVE
    how = asked.How(reason, key, yes, whole, out, as_json)
    return asked.answer(request, verdict, how, where, identity)
