"""`ledger record`: run a command, and record every model request that it makes."""

import click

from ledger.cli import voice


@click.command("record", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--policy", "policies", multiple=True, metavar="P", help="A policy's file, or a shipped one [default: local]."
)
@click.option("--upstream", metavar="URL", help="Where requests go [default: https://api.openai.com/v1].")
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
    """Run COMMAND with its model requests recorded, held to policy and paid from a budget.

    It gets the gateway's address and a token by OPENAI_BASE_URL and OPENAI_API_KEY, and a configuration for the Codex
    CLI; the real key stays here. Its exit status is the command's; 125 where recording failed.

    \b
    examples:
      ledger record -- python agent.py "fix the tests"
      ledger record --policy nightly.toml --stage lift -- codex exec "lift sub_8210"
    """
    import os
    from pathlib import Path

    from ledger.gateway import environment, recording, server
    from ledger.index.reader import Log
    from schemas.errors import LedgerError

    settings = server.Settings(upstream or server.UPSTREAM, key, policies or ("local",), values, profiles=profiles)
    try:
        with Log.open(where) as log, recording.signals() as child:
            settings = server.registered(settings, log.origin)
            server.check(settings, log.origin)
            handed = environment.handed_on(dict(os.environ), settings, log.origin)
            run = log.run(name or Path(command_line[0]).name, stage=stage, lane=lane, task=task)
            shown = ", ".join(settings.policies)
            voice.say(
                f"recording {voice.short(run.id)}   policy {shown}   sandbox none (advisory)   key {settings.key}"
            )
            voice.say(f"environment {handed.said()}")
            place = stage, lane, task
            done = recording.record(log, run, child, list(command_line), settings, place, handed.variables)
            found = log.query(_SUMMARY.format(run=run.id)).to_pylist()[0]
    except LedgerError as error:
        voice.fail(error.what, error.hint)
        return recording.CANNOT
    parts = [f"exit {done.status}", voice.count(found["calls"], "call"), f"${(found['cost'] or 0) / 1e6:,.4f}"]
    parts += [f"{done.seconds:,.0f} s"]
    parts += [voice.count(found["denied"], "call") + " denied"] if found["denied"] else []
    parts += [voice.count(found["violations"], "violation")] if found["violations"] else []
    parts += [f"{voice.count(found['masked'], 'call')} with secrets masked"] if found["masked"] else []
    voice.say("   ".join(parts))
    voice.say(f"next: ledger log {voice.short(run.id)}   ledger policy explain {voice.short(run.id)}")
    return done.status


_SUMMARY = """SELECT count(*) FILTER (kind = 'model.request') AS calls, sum(cost)::BIGINT AS cost,
    count(*) FILTER (kind = 'decision' AND effect <> 'allow') AS denied,
    count(*) FILTER (kind = 'violation') AS violations, count(*) FILTER (kind = 'redaction') AS masked
    FROM entries WHERE run = '{run}'"""
