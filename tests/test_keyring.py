"""`keyring:`: secrets in a real SecretService, gnome-keyring on a bus of its own; and where it is locked."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger
from schemas.errors import KeyUnusable
from store import keychain, secrets
from store.held import Held
from tests.support import keyrings, shell
from tests.support.keyrings import Keyring

VALUE = "correct-horse-of-the-keyring"


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyring]:
    with keyrings.session(tmp_path / "session") as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


def refused(uri: str, *words: str) -> None:
    with pytest.raises(KeyUnusable) as caught:
        secrets.load(uri)
    for word in (uri, *words):
        assert word in str(caught.value), caught.value
    assert VALUE not in str(caught.value)


def test_what_another_program_put_there_is_found(keyring: Keyring) -> None:
    keyring.put("db", "ci", VALUE)
    assert secrets.load("keyring:db/ci") == VALUE
    keyring.put("a/b", "c d", VALUE + "2")
    assert secrets.load("keyring:a%2Fb/c%20d") == VALUE + "2"


def test_what_is_not_there_is_named_with_how_to_put_it(keyring: Keyring) -> None:
    refused("keyring:db/nobody", "no such secret", "secret-tool store")


def test_a_locked_keyring_says_so(keyring: Keyring) -> None:
    keyring.put("db", "ci", VALUE)
    keyring.lock()
    refused("keyring:db/ci", "locked", "unlock")


def test_a_keyring_that_waits_for_a_person_does_not_make_us_wait_for_ever(keyring: Keyring) -> None:
    keyring.put("db", "ci", VALUE)
    keyring.stop_answering()
    began = time.monotonic()
    with pytest.raises(KeyUnusable, match="no answer in 1 s"):
        keychain.load("db/ci", wait=1)
    assert time.monotonic() - began < 5


def test_where_there_is_no_bus_there_is_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
    refused("keyring:db/ci", "can't be reached")


def test_no_other_store_is_asked_whatever_the_configuration_says(tmp_path: Path) -> None:
    """`keyring` takes any plugin that its configuration names; one that answers everything must not be asked."""
    plugin = tmp_path / "evil.py"
    plugin.write_text(
        "from keyring.backend import KeyringBackend\n"
        "class Evil(KeyringBackend):\n"
        "    priority = 99\n"
        "    def get_password(self, service, username): return 'planted'\n"
        "    set_password = delete_password = get_password\n"
    )
    env = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "evil.Evil",
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={tmp_path / 'none'}",
    }
    control = "import keyring; print(keyring.get_password('db', 'ci'))"
    assert subprocess.check_output([sys.executable, "-c", control], env=env, text=True).strip() == "planted"
    code = "from store import secrets; print(secrets.load('keyring:db/ci'))"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "planted" not in done.stdout
    assert "KeyUnusable" in done.stderr


def test_a_secret_is_stored_once_and_never_overwritten(keyring: Keyring) -> None:
    secrets.store("keyring:db/new", VALUE)
    assert secrets.load("keyring:db/new") == VALUE
    with pytest.raises(KeyUnusable, match="there already"):
        secrets.store("keyring:db/new", "another value")
    assert secrets.load("keyring:db/new") == VALUE


@pytest.mark.parametrize("uri", ["keyring:", "keyring:db", "keyring:db/", "keyring:/ci"])
def test_a_uri_that_names_no_secret_is_refused_before_anybody_is_asked(uri: str) -> None:
    with pytest.raises(KeyUnusable, match="names no secret"):
        secrets.load(uri)


def test_without_its_package_the_error_names_what_to_install() -> None:
    code = "import sys; sys.modules['keyring'] = None; from store import secrets; secrets.load('keyring:a/b')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'agent-ledger[keyring]'" in done.stderr, done


def test_an_authors_key_lies_in_the_keyring_and_in_no_file(keyring: Keyring, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "l"
    ledger.init(path, origin="keyring.example/log")
    made = shell.call("keys", "add", "bot", "keyring:ledger/bot", "--use", "author", "--generate", "--ledger", path)
    assert made.status == 0, made
    key = secrets.load("keyring:ledger/bot")
    assert key.startswith("PRIVATE+KEY+keyring.example/log/bot+")
    run = shell.call("start", "by the bot", "--ledger", path)
    assert run.status == 0, run
    files = [file for file in [*home.rglob("*"), *path.rglob("*")] if file.is_file()]
    assert not any(key[-40:].encode() in file.read_bytes() for file in files)
    keyring.lock()
    shell.call("start", "--ledger", path).fails(1, "keyring:ledger/bot", "locked")
    assert ledger.verify(path).sound


def test_a_slow_store_is_asked_now_and_then_and_a_rotated_key_taken_up(keyring: Keyring) -> None:
    now = [0.0]
    keyring.put("api", "key", VALUE)
    held = Held("keyring:api/key", lambda: now[0])
    keyring.put("api", "key", VALUE + "-rotated")
    assert held() == VALUE
    now[0] = 61
    ends = time.monotonic() + 10
    while held() == VALUE and time.monotonic() < ends:
        time.sleep(0.01)
    assert held() == VALUE + "-rotated"
    assert VALUE not in repr(held)


def test_a_value_of_a_store_that_has_gone_is_not_given_out_for_ever(keyring: Keyring) -> None:
    now = [0.0]
    keyring.put("api", "key", VALUE)
    held = Held("keyring:api/key", lambda: now[0])
    keyring.lock()
    now[0] = 61
    assert held() == VALUE
    now[0] = 10_000
    with pytest.raises(KeyUnusable, match="locked"):
        held()
