"""Who can read: grants reach back, revocations hold, and nobody slips in keys of his own.

The attacker holds the storage. All that stands in clear he knows: the recipients of readers and of roots.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pyrage
import pytest

import ledger
from ledger import govern, homes
from ledger.audit.report import Report
from schemas.errors import CannotTell, KeyUnusable, LedgerError, Malformed, NotFound, NotSound, UsageError
from schemas.ids import run_key_id
from store import secrets
from store.datakeys import data_name, project_id, root_name
from store.signers import Signer
from tests.support import ledgers
from tests.support.forge import key
from tests.support.machine import ORIGIN, Machine, Place, copied, new_ledger
from tests.support.verdicts import sound


class Told(NamedTuple):
    """A ledger, an open run, and the address of a content of it."""

    place: Place
    run: str
    at: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Told:
    place = new_ledger(tmp_path_factory.mktemp("made"))
    with place.machine.here(), ledger.open(place.path) as log:
        run = log.run("before")
        return Told(place, run.id, run.artifact("old").address)


@pytest.fixture
def told(made: Told, tmp_path: Path) -> Iterator[Told]:
    place = copied(made.place, tmp_path / "place")
    with place.machine.here():
        yield made._replace(place=place)


@pytest.fixture
def path(told: Told) -> Path:
    return told.place.path


def age(folder: Path) -> tuple[str, str]:
    """A new age identity: its URI and its recipient."""
    made = pyrage.x25519.Identity.generate()
    secrets.save(folder / "id.txt", f"# a remark\n{made}\n")
    return f"file:{folder / 'id.txt'}", str(made.to_public())


def ssh(folder: Path) -> tuple[str, str]:
    """A new SSH key: its URI and its recipient, with a comment."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada@example", "-f", str(folder / "id")]
    subprocess.run(command, check=True)
    return f"file:{folder / 'id'}", (folder / "id.pub").read_text().strip()


KINDS: dict[str, Callable[[Path], tuple[str, str]]] = {"age": age, "ssh": ssh}


def own_identity() -> Path:
    return homes.keys(ORIGIN) / "identity.txt"


def own_recipient() -> str:
    return own_identity().read_text().splitlines()[0].removeprefix("# public key: ")


def write(path: Path, text: str) -> str:
    with ledger.open(path) as log, log.run("run") as run:
        return run.artifact(text).address


def read(path: Path, address: str, identity: str) -> bytes:
    """As somebody reads who has this identity and nothing else of ours but the trust root."""
    with ledger.open(path, identity=identity) as log:
        return log.read(address)


def opened(told: Told, identity: str = "") -> Report:
    """What an auditor with an identity finds."""
    return ledger.verify(told.place.path, trust=told.place.trust, identity=identity or f"file:{own_identity()}")


# Grant and revoke


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_granted_reads_what_was_and_what_comes(told: Told, tmp_path: Path, kind: str) -> None:
    uri, recipient = KINDS[kind](tmp_path / "ada")
    with pytest.raises(CannotTell):
        read(told.place.path, told.at, uri)
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
    own_identity().rename(tmp_path / "moved")
    assert read(told.place.path, told.at, uri) == b"old"
    assert read(told.place.path, write(told.place.path, "new"), uri) == b"new"
    assert opened(told, uri).sound
    assert not [what for what in opened(told, uri).unchecked if "contents" in what]
    sound(told.place.path, told.place.trust.owner)


