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
        found = list(log.find(source))
        lines = [summary(log, recorded) for recorded in found]
    if as_json:
        voice.out_json(lines)
    elif not lines:
        voice.say(f"no step read or made these bytes, as far as this identity can tell: {file}")
    else:
        voice.table(
            [
                [
                    click.style(f"{voice.short(str(line['run']))}:{line['step']}", bold=True),
                    str(line["kind"]),
                    str(line.get("stage", "")),
                    voice.plain(str(line.get("name", ""))),
                    voice.moment(recorded.entry.time),  # type: ignore[union-attr]
                ]
                for line, recorded in zip(lines, found, strict=True)
            ]
        )
    return 0 if lines else 1
