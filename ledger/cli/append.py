"""`ledger append`: append a prompt, response, artifact or approval."""

from pathlib import Path
from typing import Literal

import click

from ledger.cli import voice

Kind = Literal["prompt", "response", "artifact", "approval"]


@click.command("append")
@click.argument("kind", type=click.Choice(["prompt", "response", "artifact", "approval"]))
@click.argument("file", metavar="FILE|-")
@click.option("--run", metavar="RUN", help="The run [default: LEDGER_RUN].")
@click.option("--stage", default="", help="Where in the pipeline.")
@click.option("--lane", default="", help="Its lane.")
@click.option("--task", default="", help="Its task.")
@click.option("--media-type", default="", help="For example application/json; sealed.")
@click.option("--name", default="", help="For people [default for artifacts: the file's name]; sealed.")
@click.option("--model", default="", help="Model that a prompt was for; in clear.")
@click.option(
    "--to", type=int, metavar="INDEX", help="Prompt that a response answers [default: the run's last]; 0: none."
)
@voice.ledger_option
@voice.json_option
def command(
    kind: Kind,
    file: str,
    run: str | None,
    stage: str,
    lane: str,
    task: str,
    media_type: str,
    name: str,
    model: str,
    to: int | None,
    where: str | None,
    as_json: bool,
) -> None:
    """Append FILE, or standard input, to a run; print its index and address once it is durable.

    An approval is a request with the signature of `ssh-keygen -Y sign -n ledger-approval@v1` beside it
    (FILE.sig), or both in one file. What `ledger approve ID --out FILE` wrote names its run itself.

    \b
    examples:
      ledger append prompt ask.txt --run nightly --stage plan --model gpt-5.2-codex
      ./build | ledger append artifact - --name build.log
      ledger append approval release.txt
    """
    from ledger import drafts
    from ledger.cli import names
    from ledger.drafts import Item
    from policies import statement

    for option, given, kinds in (
        ("--model", model, ("prompt",)),
        ("--to", to is not None, ("response",)),
        ("--name", name, ("prompt", "response", "artifact")),
        ("--media-type", media_type, ("prompt", "response", "artifact")),
    ):
        if given and kind not in kinds:
            raise click.UsageError(f"{option} goes with a{'n' * (kinds[0][0] in 'aeiou')} {' or '.join(kinds)}")
    content = voice.standard_input() if file == "-" else Path(file)
    if isinstance(content, Path) and (not content.exists() or content.is_dir()):
        raise click.UsageError(f"{voice.plain(file)}: {'is a folder' if content.is_dir() else 'no such file'}")
    if not name and isinstance(content, Path) and kind == "artifact":
        # A file's name may be any bytes; ours are text.
        name = content.name.encode("utf-8", "backslashreplace").decode()
    if kind == "approval" and run is None:
        # A statement says itself which run it is about.
        signed = statement.names(drafts.signed(content)[0])
        run = signed.run if signed is not None else None
    with names.open_log(where) as log:
        id = names.open_run(log, run)
        opened = log.resume(id, stage=stage, lane=lane, task=task)
        if kind == "response" and to is None:
            to = log.last_prompt(id)
        item = Item(kind=kind, content=content, name=name, media_type=media_type, model=model, to=to or 0)
        appended = opened.append_many([item])[0]
    if as_json:
        voice.out_json({"run": id, "index": appended.index, "address": appended.address, "step": appended.step})
    else:
        voice.out(f"{appended.index} {appended.address}")
