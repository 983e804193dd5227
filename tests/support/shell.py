"""The command line as its users meet it: processes, pipes, terminals; and people's signatures."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
LEDGER = [sys.executable, "-m", "ledger.cli.main"]


class Said(NamedTuple):
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        """Standard output, each line of which must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    def fails(self, status: int, *words: str) -> None:
        """It was refused as it should be: this status, `error:` with these words, and nothing on stdout."""
        assert self.status == status, self
        assert self.out == "", self
        assert self.err.lstrip("\n").startswith("error: "), self
        assert "our own bug" not in self.err, self
        assert "Traceback" not in self.err, self
        first, *rest = self.err.strip().splitlines()
        assert all(line.startswith("hint: ") for line in rest[:1]), self
        assert not first.endswith("."), self
        for word in words:
            assert word in self.err, (word, self)


Say = Callable[..., Said]


def call(
    *args: str | Path, stdin: str | bytes = b"", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Said:
    """Runs `ledger` as a process of its own."""
    done = subprocess.run(
        [*LEDGER, *map(str, args)],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=60,
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def on_a_terminal(*args: str | Path, env: Mapping[str, str] | None = None) -> str:
    """What somebody sees who runs `ledger` on a terminal."""
    return at_a_terminal(*args, env=env)[1]


def at_a_terminal(*args: str | Path, typed: str = "", env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The same for somebody who types an answer; with the exit status."""
    master, slave = pty.openpty()
    os.write(master, typed.encode())
    process = subprocess.Popen(
        [*LEDGER, *map(str, args)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", **(env or {})},
    )
    os.close(slave)
    seen = b""
    try:
        while piece := os.read(master, 65536):
            seen += piece
    except OSError:
        pass  # Linux reports the end of a terminal so.
    os.close(master)
    return process.wait(60), seen.decode()


def new_person(folder: Path, name: str) -> Path:
    """Somebody's SSH key; the public one lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)], check=True)
    return key


def sign(key: Path, request: Path, namespace: str = "ledger-approval@v1") -> Path:
    """Signs a file as people do; returns the signature's file."""
    request.with_name(request.name + ".sig").unlink(missing_ok=True)
    command = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(key), str(request)]
    subprocess.run(command, check=True, capture_output=True)
    return request.with_name(request.name + ".sig")


# All modules are loaded before the privileges go: the interpreter's own files may be closed to that user.
_AS_NOBODY = """
import importlib, os, pkgutil, sys
import ledger
from ledger.cli.main import run
for found in pkgutil.walk_packages(ledger.__path__, "ledger."):
    importlib.import_module(found.name)
import ctypes, resource
import dataclasses, difflib, duckdb, msgspec.json, pyarrow.compute, pyarrow.csv, pyarrow.parquet, zoneinfo
duckdb.connect().sql("SELECT now(), 1.5::DECIMAL(3, 1)").to_arrow_table().to_pylist()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


def as_nobody(*args: str | Path, home: Path) -> Said:
    """Runs `ledger` as another user of this machine. Only root can."""
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, *map(str, args)],
        capture_output=True,
        cwd="/",
        env={"HOME": str(home), "PATH": os.environ["PATH"], "TZ": "UTC"},
        timeout=60,
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())
