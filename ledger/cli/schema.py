"""`ledger schema`: register JSON Schemas that answers must meet."""

from pathlib import Path

import click

from ledger.cli import voice


@click.group("schema")
@voice.ledger_option
@click.pass_context
def command(context: click.Context, where: str | None) -> None:
    """Register JSON Schemas by id; a request names one as `response_schema`, and its answer must meet it.

    \b
    examples:
      ledger schema add build-plan plan.schema.json
      ledger schema list
    """
    context.obj = where


@command.command("add")
@click.argument("id", callback=voice.check_text)
@click.argument("file", metavar="FILE|-")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def add(around: str | None, id: str, file: str, where: str | None, as_json: bool) -> None:
    """Register FILE under ID; what was registered under it before is no longer in force, and stays recorded."""
    from ledger import schemas_added
    from ledger.log import Log

    schema = voice.standard_input() if file == "-" else Path(file).read_bytes()
    with Log.open(where or around) as log:
        index = schemas_added.add(log, id, schema)
    if as_json:
        voice.out_json({"id": id, "index": index})
    else:
        voice.out(str(index))


@command.command("list")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def list_(around: str | None, where: str | None, as_json: bool) -> None:
    """List the ids, each with the entry that is in force."""
    from ledger import schemas_added
    from ledger.log import Log

    with Log.open(where or around) as log:
        newest = {id: (index, entry.content) for id, (index, entry) in schemas_added.in_force(log).items()}
    if as_json:
        for id, (index, address) in sorted(newest.items()):
            voice.out_json({"id": id, "index": index, "address": address})
        return
    voice.table(
        [
            [click.style(voice.plain(id), fg="cyan"), str(index), voice.dim(at)]
            for id, (index, at) in sorted(newest.items())
        ]
    )
