"""A real SecretService without a screen: gnome-keyring on a D-Bus of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_PASSWORD = b"of the login keyring"


class Keyring(NamedTuple):
    """A session's keyring, unlocked.

    Attributes:
        environment: what a process needs to reach it.
        process: the daemon.
    """

    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def put(self, service: str, name: str, value: str) -> None:
        """Stores a secret as people do, by another program than ours."""
        subprocess.run(
            ["secret-tool", "store", "--label", name, "service", service, "username", name],
            input=value.encode(),
            env={**os.environ, **self.environment},
            check=True,
        )

    def lock(self) -> None:
        """Locks it; unlocking asks a person, and there is none."""
        code = "import secretstorage as s; s.get_default_collection(s.dbus_init()).lock()"
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **self.environment}, check=True)

    def stop_answering(self) -> None:
        """It stays on the bus and says nothing, as one that waits for a person."""
        self.process.send_signal(signal.SIGSTOP)


@contextmanager
def session(folder: Path) -> Iterator[Keyring]:
    """A D-Bus and a keyring in a folder; both end with the test."""
    for program in ("dbus-daemon", "gnome-keyring-daemon", "secret-tool"):
        assert shutil.which(program), f"{program} is not installed"
    folder.mkdir(mode=0o700)
    bus = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address=1", f"--address=unix:path={folder / 'bus'}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert bus.stdout is not None
        address = bus.stdout.readline().decode().strip()
        places = {"XDG_RUNTIME_DIR": str(folder), "XDG_DATA_HOME": str(folder / "data"), "HOME": str(folder)}
        environment = {"DBUS_SESSION_BUS_ADDRESS": address, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
        daemon = subprocess.Popen(
            ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment, **places},
        )
        try:
            assert daemon.stdin is not None
            daemon.stdin.write(_PASSWORD)
            daemon.stdin.close()
            _wait(environment)
            yield Keyring(environment, daemon)
        finally:
            daemon.send_signal(signal.SIGCONT)
            daemon.kill()
            daemon.wait()
    finally:
        bus.kill()
        bus.wait()


def _wait(environment: dict[str, str]) -> None:
    ends = time.monotonic() + 20
    ask = ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"]
    ask += ["org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"]
    while time.monotonic() < ends:
        done = subprocess.run(ask, env={**os.environ, **environment}, capture_output=True)
        if b"true" in done.stdout:
            return
        time.sleep(0.05)
    raise AssertionError("gnome-keyring does not come up")
