"""Signing as `ssh-keygen -Y sign` does it, by that very program: with keys in files, in an agent, and in hardware."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from policies.sshsig import NAMESPACE
from schemas.errors import KeyUnusable, NotFound

AGENT = "agent"
"""In place of a file: whichever key of the agent may approve."""

_PUBLIC = (".ssh/id_ed25519.pub", ".ssh/id_ed25519_sk.pub")


def sign(document: bytes, key: str, approvers: dict[str, str], home: Path) -> bytes:
    """The armored signature over a document.

    `ssh-keygen` itself asks for a passphrase or a touch, on the terminal.

    Args:
        key: a private key's file, or a public key's whose private one the agent or a device holds; `agent`; or empty
            for a key of the agent or of `~/.ssh` that may approve.
        approvers: names by SSH key, of who may.
        home: of the user.

    Raises:
        KeyUnusable: none is there, or it was not signed.
    """
    with _file(key, approvers, home) as path:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(path)]
        done = _run(command, document)
    if done.returncode or not done.stdout:
        raise KeyUnusable(f"ssh-keygen did not sign with {key or path}", hint="what it said stands above")
    return done.stdout


@contextmanager
def _file(key: str, approvers: dict[str, str], home: Path) -> Iterator[Path]:
    """The file that names a key to ssh-keygen; a public one is enough where an agent holds the rest."""
    if key and key != AGENT:
        path = Path(key).expanduser()
        if not path.is_file():
            raise NotFound(f"{key}: no such key", hint="--key FILE, or --key agent")
        yield path
        return
    public = next((held for held in _of_agent() if held in approvers), None)
    if public is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "key.pub"
            path.write_text(public + "\n")
            yield path
        return
    for name in _PUBLIC if not key else ():
        path = home / name
        if path.is_file() and " ".join(path.read_text(errors="replace").split()[:2]) in approvers:
            yield path.with_suffix("")
            return
    where = "in the agent" if key else "in the agent or in ~/.ssh"
    raise KeyUnusable(f"no key {where} may approve here", hint="--key FILE; `ledger keys` lists approvers")


def _of_agent() -> list[str]:
    """Public keys that the agent holds; none where there is no agent."""
    program = shutil.which("ssh-add")
    if program is None:
        return []
    done = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return [" ".join(line.split()[:2]) for line in done.stdout.splitlines()] if done.returncode == 0 else []


def _run(command: list[str], document: bytes) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(command, input=document, stdout=subprocess.PIPE, check=False)
    except FileNotFoundError:
        raise KeyUnusable(
            "ssh-keygen is not here", hint="install OpenSSH; or sign elsewhere: ledger approve ID --out FILE"
        ) from None
