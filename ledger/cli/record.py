"""`ledger record`: run a command, and record what it is given, what it asks of models, and what it leaves."""

from typing import TYPE_CHECKING

import click

from ledger.cli import voice

if TYPE_CHECKING:
    from ledger.gateway.recording import Child
    from ledger.gateway.records import Place
    from ledger.gateway.server import Settings
    from ledger.index.reader import Log
    from replay.record import Given, Recorded


@click.command("record", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--policy", "policies", multiple=True, metavar="P", help="A policy's file, or a shipped one [default: local]."
)
@click.option("--upstream", metavar="URL", help="Where requests go [default: https://api.openai.com/v1].")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="PATH",
    help="Give it this [default: all that git does not ignore].",
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave files out.")
@click.option("--env", "names", multiple=True, metavar="NAME", help="Hand a variable on.")
@click.option("--show", multiple=True, metavar="PATH", help="Let it read a folder elsewhere, such as a toolchain.")
@click.option("--hold", is_flag=True, help="Write no change here; `ledger apply RUN` does.")
@click.option("--no-sandbox", is_flag=True, help="Run it here, where policy lets it.")
@voice.key_option
@voice.secrets_option
@click.option("--redaction", "profiles", multiple=True, metavar="FILE", help="A redaction profile that policies name.")
@click.option("--name", default="", help="The run's name, for people [default: the command's]; sealed.")
@click.option("--stage", default="", help="Where in the pipeline.")
@click.option("--lane", default="", help="Its lane.")
@click.option("--task", default="", help="Its task.")
@click.argument("command_line", nargs=-1, required=True, metavar="-- COMMAND [ARGUMENT]…", type=click.UNPROCESSED)
@voice.ledger_option
def command(
    policies: tuple[str, ...],
    upstream: str | None,
    inputs: tuple[str, ...],
    exclude: tuple[str, ...],
    names: tuple[str, ...],
    show: tuple[str, ...],
    hold: bool,
    no_sandbox: bool,
    key: str,
    values: tuple[str, ...],
    profiles: tuple[str, ...],
    name: str,
    stage: str,
    lane: str,
    task: str,
    command_line: tuple[str, ...],
    where: str | None,
) -> int:
    """Run COMMAND on a copy of this folder, in a sandbox from which it reaches the model gateway and nothing else.

    Its model requests are held to policy and paid from a budget; the real key stays here. What it changes is written
    to this folder afterwards. `ledger replay` executes it again. Its exit status is the command's; 125 where recording
    failed.

    \b
    examples:
      ledger record -- python agent.py "fix the tests"
      ledger record --policy nightly.toml --stage lift -- codex exec "lift sub_8210"
      ledger record --input src --exclude '*.bin' --hold -- make
    """
    import os
    from pathlib import Path

    from ledger.gateway import environment, recording, server
    from ledger.gateway.records import Place
    from ledger.index.reader import Log
    from replay import sandbox
    from replay.record import Given
    from schemas.errors import LedgerError, UsageError

    settings = server.Settings(upstream or server.UPSTREAM, key, policies or ("local",), values, profiles=profiles)
    try:
        with Log.open(where) as log, recording.signals() as child:
            settings = server.registered(settings, log.origin)
            server.check(settings, log.origin)
            handed = environment.handed_on(dict(os.environ), settings, log.origin)
            enforced = [one for one in map(server.load_policy, settings.policies) if one.egress != "advisory"]
            boxed = not no_sandbox
            if no_sandbox and enforced:
                raise UsageError(
                    f"policy {enforced[0].policy_id} wants a sandbox", hint='only one with egress = "advisory" does not'
                )
            if boxed:
                try:
                    sandbox.check()
                except sandbox.NoSandbox as error:
                    if enforced:
                        raise
                    voice.say(f"{error.what}: what the command reaches is not kept to the gateway")
                    boxed = False
            run = log.run(name or Path(command_line[0]).name, stage=stage, lane=lane, task=task)
            shown = ", ".join(settings.policies)
            box = "bubblewrap" if boxed else "none (advisory)"
            voice.say(f"recording {voice.short(run.id)}   policy {shown}   sandbox {box}   key {settings.key}")
            place = Place(run.id, stage, lane, task)
            if boxed:
                given = Given(inputs, exclude, names, show)
                status, seconds, after = _boxed(
                    log, place, settings, handed.variables, given, list(command_line), child, hold=hold
                )
            else:
                voice.say(f"environment {handed.said()}")
                done = recording.record(
                    log, run, child, list(command_line), settings, (stage, lane, task), handed.variables
                )
                status, seconds, after = done.status, done.seconds, ""
            found = log.query(_SUMMARY.format(run=run.id)).to_pylist()[0]
    except LedgerError as error:
        voice.fail(error.what, error.hint)
        return recording.CANNOT
    parts = [f"exit {status}", voice.count(found["calls"], "call"), f"${(found['cost'] or 0) / 1e6:,.4f}"]
    parts += [f"{seconds:,.0f} s"]
    parts += [voice.count(found["denied"], "call") + " denied"] if found["denied"] else []
    parts += [voice.count(found["violations"], "violation")] if found["violations"] else []
    parts += [f"{voice.count(found['masked'], 'call')} with secrets masked"] if found["masked"] else []
    voice.say("   ".join(parts))
    if after:
        voice.say(after)
    again = f"   ledger replay {voice.short(run.id)}" if boxed else ""
    voice.say(f"next: ledger log {voice.short(run.id)}   ledger policy explain {voice.short(run.id)}{again}")
    return status


