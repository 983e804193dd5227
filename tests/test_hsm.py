"""Keys on a token: they sign there, never leave, and verify like any other; on SoftHSM2 behind its own library."""

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pkcs11
import pytest

import ledger
from ledger import homes, registry
from schemas.errors import KeyUnusable, LedgerError
from store import hsm, pkcs11uri, secrets
from store.signers import Signer, Verifier
from tests.support import shell, softhsm
from tests.support.softhsm import PIN, Token
from tests.support.verdicts import sound

ORIGIN = "hsm.example/log"
NEVER = {"EXTRACTABLE": False, "SENSITIVE": True}


@pytest.fixture(scope="module")
def token() -> Token:
    found = softhsm.token()
    for label in ("owner", "log", "main", "ci", "spare"):
        found.key(label, **NEVER)
    return found


@pytest.fixture
def strict() -> Iterator[None]:
    """What is warned of fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def refused(uri: str, *words: str) -> None:
    with pytest.raises(KeyUnusable) as caught:
        Signer.named(uri, f"{ORIGIN}/x")
    for word in words:
        assert word in str(caught.value), caught.value
    assert PIN not in str(caught.value)


def on_token(token: Token, path: Path) -> str:
    """A ledger none of whose signing keys was ever in a file; its owner's line."""
    keys = [
        f"--{option}={token.uri(label)}"
        for option, label in (("owner", "owner"), ("log-key", "log"), ("author", "main"))
    ]
    said = shell.call("init", path, "--origin", ORIGIN, *keys)
    assert said.status == 0, said
    return said.out.strip()


# What is signed


def test_a_key_that_never_leaves_signs_what_any_verifier_takes(token: Token, strict: None) -> None:
    public = token.key("signs", **NEVER)
    signer = Signer.named(token.uri("signs"), f"{ORIGIN}/signs")
    assert signer.verifier.public == public
    assert Verifier(signer.name, public).verify(b"text", signer.sign(b"text"))
    assert not signer.verifier.verify(b"another", signer.sign(b"text"))


