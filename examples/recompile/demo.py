"""The demo: a small pipeline asks a model through the gateway; look at its record, verify it, change one byte.

Everything that it makes, keys included, lies in one folder: a new one among the system's temporary folders, unless
--keep names another. Nothing of yours is changed. Without OPENAI_API_KEY no network is used; with it, the real model
is, at OPENAI_BASE_URL if that is set.
"""

import argparse
import os
import platform
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import openai
import pipeline
import standin

import ledger
from ledger import Appended, Run
from ledger.gateway.server import KEY, UPSTREAM
from schemas.ids import cid_of
from store import pack

INPUTS: dict[str, list[tuple[Any, ...]]] = {
    "calendar.isleap": [(1900,), (2000,), (2026,), (2028,)],
    "colorsys.rgb_to_hsv": [(0.2, 0.4, 0.6), (1, 1, 1), (0, 0.5, 0)],
    "html.escape": [("<a href='x'>",), ('"a" & "b"', False)],
    "statistics.median_low": [([3, 1, 2, 4],), ([],)],
    "textwrap.indent": [("a\n\nb", "> "), ("a\n\nb", "- ", str.isspace)],
}
TOO_MUCH = "gpt-5.6-sol"
POLICY = Path(__file__).with_name("policy.toml")
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
    with model() as gateway:
        title("1  Five functions are recompiled from their bytecode; the model is asked through the gateway")
        try:
            check, refusal = recompile(folder, gateway)
        except openai.OpenAIError as error:
            raise SystemExit(f"demo failed: {error}") from None

    title("2  What the gateway and the pipeline recorded for one function, and what is left to spend")
    shell(folder, f"ledger log @ --task {check.task}")
    shell(folder, "ledger budget @")

    title("3  A call that policy denies never leaves; the client is told why, and so are you")
    say(f"  {refusal}")
    shell(folder, "ledger policy explain @ --denied | grep deny")

    title("4  Is the record what was signed?")
    shell(folder, "ledger verify")

    title(f"5  Somebody tampers with {'the failed' if check.difference else 'a'} check, in a copy: one byte")
    shell(folder, "cp -r .ledger changed")
    say(f"  {tamper(folder / 'changed', check.recorded)}")
    shell(folder, "ledger verify changed", status=1)

    title("6  Type next")
    place = shlex.quote(str(folder))
    step = check.recorded.step
    following = [
        (f"cd {place}", "./ledger there uses the demo's keys, not yours"),
        ("./ledger log @", "the whole run"),
        ("./ledger policy explain @", "every rule of every decision, and what it found"),
        (f"./ledger show @:{step - 1}", "an answer, decrypted"),
        (f"./ledger show @:{step}", "what came of checking it"),
        (f"./ledger cat @:{step - 3}", "the request for it as it left, byte for byte"),
        ("cat recompiled.py", "what came out"),
        (f"cd; rm -r {place}", "when you are done"),
    ]
    width = max(len(command) for command, _ in following)
    for command, purpose in following:
        say(f"  {click.style(command.ljust(width), fg='cyan')}   {dim(purpose)}")


@contextmanager
def model() -> Iterator[dict[str, Any]]:
    """What `Run.openai` is told, the real model where its key is at hand; says which it is."""
    policies = (str(POLICY),)
    if os.environ.get("OPENAI_API_KEY"):
        upstream = os.environ.get("OPENAI_BASE_URL") or UPSTREAM
        say(f"The model is real: {upstream}, with the key in OPENAI_API_KEY. The policy lets a run spend $1 at most.")
        yield {"upstream": upstream, "key": KEY, "policies": policies}
        return
    say("No OPENAI_API_KEY: a scripted stand-in answers, from the standard library's own source, and its first")
    say(f"answer for {standin.WRONG_AT_FIRST} is wrong on purpose. All else is real, but nobody pays the costs shown.")
    os.environ["STANDIN_KEY"] = f"sk-stand-in-{secrets.token_hex(16)}"
    with standin.StandIn(os.environ["STANDIN_KEY"]) as upstream:
        yield {"upstream": upstream.url, "key": "env:STANDIN_KEY", "policies": policies}


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


def recompile(folder: Path, gateway: dict[str, Any]) -> tuple[pipeline.Check, str]:
    """Records one run of the pipeline.

    Returns:
        The check to look at, one that failed if there is one; and what was said of the call that policy denied.
    """
    checks: list[pipeline.Check] = []
    ledger.init(folder / ".ledger", origin="demo/recompile")
    with ledger.open(folder / ".ledger") as log, log.run("recompile") as run:
        for task in INPUTS:
            try:
                for check in pipeline.recompile(run, task, gateway):
                    checks.append(check)
                    tell(check)
            except pipeline.NotEqual:
                say(f"  {task:22} {dim('given up')}")
        done = [check for check in checks if not check.difference]
        path = folder / "recompiled.py"
        calls = pipeline.package(run, done, {check.task: INPUTS[check.task] for check in done}, path)
        say(f"  {path.name:22} {dim('package'):31}   {click.style('equal', fg='green')} results of {calls} calls")
        refusal = ask_too_much(run, gateway)
        say(f"  {TOO_MUCH:22} {dim('review'):31}   {click.style('denied', fg='red')}, and the run goes on")
    return next((check for check in checks if check.difference), checks[0]), refusal


def tell(check: pipeline.Check) -> None:
    """One line about an answer."""
    again = check.attempt > 1
    stages = f"{'' if again else 'lift plan':9} write rebuild check"
    if check.difference:
        changed = [f"{line[0]} {line[1:].strip()}" for line in check.difference if line[0] in "-+"]
        verdict = f"{click.style('not equal', fg='red')}  {changed[0]}, and {len(changed) - 1} more lines"
    else:
        verdict = f"{click.style('equal', fg='green')}, {check.instructions} instructions"
    say(f"  {'' if again else check.task:22} {dim(stages)}   {verdict}")


def ask_too_much(run: Run, gateway: dict[str, Any]) -> str:
    """Asks for a model that the policy does not allow; returns what the client is told."""
    try:
        with run.stage("review").openai(**gateway) as client:
            client.responses.create(model=TOO_MUCH, input="Is it well written?")
    except openai.BadRequestError as error:
        told = error.body["message"] if isinstance(error.body, dict) else str(error)
        return f"{error.status_code}: {told.partition(' (')[0]}"
    raise SystemExit(f"demo failed: {TOO_MUCH} has answered, and the policy does not allow it")


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
