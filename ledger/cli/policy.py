"""`ledger policy`: check policies that people write, and show those that come with agent-ledger."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli import voice

if TYPE_CHECKING:
    from policies.redaction.known import Known


@click.group("policy")
def command() -> None:
    """Check policies, show those that come with agent-ledger, explain what they decided.

    \b
    examples:
      ledger policy list
      ledger policy show local > mine.toml
      ledger policy check mine.toml
      ledger policy explain @
    """


@command.command("check")
@click.argument("file", metavar="FILE|-")
@click.option("--redaction", "profiles", multiple=True, metavar="FILE", help="A redaction profile that it names.")
@click.option(
    "--secret",
    "values",
    multiple=True,
    metavar="URI",
    callback=voice.check_uris,
    help="A secret that you have: would a rule find it?",
)
@voice.json_option
def check(file: str, profiles: tuple[str, ...], values: tuple[str, ...], as_json: bool) -> int:
    """Say what is wrong with a policy, in TOML or JSON, and what its author may not have meant.

    Exit status 0: nothing; 1: valid, with remarks; 2: not a policy.

    \b
    example:
      ledger policy check nightly.toml --secret env:DB_PASSWORD
    """
    from policies.advice import Advice, advise
    from policies.redaction.coverage import uncovered
    from schemas.errors import Malformed
    from schemas.policy import read_policy
    from store import secrets

    text = voice.standard_input() if file == "-" else Path(file).read_bytes()
    policy = read_policy(text, voice.plain(file) if file != "-" else "standard input")
    found = advise(policy, datetime.now(UTC))
    try:
        scanner = _redaction(policy.redaction_profile or "", profiles).scanner()
        pairs = [(uri, secrets.load(uri)) for uri in values]
        found += [Advice("redaction_profile", what) for _, what in uncovered(scanner, pairs)]
    except Malformed as error:
        found.append(Advice("redaction_profile", f"{error.what}: every call is denied"))
    if as_json:
        remarks = [{"field": field, "what": what} for field, what in found]
        voice.out_json({"policy_id": policy.policy_id, "version": policy.version, "remarks": remarks})
    else:
        for field, what in found:
            voice.warn(voice.plain(f"{field}: {what}"))
        voice.out(f"{voice.plain(policy.policy_id)}  {policy.version}")
    return 1 if found else 0


def _redaction(name: str, profiles: tuple[str, ...]) -> "Known":
    """The profile that a policy names, as a gateway finds it."""
    from policies.redaction import known

    own = {one.profile.profile_id: one for one in map(known.load, profiles)}
    return known.find(name or known.UNNAMED, own)


@command.command("list")
@voice.json_option
def list_(as_json: bool) -> None:
    """List the policies that come with agent-ledger."""
    from policies import shipped

    found = [policy for name in shipped.names() if (policy := shipped.shipped(name)) is not None]
    if as_json:
        for policy in found:
            voice.out_json({"policy_id": policy.policy_id, "version": policy.version})
        return
    voice.table([[click.style(p.policy_id, fg="cyan"), voice.dim(p.version), _about(p.policy_id)] for p in found])


def _about(name: str) -> str:
    """The first line of its file."""
    from policies import shipped

    return (shipped.text(name) or b"").decode().partition("\n")[0].removeprefix("# ")


@command.command("show")
@click.argument("name")
@voice.json_option
def show(name: str, as_json: bool) -> None:
    """Write one of them to stdout, with its comments; --json: the record in its one spelling."""
    from policies import shipped
    from schemas.errors import NotFound

    policy, text = shipped.shipped(name), shipped.text(name)
    if policy is None or text is None:
        raise NotFound(f"no policy {name[:60]!r} comes with agent-ledger", hint=", ".join(shipped.names()))
    voice.out(policy.encode().decode() if as_json else text.decode().rstrip("\n"))


@command.command("explain")
@click.argument("run", required=False)
@click.option("--denied", is_flag=True, help="Only what was not allowed.")
@voice.identity_option
@voice.ledger_option
@voice.json_option
def explain(run: str | None, denied: bool, identity: str | None, where: str | None, as_json: bool) -> None:
    """Every decision of RUN (default LEDGER_RUN, else the newest): each rule, what it found, and why.

    \b
    example:
      ledger policy explain c41f9e02 --denied
    """
    import msgspec

    from ledger.cli import names
    from ledger.index.reader import Log
    from schemas.entries import Decided
    from schemas.errors import CannotTell, Erased, Missing

    with Log.open(where, identity=identity) as log:
        info = names.any_run(log, run)
        log.catch_up_places()
        for recorded in log.entries(info.id):
            entry = recorded.entry
            if not isinstance(entry, Decided) or (denied and entry.effect == "allow"):
                continue
            try:
                sealed = msgspec.json.decode(log.read(entry.content))
            except (CannotTell, Erased, Missing) as error:
                sealed = {"findings": [], "why_not": error.what}
            if as_json:
                about = {"index": recorded.index, "step": entry.step, "action": entry.action, "effect": entry.effect}
                voice.out_json({**about, "rules": entry.rules, **sealed})
                continue
            colour = {"allow": "green", "deny": "red"}.get(entry.effect, "yellow")
            verdict = click.style(entry.effect.replace("_", " "), fg=colour, bold=True)
            place = voice.dim(f"entry {recorded.index:,}")
            voice.out(f"{voice.short(info.id)}:{entry.step}  {entry.action}  {verdict}  {place}")
            voice.table([_finding(found) for found in sealed["findings"]])
            if "why_not" in sealed:
                voice.say(voice.dim(f"findings not shown: {sealed['why_not']}"))


def _finding(found: dict[str, str]) -> list[str]:
    colour = {"allow": "green", "deny": "red"}.get(found["effect"], "yellow")
    said = f"expected {found['expected']}" + (f", got {found['actual']}" if found["actual"] else "")
    return [
        "  " + click.style(found["effect"].replace("_", " "), fg=colour),
        voice.plain(found["policy"]),
        voice.plain(found["rule"]),
        voice.plain(said),
    ]
