"""`ledger apply`: write what a recorded command changed to the folder in which it was recorded."""

from pathlib import Path

import click

from ledger.cli import voice


@click.command("apply")
@click.argument("run", required=False)
@click.option("--to", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Elsewhere than where it ran.")
@click.option("--undo", is_flag=True, help="Put back what was there before.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@voice.ledger_option
@voice.json_option
def command(run: str | None, folder: Path | None, undo: bool, dry_run: bool, where: str | None, as_json: bool) -> None:
    """Write the changes of RUN (default: the newest) to the folder in which it was recorded, all or none of them.

    A path that is neither as it was nor as it shall be refuses the whole. After a crash, run it again: it goes on.

    \b
    examples:
      ledger apply c41f9e02
      ledger apply c41f9e02 --dry-run
      ledger apply c41f9e02 --undo
    """
    from ledger.cli import names
    from ledger.index.reader import Log
    from replay import apply, outcome

    with Log.open(where) as log:
        id = names.recorded_run(log, run)
        there, found = outcome.of(log, id)
        if undo:
            found = [change.back() for change in found]
        there = folder or there
        written = 0 if dry_run else apply.apply(there, found, log.read)
    if as_json:
        told = [{"path": change.path, "how": change.how} for change in found]
        voice.out_json({"run": id, "folder": str(there), "written": written, "changes": told})
        return
    for change in found:
        voice.out(f"{change.how:8} {voice.plain(change.path)}")
    done = "would be written" if dry_run else "undone" if undo else "written"
    if not dry_run and not written and found:
        voice.say(f"{there}: all of it is there already")
    else:
        voice.say(f"{there}: {voice.count(len(found) if dry_run else written, 'change')} {done}")