def test_a_grant_takes_nothing_from_the_others(told: Told, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        with ledger.open(told.place.path) as log:
            govern.grant(log, age(tmp_path / name)[1])
    new = write(told.place.path, "new")
    for uri in [f"file:{own_identity()}", *(f"file:{tmp_path / name / 'id.txt'}" for name in ("one", "two", "three"))]:
        assert read(told.place.path, told.at, uri) == b"old"
        assert read(told.place.path, new, uri) == b"new"


def test_a_grant_is_handed_on_by_who_was_granted(told: Told, tmp_path: Path) -> None:
    uri, recipient = age(tmp_path / "ada")
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
    other, its = age(tmp_path / "grace")
    with ledger.open(told.place.path, identity=uri) as log:
        govern.grant(log, its)
    assert read(told.place.path, told.at, other) == b"old"


def test_a_grant_again_changes_no_statement(told: Told, tmp_path: Path) -> None:
    uri, recipient = age(tmp_path / "ada")
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
        size = log.chain.state.size
        govern.grant(log, recipient)
        assert log.chain.state.size == size
    assert read(told.place.path, told.at, uri) == b"old"


def test_a_grant_that_was_interrupted_is_finished_by_granting_again(told: Told, tmp_path: Path) -> None:
    uri, recipient = age(tmp_path / "ada")
    root = told.place.path / root_name(0)
    before = root.read_bytes()
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
        root.write_bytes(before)
    with pytest.raises(CannotTell):
        read(told.place.path, told.at, uri)
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
    assert read(told.place.path, told.at, uri) == b"old"


def test_who_can_not_read_grants_nothing(told: Told, tmp_path: Path) -> None:
    uri, recipient = age(tmp_path / "mallory")
    before = (told.place.path / root_name(0)).read_bytes()
    with ledger.open(told.place.path, identity=uri) as log:
        size = log.chain.state.size
        with pytest.raises(LedgerError):
            govern.grant(log, recipient)
        assert log.chain.state.size == size
    assert (told.place.path / root_name(0)).read_bytes() == before


def test_who_is_not_the_owner_changes_nothing(told: Told, tmp_path: Path) -> None:
    _, granted = age(tmp_path / "ada")
    with ledger.open(told.place.path) as log:
        govern.grant(log, granted)
        size = log.chain.state.size
    (homes.keys(ORIGIN) / "owner.key").unlink()
    uri, recipient = age(tmp_path / "mallory")
    with ledger.open(told.place.path) as log:
        with pytest.raises(KeyUnusable):
            govern.grant(log, recipient)
        with pytest.raises(KeyUnusable):
            govern.revoke(log, granted)
        assert log.chain.state.size == size
    with pytest.raises(CannotTell):
        read(told.place.path, told.at, uri)
    assert not (told.place.path / root_name(1)).exists()
    assert opened(told).sound
    sound(told.place.path, told.place.trust.owner)


@pytest.mark.parametrize(
    "text",
    ["", "age1", "age1" + "q" * 58, "AGE-SECRET-KEY-1", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss AAAA", "ada", "-"],
)
def test_what_is_no_recipient_is_not_granted(told: Told, text: str) -> None:
    with ledger.open(told.place.path) as log:
        size = log.chain.state.size
        with pytest.raises(Malformed):
            govern.grant(log, text)
        assert log.chain.state.size == size


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_revoked_reads_what_was_and_not_what_comes(told: Told, tmp_path: Path, kind: str) -> None:
    uri, recipient = KINDS[kind](tmp_path / "ada")
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
    between = write(told.place.path, "between")
    with ledger.open(told.place.path) as log:
        govern.revoke(log, recipient)
        with log.run("after") as run:
            after = run.artifact("after").address
        shared = log.blobs.prepare(log.project_key(), b"shared")
    assert read(told.place.path, told.at, uri) == b"old"
    assert read(told.place.path, between, uri) == b"between"
    with pytest.raises(CannotTell):
        read(told.place.path, after, uri)
    assert shared.key.id == project_id(1)
    with ledger.open(told.place.path, identity=uri) as log, pytest.raises(CannotTell):
        log.blobs.keyring.open(project_id(1))
    own = f"file:{own_identity()}"
    assert [read(told.place.path, at, own) for at in (told.at, between, after)] == [b"old", b"between", b"after"]
    assert opened(told).sound
    sound(told.place.path, told.place.trust.owner)


def test_a_writer_that_was_open_heeds_a_revocation(told: Told, tmp_path: Path) -> None:
    uri, recipient = age(tmp_path / "ada")
    with ledger.open(told.place.path) as writer:
        with ledger.open(told.place.path) as log:
            govern.grant(log, recipient)
            govern.revoke(log, recipient)
        writer.catch_up()
        after = writer.run("after").artifact("after").address
    with pytest.raises(CannotTell):
        read(told.place.path, after, uri)


def test_a_run_that_starts_after_a_revocation_is_closed_to_the_revoked(told: Told, tmp_path: Path) -> None:
    # The writer has not heard of it when it makes the run's key; the run is committed after it all the same.
    uri, recipient = age(tmp_path / "ada")
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
    with ledger.open(told.place.path) as writer:
        with ledger.open(told.place.path) as log:
            govern.revoke(log, recipient)
        after = writer.run("after").artifact("after").address
    with pytest.raises(CannotTell):
        read(told.place.path, after, uri)


def test_who_was_revoked_can_not_hand_on_what_he_had(told: Told, tmp_path: Path) -> None:
    uri, recipient = age(tmp_path / "ada")
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
        govern.revoke(log, recipient)
    with ledger.open(told.place.path, identity=uri) as log, pytest.raises(KeyUnusable):
        govern.grant(log, recipient)


def test_who_is_granted_again_reads_everything(told: Told, tmp_path: Path) -> None:
    uri, recipient = age(tmp_path / "ada")
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
        govern.revoke(log, recipient)
    after = write(told.place.path, "after")
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
    assert read(told.place.path, after, uri) == b"after"
    assert read(told.place.path, told.at, uri) == b"old"


def test_the_last_reader_can_not_be_revoked(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        size = log.chain.state.size
        with pytest.raises(UsageError, match="last reader"):
            govern.revoke(log, own_recipient())
        assert log.chain.state.size == size
    assert not (told.place.path / root_name(1)).exists()


def test_who_is_no_reader_can_not_be_revoked(told: Told, tmp_path: Path) -> None:
    with ledger.open(told.place.path) as log, pytest.raises(NotFound):
        govern.revoke(log, age(tmp_path / "ada")[1])


# Keys slipped in by who holds the storage


def _root_recipient(path: Path) -> pyrage.x25519.Recipient:
    with ledger.open(path) as log:
        return pyrage.x25519.Recipient.from_str(log.chain.state.readable().note.recipient)


def _slip_in_root(path: Path, number: int = 0) -> pyrage.x25519.Identity:
    """A root of the attacker's, encrypted to the readers, who stand in clear in the log."""
    mine = pyrage.x25519.Identity.generate()
    readers = [pyrage.x25519.Recipient.from_str(own_recipient())]
    (path / root_name(number)).write_bytes(pyrage.encrypt(str(mine).encode(), readers))
    return mine


def test_a_root_that_was_replaced_is_found_by_who_can_read(told: Told) -> None:
    _slip_in_root(told.place.path)
    report = opened(told)
    assert {finding.step for finding in report.findings} <= {6, 10}
    assert not report.sound


def test_a_root_that_was_replaced_is_not_handed_on(told: Told, tmp_path: Path) -> None:
    mine = _slip_in_root(told.place.path)
    uri, recipient = age(tmp_path / "ada")
    with suppress(LedgerError), ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
    with suppress(pyrage.DecryptError):
        found = pyrage.decrypt((told.place.path / root_name(0)).read_bytes(), _identities(uri))
        assert found != str(mine).encode()


def _identities(uri: str) -> list[pyrage.x25519.Identity]:
    lines = Path(uri.removeprefix("file:")).read_text().splitlines()
    return [pyrage.x25519.Identity.from_str(line) for line in lines if not line.startswith("#")]


def test_nothing_is_ever_written_to_a_root_that_was_replaced(told: Told) -> None:
    mine = _slip_in_root(told.place.path)
    write(told.place.path, "new")
    with suppress(LedgerError), ledger.open(told.place.path) as log:
        log.resume(told.run).artifact("more of the old run")
    for file in (told.place.path / "keys" / "data").rglob("*.age"):
        with pytest.raises(pyrage.DecryptError):
            pyrage.decrypt(file.read_bytes(), [mine])


def test_a_root_nobody_announced_changes_nothing(told: Told) -> None:
    mine = _slip_in_root(told.place.path, 1)
    new = write(told.place.path, "new")
    assert read(told.place.path, new, f"file:{own_identity()}") == b"new"
    for file in (told.place.path / "keys" / "data").rglob("*.age"):
        with pytest.raises(pyrage.DecryptError):
            pyrage.decrypt(file.read_bytes(), [mine])


def _slip_in_key(told: Told, id: bytes) -> None:
    """A data key of the attacker's, encrypted to the root's recipient, which stands in clear in the log."""
    sealed = pyrage.encrypt(os.urandom(32), [_root_recipient(told.place.path)])
    (told.place.path / data_name(id)).write_bytes(sealed)


def test_a_data_key_that_was_replaced_is_refused_by_writers(told: Told) -> None:
    _slip_in_key(told, run_key_id(told.run))
    with ledger.open(told.place.path) as log:
        size = log.chain.state.size
        with pytest.raises(NotSound, match="another key than the log commits to"):
            log.resume(told.run).artifact("for the attacker to read")
        assert log.chain.state.size == size


def test_a_shared_data_key_that_was_replaced_is_refused_by_writers(told: Told) -> None:
    _slip_in_key(told, project_id(0))
    with ledger.open(told.place.path) as log, pytest.raises(NotSound, match="another key than the log commits to"):
        log.project_key()


@pytest.mark.parametrize("shared", [False, True])
def test_a_data_key_that_was_replaced_is_found_by_who_can_read(told: Told, shared: bool) -> None:
    _slip_in_key(told, project_id(0) if shared else run_key_id(told.run))
    assert {finding.step for finding in opened(told).findings} == {10}
    # Who can't read can't tell, and says so.
    assert any("contents" in what for what in sound(told.place.path, told.place.trust.owner).unchecked)


def test_a_data_key_that_was_replaced_shows_no_other_content(told: Told) -> None:
    _slip_in_key(told, run_key_id(told.run))
    with pytest.raises(NotSound):
        read(told.place.path, told.at, f"file:{own_identity()}")


def test_a_data_key_swapped_with_another_runs_is_found(told: Told) -> None:
    with ledger.open(told.place.path) as log:
        other = log.run("other")
        other.artifact("x")
    one, two = (told.place.path / data_name(run_key_id(run)) for run in (told.run, other.id))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert {finding.step for finding in opened(told).findings} == {10}


def test_a_data_key_of_a_blind_writer_that_was_replaced_is_found(told: Told, tmp_path: Path) -> None:
    own_identity().rename(tmp_path / "moved")
    with ledger.open(told.place.path) as log:
        made = log.resume(told.run).artifact("blind")
    (tmp_path / "moved").rename(own_identity())
    assert read(told.place.path, made.address, f"file:{own_identity()}") == b"blind"
    known = {run_key_id(told.run), project_id(0)}
    [random] = {bytes.fromhex(f.stem) for f in (told.place.path / "keys" / "data").rglob("*.age")} - known
    _slip_in_key(told, random)
    assert {finding.step for finding in opened(told).findings} == {10}


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_data_key_of_another_length_is_an_error_of_ours(told: Told, length: int) -> None:
    sealed = pyrage.encrypt(bytes(length), [_root_recipient(told.place.path)])
    (told.place.path / data_name(run_key_id(told.run))).write_bytes(sealed)
    with pytest.raises(LedgerError):
        read(told.place.path, told.at, f"file:{own_identity()}")
    assert not opened(told).sound


def test_a_changed_byte_within_a_data_key_is_found_by_who_opens_every_root(told: Told) -> None:
    file = told.place.path / data_name(run_key_id(told.run))
    ledgers.flip(file, file.stat().st_size - 5)
    assert {finding.step for finding in opened(told).findings} == {10}


def test_a_changed_byte_within_a_root_leaves_contents_unchecked_at_least(told: Told) -> None:
    file = told.place.path / root_name(0)
    ledgers.flip(file, file.stat().st_size - 5)
    report = opened(told)
    assert not report.sound or any("contents" in what for what in report.unchecked)


@pytest.mark.parametrize("content", [b"", b"not an identity", b"AGE-SECRET-KEY-1QQQQ", b"\xff\xfe"])
def test_a_root_that_holds_something_else_is_an_error_of_ours(told: Told, content: bytes) -> None:
    readers = [pyrage.x25519.Recipient.from_str(own_recipient())]
    (told.place.path / root_name(0)).write_bytes(pyrage.encrypt(content, readers))
    with pytest.raises(NotSound, match="holds no root"):
        read(told.place.path, told.at, f"file:{own_identity()}")
    assert not opened(told).sound


def test_a_root_that_is_gone_is_found_by_everybody(told: Told) -> None:
    (told.place.path / root_name(0)).unlink()
    assert {finding.step for finding in ledger.verify(told.place.path).findings} == {6}


def test_a_shared_data_key_that_is_gone_is_found_by_everybody(told: Told) -> None:
    (told.place.path / data_name(project_id(0))).unlink()
    assert {finding.step for finding in ledger.verify(told.place.path).findings} == {6}


def test_a_data_key_is_never_replaced_by_a_writer(told: Told) -> None:
    # An object of a random id can't be there already; if it is, somebody knew the id.
    with ledger.open(told.place.path) as log:
        sealed = (told.place.path / data_name(run_key_id(told.run))).read_bytes()
        with pytest.raises(NotSound, match="exists already"):
            log.blobs.keyring.make(run_key_id(told.run), log.chain.state.readable().note.recipient)
    assert (told.place.path / data_name(run_key_id(told.run))).read_bytes() == sealed


# Identities that can't be used


SECRET = "AGE-SECRET-KEY-1THISISNOTANIDENTITYBUTASECRETALLTHESAME"


def _bad(folder: Path, what: str) -> str:
    """A URI of something that can't be used."""
    file = folder / "bad.txt"
    if what == "missing":
        return f"file:{file}"
    if what in ("variable missing", "variable malformed"):
        os.environ.pop("BAD", None)
        if what == "variable malformed":
            os.environ["BAD"] = SECRET
        return "env:BAD"
    if what == "unknown kind":
        return "vault:"
    if what == "the secret itself":
        return SECRET
    if what == "a folder":
        file.mkdir()
        return f"file:{file}"
    if what == "open to others":
        shutil.copy(own_identity(), file)
        file.chmod(0o644)
        return f"file:{file}"
    if what == "a locked ssh key":
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "passphrase", "-f", str(file)]
        subprocess.run(command, check=True)
        return f"file:{file}"
    text = {
        "malformed": SECRET,
        "empty": "",
        "only remarks": "# public key: age1\n",
        "half an ssh key": "-----BEGIN OPENSSH PRIVATE KEY-----\n" + SECRET,
        "a signer": Signer.format(f"{ORIGIN}/x", bytes(range(32))),
        "binary": "\x00\x01",
        "of nobody": f"{pyrage.x25519.Identity.generate()}",
    }[what]
    secrets.save(file, text)
    return f"file:{file}"


BAD = [
    "missing",
    "variable missing",
    "variable malformed",
    "unknown kind",
    "the secret itself",
    "a folder",
    "open to others",
]
BAD += ["a locked ssh key", "malformed", "empty", "only remarks", "half an ssh key", "a signer", "binary", "of nobody"]


@pytest.mark.parametrize("what", BAD)
def test_an_identity_that_can_not_be_used_is_named_and_never_shown(
    told: Told, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAD", "")
    uri = _bad(tmp_path, what)
    with pytest.raises((KeyUnusable, CannotTell)) as raised:
        read(told.place.path, told.at, uri)
    said = f"{raised.value}{raised.value.__cause__}"
    assert uri in said or uri == SECRET
    held = (tmp_path / "bad.txt").read_text().split() if (tmp_path / "bad.txt").is_file() else []
    for secret in [SECRET, *held]:
        assert len(secret) < 12 or secret not in said
    if what == "of nobody":
        assert any("contents" in what for what in opened(told, uri).unchecked)
        return
    with pytest.raises(LedgerError) as refused:
        opened(told, uri)
    assert refused.value.exit_status == 2
    assert SECRET not in str(refused.value)
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o610])
def test_a_key_that_others_may_read_is_refused(told: Told, mode: int) -> None:
    own_identity().chmod(mode)
    with pytest.raises(KeyUnusable, match="others may read"):
        read(told.place.path, told.at, f"file:{own_identity()}")
    author = homes.keys(ORIGIN) / "author.key"
    author.chmod(mode)
    with ledger.open(told.place.path) as log, pytest.raises(KeyUnusable, match="others may read"):
        log.run("x")
    author.chmod(0o600)
    (homes.keys(ORIGIN) / "owner.key").chmod(mode)
    with pytest.raises(KeyUnusable, match="others may read"):
        key("owner")


@pytest.mark.parametrize("text", ["", "PRIVATE+KEY+", "PRIVATE+KEY+a+00000000+" + "A" * 44, SECRET, "x" * 3000])
def test_a_signer_that_can_not_be_used_is_named_and_never_shown(told: Told, tmp_path: Path, text: str) -> None:
    secrets.save(tmp_path / "k", text)
    uri = f"file:{tmp_path / 'k'}"
    with ledger.open(told.place.path, signer=uri) as log:
        with pytest.raises(KeyUnusable) as raised:
            log.run("x")
        assert uri in str(raised.value)
        assert len(text) < 14 or text not in str(raised.value)
    sound(told.place.path, told.place.trust.owner)


def test_who_has_no_identity_writes_and_can_not_read(told: Told, tmp_path: Path) -> None:
    own_identity().unlink()
    with ledger.open(told.place.path) as log:
        log.run("blind").artifact("x")
        with pytest.raises(CannotTell, match="no identity"):
            log.read(told.at)


def test_nothing_secret_lies_in_the_ledger(told: Told, tmp_path: Path) -> None:
    uri, recipient = age(tmp_path / "ada")
    with ledger.open(told.place.path) as log:
        govern.grant(log, recipient)
        govern.revoke(log, recipient)
        govern.add_author(log, "ci")
    whole = b"".join(p.read_bytes() for p in told.place.path.rglob("*") if p.is_file())
    for file in [*homes.keys(ORIGIN).glob("*"), Path(uri.removeprefix("file:"))]:
        for line in file.read_bytes().splitlines():
            if file.name != "trust" and not line.startswith(b"#"):
                assert line not in whole, file
    assert b"PRIVATE+KEY" not in whole
    assert b"AGE-SECRET-KEY" not in whole


def test_another_machines_identity_is_not_looked_for(told: Told, tmp_path: Path) -> None:
    machine = Machine.under(tmp_path / "m")
    with machine.here(), pytest.raises(CannotTell, match="trust root"):
        ledger.open(told.place.path)
