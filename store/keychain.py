"""`keyring:SERVICE/NAME`: the desktop's store of secrets: the SecretService of Linux, the Keychain of macOS.

The store is named here and not left to `keyring`'s configuration, which takes any plugin that is installed, among
them such as write plain files.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from schemas.errors import KeyUnusable

WAIT_S = 20.0
"""Seconds for an answer: a locked store asks a person, who may not be there."""


def load(name: str, wait: float = WAIT_S) -> str:
    """The secret under `SERVICE/NAME`; both may be percent-encoded.

    Raises:
        KeyUnusable: it isn't there, or the store is locked, out of reach, or silent.
    """
    service, user = _parts(name)
    value = _bounded(name, lambda: _backend().get_password(service, user), wait)
    if value is None:
        raise KeyUnusable(f"keyring:{name}: no such secret", hint=_put(service, user))
    return str(value)


def save(name: str, text: str, wait: float = WAIT_S) -> None:
    """Stores a new secret.

    Raises:
        KeyUnusable: one is there already, or the store can't be used.
    """
    service, user = _parts(name)

    def put() -> bool:
        backend = _backend()
        free = backend.get_password(service, user) is None
        if free:
            backend.set_password(service, user, text)
        return free

    if not _bounded(name, put, wait):
        raise KeyUnusable(f"keyring:{name}: a secret is there already", hint="keys are never overwritten")


def _parts(name: str) -> tuple[str, str]:
    service, _, user = name.partition("/")
    return unquote(service), unquote(user)


def _put(service: str, user: str) -> str:
    if sys.platform == "darwin":
        return f"security add-generic-password -s {service} -a {user} -w"
    return f"secret-tool store --label {user} service {service} username {user}"


def _backend() -> Any:
    if sys.platform == "darwin":
        from keyring.backends import macOS

        return macOS.Keyring()
    from keyring.backends import SecretService

    # Asking for it raises RuntimeError where there is no such service.
    kind: Any = SecretService.Keyring
    _ = kind.priority
    return kind()


def _bounded(name: str, work: Callable[[], Any], wait: float) -> Any:
    """What `work` gives, in a thread of its own that is left behind where the store does not answer."""
    done: list[Any] = []
    failed: list[str] = []

    def run() -> None:
        try:
            done.append(work())
        except ImportError:
            failed.append("import")
        except Exception as error:  # noqa: BLE001
            # Of three libraries and the bus; whatever it is, there is no secret. Its message is not repeated.
            failed.append(type(error).__name__)

    thread = threading.Thread(target=run, name="keyring", daemon=True)
    thread.start()
    thread.join(wait)
    if done:
        return done[0]
    if not failed:
        raise KeyUnusable(f"keyring:{name}: no answer in {wait:.0f} s", hint="is it locked? unlock it, and try again")
    if failed[0] == "import":
        raise KeyUnusable(f"keyring:{name}: needs a package", hint="pip install 'agent-ledger[keyring]'")
    if failed[0] in ("KeyringLocked", "LockedException", "PromptDismissedException"):
        raise KeyUnusable(f"keyring:{name}: the store is locked", hint="unlock it, and try again")
    raise KeyUnusable(
        f"keyring:{name}: the store can't be reached ({failed[0]})", hint="is a session with a keyring running here?"
    )
