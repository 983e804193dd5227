"""The demo: record a small pipeline, look at it, verify it, change one byte and see verify fail.

Everything that it makes, keys included, lies in one folder: a new one among the system's temporary folders, unless
--keep names another. Nothing of yours is read or changed, and no network is used.
"""

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import pipeline
import standin

import ledger
from ledger import Appended
from schemas.ids import cid_of
from store import pack

INPUTS: dict[str, list[tuple[Any, ...]]] = {
    "calendar.isleap": [(1900,), (2000,), (2026,), (2028,)],
    "colorsys.rgb_to_hsv": [(0.2, 0.4, 0.6), (1, 1, 1), (0, 0.5, 0)],
    "html.escape": [("<a href='x'>",), ('"a" & "b"', False)],
    "statistics.median_low": [([3, 1, 2, 4],), ([],)],
    "textwrap.indent": [("a\n\nb", "> "), ("a\n\nb", "- ", str.isspace)],
}
WRAPPER = """\
#!/bin/sh
# `ledger` with the ledger and the keys of this demo; yours stay out of it.
unset LEDGER_TRUST LEDGER_IDENTITY LEDGER_SIGNER LEDGER_RUN XDG_CONFIG_HOME XDG_STATE_HOME XDG_CACHE_HOME
HOME={home} LEDGER={ledger} exec {python} -P -m ledger.cli.main "$@"
"""


def main() -> None:
    """Runs it, and ends with status 0 when everything went as it should."""
    parser = argparse.ArgumentParser(description="record a small pipeline, verify it, change one byte, verify again")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="new folder for what the demo makes")
    keep: Path | None = parser.parse_args().keep
    if keep and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        parser.error(f"{keep} is in use; name a new folder")
    folder = keep.absolute() if keep else Path(tempfile.mkdtemp(prefix="ledger-demo-"))
    move_in(folder)

    say(f"{bold('agent-ledger demo')}   Python {platform.python_version()}")
    say("No model at hand: a scripted stand-in answers, from the standard library's own source, and its")
    say(f"first answer for {standin.WRONG_AT_FIRST} is wrong on purpose. Everything else is real.")

    title("1  Five functions are recompiled from their bytecode, and every step is recorded")
    failed = recompile(folder)

    title("2  What was recorded; the steps of the function with the wrong answer")
    shell(folder, "ledger log")
    shell(folder, f"ledger log @ | grep {standin.WRONG_AT_FIRST}")

    title("3  Is the record what was signed?")
    shell(folder, "ledger verify")

    title("4  Somebody tampers with that failed check, in a copy: one byte")
    shell(folder, "cp -r .ledger changed")
    say(f"  {tamper(folder / 'changed', failed)}")
    shell(folder, "ledger verify changed", status=1)

    title("5  Type next")
    place = shlex.quote(str(folder))
    following = (
        (f"cd {place}", "./ledger there uses the demo's keys, not yours"),
        ("./ledger log @", "the whole run"),
        (f"./ledger show @:{failed.step - 1}", "the wrong answer, decrypted"),
        (f"./ledger show @:{failed.step}", "why it was refused"),
        (f"./ledger cat @:{failed.step + 1}", "what the model was sent then, byte for byte"),
        ("cat recompiled.py", "what came out"),
        (f"cd; rm -r {place}", "when you are done"),
    )
    width = max(len(command) for command, _ in following)
    for command, purpose in following:
        say(f"  {click.style(command.ljust(width), fg='cyan')}   {dim(purpose)}")


def move_in(folder: Path) -> None:
    """Makes this process, and `./ledger` in the folder, live in the folder."""
    home = folder / "home"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.mkdir(mode=0o700)
    for name in [name for name in os.environ if name.startswith(("LEDGER", "XDG_"))]:
        del os.environ[name]
    os.environ["HOME"] = str(home)
    quoted = {"home": home, "ledger": folder / ".ledger", "python": sys.executable}
    wrapper = folder / "ledger"
    wrapper.write_text(WRAPPER.format_map({name: shlex.quote(str(path)) for name, path in quoted.items()}))
    wrapper.chmod(0o700)


def recompile(folder: Path) -> Appended:
    """Records one run of the pipeline; returns the ledger's entry of the check that failed."""
    failed = []
    ledger.init(folder / ".ledger", origin="demo/recompile")
    with ledger.open(folder / ".ledger") as log, log.run("recompile") as run:
        done = []
        for task in INPUTS:
            for check in pipeline.recompile(run, task, standin.respond):
                again = check.attempt > 1
                stages = f"{'' if again else 'lift plan':9} write rebuild check"
                if check.difference:
                    changed = [f"{line[0]} {line[1:].strip()}" for line in check.difference if line[0] in "-+"]
                    verdict = f"{click.style('not equal', fg='red')}  {changed[0]}, and {len(changed) - 1} more lines"
                    failed.append(check.recorded)
                else:
                    verdict = f"{click.style('equal', fg='green')}, {check.instructions} instructions"
                    done.append(check)
                say(f"  {'' if again else task:22} {dim(stages)}   {verdict}")
        path = folder / "recompiled.py"
        calls = pipeline.package(run, done, INPUTS, path)
        say(f"  {path.name:22} {dim('package'):31}   {click.style('equal', fg='green')} results of {calls} calls")
    return failed[0]


def tamper(copy: Path, entry: Appended) -> str:
    """Changes one byte of an entry's encrypted content; says which."""
    cid = cid_of(entry.address)
    for path in sorted((copy / "packs").glob("*/*.pack")):
        data = bytearray(path.read_bytes())
        found = pack.parse(bytes(data))
        if cid in found.cids:
            position = found.cids.index(cid)
            begin = pack.offsets(found)[position]
            at = begin + len(found.blobs[position]) // 2
            old, data[at] = data[at], data[at] ^ 1
            path.write_bytes(data)
            change = f"{path.relative_to(copy.parent)}, byte {at:,}: {old:02x} becomes {data[at]:02x}"
            return f"{change}   {dim(f'(encrypted content of entry {entry.index}, from {begin:,} on)')}"
    raise SystemExit(f"demo failed: no pack holds {entry.address}")


def shell(folder: Path, line: str, *, status: int = 0) -> None:
    """Runs a command as somebody would at a terminal, and insists on its exit status."""
    say(f"{dim('$')} {bold(line)}")
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    found = subprocess.run(line, shell=True, cwd=folder, env=environment, stderr=subprocess.STDOUT, check=False)
    if found.returncode != status:
        raise SystemExit(f"demo failed: exit status {found.returncode}, not {status}: {line}")


def say(text: str = "") -> None:
    """A line, coloured on a terminal only, before what other processes print next."""
    click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
    sys.stdout.flush()


def title(text: str) -> None:
    """The headline of a part."""
    say()
    say(click.style(text, fg="blue", bold=True))


def bold(text: str) -> str:
    """Text that stands out."""
    return click.style(text, bold=True)


def dim(text: str) -> str:
    """Text that steps back."""
    return click.style(text, dim=True)


if __name__ == "__main__":
    main()
