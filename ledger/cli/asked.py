"""What `ledger approve` and `ledger deny` have in common: show a request, ask, sign, append."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ledger.cli import voice

if TYPE_CHECKING:
    from ledger.approve import Waiting
    from ledger.index.reader import Log
    from policies.statement import Verdict

APPROVE: "Verdict" = "approve"
DENY: "Verdict" = "deny"
BREAK_GLASS: "Verdict" = "break-glass"
_PREVIEW = 2000
_COLUMNS = ("effect", "policy", "rule", "expected", "actual")


class How(NamedTuple):
    """What was asked for by options."""

    reason: str
    key: str
    yes: bool
    whole: bool
    out: Path | None
    as_json: bool


def list_waiting(where: str | None, identity: str | None, as_json: bool) -> None:
    """What waits in open runs, a line each."""
    from ledger import approve
    from ledger.index.reader import Log

    with Log.open(where, identity=identity) as log:
        found = approve.waiting(log, log.writer.clock())
    if as_json:
        for one in found:
            voice.out_json(_about(one))
        return
    if not found:
        voice.say("nothing waits for approval")
        return
    rows = [["id", "run", "stage", "action", "model", "at most", "asked", "expires", "approved"]]
    for one in found:
        entry = one.entry
        times = voice.moment(entry.time), voice.moment(entry.expires)
        cost = _usd(entry.reserved) if entry.reserved else ""
        what = voice.short(entry.run), voice.plain(entry.stage), voice.plain(entry.action), voice.plain(entry.model)
        rows.append([str(one.index), *what, cost, *times, "; ".join(one.standing.reasons)])
    voice.table([[voice.dim(cell) for cell in rows[0]], *rows[1:]])
    voice.say(voice.dim("next: ledger approve ID, or ledger deny ID"))


def answer(text: str, verdict: "Verdict", how: How, where: str | None, identity: str | None) -> int:
    """Shows what is asked, asks, signs, appends; or writes what is to be signed."""
    from ledger import approve, sshkeygen
    from ledger.index.reader import Log

    voice.check_output(how.out)
    if how.as_json and not how.yes and how.out is None:
        raise click.UsageError("--json shows and asks nothing: it needs --yes")
    with Log.open(where, identity=identity) as log:
        one = approve.find(log, text, log.writer.clock())
        document = approve.text(log, one.entry, verdict)
        content = _content(log, one)
        if not how.as_json:
            _show(log, one, content, how.whole)
        if how.out is not None:
            voice.save(how.out, document)
            voice.say(_elsewhere(how.out))
            if how.as_json:
                voice.out_json({**_about(one), "verdict": verdict, "out": str(how.out)})
            return 0
        if not how.yes and not _agreed(verdict):
            voice.say("nothing was signed")
            return 1
        approvers = log.chain.state.trusted().approvers_at(log.chain.state.size)
        signature = sshkeygen.sign(document, how.key, approvers, Path.home())
        done = approve.answer(log, one.entry, verdict, signature, how.reason)
        after = approve.find(log, str(one.index), log.writer.clock())
    if how.as_json:
        voice.out_json({**_about(after), "verdict": verdict, "entry": done.index})
    else:
        voice.say(
            f"{_DONE[verdict]} by entry {done.index:,}   {after.standing.state}: {'; '.join(after.standing.reasons)}"
        )
    return 0


_DONE = {APPROVE: "approved", DENY: "denied", BREAK_GLASS: "the glass is broken"}
_ASKING = {
    APPROVE: "approve this?",
    DENY: "deny this?",
    BREAK_GLASS: "let this go ALONE, without the quorum? every audit will say so",
}


def _agreed(verdict: "Verdict") -> bool:
    if not (sys.stdin and sys.stdin.isatty()):
        raise click.UsageError("nobody can be asked here: standard input is no terminal; --yes signs without asking")
    return click.confirm(_ASKING[verdict], default=False, err=True)


def _elsewhere(path: Path) -> str:
    name = voice.plain(str(path))
    return f"sign:  ssh-keygen -Y sign -n ledger-approval@v1 -f KEY {name}\nthen:  ledger append approval {name}"


def _about(one: "Waiting") -> dict[str, Any]:
    import msgspec

    entry: dict[str, Any] = msgspec.to_builtins(one.entry)
    for name in ("kind", "v"):
        entry.pop(name, None)
    standing = {"state": one.standing.state, "reasons": one.standing.reasons, "approvers": one.standing.approvers}
    return {"index": one.index, **entry, **standing}


def _content(log: "Log", one: "Waiting") -> bytes | None:
    """The bytes of the action; None where this identity can't open them. Nobody signs for others than are shown."""
    from ledger import approve
    from schemas.errors import CannotTell, Erased, Missing

    try:
        return approve.content(log, one.entry)
    except (CannotTell, Erased, Missing):
        voice.warn("the content can't be opened by this identity: you see less than what you sign for")
        return None


def _show(log: "Log", one: "Waiting", content: bytes | None, whole: bool) -> None:
    """Exactly what is asked: the clear members that are signed, the findings, the content."""
    entry = one.entry
    rows = [
        ("request", f"{one.index}   {one.standing.state}: {'; '.join(one.standing.reasons)}"),
        ("log, run", f"{log.origin}   {entry.run}"),
        ("stage", "  ".join(filter(None, (entry.stage, entry.lane, entry.task)))),
        ("action", f"{entry.action}  {entry.model}".rstrip()),
        ("costs at most", _usd(entry.reserved) if entry.reserved else ""),
        ("asked by", f"{entry.requester}, {entry.time:%Y-%m-%d %H:%M:%SZ}"),
        ("expires", f"{entry.expires:%Y-%m-%d %H:%M:%SZ}"),
        ("needs", "; ".join(entry.quorum)),
        ("digest", entry.subject),
        ("nonce", entry.nonce),
    ]
    for name, text in rows:
        if text:
            voice.out(f"{click.style(name.ljust(13), fg='cyan')}  {voice.plain(text)}")
    question = _open(log, entry.content)
    if question is not None:
        _findings(question)
    if content is None:
        return
    shown = _readable(content)
    voice.say(voice.dim(f"— {len(content):,} bytes —"))
    voice.out(shown if whole else shown[:_PREVIEW])
    if len(shown) > _PREVIEW and not whole:
        voice.say(voice.dim(f"… {len(shown) - _PREVIEW:,} more characters: --all, or ledger cat {entry.request}"))


def _open(log: "Log", address: str) -> bytes | None:
    from schemas.errors import CannotTell, Erased, Missing

    try:
        return log.read(address)
    except (CannotTell, Erased, Missing):
        return None


def _findings(question: bytes) -> None:
    import msgspec

    try:
        findings = msgspec.json.decode(question).get("findings", [])
        rows = [["  " + str(found[name]).replace("_", " ") for name in _COLUMNS] for found in findings]
    except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError, KeyError, TypeError):
        voice.warn("what policy found can't be shown: it is not spelled as usual")
        return
    voice.table([[voice.plain(cell) for cell in row] for row in rows])


def _readable(content: bytes) -> str:
    """Content as people read it, JSON indented; what is not printable as its escapes."""
    import msgspec

    if content[:1] in (b"{", b"["):
        try:
            content = msgspec.json.format(content, indent=2)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
    return "\n".join(map(voice.plain, content.decode("utf-8", "backslashreplace").split("\n")))


def _usd(micro: int) -> str:
    return f"${micro / 1_000_000:,.4f}"
