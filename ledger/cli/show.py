"""`ledger show`: an entry, a step or an address."""

from typing import TYPE_CHECKING, Any

import click

from ledger.cli import voice

if TYPE_CHECKING:
    from ledger.index.reader import Log
    from ledger.state import Recorded
    from schemas.entries import Approval, ApprovalBreakGlass

_PREVIEW = 2000


@click.command("show")
@click.argument("what", metavar="INDEX|STEP|artifact://…")
@voice.identity_option
@voice.ledger_option
@voice.json_option
def command(what: str, identity: str | None, where: str | None, as_json: bool) -> None:
    """Show an entry by its INDEX or STEP (RUN:n), or the entries that name an address, with the content's start.

    Times end with Z: they are in UTC.

    \b
    examples:
      ledger show 519
      ledger show c41f9e02:23
      ledger show @:2
    """
    from ledger.cli import names
    from ledger.index.reader import Log
    from schemas.errors import NotFound
    from schemas.ids import cid_of

    with Log.open(where, identity=identity) as log:
        log.catch_up_places()
        if what.startswith("artifact://"):
            log.blobs.get(cid_of(what))
            found = [r for r in log.entries() if what.encode() in r.raw]
            if not found:
                raise NotFound(f"no entry names {what}", hint="it may be a part of a longer content")
        else:
            found = [names.entry(log, what)]
        for recorded in found:
            _show(log, recorded, as_json)


def summary(log: "Log", recorded: "Recorded") -> dict[str, Any]:
    """An entry as a flat dictionary, its sealed part opened where this identity can, an approver named."""
    import msgspec

    from schemas.entries import Approval, ApprovalBreakGlass, Uninterpreted

    entry = recorded.entry
    if isinstance(entry, Uninterpreted):
        raw = {"raw": recorded.raw.decode("utf-8", "backslashreplace")} if entry.kind == "malformed" else {}
        return {"index": recorded.index, "kind": entry.kind, **entry.value, **raw}
    value: dict[str, Any] = {"index": recorded.index, **msgspec.json.decode(recorded.raw)}
    detail = log.detail(str(value.pop("detail", "")))
    opened: dict[str, Any] = msgspec.to_builtins(detail)
    approver = (
        {"approver": _approver(log, recorded.index, entry)} if isinstance(entry, Approval | ApprovalBreakGlass) else {}
    )
    return value | opened | approver


def _approver(log: "Log", index: int, approval: "Approval | ApprovalBreakGlass") -> str:
    """Who signed, by the owner's newest statement: it keeps from and until which index each key holds."""
    from ledger.state import check_approval
    from schemas.errors import NotSound

    try:
        return check_approval(approval, index, log.chain.state.trusted())
    except NotSound as error:
        return f"nobody who may: {error.what}"


def _show(log: "Log", recorded: "Recorded", as_json: bool) -> None:
    from schemas.entries import Approval, ApprovalBreakGlass, Uninterpreted
    from schemas.errors import CannotTell, Erased, Missing

    value = summary(log, recorded)
    address = value.get("content") or value.get("request") or ""
    if isinstance(recorded.entry, Uninterpreted):
        address = ""
    content: bytes | None = None
    why = ""
    if address:
        try:
            content = log.read(str(address))
        except (CannotTell, Erased, Missing) as error:
            why = error.what
    if as_json:
        text = None
        if content is not None:
            text = _text(content)
        voice.out_json({**value, "text": text, "bytes": len(content) if content is not None else None})
        return
    if isinstance(recorded.entry, Approval | ApprovalBreakGlass):
        # The approver's name says what it amounts to.
        del value["signature"]
    width = max(map(len, value))
    for name, item in value.items():
        lines = str(item).rstrip("\n").split("\n")
        shown = ("\n" + " " * (width + 2)).join(map(voice.plain, lines))
        voice.out(f"{click.style(voice.plain(name).ljust(width), fg='cyan')}  {shown}")
    if content is not None:
        voice.say(voice.dim(f"— {len(content):,} bytes —"))
        content = _pretty(content)
        text = _text(content[:_PREVIEW])
        voice.out(text if text is not None else voice.dim("(not text; ledger cat writes it)"))
        if len(content) > _PREVIEW:
            voice.say(voice.dim(f"… the rest: ledger cat {address}"))
    elif why:
        voice.say(voice.dim(f"content not shown: {why}"))


def _pretty(content: bytes) -> bytes:
    """JSON as people read it; anything else as it is."""
    import msgspec

    if content[:1] not in (b"{", b"["):
        return content
    try:
        return msgspec.json.format(content, indent=2)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return content


def _text(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        # A preview may end in the middle of a character.
        if error.start < len(content) - 4:
            return None
        text = content[: error.start].decode()
    return text if all(c.isprintable() or c in "\n\t" for c in text) else None
