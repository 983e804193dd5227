"""Secrets by URI: what is none is refused and never repeated; and what holds one does not show it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import registry
from ledger.gateway import server
from ledger.gateway.environment import handed_on
from ledger.gateway.upstream import Upstream as Up
from policies.redaction.exact import Exact
from schemas.errors import KeyUnusable, LedgerError, UsageError, untold
from store import pkcs11uri, secrets
from store.datakeys import NewRoot
from store.held import Held
from store.seal import DataKey
from store.signers import Signer
from tests.support import shell, template
from tests.support.template import Template

KEY = "sk-proj-HUNTER2HUNTER2HUNTER2"
TYPED = [
    KEY,
    "HUNTER2",
    "HUNTER2 with words",
    "env:" + KEY,
    "env:HUNTER2-or-so",
    "env:",
    "keyring:" + KEY,
    "aws-sm:HUNTER2 or so",
    "aws-sm:HUNTER2#",
    "vault:HUNTER2",
    "hunter2:HUNTER2",
    "https://u:HUNTER2@example.com",
    "file:",
    "file:HUNTER2\x1b[2J",
    ":HUNTER2",
    "FILE:HUNTER2",
    "PRIVATE+KEY+x+HUNTER2",
    "AGE-SECRET-KEY-1HUNTER2",
    "",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), lambda path: None)


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = made.copy(home, tmp_path / "l")
    monkeypatch.setenv("LEDGER", str(found))
    return found


@pytest.mark.parametrize("text", TYPED)
def test_what_is_no_uri_is_refused_and_not_repeated(text: str) -> None:
    for ask in (secrets.check, secrets.load, Signer.load, lambda uri: secrets.store(uri, "x" * 20)):
        with pytest.raises(LedgerError) as caught:
            ask(text)
        assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.hint}".lower()


@pytest.mark.parametrize("uri", ["file:/a b", "env:A_1", "keyring:a/b/c", "aws-sm:a/b#c", "pkcs11:object=a"])
def test_what_is_one_is_taken_without_looking_it_up(uri: str) -> None:
    assert secrets.check(uri) == uri


@pytest.mark.parametrize(
    "args",
    [
        ["record", "--key", KEY, "--", "true"],
        ["record", "--secret", KEY, "--", "true"],
        ["gateway", "--key", KEY],
        ["gateway", "--secret", "env:OK", "--secret", KEY],
        ["redact", "--secret", KEY, "-"],
        ["policy", "check", "x.toml", "--secret", KEY],
        ["cat", "5", "--identity", KEY],
        ["verify", "--identity", KEY],
        ["init", "other", "--owner", KEY],
        ["init", "other", "--log-key", KEY],
        ["init", "other", "--author", KEY],
        ["keys", "add", "name", KEY],
        ["keys", "add", KEY, "env:X"],
        ["keys", "add", "name", "env:X", KEY],
        ["keys", "author", "ci", "add", KEY],
        ["keys", "remove", KEY],
        [KEY],
        ["log", "--" + KEY],
        ["record", "--key=" + KEY, "--", "true"],
    ],
    ids=lambda args: " ".join(args).replace(KEY, "SECRET"),
)
def test_a_secret_typed_where_its_uri_belongs_is_an_error_that_does_not_repeat_it(path: Path, args: list[str]) -> None:
    said = shell.call(*args)
    said.fails(said.status)
    assert said.status in (1, 2), said
    assert "HUNTER2" not in said.out + said.err, said
    assert not Path("other").exists()


def test_whoever_typed_a_secret_is_told_that_it_stays_behind(path: Path) -> None:
    shell.call("gateway", "--key", KEY).fails(2, "--key: not a secret's URI", "shell's history", "keyring:SERVICE/NAME")


@pytest.mark.parametrize(
    "text",
    [
        "sk-ssh-ed25519@openssh.com AAAA",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "task-of-many-long-words-here",
        "AKIA",
        "a",
    ],
)
def test_what_only_looks_a_little_like_a_secret_is_told(text: str) -> None:
    assert untold(text) == text


def holders(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Everything that holds a secret or may, with HUNTER2 in it."""
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    seed = b"HUNTER2!" * 4
    log = ledger.open(path)
    settings = server.Settings("https://example.com/v1", KEY, secrets=(KEY,))
    exact = Exact([("env:UPSTREAM_KEY", KEY)])
    found = {
        "Signer": Signer("a/b", seed),
        "Signer._sign": Signer("a/b", seed)._sign,
        "DataKey": DataKey(bytes(16), seed),
        "NewRoot": NewRoot("age1x", "AGE-SECRET-KEY-1HUNTER2"),
        "Settings": settings,
        "Held": Held("env:UPSTREAM_KEY"),
        "Upstream": Up("https://example.com/v1", lambda: KEY, lambda data: None),
        "Exact": exact,
        "Hit": exact.find(KEY.encode())[0],
        "TokenUri": pkcs11uri.parse("pkcs11:object=a?module-path=/m&pin-value=HUNTER2"),
        "Handed": handed_on({"UPSTREAM_KEY": KEY, "X": "HUNTER2"}, settings._replace(key="env:UPSTREAM_KEY"), "a"),
        "Log": log,
        "Keyring": log.blobs.keyring,
        "Committer": log.writer.committer,
        "Publisher": log.publisher,
    }
    log.close()
    return found


def test_nothing_that_holds_a_secret_shows_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, one in holders(path, monkeypatch).items():
        for shown in (repr(one), str(one), f"{one}", f"{[one]}", f"{(one,)}"):
            assert "HUNTER2" not in shown, name
            assert (b"HUNTER2!" * 4).hex() not in shown, name


def test_a_traceback_of_a_failing_lookup_shows_no_value(path: Path, tmp_path: Path) -> None:
    """LEDGER_DEBUG=1 prints tracebacks, and they print messages of all causes."""
    (tmp_path / "key").write_text("HUNTER2 is no key")
    (tmp_path / "key").chmod(0o600)
    code = f"import ledger; ledger.open(signer='file:{tmp_path / 'key'}').run('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Traceback" in done.stderr
    assert "KeyUnusable" in done.stderr
    assert "HUNTER2" not in done.stderr


def test_a_registered_name_is_no_secret(path: Path) -> None:
    with pytest.raises(UsageError, match="a secret stands where its name belongs"):
        registry.add(template.ORIGIN, registry.Named(KEY, "env:X"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "s").write_text("HUNTER2")
    (tmp_path / "s").chmod(mode)
    with pytest.raises(KeyUnusable, match="others may read"):
        secrets.load(f"file:{tmp_path / 's'}")


def test_an_empty_secret_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").write_text(" \n")
    (tmp_path / "s").chmod(0o600)
    monkeypatch.setenv("EMPTY", " \n")
    for uri in (f"file:{tmp_path / 's'}", "env:EMPTY"):
        with pytest.raises(KeyUnusable):
            secrets.load(uri)
