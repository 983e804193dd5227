"""`ledger redact`: show what redaction would mask."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import voice

if TYPE_CHECKING:
    from policies.redaction.redact import Found
    from policies.redaction.scan import Scanner


@click.command("redact")
@click.argument("file", metavar="FILE|-")
@click.option("--profile", default="homebrew", show_default=True, metavar="P", help="A shipped profile, or a file.")
@click.option(
    "--secret", "values", multiple=True, metavar="URI", callback=voice.check_uris, help="A value that must never leave."
)
@click.option("--explain", is_flag=True, help="List what is masked and why, in the place of the text.")
@voice.json_option
def command(file: str, profile: str, values: tuple[str, ...], explain: bool, as_json: bool) -> None:
    """Write FILE as a model would see it, and on stderr how often each rule masked something.

    Nothing is recorded or sent. A run has a key of its own: its pseudonyms are others than those shown here.

    \b
    examples:
      ledger redact notes.md
      ledger redact --profile strict --explain .env
      git diff | ledger redact -
    """
    import secrets
    import sys

    from policies.redaction.exact import Exact
    from policies.redaction.redact import Redactor
    from store.secrets import load

    chosen, scanner = _profile(profile)
    exact = Exact([(uri, load(uri)) for uri in values])
    text = voice.standard_input() if file == "-" else Path(file).read_bytes()
    redactor = Redactor(chosen, scanner, exact, secrets.token_bytes(32))
    redacted = redactor.text(text)
    found = list(_told(text, redacted.found))
    if as_json:
        about = {"profile": chosen.profile_id, "version": redactor.version, "counts": redacted.counts}
        voice.out_json({**about, "found": found, "text": redacted.value.decode("utf-8", "replace")})
    elif explain:
        voice.table([_row(one) for one in found])
    else:
        sys.stdout.buffer.write(redacted.value)
    for rule, count in redacted.counts.items():
        voice.say(f"{voice.plain(rule)}  {count:,}")
    if not found:
        voice.say(voice.dim("nothing to mask"))


def _profile(name: str) -> tuple[Any, "Scanner"]:
    """A profile by its name or from a file, and what looks for its kinds."""
    from policies.redaction import compose, known

    found = known.load(name) if Path(name).is_file() else known.find(name, {})
    every, ignored = compose.load(found.profile, found.texts)
    for why in ignored:
        voice.warn(voice.plain(why))
    return found.profile, compose.scanner(found.profile, every)


def _told(text: bytes, found: "Sequence[Found]") -> Iterator[dict[str, Any]]:
    """Where each stands, as an editor counts, and what it is; of itself its length alone."""
    line, at = 1, 0
    for one in found:
        line += text.count(b"\n", at, one.start)
        at = one.start
        before = text[text.rfind(b"\n", 0, at) + 1 : at]
        what = text[at : one.end].decode("utf-8", "replace")
        yield {
            "line": line,
            "column": len(before.decode("utf-8", "replace")) + 1,
            "kind": one.kind,
            "rule": one.rule,
            "length": len(what),
            "lines": what.count("\n") + 1,
        }


def _row(found: dict[str, Any]) -> list[str]:
    lines = f" on {found['lines']:,} lines" if found["lines"] > 1 else ""
    return [
        f"{found['line']}:{found['column']}",
        click.style(voice.plain(found["kind"]), fg="yellow"),
        voice.plain(found["rule"]),
        voice.dim(voice.count(found["length"], "character") + lines),
    ]
