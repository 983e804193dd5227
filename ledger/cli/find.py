"""`ledger find`: which steps read or made a file."""

from pathlib import Path

import click

from ledger.cli import voice


@click.command("find")
@click.argument("file", metavar="FILE|-")
@voice.identity_option
@voice.ledger_option
@voice.json_option
def command(file: str, identity: str | None, where: str | None, as_json: bool) -> int:
    """Find the steps whose content is exactly the bytes of FILE, or of standard input.

    Exit status 1 where there is none.

    \b
    example:
      ledger find dist/app.bin
    """
    from ledger.cli.show import summary
    from ledger.index.reader import Log

    with Log.open(where, identity=identity) as log:
        source = voice.standard_input() if file == "-" else Path(file)
        lines = [summary(log, recorded) for recorded in log.find(source)]
    if as_json:
        voice.out_json(lines)
    elif not lines:
        voice.say(f"no step read or made these bytes, as far as this identity can tell: {voice.plain(file)}")
    else:
        voice.table(
            [
                [
                    click.style(
                        f"{voice.plain(voice.short(str(line.get('run', ''))))}:{line.get('step', 0)}", bold=True
                    ),
                    *(voice.plain(str(line.get(part, ""))) for part in ("kind", "stage", "name")),
                    voice.moment(line.get("time")),
                ]
                for line in lines
            ]
        )
    return 0 if lines else 1
