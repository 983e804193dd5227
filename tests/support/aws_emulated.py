"""AWS Secrets Manager as moto emulates it, a server on loopback: what AWS itself would do is not tested here."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import botocore.session

REGION = "eu-central-1"


class Emulated(NamedTuple):
    """The emulation, which processes reach by their environment, as they would another endpoint of AWS."""

    environment: dict[str, str]

    def client(self) -> Any:
        """To put secrets there, as somebody would with AWS's own tools."""
        return botocore.session.get_session().create_client("secretsmanager", region_name=REGION)


@contextmanager
def server(folder: Path) -> Iterator[Emulated]:
    """Starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    with open(folder / "moto.log", "wb") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)
    try:
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (folder / "moto.log").read_text()
            time.sleep(0.1)
        yield Emulated(
            {
                "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{port}",
                "AWS_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            }
        )
    finally:
        process.kill()
        process.wait()
