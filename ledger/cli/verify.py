"""`ledger verify`: check a ledger with nothing but its owner's line."""

from typing import TYPE_CHECKING

import click

from ledger.cli import voice

if TYPE_CHECKING:
    from ledger.audit.report import Report


@click.command("verify")
@click.argument("path", required=False)
@click.option("--trust", metavar="VKEY|FILE", help="The owner's line [default: what this machine trusts].")
@click.option("--since", metavar="HEAD", help="A head that you know: 'SIZE ROOT', or a file with a checkpoint.")
@click.option(
    "--identity", metavar="URI", callback=voice.check_uris, help="Open every content too: file:PATH, env:NAME, …"
)
@voice.ledger_option
@voice.json_option
def command(
    path: str | None, trust: str | None, since: str | None, identity: str | None, where: str | None, as_json: bool
) -> int:
    """Check that nothing was changed, reordered, left unsigned or removed; say what was not checked.

    Reads only. Exit status: 0 sound, 1 not sound, 2 usage, 3 could not tell.

    \b
    examples:
      ledger verify
      ledger verify /media/usb/ledger --trust 'acme.example/recomp+5c1e02aa+AZ3v…Q='
      ledger verify --since '1204 9f2cKq…=' --identity file:identity.txt
    """
    from ledger.audit.subject import check
    from ledger.locate import locate

    if path is not None and where is not None:
        raise click.UsageError("PATH and --ledger name the same thing: one of them")
    if (since or identity) and locate(path or where).is_file():
        raise click.UsageError(f"--{'since' if since else 'identity'} goes with a ledger, not with a single document")
    with voice.progress("verifying", shown=not as_json) as progress:
        report = check(path or where, trust=trust, since=since, identity=identity, progress=progress)
    if as_json:
        voice.out_json(report.as_json())
    else:
        _print(report)
    return report.exit_status


def _print(report: "Report") -> None:
    if report.what != "ledger":
        counted = report.what
    else:
        entries = voice.count(report.entries, "entry", "entries")
        counted = f"{entries}   {voice.count(report.runs, 'run')}   {_span(report)}"
    voice.out(f"{click.style(report.origin, bold=True)}   {counted if report.sound else ''}".rstrip())
    seconds = f"({report.seconds:.1f} s)"
    remarks = voice.plain(", ".join(report.remarks))
    if report.sound:
        voice.out(f"{click.style('sound', fg='green', bold=True)}  {seconds}   {remarks}".rstrip())
    else:
        for finding in report.findings:
            verdict = click.style("not sound", fg="red", bold=True)
            voice.out(f"{verdict}   step {finding.step}: {voice.plain(finding.what)}")
            if finding.hint:
                voice.say(f"{click.style('hint:', fg='cyan')} {voice.plain(finding.hint)}")
        if remarks:
            voice.out(f"also: {remarks}")
    if report.head is not None:
        saved = "   saved; the next audit starts here" if report.kept else ""
        voice.out(f"head {report.head.one_line()}{saved}")
    for position, what in enumerate(report.unchecked):
        voice.out(("not checked: " if position == 0 else "             ") + voice.plain(what))


def _span(report: "Report") -> str:
    if report.first is None or report.last is None:
        return ""
    first, last = report.first.astimezone(), report.last.astimezone()
    if first.date() == last.date():
        return f"{last:%-d %b %Y}"
    return f"{first:%-d %b} – {last:%-d %b %Y}" if first.year == last.year else f"{first:%-d %b %Y} – {last:%-d %b %Y}"
