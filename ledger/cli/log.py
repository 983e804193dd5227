"""`ledger log`: runs, or the steps of one run."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import voice

if TYPE_CHECKING:
    from ledger.index.reader import Log
    from ledger.runs import RunInfo

_COLOURS = {"succeeded": "green", "failed": "red", "open": "yellow", "erased": "magenta"}


@click.command("log")
@click.argument("run", required=False)
@click.option("--since", metavar="WHEN", help="Runs started since: yesterday, 3d, 12h, 2026-11-20.")
@click.option("--stage", help="Of RUN, the steps of this stage.")
@click.option("--lane", help="Of this lane.")
@click.option("--task", help="Of this task.")
@voice.identity_option
@voice.ledger_option
@voice.json_option
def command(
    run: str | None,
    since: str | None,
    stage: str | None,
    lane: str | None,
    task: str | None,
    identity: str | None,
    where: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first; or the steps of RUN. Times are in this machine's zone.

    \b
    examples:
      ledger log --since yesterday
      ledger log c41f9e02 --stage lift
      ledger log @              the newest run
    """
    from ledger.cli import names
    from ledger.index.reader import Log

    with Log.open(where, identity=identity) as log:
        if run is not None and since is not None:
            raise click.UsageError("--since goes with the list of runs")
        wanted = {name: text for name, text in (("stage", stage), ("lane", lane), ("task", task)) if text is not None}
        if run is None and wanted:
            raise click.UsageError(f"--{next(iter(wanted))} goes with a run: ledger log RUN")
        if run is None:
            _runs(log, names.when(since) if since else None, as_json)
        else:
            _steps(log, names.any_run(log, run), wanted, as_json)


def _runs(log: "Log", since: datetime | None, as_json: bool) -> None:
    runs = log.runs(since)
    for info in runs:
        info.made = log.detail(info.made).name
    if as_json:
        voice.out_json(runs)
        return
    if not runs:
        voice.say("no runs since then" if since else "no runs yet   next: ledger start NAME")
    voice.table(
        [
            [
                click.style(voice.short(r.id), bold=True),
                voice.moment(r.started),
                voice.plain(r.name) or "-",
                click.style(r.status, fg=_COLOURS.get(r.status)),
                _asked(r),
                voice.count(r.artifacts, "artifact"),
                voice.plain(r.made),
            ]
            for r in runs
        ]
    )


def _asked(run: "RunInfo") -> str:
    if not run.calls:
        return voice.count(run.prompts, "prompt")
    return f"{voice.count(run.calls, 'call')}  ${run.cost / 1_000_000:,.2f}"


def _steps(log: "Log", info: "RunInfo", wanted: dict[str, str], as_json: bool) -> None:
    from ledger.cli.show import summary
    from schemas.ids import run_key_id

    steps = []
    for recorded in log.entries(info.id):
        if any(getattr(recorded.entry, name, "") != text for name, text in wanted.items()):
            continue
        line = summary(log, recorded)
        if as_json:
            voice.out_json(line)
        else:
            steps.append(line)
    rows = []
    for line in steps:
        where = "/".join(voice.plain(str(line[k])) for k in ("stage", "lane", "task") if line.get(k))
        rows.append(
            [
                str(line.get("step", "")),
                voice.moment(line.get("time")),
                _kind(voice.plain(str(line["kind"]))),
                where,
                _about(line),
                voice.dim(str(line["index"])),
            ]
        )
    if as_json:
        return
    zone = f"{datetime.now().astimezone():%Z}"
    voice.say(
        voice.dim(f"run {info.id}   {voice.plain(info.name)}   {info.status}   (times in {zone}; last column: index)")
    )
    voice.table(rows)
    erased = log.chain.state.history.erased.get(run_key_id(info.id).hex())
    if erased is not None:
        voice.say(f"erased by entry {erased:,}: what it held can't be read any more")


def _about(line: dict[str, Any]) -> str:
    """What tells a step from others of its kind: names, how it ended, what it cost."""
    said = {name: voice.plain(str(value)) for name, value in line.items() if value}
    kind = said.get("kind")
    if kind == "routing" and "asked" in said:
        said["model"] = f"{said['asked']} → {said.get('model', '')}"
    if said.get("effect") in ("deny", "require_approval"):
        rules = line.get("rules")
        said["effect"] += f" by {', '.join(map(voice.plain, map(str, rules)))}" if isinstance(rules, list) else ""
    if line.get("verdict") != "invalid":
        said.pop("verdict", None)
    cost = line.get("cost")
    if type(cost) is int and 0 <= cost < 2**53:
        said["cost"] = f"${cost / 1_000_000:,.4f}"
    if line.get("denied") is True:
        said["denied"] = "no"
    if "to" in said:
        said["to"] = f"{'answers' if kind in ('response', 'model.response') else 'of'} {said['to']}"
    return "  ".join(said[name] for name in _TELLING if name in said)


_TELLING = (
    "name",
    "policy",
    "model",
    "effect",
    "rule",
    "status",
    "verdict",
    "cost",
    "denied",
    "reason",
    "approver",
    "to",
)


def _kind(kind: str) -> str:
    colours = {"prompt": "blue", "response": "cyan", "artifact": "green", "approval": "magenta", "violation": "red"}
    colours |= {"model.request": "blue", "model.response": "cyan", "approval.breakglass": "red"}
    colours |= dict.fromkeys(("approval.requested", "approval.consumed"), "magenta")
    return click.style(kind, fg=colours.get(kind))
