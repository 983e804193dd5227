"""A sandbox of bubblewrap: a program sees what it is given, and reaches nothing but the gateway.

An empty root with system folders and toolchains read-only, a folder to work in, no capabilities, no network but its own
loopback. There, at 127.0.0.1:8377, the gateway listens: its socket is opened in the sandbox's network namespace from
outside, before the program starts, so that nothing within has to hand anything over.
"""

import array
import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from replay import seccomp
from schemas.errors import LedgerError

PORT = 8377
HOME = "/home/agent"
USER = 1000

_SYSTEM = ("/usr",)
_LINKED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Of a merged /usr these are links; elsewhere, folders."""

_ETC = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/ssl", "/etc/ca-certificates",
    "/etc/pki", "/etc/localtime", "/etc/mime.types", "/etc/java-openjdk", "/etc/fonts", "/etc/terminfo",
    "/etc/debian_version", "/etc/os-release",
)  # fmt: skip
_MADE = {
    "/etc/passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:{USER}:{USER}::{HOME}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": f"root:x:0:\nagent:x:{USER}:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "/etc/hostname": "sandbox\n",
}
_WAIT_S = 20.0
_GET_USERNS, _NEWUSER, _NEWNET, _FREEBIND = 0xB701, 0x10000000, 0x40000000, 15


class NoSandbox(LedgerError):
    """No sandbox works here."""


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """What a program gets.

    Attributes:
        folder: absolute path at which it works; it need not exist outside.
        scratch: the folder outside that lies there.
        roots: files and folders that it may read, each at its own path.
        environment: all of it.
        files: small ones in its home, by their path there.
    """

    folder: str
    scratch: Path
    roots: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    files: Mapping[str, bytes] = {}

    def arguments(self, command: list[str], *, terminal: bool, fds: "_Fds") -> list[str]:
        """The command line of bubblewrap."""
        line = [
            _bubblewrap(), "--unshare-user", "--disable-userns", "--unshare-ipc", "--unshare-pid", "--unshare-net",
            "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox", "--uid", str(USER), "--gid", str(USER),
            "--cap-drop", "ALL", "--die-with-parent",
        ]  # fmt: skip
        # With a terminal, its job control; that nothing is typed into it, the filter sees to.
        line += [] if terminal else ["--new-session"]
        line += ["--seccomp", str(fds.file(seccomp.program()))]
        for path in _SYSTEM:
            line += ["--ro-bind", path, path]
        for path in _LINKED:
            if os.path.islink(path):
                line += ["--symlink", os.readlink(path), path]
            elif os.path.isdir(path):
                line += ["--ro-bind", path, path]
        for path in _ETC:
            line += ["--ro-bind-try", path, path]
        for path, text in _MADE.items():
            line += ["--ro-bind-data", str(fds.file(text.encode())), path]
        line += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"]
        for path in ("/dev/shm", "/tmp", "/run", "/var/tmp", HOME):  # noqa: S108 - within the sandbox
            line += ["--perms", "0700" if path == HOME else "1777", "--tmpfs", path]
        for path, content in self.files.items():
            line += ["--file", str(fds.file(content)), f"{HOME}/{path}"]
        inside = [root for root in self.roots if _is_within(root, self.folder)]
        for root in self.roots:
            if root not in inside:
                line += ["--ro-bind", root, root]
        line += ["--bind", str(self.scratch), self.folder]
        for root in inside:
            line += ["--ro-bind", root, root]
        line += ["--chdir", self.folder, "--remount-ro", "/", "--clearenv"]
        for name, value in self.environment.items():
            line += ["--setenv", name, value]
        line += ["--info-fd", str(fds.info), "--block-fd", str(fds.block)]
        # What a command line holds everybody may read, within as without.
        packed = b"".join(os.fsencode(word) + b"\0" for word in line[1:])
        return [line[0], "--args", str(fds.file(packed)), "--", *command]


class Ended(msgspec.Struct, frozen=True):
    """How a program ended.

    Attributes:
        status: exit status; 128 and its number where a signal ended it.
        seconds: wall clock; of the processor, `user` and `system`.
        memory: KiB that its largest process had at most.
    """

    status: int
    seconds: float
    user: float
    system: float
    memory: int


class Running:
    """A program in a sandbox that has not begun yet.

    Attributes:
        listener: 127.0.0.1:8377 of the sandbox, listening.
        process: bubblewrap's.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", listener: socket.socket, block: int) -> None:
        self.process = process
        self.listener = listener
        self._block = block
        self._began = time.monotonic()

    def go(self) -> None:
        """Lets it begin."""
        self._began = time.monotonic()
        with contextlib.suppress(OSError):
            os.write(self._block, b"\n")
        os.close(self._block)

    def wait(self) -> Ended:
        """Waits for its end; all that it started ends with it."""
        _, code, used = os.wait4(self.process.pid, 0)
        status = os.waitstatus_to_exitcode(code)
        self.process.returncode = status
        return Ended(
            128 - status if status < 0 else status,
            time.monotonic() - self._began,
            used.ru_utime,
            used.ru_stime,
            used.ru_maxrss,
        )


