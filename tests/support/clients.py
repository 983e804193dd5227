"""Real clients of the Responses API, pointed at a base URL with a token: in this process, or as processes.

Node's package is installed once for all tests, outside the repository; what `make test-clients` needs beyond that
lies in `.venv-clients`.
"""

import fcntl
import json
import os
import pwd
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import openai

from tests.support.shell import ROOT, Said

OTHERS = ROOT / ".venv-clients"
"""Where `make test-clients` installs the clients that are no dependency of ours."""


def sync_client(url: str, token: str, **options: Any) -> openai.OpenAI:
    """The openai SDK. It does not retry unless told to."""
    return openai.OpenAI(**{"base_url": url, "api_key": token, "max_retries": 0, "timeout": 30, **options})


def async_client(url: str, token: str, **options: Any) -> openai.AsyncOpenAI:
    """The openai SDK with asyncio. It does not retry unless told to."""
    return openai.AsyncOpenAI(**{"base_url": url, "api_key": token, "max_retries": 0, "timeout": 30, **options})


# --- curl ------------------------------------------------------------------------------------------------------


class Curled(NamedTuple):
    """What curl got: `exit` is its own status, `http` 0 if there was no answer at all."""

    exit: int
    http: int
    headers: dict[str, list[str]]
    body: bytes
    err: str

    @property
    def json(self) -> Any:
        """The body parsed."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of each event of a stream that ended well."""
        assert self.exit == 0, self
        blocks = self.body.replace(b"\r\n", b"\n").split(b"\n\n")
        assert blocks.pop() == b"", self.body[-200:]
        found = [[line[6:] for line in block.split(b"\n") if line.startswith(b"data: ")] for block in blocks]
        return [json.loads(b"\n".join(data)) for data in found if data]


_END = b"\n-- written out --\n"


def curl(url: str, token: str | None, body: Any = None, *options: str, path: str = "/responses") -> Curled:
    """Posts a body (bytes as they are, all else as JSON) with curl; without a body, gets."""
    command = ["curl", "-q", "-sS", "-N", "--noproxy", "*", "--max-time", "30"]
    command += ["-w", _END.decode() + "%{http_code}\n%{header_json}"]
    if token is not None:
        command += ["-H", f"authorization: Bearer {token}"]
    if body is not None:
        command += ["-H", "content-type: application/json", "--data-binary", "@-"]
    given = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    done = subprocess.run([*command, *options, url + path], input=given, capture_output=True, timeout=60)
    got, _, written = done.stdout.rpartition(_END)
    code, _, headers = written.partition(b"\n")
    return Curled(done.returncode, int(code), json.loads(headers), got, done.stderr.decode(errors="replace"))


# --- Node ------------------------------------------------------------------------------------------------------


class Node(NamedTuple):
    """A folder in which scripts find Node's `openai` package."""

    folder: Path

    def run(self, script: str, url: str, token: str, env: Mapping[str, str] | None = None) -> Said:
        """Runs a module of text: `import OpenAI from "openai"`, `new OpenAI()`."""
        path = self.folder / "script.mjs"
        path.write_text(script)
        return _run(["node", str(path)], self.folder, {**_pointed(url, token), **(env or {})})


def node_client(folder: Path) -> Node:
    """Node with its `openai` package, for scripts in this folder."""
    cache = Path(tempfile.gettempdir()) / f"ledger-test-clients-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    assert cache.stat().st_uid == os.getuid(), f"{cache} belongs to somebody else"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache / "installed").exists():
            npm_install(cache, "openai@7")
            (cache / "installed").touch()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node_modules").symlink_to(cache / "node_modules")
    return Node(folder)


def npm_install(folder: Path, *packages: str) -> None:
    """Installs packages of npm into a folder, by the settings of who runs the tests."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    done = subprocess.run([*command, *packages], capture_output=True, text=True, env={**os.environ, "HOME": home})
    assert done.returncode == 0, done.stdout + done.stderr


# --- Those of `make test-clients` ------------------------------------------------------------------------------


def with_others(script: str, url: str, token: str, *, cwd: Path, env: Mapping[str, str] | None = None) -> Said:
    """Runs a Python script that may import `agents` (openai-agents) and `litellm`."""
    quiet = {"OPENAI_AGENTS_DISABLE_TRACING": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    settings = {**_pointed(url, token), **quiet, **(env or {})}
    return _run([str(OTHERS / "bin" / "python"), "-c", script], cwd, settings)


# Codex dials other hosts unless it is told not to.
CODEX_QUIET = ["-c", "analytics.enabled=false", "-c", "otel.metrics_exporter=none"]
CODEX_QUIET += ["-c", "check_for_update_on_startup=false"]
CODEX_QUIET += ["--disable", "plugins", "--disable", "apps", "--disable", "remote_plugin"]


def codex_config(url: str, model: str = "gpt-5.3-codex", headers: Mapping[str, str] | None = None) -> str:
    """A config.toml with a provider of its own: Codex takes no base URL from the environment."""
    extra = ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in (headers or {}).items())
    return f"""\
model = "{model}"
model_provider = "gw"
approval_policy = "never"
sandbox_mode = "danger-full-access"

[model_providers.gw]
name = "gw"
base_url = "{url}"
env_key = "GW_KEY"
wire_api = "responses"
supports_websockets = false
request_max_retries = 0
stream_max_retries = 0
http_headers = {{ {extra} }}
"""


def codex(
    prompt: str, url: str, token: str, *options: str, folder: Path, config: str | None = None, timeout: float = 60
) -> Said:
    """Runs `codex exec --json` in a folder, with a home of its own beside it; events on stdout."""
    home = folder.with_name(folder.name + "-codex-home")
    home.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    (home / "config.toml").write_text(codex_config(url) if config is None else config)
    program = OTHERS / "node_modules" / ".bin" / "codex"
    command = [str(program), "exec", "--json", "--skip-git-repo-check", *CODEX_QUIET, *options, prompt]
    return _run(command, folder, {"GW_KEY": token, "CODEX_HOME": str(home)}, timeout)


def _pointed(url: str, token: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": token}


def _run(command: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float = 60) -> Said:
    # No proxy: whatever a client dials beside its base URL is not to leave by a way that we don't see.
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **env}, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout
    )
    return Said(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
