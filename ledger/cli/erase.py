"""`ledger erase`: make the contents of a run unreadable."""

import sys

import click

from ledger.cli import voice


@click.command("erase")
@click.argument("run")
@click.option("--reason", required=True, callback=voice.check_text, help="Why; sealed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@voice.ledger_option
@voice.json_option
def command(run: str, reason: str, yes: bool, where: str | None, as_json: bool) -> int:
    """Destroy the data keys of RUN: nobody can read its contents again. That it existed stays provable.

    \b
    example:
      ledger erase c41f9e02 --reason "customer asked, ticket 812"
    """
    from ledger.cli import names
    from ledger.erase import erase
    from ledger.index.reader import Log
    from schemas.errors import UsageError

    if not reason.strip():
        raise click.UsageError("--reason is empty: whoever finds the erasure will want to know why")
    with Log.open(where) as log:
        info = names.any_run(log, run)
        if not yes:
            if sys.stdin is None or not sys.stdin.isatty():
                raise UsageError("no terminal to ask on", hint="--yes erases without being asked")
            run_text = f"{voice.short(info.id)} {voice.plain(info.name)} ({voice.count(info.steps, 'step')})"
            still = ", which is still open," if info.status == "open" else ""
            if not click.confirm(f"erase run {run_text}{still} for good?", err=True):
                voice.say("nothing was erased")
                return 1
        index, keys = erase(log, info.id, reason)
    if as_json:
        voice.out_json({"run": info.id, "index": index, "keys": keys})
        return 0
    voice.say(f"erased by entry {index:,}   {voice.count(keys, 'data key')} destroyed")
    voice.say("copies of keys/ elsewhere (backups, snapshots, versions of a bucket) keep what they had")
    return 0
