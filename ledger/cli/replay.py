"""`ledger replay`: execute a recorded run again, from the ledger alone, and say what differs."""

from pathlib import Path

import click

from ledger.cli import voice


@click.command("replay")
@click.argument("run", required=False)
@click.option("--since", metavar="WHEN", help="Every recorded run since then: yesterday, 3d, 2026-11-20.")
@click.option("--workspace", type=click.Path(path_type=Path), metavar="DIR", help="Leave what it makes there.")
@click.option("--show", is_flag=True, help="Print what the commands print.")
@click.option("--no-record", is_flag=True, help="Append no entry that says what came of it.")
@voice.ledger_option
@voice.json_option
def command(
    run: str | None,
    since: str | None,
    workspace: Path | None,
    show: bool,
    no_record: bool,
    where: str | None,
    as_json: bool,
) -> int:
    """Execute RUN (default: the newest) again: its files from the ledger, its answers too, no network, no model.

    Exit status: 0 reproduced, 1 diverged, 3 not replayable.

    \b
    examples:
      ledger replay @
      ledger replay c41f9e02 --workspace /tmp/again --show
      ledger replay --since yesterday --json
    """
    from ledger.cli import names
    from ledger.gateway import recording
    from ledger.index.reader import Log
    from replay import rerun
    from replay.report import EXIT

    if run is not None and since is not None:
        raise click.UsageError("RUN and --since name different things: one of them")
    if workspace is not None:
        workspace.mkdir(parents=True, exist_ok=True)
    with Log.open(where) as log, recording.signals() as child:
        runs = [names.recorded_run(log, run)] if since is None else names.recorded_runs(log, names.when(since))
        reports = []
        for id in runs:
            report = rerun.rerun(log, id, keep=workspace, show=show and not as_json, attach=child.attach)
            if not no_record:
                rerun.record(log, report)
            reports.append(report)
            if not as_json:
                told = report.lines()
                name = f"{voice.short(id)}  " if since is not None else ""
                colour = {"reproduced": "green", "diverged": "red"}.get(report.verdict, "yellow")
                first, _, rest = told[0].partition("   ")
                voice.out(f"{name}{click.style(first, fg=colour, bold=True)}   {voice.plain(rest)}".rstrip())
                for line in told[1:]:
                    voice.out(voice.plain(line))
    if as_json:
        voice.out_json(reports[0] if since is None else reports)
    elif since is not None:
        good = sum(report.verdict == "reproduced" for report in reports)
        voice.say(f"{good:,} of {voice.count(len(reports), 'run')} reproduced")
    return max((EXIT[report.verdict] for report in reports), default=0)