def test_a_ledger_whose_keys_are_all_on_a_token_verifies_like_any_other(
    token: Token, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "l"
    owner = on_token(token, path)
    assert not list(homes.keys(ORIGIN).glob("*.key"))
    run = shell.call("start", "on a token", "--ledger", path).out.strip()
    assert shell.call("append", "prompt", "-", "--run", run, "--ledger", path, stdin="asked").status == 0
    assert shell.call("finish", run, "--ledger", path).status == 0
    added = shell.call("keys", "author", "ci", "add", token.uri("ci"), "--ledger", path, "--json")
    assert added.status == 0, added
    assert added.json[0]["key"] is None
    with ledger.open(path, signer=token.uri("ci")) as log, log.run("by another author") as made:
        made.artifact("x")
    assert sound(path, owner).remarks is not None
    assert (path / "checkpoint").exists()


def test_who_only_reads_needs_no_token(token: Token, tmp_path: Path) -> None:
    owner = on_token(token, tmp_path / "l")
    gone = {"SOFTHSM2_CONF": os.devnull}
    for args in (["log"], ["keys"], ["keys", "list"], ["verify", "--trust", owner]):
        ends = [] if args[0] == "verify" else ["--ledger", tmp_path / "l"]
        said = shell.call(*args, *ends, *([tmp_path / "l"] if args[0] == "verify" else []), env=gone)
        assert said.status == 0, said
    shell.call("start", "--ledger", tmp_path / "l", env=gone).fails(1, "pkcs11:")


def test_threads_share_a_key(token: Token) -> None:
    signer = Signer.named(token.uri("spare"), f"{ORIGIN}/x")
    wrong: list[int] = []

    def sign(number: int) -> None:
        for _ in range(20):
            text = os.urandom(16)
            if not signer.verifier.verify(text, signer.sign(text)):
                wrong.append(number)

    threads = [threading.Thread(target=sign, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_session_that_was_closed_is_opened_again(token: Token) -> None:
    signer = Signer.named(token.uri("spare"), f"{ORIGIN}/x")
    # As a token does that was unplugged: all sessions of the process, and its login, are gone.
    slot = pkcs11.lib(token.module).get_token(token_label=softhsm.LABEL).slot
    ctypes_close_all(token.module, slot.slot_id)
    assert signer.verifier.verify(b"after", signer.sign(b"after"))


def ctypes_close_all(module: str, slot: int) -> None:
    import ctypes

    assert ctypes.CDLL(module).C_CloseAllSessions(ctypes.c_ulong(slot)) == 0


def test_a_generated_key_cannot_leave_and_is_never_made_over_another(token: Token, strict: None) -> None:
    uri = token.uri("generated")
    made = hsm.generate(uri)
    assert not made.can_leave
    with pytest.raises(KeyUnusable, match="a key is there already"):
        hsm.generate(uri)
    assert hsm.open_key(uri).public == made.public


# What is refused


def test_a_key_that_the_token_would_hand_out_is_warned_of(token: Token) -> None:
    token.key("loose", EXTRACTABLE=True, SENSITIVE=False)
    with pytest.warns(UserWarning, match="would hand this key out"):
        Signer.named(token.uri("loose"), f"{ORIGIN}/x")


def test_a_key_that_may_not_sign_is_refused(token: Token) -> None:
    token.key("mute", SIGN=False, **NEVER)
    refused(token.uri("mute"), "may not sign")


def test_a_missing_module_is_named(token: Token, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    for path in ("/nowhere/hsm.so", str(tmp_path / "text.so"), "/lib/x86_64-linux-gnu/libz.so.1"):
        refused(token.uri("main").replace(token.module, path), "no PKCS#11 module", path)


@pytest.mark.parametrize("module", ["", "hsm.so", "../hsm.so"])
def test_a_module_is_never_searched_for(token: Token, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PKCS11_MODULE_PATH", raising=False)
    refused(token.uri("main").replace(token.module, module), "whole path")


def test_the_module_may_be_named_once_for_all(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKCS11_MODULE_PATH", token.module)
    uri = token.uri("main").replace(f"module-path={token.module}&", "")
    assert "module-path" not in uri
    assert Signer.named(uri, f"{ORIGIN}/x").sign(b"x")


def test_a_key_or_token_that_is_not_there_is_refused(token: Token) -> None:
    refused(token.uri("nobody"), "no such private key")
    refused(token.uri("main").replace("agent%20ledger", "another"), "no such token")
    refused(token.uri("main;serial=00"), "no such token")


def test_two_keys_of_a_name_are_not_chosen_between(token: Token) -> None:
    token.key("twin", **NEVER)
    token.key("twin", **NEVER)
    refused(token.uri("twin"), "2 private keys")


def test_a_key_of_another_algorithm_is_refused(token: Token) -> None:
    found = pkcs11.lib(token.module).get_token(token_label=softhsm.LABEL)
    with softhsm.opened(found) as session:
        session.generate_keypair(pkcs11.KeyType.RSA, 2048, store=True, label="rsa", id=b"rsa")
    refused(token.uri("rsa"), "not an Ed25519 key")


def test_the_signature_decides_whose_key_it_is_and_not_what_the_token_says(token: Token) -> None:
    token.key("half", **NEVER)
    known = Signer.named(token.uri("half"), f"{ORIGIN}/half").verifier
    other = Verifier(f"{ORIGIN}/other", token.key("other", **NEVER))
    token.destroy("half")
    # Nothing on the token tells its public half any more: whose it may be is known all the same.
    assert Signer.load(token.uri("half"), [other, known]).verifier.vkey == known.vkey
    with pytest.raises(KeyUnusable, match="not the key of"):
        Signer.load(token.uri("half"), [other])
    with pytest.raises(KeyUnusable, match="not the key of nobody"):
        Signer.load(token.uri("half"))
    refused(token.uri("half"), "does not show its public key")


def test_a_strangers_key_on_a_token_writes_nothing(token: Token, tmp_path: Path) -> None:
    on_token(token, tmp_path / "l")
    env = {"LEDGER_SIGNER": token.uri("spare"), "LEDGER_OWNER": token.uri("spare")}
    shell.call("start", "--ledger", tmp_path / "l", env=env).fails(1, "not the key of")
    shell.call("keys", "author", "x", "add", "--ledger", tmp_path / "l", env=env).fails(1, "not the key of")


def test_a_key_on_a_token_is_no_value(token: Token) -> None:
    with pytest.raises(KeyUnusable, match="signs, and is no value"):
        secrets.load(token.uri("main"))


# PINs


def test_a_wrong_pin_is_refused_and_told_nowhere(token: Token, tmp_path: Path) -> None:
    on_token(token, tmp_path / "l")
    wrong = {"WRONG": "0815-no-pin", "LEDGER_SIGNER": token.uri("main", "pin-source=env:WRONG")}
    said = shell.call("start", "--ledger", tmp_path / "l", env=wrong)
    said.fails(1, "refused the PIN", "env:WRONG")
    assert "0815" not in said.out + said.err
    assert PIN not in said.out + said.err


def test_a_refused_pin_is_not_tried_again(token: Token) -> None:
    """A few tries lock most tokens."""
    uri = token.uri("main", "pin-source=env:WRONG")
    code = f"""
import os
from store import hsm
from schemas.errors import KeyUnusable
for value in ("0815-no-pin", {PIN!r}):
    os.environ["WRONG"] = value
    try:
        hsm.open_key({uri!r})
    except KeyUnusable as error:
        print(error.what)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout.count("refused the PIN") == 2, done


def test_a_pin_in_the_uri_is_warned_of_never_shown_and_never_written_down(token: Token, tmp_path: Path) -> None:
    on_token(token, tmp_path / "l")
    uri = token.uri("main", f"pin-value={PIN}")
    said = shell.call("start", "--ledger", tmp_path / "l", env={"LEDGER_SIGNER": uri})
    assert said.status == 0, said
    assert "warning: " in said.err
    assert "pin-source" in said.err
    assert PIN not in said.err
    added = shell.call("keys", "add", "hsm", uri, "--use", "author", "--ledger", tmp_path / "l")
    assert added.status != 0
    assert PIN not in added.err + repr(pkcs11uri.parse(uri)) + pkcs11uri.shown(uri)
    assert PIN.encode() not in b"".join(file.read_bytes() for file in homes.keys(ORIGIN).rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "source", ["|cat /etc/passwd", "pkcs11:object=x", "file:/nowhere", "4711-hsm-pin", "env:NOT_SET", "ftp:x"]
)
def test_a_pin_comes_from_where_secrets_lie_and_from_no_program(token: Token, source: str) -> None:
    code = f"from store import hsm; hsm.open_key({token.uri('main', 'pin-source=' + source.replace(' ', '%20'))!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert "KeyUnusable" in done.stderr, done
    assert "Attribute" not in done.stderr.splitlines()[-1]


def test_a_pin_file_that_others_may_read_is_refused(token: Token, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text(PIN)
    pin.chmod(0o644)
    code = f"from store import hsm; hsm.open_key({token.uri('main', f'pin-source={pin}')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert "others may read this key" in done.stderr


# The form of URIs


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:",
        "pkcs11:token=a",
        "pkcs11:object=",
        "pkcs11:object=a;object=b",
        "pkcs11:object=a;colour=red",
        "pkcs11:object",
        "pkcs11:object=a;type=cert",
        "pkcs11:object=a;type=public",
        "pkcs11:object=a;slot-id=x",
        "pkcs11:object=a;slot-id=²",
        "pkcs11:object=a?pin-source=/p&pin-source=/q",
        "pkcs11:object=a?module-name=softhsm2",
        "pkcs11:object=a?pin=HUNTER2",
        "pkcs11:object=a;pin-value=HUNTER2",
    ],
)
def test_what_a_uri_says_and_we_do_not_know_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKCS11_MODULE_PATH", "/usr/lib/any.so")
    with pytest.raises(LedgerError) as caught:
        pkcs11uri.parse(uri)
    assert "HUNTER2" not in str(caught.value)


def test_parts_of_a_uri_are_percent_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pkcs11uri.parse(
        "pkcs11:token=a%3Bb;id=%00%ff;object=x%20y;slot-id=7?module-path=/m%20.so&pin-source=/p%26q"
    )
    assert (found.token, found.id, found.object, found.slot) == ("a;b", b"\x00\xff", "x y", 7)
    assert (found.module, found.pin_source) == ("/m .so", "file:/p&q")
    assert pkcs11uri.parse("pkcs11:object=a?module-path=/m&pin-source=file:///p").pin_source == "file:/p"


def test_without_its_package_the_error_names_what_to_install(token: Token) -> None:
    code = f"import sys; sys.modules['pkcs11'] = None; from store import hsm; hsm.open_key({token.uri('main')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'agent-ledger[pkcs11]'" in done.stderr, done


def test_the_registry_finds_a_keys_role(token: Token, tmp_path: Path) -> None:
    on_token(token, tmp_path / "l")
    assert [one.use for one in registry.read(ORIGIN)] == ["owner", "log", "author"]
    said = shell.call("keys", "check", "--ledger", tmp_path / "l", "--json")
    assert [row["ok"] for row in said.json[0]] == [True] * 3, said
    gone = shell.call("keys", "check", "--ledger", tmp_path / "l", env={"SOFTHSM2_CONF": os.devnull})
    assert gone.status == 1
    assert "pkcs11:" in gone.out


def test_an_authors_key_is_made_on_the_token_and_added(token: Token, tmp_path: Path) -> None:
    path = tmp_path / "l"
    assert ledger.init(path, origin=ORIGIN)
    uri = token.uri("made-there")
    said = shell.call("keys", "add", "bot", uri, "--use", "author", "--generate", "--ledger", path)
    assert said.status == 0, said
    assert shell.call("keys", "check", "--ledger", path).status == 0
    assert shell.call("start", "by the bot", "--ledger", path).status == 0
    assert ledger.verify(path).sound
