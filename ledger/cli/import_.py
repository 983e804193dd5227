"""`ledger import`: append many entries from a file."""

from pathlib import Path

import click

from ledger.cli import voice


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.ndjson")
@click.option("--keep-going", is_flag=True, help="Leave malformed lines out instead of refusing the file.")
@voice.ledger_option
@voice.json_option
def command(file: Path, keep_going: bool, where: str | None, as_json: bool) -> int:
    """Append every line of FILE, marked as imported; each name of a run becomes a finished run.

    A line: {"kind": "prompt|response|artifact|approval", "run": NAME, "text"|"base64"|"path": …} and, where
    known, stage, lane, task, name, media_type, model, time. Exit status 1 where lines were left out.

    \b
    example:
      ledger import old-logs.ndjson
    """
    from ledger.bulk import bring_in
    from ledger.log import Log

    with Log.open(where) as log, voice.progress("importing", shown=not as_json) as progress:
        result = bring_in(log, file, keep_going=keep_going, progress=progress)
    if as_json:
        voice.out_json(result)
    else:
        for what in result.skipped:
            voice.say(f"{click.style('left out:', fg='yellow')} {voice.plain(what)}")
        voice.say(
            f"imported {voice.count(result.entries, 'entry', 'entries')} in {voice.count(len(result.runs), 'run')}"
        )
    return 1 if result.skipped else 0
