"""`ledger budget`: what a run has spent, and what its open calls hold."""

import click

from ledger.cli import voice


@click.command("budget")
@click.argument("run", required=False)
@click.option(
    "--release", type=int, metavar="INDEX", help="Free what the request at INDEX, which was interrupted, holds."
)
@click.option("--reason", default="", help="Why; sealed. Needed with --release.")
@voice.ledger_option
@voice.json_option
def command(run: str | None, release: int | None, reason: str, where: str | None, as_json: bool) -> None:
    """Show what RUN (default LEDGER_RUN, else the newest) has spent, and what requests without a response hold.

    \b
    examples:
      ledger budget c41f9e02
      ledger budget c41f9e02 --release 519 --reason "the gateway was killed"
    """
    from ledger import steer
    from ledger.cli import names
    from ledger.index.reader import Log

    if release is not None and not reason:
        raise click.UsageError("--release needs a --reason")
    with Log.open(where) as log:
        info = names.any_run(log, run)
        if release is not None:
            freed = steer.release(log, info.id, release, reason)
            voice.say(f"released {_usd(freed)}")
        rows = log.query(_TEXT.format(run=info.id)).to_pylist()[0]
        growing = log.chain.state.history.runs.get(info.id)
        calls = growing.calls if growing is not None else None
    held = calls.held if calls else 0
    waiting = sorted(calls.open.items()) if calls else []
    spent, cap = int(rows["spent"] or 0), int(rows["cap"] or 0)
    found = {"run": info.id, "calls": rows["calls"], "spent": spent, "held": held, "cap": cap, "open": dict(waiting)}
    if as_json:
        voice.out_json(found)
        return
    left = f"   left {_usd(cap - spent - held)}" if cap else "   no cap"
    voice.out(
        f"{voice.short(info.id)}   {voice.count(rows['calls'], 'call')}   spent {_usd(spent)}   held {_usd(held)}{left}"
    )
    for index, reserved in waiting:
        voice.out(f"  entry {index:,} has no response: holds {_usd(reserved)}")


_TEXT = """SELECT count(*) FILTER (kind = 'model.request') AS calls, sum(cost)::BIGINT AS spent,
    coalesce(arg_max(cap, "index") FILTER (kind = 'model.request'), 0) AS cap FROM entries WHERE run = '{run}'"""


def _usd(micro: int) -> str:
    return f"${micro / 1_000_000:,.4f}"
