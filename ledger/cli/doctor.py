"""`ledger doctor`: disks, permissions, and what is derived."""

import click

from ledger.cli import voice


@click.command("doctor")
@click.option("--rebuild", is_flag=True, help="Make tiles, checkpoint and caches again from the packs.")
@click.option(
    "--gc", is_flag=True, help="Remove, where a day old: leftovers of writers that died, large blobs of erased runs."
)
@voice.ledger_option
@voice.json_option
def command(rebuild: bool, gc: bool, where: str | None, as_json: bool) -> int:
    """Look after permissions, space, leftovers and derived files; whether it is sound, `ledger verify` says.

    \b
    examples:
      ledger doctor
      ledger doctor --rebuild
    """
    from ledger import doctor
    from ledger.log import Log
    from schemas.errors import KeyUnusable

    try:
        with Log.open(where) as log:
            if rebuild:
                doctor.rebuild(log)
                voice.say("rebuilt tiles, checkpoint and caches")
            if gc:
                count, size = doctor.collect(log)
                voice.say(f"removed {voice.count(count, 'file')}, {voice.count(size, 'byte')}")
            findings = list(doctor.examine(log))
    except KeyUnusable as error:
        if rebuild or gc:
            raise
        # Without the log key no ledger opens: this is the finding.
        findings = [doctor.Finding(False, error.what, error.hint)]
    if as_json:
        voice.out_json(findings)
    else:
        for found in findings:
            mark = click.style("ok", fg="green") if found.ok else click.style("!!", fg="red", bold=True)
            voice.out(
                f"{mark}  {voice.plain(found.what)}"
                + (voice.dim(f"   {voice.plain(found.hint)}") if found.hint else "")
            )
    return 0 if all(found.ok for found in findings) else 1
