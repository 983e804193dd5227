"""`ledger keys add|list|check|remove`: which secrets and keys there are, by URI; their values are nowhere."""

from typing import TYPE_CHECKING, Any

import click

from ledger.cli import voice

if TYPE_CHECKING:
    from ledger.log import Log

_USES = ("redact", "upstream", "author", "owner", "log", "identity")


@click.command("add")
@click.argument("name")
@click.argument("uri", metavar="URI", callback=voice.check_uris)
@click.option(
    "--use",
    type=click.Choice(_USES),
    default="redact",
    show_default=True,
    help="What for: a value that must never leave, or in the place of the key that is used for it.",
)
@click.option("--generate", is_flag=True, help="Make it there: a random value, or an author's key, also on a token.")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def add(around: str | None, name: str, uri: str, use: Any, generate: bool, where: str | None, as_json: bool) -> None:
    """Tell the ledger's user where a secret lies: file:, env:, keyring:, aws-sm:, or a key by pkcs11:.

    \b
    examples:
      ledger keys add db keyring:postgres/ci
      ledger keys add openai 'aws-sm:prod/openai#key' --use upstream
      ledger keys add ci 'pkcs11:token=hsm;object=ci?pin-source=env:PIN' --use author --generate
    """
    from ledger import registry
    from ledger.log import Log

    if generate and use not in ("redact", "author"):
        raise click.UsageError("--generate makes values to redact and authors' keys alone")
    one = registry.Named(name, uri, use)
    with Log.open(where or around) as log, registry.adding(log.origin, one):
        vkey = _generate(log, one) if generate else ""
    if as_json:
        voice.out_json({**_row(one), "vkey": vkey} if vkey else _row(one))
        return
    if vkey:
        voice.out(vkey)
        voice.say(f"{name} may write, and does so on this machine from now on, with the key at {_row(one)['uri']}")
        return
    voice.say(f"{name}   {use}   `ledger keys check` looks whether it can be used")


def _generate(log: "Log", one: Any) -> str:
    """Makes a secret where it is to lie.

    Returns:
        The vkey of a new author's key, else nothing.
    """
    import os
    from base64 import urlsafe_b64encode

    from ledger import govern
    from store import hsm, secrets
    from store.signers import Signer

    if one.use == "redact":
        secrets.store(one.uri, urlsafe_b64encode(os.urandom(32)).decode().rstrip("="))
        return ""
    # Before anything is made: the new key is of no use unless the owner says whose it is.
    govern.owner_of(log)
    if one.uri.startswith("pkcs11:"):
        hsm.generate(one.uri)
    else:
        secrets.store(one.uri, Signer.format(f"{log.origin}/{one.name}", os.urandom(32)))
    return govern.add_author(log, one.name, one.uri)[0].vkey


@click.command("list")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def list_(around: str | None, where: str | None, as_json: bool) -> None:
    """List the registered secrets: names, uses and URIs."""
    from ledger import registry
    from ledger.log import Log

    with Log.open(where or around) as log:
        rows = [_row(one) for one in registry.read(log.origin)]
    if as_json:
        voice.out_json(rows)
        return
    voice.table([[click.style(row["name"], fg="cyan"), row["use"], row["uri"]] for row in rows], whole=True)
    if not rows:
        voice.say(voice.dim("none; `ledger keys add NAME URI` adds one"))


@click.command("check")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def check(around: str | None, where: str | None, as_json: bool) -> int:
    """Look each registered secret up, and say whether it can be used. Exit status 1: one can't."""
    from ledger import registry, resolve
    from ledger.log import Log
    from schemas.errors import LedgerError

    rows = []
    with Log.open(where or around) as log:
        for one in registry.read(log.origin):
            row = {**_row(one), "ok": True, "wrong": "", "hint": ""}
            try:
                resolve.check(log, one)
            except LedgerError as error:
                row |= {"ok": False, "wrong": error.what, "hint": error.hint}
            rows.append(row)
    if as_json:
        voice.out_json(rows)
    else:
        voice.table(
            [[click.style(r["name"], fg="cyan"), r["use"], r["wrong"] or "ok", r["hint"]] for r in rows], whole=True
        )
    return 0 if all(row["ok"] for row in rows) else 1


@click.command("remove")
@click.argument("name")
@voice.ledger_option
@click.pass_obj
def remove(around: str | None, name: str, where: str | None) -> None:
    """Forget where a secret lies. It stays there, and is no longer looked for in what leaves."""
    from ledger import registry
    from ledger.log import Log

    with Log.open(where or around) as log:
        found = registry.remove(log.origin, name)
    voice.say(f"removed   {_row(found)['uri']}   the secret itself stays")


def _row(one: Any) -> dict[str, Any]:
    from store.pkcs11uri import shown

    return {"name": one.name, "use": one.use, "uri": shown(one.uri)}
