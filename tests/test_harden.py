"""What the command line gives up before it touches a secret: dumps of its memory, tracers, files for others."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shell import ROOT

# As a verb sees it: in the process itself, once its command runs.
_INSIDE = """
import os, resource, sys
from ledger.cli import start
from ledger.cli.main import run
def look(**_):
    import ctypes
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))
    {more}
start.command.callback = look
sys.exit(run(["start"]))
"""


def inside(more: str = "pass", **how: object) -> subprocess.CompletedProcess[str]:
    code = _INSIDE.format(more=more)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, **how)  # type: ignore[call-overload,no-any-return]


def test_no_verb_runs_with_dumps_tracers_or_open_files() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    assert inside().stdout.split() == ["0", "0", "0", "0o77"]
    # What was looked at is our doing: this process is not so.
    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]

    def allow() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    # The bit in the status that says so, wherever the system would have put it.
    dumped = inside("child = os.fork() or os.abort(); print(os.WCOREDUMP(os.waitpid(child, 0)[1]))", preexec_fn=allow)
    assert dumped.stdout.split()[-1] == "False", dumped


# By exec a process becomes traceable again; here that is said by hand, as another user may not start our interpreter.
_AS_NOBODY = """
import ctypes, os, resource, sys, time
from ledger.cli import harden
os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0
"""


def as_nobody(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", _AS_NOBODY + code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("hardened", [False, True])
def test_another_process_of_the_same_user_reads_neither_memory_nor_environment(hardened: bool) -> None:
    said = as_nobody(f"""
child = os.fork()
if not child:
    if {hardened}:
        harden.files(); harden.memory()
    time.sleep(30)
time.sleep(0.3)
for name in ("mem", "environ", "maps"):
    try:
        os.close(os.open(f"/proc/{{child}}/{{name}}", os.O_RDONLY))
        print("read")
    except PermissionError:
        print("refused")
os.kill(child, 9)
""")
    assert set(said.split()) == {"refused" if hardened else "read"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_who_can_not_be_traced_still_reads_what_it_was_handed() -> None:
    """A pipe by name, as a shell's `<(command)`: `/dev/fd` is the process's own, whoever may look at it."""
    said = as_nobody("""
harden.files(); harden.memory()
end, start = os.pipe()
os.write(start, b"handed"); os.close(start)
print(open(f"/dev/fd/{end}", "rb").read().decode())
""")
    assert said == "handed\n"