class _Fds:
    """What bubblewrap inherits: files for it to copy, and the two pipes of its start."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.passed: list[int] = []
        told, self.info = self._pipe()
        self.block, self.unblock = self._pipe()
        self.told = told
        self.passed += [self.info, self.block]

    def _pipe(self) -> tuple[int, int]:
        return os.pipe()

    def file(self, content: bytes) -> int:
        """A descriptor from which a content is read."""
        made: IO[bytes] = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        made.write(content)
        made.flush()
        made.seek(0)
        self.passed.append(made.fileno())
        return made.fileno()


def start(sandbox: Sandbox, command: list[str], *, terminal: bool = False, **streams: Any) -> Running:
    """Makes a sandbox with a program in it that waits for `Running.go`.

    Args:
        terminal: whether it shares ours.
        streams: `stdin`, `stdout`, `stderr` as `subprocess.Popen` takes them.

    Raises:
        NoSandbox: none works here; says what to do.
    """
    if not seccomp.supported():
        raise NoSandbox(f"no sandbox on {os.uname().machine}", hint=ADVISORY)
    with contextlib.ExitStack() as stack:
        fds = _Fds(stack)
        try:
            line = sandbox.arguments(command, terminal=terminal, fds=fds)
            process = subprocess.Popen(line, pass_fds=fds.passed, umask=0o022, **streams)
        except BaseException:
            for fd in (fds.told, fds.info, fds.block, fds.unblock):
                os.close(fd)
            raise
        os.close(fds.info)
        os.close(fds.block)
        try:
            listener = _listener(_child(fds.told))
        except BaseException:
            os.close(fds.unblock)
            process.kill()
            process.wait()
            raise
        finally:
            os.close(fds.told)
    return Running(process, listener, fds.unblock)


def _child(told: int) -> int:
    """The pid of the sandbox's first process, as bubblewrap says it."""
    text = b""
    until = time.monotonic() + _WAIT_S
    while True:
        ready, _, _ = select.select([told], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(told, 4096) if ready else b""
        if not piece:
            raise NoSandbox("bubblewrap made no sandbox", hint="bwrap --unshare-all --ro-bind / / true says why")
        text += piece
        with contextlib.suppress(ValueError):
            return int(json.loads(text)["child-pid"])


_OPEN = """
import array, ctypes, fcntl, os, socket, sys
pid, out = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
libc = ctypes.CDLL(None, use_errno=True)
def enter(fd, kind):
    if libc.setns(fd, kind):
        raise OSError(ctypes.get_errno(), "setns")
net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
enter(fcntl.ioctl(net, %d), %d)
enter(net, %d)
made = socket.socket()
made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
made.setsockopt(socket.IPPROTO_IP, %d, 1)
made.bind(("127.0.0.1", %d))
made.listen(512)
out.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]))])
""" % (_GET_USERNS, _NEWUSER, _NEWNET, _FREEBIND, PORT)  # noqa: UP031 - of a program's text


def _listener(pid: int) -> socket.socket:
    """Listens in the network namespace of a process.

    A namespace is entered by a process of its own: one with threads may not change its users.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-I", "-S", "-c", _OPEN, str(pid), str(theirs.fileno())]
        done = subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, timeout=_WAIT_S, check=False)
        if done.returncode:
            raise NoSandbox("the sandbox's network can't be entered from outside", hint=ADVISORY)
        _, parts, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    found = array.array("i")
    for level, kind, data in parts:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[:4])
    return socket.socket(fileno=found[0])


ADVISORY = 'without one, by a policy with egress = "advisory": the gateway is then not the only way out'

_HINTS = (
    (
        "setting up uid map",
        "the kernel or AppArmor restricts user namespaces; on Ubuntu give bwrap an AppArmor profile",
    ),
    ("No permissions to create new namespace", "user namespaces are off: sysctl kernel.unprivileged_userns_clone=1"),
    ("Creating new namespace failed", "user namespaces are off, or used up: sysctl user.max_user_namespaces"),
    ("Can't mount proc", "/proc is masked, as in a container: docker run --security-opt systempaths=unconfined"),
    ("Failed to mount", "mounting is refused, as by Docker's seccomp profile: --security-opt seccomp=unconfined"),
    ("Operation not permitted", "in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"),
)


def _bubblewrap() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise NoSandbox("there is no bubblewrap here", hint=f"apt install bubblewrap; {ADVISORY}")
    return found


def check() -> None:
    """Starts a sandbox with nothing in it.

    Raises:
        NoSandbox: none works here; says why, and what to do.
    """
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder, tempfile.TemporaryFile() as said:
        try:
            running = start(
                Sandbox(folder="/work", scratch=Path(folder)),
                ["/bin/true"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
            running.go()
            running.listener.close()
            status = running.wait().status
        except NoSandbox as error:
            said.seek(0)
            raise _why(said.read().decode("utf-8", "replace"), error) from None
        if status:
            said.seek(0)
            raise _why(said.read().decode("utf-8", "replace"), NoSandbox("bubblewrap made no sandbox", hint=ADVISORY))


def _why(said: str, error: NoSandbox) -> NoSandbox:
    text = said.strip().removeprefix("bwrap: ")
    for sign, hint in _HINTS:
        if sign in text:
            return NoSandbox(f"no sandbox works here: {text[:200]}", hint=f"{hint}; {ADVISORY}")
    return NoSandbox(f"no sandbox works here: {text[:200]}", hint=error.hint) if text else error


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def environment(given: Mapping[str, str], clock: int) -> dict[str, str]:
    """What every sandboxed program has around it, and what it is given beside that.

    Args:
        clock: Unix seconds at which it begins.
    """
    return {
        "HOME": HOME,
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TMPDIR": "/tmp",  # noqa: S108 - within the sandbox
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(clock),
        **given,
    }