def _boxed(
    log: "Log",
    place: "Place",
    settings: "Settings",
    variables: dict[str, str],
    given: "Given",
    command_line: list[str],
    child: "Child",
    *,
    hold: bool,
) -> tuple[int, float, str]:
    """Records in a sandbox, finishes the run, and writes what changed.

    Returns:
        Exit status, seconds, and what to say of the changes.
    """
    from pathlib import Path

    from replay import apply
    from replay.record import Recorder
    from schemas.errors import LedgerError

    run = log.resume(place.run)
    here = Path.cwd()
    try:
        done = Recorder(log, place, settings, variables).record(command_line, here, given, child)
    except BaseException as error:
        log.catch_up()
        if log.chain.state.history.find(run.id) is not None:
            run.finish("failed", reason=error.what if isinstance(error, LedgerError) else type(error).__name__)
        raise
    status = done.status
    run.finish("succeeded" if status == 0 else "failed", reason="" if status == 0 else f"exit {status}")
    if not done.changed:
        return status, done.seconds, ""
    told = _told(log, done)
    if hold:
        return status, done.seconds, f"{told}, held: ledger apply {voice.short(run.id)}"
    try:
        apply.apply(here, done.changed, log.read)
    except LedgerError as error:
        return status, done.seconds, f"{told}, not applied: {error.what}; ledger apply {voice.short(run.id)}"
    return status, done.seconds, f"{told}, applied"


_MOST = 5


def _told(log: "Log", done: "Recorded") -> str:
    """`changed src/calc.py +3 -1`."""
    from replay import apply

    parts = []
    files = [change for change in done.changed if "folder" not in {n.kind for n in change[1:] if n is not None}]
    for change in files[:_MOST]:
        count = apply.lines(change, log.read) if change.how in ("added", "removed", "changed") else None
        parts.append(f"{change.path} +{count[0]} -{count[1]}" if count else f"{change.path} ({change.how})")
    more = len(files) - _MOST
    return "changed " + ", ".join(parts) + (f" and {more:,} more" if more > 0 else "")


_SUMMARY = """SELECT count(*) FILTER (kind = 'model.request') AS calls, sum(cost)::BIGINT AS cost,
    count(*) FILTER (kind = 'decision' AND effect <> 'allow') AS denied,
    count(*) FILTER (kind = 'violation') AS violations, count(*) FILTER (kind = 'redaction') AS masked
    FROM entries WHERE run = '{run}'"""
