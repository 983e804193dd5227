"""`ledger keys`: who may write, approve and read; and changes to that."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ledger.cli import registered, voice

if TYPE_CHECKING:
    from ledger.log import Log


@click.group("keys", invoke_without_command=True)
@voice.ledger_option
@voice.json_option
@click.pass_context
def command(context: click.Context, where: str | None, as_json: bool) -> None:
    """Show the keys of a ledger; or change them. Changes are signed by the owner and recorded.

    \b
    examples:
      ledger keys
      ledger keys grant age1qyqszqgp…             let somebody read
      ledger keys author ci add                   a key for CI, which can write and not read
      ledger keys author ci end                   end it, or --at INDEX from where it was stolen
      ledger keys approver ada add id_ed25519.pub --role release
      ledger keys add db env:DB_PASSWORD          a value that must never leave
    """
    context.obj = where
    if context.invoked_subcommand is None:
        from ledger.log import Log

        with Log.open(where) as log:
            _show(_describe(log), as_json)


def _describe(log: "Log") -> dict[str, Any]:
    import msgspec

    from ledger import homes

    state = log.chain.state
    trust, keys = state.trusted().note, state.readable().note
    return {
        "origin": log.origin,
        "owner": state.owner.vkey,
        "log": trust.log,
        "authors": [{"name": a.name, **msgspec.to_builtins(a)} for a in trust.authors],
        "approvers": msgspec.to_builtins(trust.approvers),
        "root": keys.root,
        "readers": list(keys.readers),
        "private": sorted(
            str(p) for p in homes.keys(log.origin).glob("*") if p.is_file() and p.name not in ("trust", "secrets.json")
        ),
    }


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        voice.out_json(found)
        return
    rows = [["owner", "", found["owner"]], ["log", "", found["log"]]]
    rows += [["author", _validity(a), a["vkey"]] for a in found["authors"]]
    rows += [["approver", _validity(a), _approver(a)] for a in found["approvers"]]
    rows += [["reader", "", reader] for reader in found["readers"]]
    rows += [["private", "", path.replace(str(Path.home()), "~", 1)] for path in found["private"]]
    # Keys are there to be copied.
    voice.table([[click.style(name, fg="cyan"), voice.dim(valid), rest] for name, valid, rest in rows], whole=True)


def _approver(item: dict[str, Any]) -> str:
    roles = f"  ({', '.join(item['roles'])})" if item["roles"] else ""
    return f"{item['name']}{roles}  {item['key']}"


def _validity(item: dict[str, Any]) -> str:
    return f"from {item['since']}" + (f" until {item['until']}" if item["until"] is not None else "")


def _key_of(text: str) -> str:
    """A public key, as such or in a file."""
    if not os.path.isfile(text):
        return text
    found = Path(text).read_text(errors="replace").strip()
    if not found.startswith(("age1", "ssh-", "sk-ssh-", "ecdsa-")):
        # Nothing of it is repeated: it may be the private key.
        raise click.UsageError(f"{voice.plain(text)} holds no public key")
    return found


for _sub in (registered.add, registered.list_, registered.check, registered.remove):
    command.add_command(_sub)


@command.command("grant")
@click.argument("recipient", metavar="RECIPIENT|FILE")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def grant(around: str | None, recipient: str, where: str | None, as_json: bool) -> None:
    """Let RECIPIENT (age1…, an SSH public key, or its file) read everything, what is written already included."""
    from ledger import govern
    from ledger.log import Log

    recipient = _key_of(recipient)
    with Log.open(where or around) as log:
        new = govern.grant(log, recipient)
        if as_json:
            voice.out_json({"granted": recipient, "readers": list(log.chain.state.readable().note.readers)})
        else:
            voice.say(f"{'granted' if new else 'can read already'}   every root was encrypted to all readers again")


@command.command("revoke")
@click.argument("recipient", metavar="RECIPIENT|FILE")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def revoke(around: str | None, recipient: str, where: str | None, as_json: bool) -> None:
    """Stop RECIPIENT from reading runs that start from now on. What he could read he may have kept."""
    from ledger import govern
    from ledger.log import Log

    recipient = _key_of(recipient)
    with Log.open(where or around) as log:
        govern.revoke(log, recipient)
        if as_json:
            voice.out_json({"revoked": recipient, "readers": list(log.chain.state.readable().note.readers)})
        else:
            voice.say("revoked   for runs that start from now on; what was written stays readable to who had it")


@command.command("author")
@click.argument("name")
@click.argument("what", type=click.Choice(["add", "end"]))
@click.argument("key", default="", metavar="[VKEY|URI|KEYID]")
@click.option("--at", type=int, metavar="INDEX", help="With end: index from which it no longer counts [default: now].")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def author(
    around: str | None,
    name: str,
    what: Literal["add", "end"],
    key: str,
    at: int | None,
    where: str | None,
    as_json: bool,
) -> None:
    """Add an author's key (made here, its VKEY, or the URI of the private key), or end it.

    An author may have several keys: add the new one, let writers change over, then end the old one by its KEYID.
    """
    from ledger import govern
    from ledger.log import Log

    if what == "add" and at is not None:
        raise click.UsageError("--at goes with end")
    with Log.open(where or around) as log:
        if what == "add":
            added, path = govern.add_author(log, name, key)
            if as_json:
                voice.out_json(
                    {"name": name, "vkey": added.vkey, "since": added.since, "key": str(path) if path else None}
                )
                return
            voice.out(added.vkey)
            if path is not None:
                voice.say(f"private key  {path}   hand it over as a secret: LEDGER_SIGNER=env:NAME or file:PATH")
            older = [a for a in log.chain.state.trusted().note.authors if a.name == name and a.until is None]
            for old in older[:-1]:
                voice.say(f"still good   {old.id} from {old.since:,}   then: ledger keys author {name} end {old.id}")
        else:
            ended = govern.end_author(log, name, at, key)
            if as_json:
                voice.out_json({"name": name, "vkey": ended.vkey, "until": ended.until})
                return
            voice.say(f"{name} ended at index {ended.until:,}")


@command.command("approver")
@click.argument("name")
@click.argument("what", type=click.Choice(["add", "end"]))
@click.argument("key", default="", metavar="[PUBLIC-KEY|FILE]")
@click.option("--role", "roles", multiple=True, help="In which the key may approve; break-glass: alone.")
@voice.ledger_option
@voice.json_option
@click.pass_obj
def approver(
    around: str | None,
    name: str,
    what: Literal["add", "end"],
    key: str,
    roles: tuple[str, ...],
    where: str | None,
    as_json: bool,
) -> None:
    """Let a person's SSH key approve, or end all keys of that person."""
    from ledger import govern
    from ledger.log import Log

    if what == "end" and (key or roles):
        raise click.UsageError("a key goes with add; end takes the person's name alone, and ends all keys")
    key = _key_of(key)
    with Log.open(where or around) as log:
        if what == "add":
            added = govern.add_approver(log, name, key, roles)
            if as_json:
                voice.out_json(added)
            else:
                voice.say(f"{name} may approve from index {added.since:,} on")
        else:
            govern.end_approver(log, name)
            if as_json:
                voice.out_json({"name": name, "ended": True})
            else:
                voice.say(f"{name} may no longer approve")
