"""`ledger erase`: make the contents of a run unreadable."""

import click

from ledger.cli import voice


@click.command("erase")
@click.argument("run")
@click.option("--reason", required=True, help="Why; sealed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@voice.ledger_option
@voice.json_option
def command(run: str, reason: str, yes: bool, where: str | None, as_json: bool) -> None:
    """Destroy the data keys of RUN: nobody can read its contents again. That it existed stays provable.

    \b
    example:
      ledger erase c41f9e02 --reason "customer asked, ticket 812"
    """
    from ledger.cli import names
    from ledger.erase import erase
    from ledger.index.reader import Log

    with Log.open(where) as log:
        info = names.any_run(log, run)
        if not yes:
            run_text = f"{voice.short(info.id)} {voice.plain(info.name)} ({voice.count(info.steps, 'step')})"
            question = f"erase run {run_text} for good?"
            click.confirm(question, abort=True, err=True)
        index, keys = erase(log, info.id, reason)
    if as_json:
        voice.out_json({"run": info.id, "index": index, "keys": keys})
        return
    voice.say(f"erased by entry {index:,}   {voice.count(keys, 'data key')} destroyed")
    voice.say("copies of keys/ elsewhere (backups, snapshots, versions of a bucket) keep what they had")
