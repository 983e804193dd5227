"""SSH signatures: what `ssh-keygen -Y sign` makes verifies, and nothing that it would refuse does."""

import base64
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256, sha512
from pathlib import Path
from typing import NamedTuple

import pytest
from nacl.signing import SigningKey

from ledger.state import check_approval
from ledger.trust import Trust
from policies import sshsig
from policies.sshsig import NAMESPACE, SshSignature, digest, split, unarmor, verify
from schemas.entries import Approval
from schemas.errors import Malformed, NotSound
from schemas.trust import Approver, TrustNote
from store.signers import Signer

MESSAGE = b'{"action":"publish","nonce":"7"}\n'
ORDER = 2**252 + 27742317777372353535851937790883648493
pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH's ssh-keygen")


class Desk(NamedTuple):
    """A folder with keys of OpenSSH's making."""

    path: Path

    def new(self, name: str, *options: str) -> "Desk":
        command = ["ssh-keygen", "-q", "-N", "", "-C", f"{name}@desk", "-f", str(self.path / name), *options]
        subprocess.run(command, check=True)
        return self

    def public(self, name: str) -> str:
        return " ".join((self.path / f"{name}.pub").read_text().split()[:2])

    def sign(self, name: str, message: bytes = MESSAGE, *options: str, namespace: str = NAMESPACE) -> bytes:
        """The armored signature that ssh-keygen makes."""
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.path / name), *options]
        return subprocess.run(command, input=message, check=True, capture_output=True).stdout

    def accepts(self, name: str, blob: bytes, message: bytes = MESSAGE) -> bool:
        """What `ssh-keygen -Y verify` says of a binary signature."""
        return self.accepts_key(self.public(name), blob, message)

    def accepts_key(self, public: str, blob: bytes, message: bytes = MESSAGE) -> bool:
        (self.path / "allowed").write_text(f"someone {public}\n")
        (self.path / "sig").write_bytes(armored(blob))
        command = ["ssh-keygen", "-q", "-Y", "verify", "-f", str(self.path / "allowed"), "-I", "someone"]
        command += ["-n", NAMESPACE, "-s", str(self.path / "sig")]
        return subprocess.run(command, input=message, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = Desk(tmp_path_factory.mktemp("desk")).new("alice", "-t", "ed25519").new("mallory", "-t", "ed25519")
    return made.new("rsa", "-t", "rsa", "-b", "2048").new("ecdsa", "-t", "ecdsa")


def armored(blob: bytes) -> bytes:
    text = base64.b64encode(blob).decode()
    lines = [text[i : i + 70] for i in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""]).encode()


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def wire(s: SshSignature, *, version: int = 1, reserved: bytes = b"", magic: bytes = b"SSHSIG") -> bytes:
    fields = (s.key, s.namespace.encode(), reserved, s.hash.encode(), s.signature)
    return magic + version.to_bytes(4, "big") + b"".join(map(string, fields))


def rejected(blob: bytes, keys: list[str], message: bytes = MESSAGE) -> None:
    with pytest.raises(Malformed):
        verify(blob, digest(message), keys)


# What ssh-keygen makes.


def test_a_signature_of_ssh_keygen_verifies(desk: Desk) -> None:
    for message in (MESSAGE, b"", b"\x00" * 5000):
        blob = unarmor(desk.sign("alice", message))
        assert verify(blob, digest(message), [desk.public("mallory"), desk.public("alice")]) == desk.public("alice")
        assert desk.accepts("alice", blob, message)
        assert digest(message) == sha512(message).digest()


def test_a_signature_is_taken_apart(desk: Desk) -> None:
    blob = unarmor(desk.sign("alice"))
    found = SshSignature.parse(blob)
    assert (found.public, found.namespace, found.hash) == (desk.public("alice"), NAMESPACE, "sha512")
    assert wire(found) == blob


def test_a_signature_for_another_purpose_rejected(desk: Desk) -> None:
    for namespace in (
        "git",
        "file",
        "ledger-approval@v2",
        "ledger-approval@v1 ",
        "Ledger-approval@v1",
        "x" + NAMESPACE,
    ):
        rejected(unarmor(desk.sign("alice", namespace=namespace)), [desk.public("alice")])


def test_a_signature_with_sha256_rejected(desk: Desk) -> None:
    blob = unarmor(desk.sign("alice", MESSAGE, "-O", "hashalg=sha256"))
    assert desk.accepts("alice", blob)
    rejected(blob, [desk.public("alice")])


@pytest.mark.parametrize("message", [b"", MESSAGE[:-1], MESSAGE + b"\n", MESSAGE.replace(b"7", b"8")])
def test_a_signature_over_another_message_rejected(message: bytes, desk: Desk) -> None:
    rejected(unarmor(desk.sign("alice")), [desk.public("alice")], message)


def test_a_digest_of_another_kind_rejected(desk: Desk) -> None:
    blob = unarmor(desk.sign("alice"))
    for other in (b"", MESSAGE, sha256(MESSAGE).digest(), digest(MESSAGE)[:63], digest(MESSAGE) + b"\x00"):
        with pytest.raises(Malformed):
            verify(blob, other, [desk.public("alice")])


@pytest.mark.parametrize("name", ["rsa", "ecdsa"])
def test_a_key_of_another_algorithm_rejected(name: str, desk: Desk) -> None:
    """Also where it is listed as an approver's."""
    blob = unarmor(desk.sign(name))
    assert desk.accepts(name, blob)
    rejected(blob, [desk.public(name)])


def test_a_key_that_may_not_approve_rejected(desk: Desk) -> None:
    blob = unarmor(desk.sign("mallory"))
    alice, mallory = desk.public("alice"), desk.public("mallory")
    for keys in ([], [alice], ["ssh-ed25519"], [mallory[:-1]], [f"{mallory} a comment"], [mallory.upper()], [""]):
        rejected(blob, keys)


# Signatures changed, each compared with what ssh-keygen says of it.


def raw_of(s: SshSignature) -> bytes:
    return s.signature[-64:]


def with_raw(s: SshSignature, raw: bytes) -> SshSignature:
    return s._replace(signature=string(b"ssh-ed25519") + string(raw))


def malleated(s: SshSignature, times: int) -> SshSignature:
    raw = raw_of(s)
    return with_raw(s, raw[:32] + (int.from_bytes(raw[32:], "little") + times * ORDER).to_bytes(32, "little"))


CHANGES: dict[str, Callable[[SshSignature], bytes]] = {
    "S plus the order": lambda s: wire(malleated(s, 1)),
    "S plus twice the order": lambda s: wire(malleated(s, 2)),
    "S plus seven times the order": lambda s: wire(malleated(s, 7)),
    "zeros": lambda s: wire(with_raw(s, bytes(64))),
    "R the neutral point, S zero": lambda s: wire(with_raw(s, b"\x01" + bytes(63))),
    "R and S exchanged": lambda s: wire(with_raw(s, raw_of(s)[32:] + raw_of(s)[:32])),
    "a byte short": lambda s: wire(with_raw(s, raw_of(s)[:-1])),
    "a byte more": lambda s: wire(with_raw(s, raw_of(s) + b"\x00")),
    "the message within the signature": lambda s: wire(with_raw(s, raw_of(s) + MESSAGE)),
    "no signature": lambda s: wire(with_raw(s, b"")),
    "an empty signature field": lambda s: wire(s._replace(signature=b"")),
    "bytes behind the signature": lambda s: wire(s._replace(signature=s.signature + b"\x00")),
    "another string behind the signature": lambda s: wire(s._replace(signature=s.signature + string(b""))),
    "a signature of another kind": lambda s: wire(s._replace(signature=string(b"ssh-rsa") + string(raw_of(s)))),
    "a signature of a hardware key": lambda s: wire(
        s._replace(signature=string(b"sk-ssh-ed25519@openssh.com") + string(raw_of(s)) + b"\x01\x00\x00\x00\x00")
    ),
    "flags and counter of a hardware key": lambda s: wire(s._replace(signature=s.signature + b"\x01\x00\x00\x00\x00")),
    "another namespace in the same signature": lambda s: wire(s._replace(namespace="git")),
    "an empty namespace": lambda s: wire(s._replace(namespace="")),
    "another hash in the same signature": lambda s: wire(s._replace(hash="sha256")),
    "an unknown hash": lambda s: wire(s._replace(hash="sha1")),
    "a hash in capitals": lambda s: wire(s._replace(hash="SHA512")),
    "no hash": lambda s: wire(s._replace(hash="")),
    "version 0": lambda s: wire(s, version=0),
    "version 2": lambda s: wire(s, version=2),
    "another magic": lambda s: wire(s, magic=b"SSHSIF"),
    "no magic": lambda s: wire(s, magic=b""),
    "a reserved field in use": lambda s: wire(s, reserved=b"x"),
    "bytes behind": lambda s: wire(s) + b"\x00",
    "the signature twice": lambda s: wire(s) + wire(s),
    "an empty key": lambda s: wire(s._replace(key=b"")),
    "a key of 31 bytes": lambda s: wire(s._replace(key=s.key[:-1])),
    "bytes behind the key": lambda s: wire(s._replace(key=s.key + b"\x00")),
    "nothing": lambda s: b"",
    "the magic alone": lambda s: b"SSHSIG",
    "a length over all": lambda s: b"SSHSIG\x00\x00\x00\x01\xff\xff\xff\xff" + s.key,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_signature_rejected(change: Callable[[SshSignature], bytes], desk: Desk) -> None:
    blob = change(SshSignature.parse(unarmor(desk.sign("alice"))))
    rejected(blob, [desk.public("alice")])
    if blob and blob[:6] == b"SSHSIG":
        key_in_blob = blob[14 : 14 + int.from_bytes(blob[10:14], "big")]
        rejected(blob, [f"ssh-ed25519 {base64.b64encode(key_in_blob).decode()}"])


def test_every_bit_of_a_signature_counts(desk: Desk) -> None:
    blob, keys = unarmor(desk.sign("alice")), [desk.public("alice")]
    for at in range(len(blob)):
        for bit in range(8):
            rejected(blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :], keys)


def test_every_truncation_rejected(desk: Desk) -> None:
    blob = unarmor(desk.sign("alice"))
    for length in range(len(blob)):
        rejected(blob[:length], [desk.public("alice")])


def test_what_ssh_keygen_refuses_is_refused(desk: Desk) -> None:
    """Ours is the stricter of the two, never the laxer."""
    alice = desk.public("alice")
    signature = SshSignature.parse(unarmor(desk.sign("alice")))
    for blob in [wire(signature), *(change(signature) for change in CHANGES.values())]:
        try:
            verify(blob, digest(MESSAGE), [alice])
        except Malformed:
            continue
        assert desk.accepts("alice", blob)


# Hardware keys: made by hand, as no such key is here.

DEVICE = SigningKey(sha256(b"a hardware key").digest())
SK = b"sk-ssh-ed25519@openssh.com"


class Touch(NamedTuple):
    """What a hardware key signs with."""

    flags: int = 1
    counter: bytes = b"\x00\x00\x00\x07"
    application: bytes = b"ssh:"
    message: bytes = MESSAGE
    told_flags: int | None = None
    told_counter: bytes | None = None
    told_application: bytes | None = None

    def key(self) -> bytes:
        application = self.application if self.told_application is None else self.told_application
        return string(SK) + string(bytes(DEVICE.verify_key)) + string(application)

    def public(self) -> str:
        return f"{SK.decode()} {base64.b64encode(self.key()).decode()}"

    def blob(self) -> bytes:
        fields = (NAMESPACE.encode(), b"", b"sha512", sha512(self.message).digest())
        signed = b"SSHSIG" + b"".join(map(string, fields))
        over = sha256(self.application).digest() + bytes([self.flags]) + self.counter + sha256(signed).digest()
        told = bytes([self.flags if self.told_flags is None else self.told_flags])
        counter = self.counter if self.told_counter is None else self.told_counter
        signature = string(SK) + string(DEVICE.sign(over).signature) + told + counter
        return wire(SshSignature(self.key(), NAMESPACE, "sha512", signature))


@pytest.mark.parametrize("flags", [0x01, 0x05, 0x81])
def test_a_hardware_key_that_was_touched_verifies(flags: int, desk: Desk) -> None:
    touch = Touch(flags=flags)
    assert verify(touch.blob(), digest(MESSAGE), [touch.public()]) == touch.public()
    assert desk.accepts_key(touch.public(), touch.blob())


@pytest.mark.parametrize("flags", [0x00, 0x04, 0x80, 0x84, 0xFE])
def test_a_hardware_key_that_was_not_touched_rejected(flags: int) -> None:
    touch = Touch(flags=flags)
    rejected(touch.blob(), [touch.public()])


TOUCHES = {
    "presence claimed afterwards": Touch(flags=0, told_flags=1),
    "verification claimed afterwards": Touch(flags=1, told_flags=5),
    "another counter": Touch(told_counter=b"\x00\x00\x00\x08"),
    "for another application": Touch(application=b"ssh:other", told_application=b"ssh:"),
    "for a web site": Touch(application=b"https://example.com", told_application=b"ssh:"),
    "of another message": Touch(message=b"another"),
    "a counter of three bytes": Touch(told_counter=b"\x00\x00\x07"),
    "a counter of five bytes": Touch(told_counter=b"\x00\x00\x00\x07\x00"),
    "no counter": Touch(told_counter=b""),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_a_changed_signature_of_a_hardware_key_rejected(touch: Touch) -> None:
    rejected(touch.blob(), [touch.public()])


def test_a_hardware_key_and_its_plain_twin_are_two_keys() -> None:
    """The same point as a plain key: neither's signature passes for the other's."""
    touch = Touch()
    plain_key = string(b"ssh-ed25519") + string(bytes(DEVICE.verify_key))
    plain = f"ssh-ed25519 {base64.b64encode(plain_key).decode()}"
    rejected(touch.blob(), [plain])
    signature = SshSignature.parse(touch.blob())
    rejected(wire(signature._replace(key=plain_key)), [plain, touch.public()])
    rejected(wire(with_raw(signature, signature.signature[34:98])), [plain, touch.public()])


def test_every_bit_of_a_hardware_signature_counts() -> None:
    touch = Touch()
    blob, keys = touch.blob(), [touch.public()]
    for at in range(len(blob)):
        for bit in range(8):
            rejected(blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :], keys)


# As it stands in an entry.


def respelled(encoded: str) -> list[str]:
    """The same bytes: padding too long, unused bits set, white space."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body, pad = encoded.rstrip("="), encoded.count("=")
    dirty = [body[:-1] + letters[letters.index(body[-1]) + 1] + "=" * pad] if pad else []
    return [*dirty, encoded + "=", encoded + "\n", encoded[:8] + " " + encoded[8:], body + "=" * (pad + 1)]


def approval(signature: str) -> Approval:
    run, place = "019aa5b2-1c00-7abc-8def-0123456789ab", "artifact://" + "0" * 64
    time = datetime(2026, 11, 22, tzinfo=UTC)
    return Approval(1, time, run, 2, request=place, sha512=digest(MESSAGE).hex(), signature=signature)


def trusting(touch: Touch) -> Trust:
    log = Signer("log.example/a", bytes(32)).verifier
    statement = TrustNote("log.example/a", 0, log.vkey, (), (Approver("alice", touch.public(), 5, 9),))
    return Trust(statement, log, (), "")


def test_an_approval_is_signed_by_an_approver_of_its_index() -> None:
    touch = Touch()
    signed = approval(base64.b64encode(touch.blob()).decode())
    assert check_approval(signed, 5, trusting(touch)) == "alice"
    for index, trust in ((4, trusting(touch)), (9, trusting(touch)), (5, None), (5, trusting(Touch(application=b"x")))):
        with pytest.raises(NotSound) as error:
            check_approval(signed, index, trust)
        assert error.value.step == 11


@pytest.mark.parametrize("signature", ["", "é", "A", "AAA", "!!!!", "AAAA", "\x00", "😀" * 100, "=" * 8192, "U1NIU0lH"])
def test_an_approval_without_a_signature_rejected(signature: str) -> None:
    with pytest.raises(NotSound) as error:
        check_approval(approval(signature), 5, trusting(Touch()))
    assert error.value.step == 11


def test_an_approval_in_another_spelling_of_base64_rejected() -> None:
    touch = Touch()
    for blob in (touch.blob(), Touch(counter=b"\x00\x00\x00\x09").blob()):
        for signature in respelled(base64.b64encode(blob).decode()):
            with pytest.raises(NotSound):
                check_approval(approval(signature), 5, trusting(touch))


# Armor.


def test_armor_is_read(desk: Desk) -> None:
    made = desk.sign("alice")
    blob = unarmor(made)
    assert armored(blob) == made
    for other in (made + b"\n", made.rstrip(b"\n"), made.replace(b"\n", b"\n\n")):
        assert unarmor(other) == blob
    assert sshsig.verify(unarmor(made), digest(MESSAGE), [desk.public("alice")])


BEGIN, END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
BODY = base64.b64encode(Touch().blob())
ARMOR = {
    "nothing": b"",
    "no beginning": BODY + b"\n" + END,
    "no end": BEGIN + b"\n" + BODY,
    "beginning and end exchanged": END + b"\n" + BODY + b"\n" + BEGIN,
    "another kind": (BEGIN + b"\n" + BODY + b"\n" + END).replace(b"SSH", b"PGP"),
    "small letters": (BEGIN + b"\n" + BODY + b"\n" + END).lower(),
    "text before": b"Hello\n" + BEGIN + b"\n" + BODY + b"\n" + END,
    "text behind": BEGIN + b"\n" + BODY + b"\n" + END + b"\nHello",
    "two of them": (BEGIN + b"\n" + BODY + b"\n" + END + b"\n") * 2,
    "no base64": BEGIN + b"\n" + BODY.replace(b"A", b"*") + b"\n" + END,
    "base64 of the other alphabet": BEGIN + b"\n" + b"_-" + BODY[2:] + b"\n" + END,
    "a letter missing": BEGIN + b"\n" + BODY.rstrip(b"=")[:-1] + b"\n" + END,
    "padding within": BEGIN + b"\n" + BODY[:8] + b"==" + BODY[8:] + b"\n" + END,
    "a header line": BEGIN + b"\nComment: x\n" + BODY + b"\n" + END,
    "no ASCII": BEGIN + b"\n" + BODY[:-4] + "äöü".encode() + b"\n" + END,
    "a null": BEGIN + b"\n\x00" + BODY + b"\n" + END,
    "the two marks sharing their dashes": b"-----BEGIN SSH SIGNATURE-----END SSH SIGNATURE-----",
}


@pytest.mark.parametrize("text", ARMOR.values(), ids=ARMOR)
def test_damaged_armor_rejected(text: bytes) -> None:
    with pytest.raises(Malformed):
        SshSignature.parse(unarmor(text))


ARMORS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda t: t,
    "CRLF": lambda t: t.replace(b"\n", b"\r\n"),
    "CR alone": lambda t: t.replace(b"\n", b"\r"),
    "empty lines before": lambda t: b"\n\n" + t,
    "a space before": lambda t: b" " + t,
    "a mark of byte order before": lambda t: b"\xef\xbb\xbf" + t,
    "empty lines within": lambda t: t.replace(b"\n", b"\n\n"),
    "spaces and tabs within": lambda t: t[:40] + b" \t\v\f" + t[40:],
    "no newline at the end": lambda t: t.rstrip(b"\n"),
    "no line for the beginning": lambda t: t.replace(BEGIN + b"\n", BEGIN),
    "no line for the end": lambda t: t.replace(b"\n" + END, END),
    "one line": lambda t: t.replace(b"\n", b" "),
    "text behind": lambda t: t + b"more\n",
    "text behind, on the same line": lambda t: t.rstrip(b"\n") + b"more\n",
    "text before": lambda t: b"more\n" + t,
    "another signature behind": lambda t: t + t,
    "six dashes": lambda t: b"-" + t,
    "small letters": lambda t: t.replace(b"SSH SIGNATURE", b"ssh signature"),
    "an armor of PGP": lambda t: t.replace(b"SSH", b"PGP"),
    "a header line": lambda t: t.replace(b"\n", b"\nHash: SHA512\n", 1),
    "a null within": lambda t: t[:60] + b"\0" + t[60:],
    "a null behind": lambda t: t + b"\0",
    "padding within": lambda t: t[:60] + b"=" + t[60:],
    "padding more": lambda t: t.replace(b"\n" + END, b"=\n" + END),
    "the other alphabet": lambda t: t.replace(b"\nU1NI", b"\n-_NI", 1),
    "a letter less": lambda t: t[:60] + t[61:],
    "no ASCII": lambda t: t[:60] + "é".encode() + t[60:],
    "nothing": lambda t: b"",
    "nothing within": lambda t: BEGIN + b"\n" + END + b"\n",
}


def accepts_armor(desk: Desk, armor: bytes) -> bool:
    """What ssh-keygen says of a signature's file."""
    (desk.path / "allowed").write_text(f"someone {desk.public('alice')}\n")
    (desk.path / "armor").write_bytes(armor)
    command = ["ssh-keygen", "-q", "-Y", "verify", "-f", str(desk.path / "allowed"), "-I", "someone", "-n", NAMESPACE]
    done = subprocess.run([*command, "-s", str(desk.path / "armor")], input=MESSAGE, capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("change", ARMORS.values(), ids=ARMORS)
def test_armor_that_ssh_keygen_refuses_is_refused(change: Callable[[bytes], bytes], desk: Desk) -> None:
    armor = change(desk.sign("alice"))
    try:
        ours = bool(verify(unarmor(armor), digest(MESSAGE), [desk.public("alice")]))
    except Malformed:
        ours = False
    assert ours <= accepts_armor(desk, armor), "ours is the laxer of the two"


def test_armor_whose_unused_bits_are_set_rejected(desk: Desk) -> None:
    """The same bytes in another spelling: ssh-keygen's decoder refuses it too."""
    for name in ("alice", "mallory", "rsa"):
        made = desk.sign(name)
        encoded = b"".join(made.split(b"\n")[1:-2]).decode()
        for other in respelled(encoded)[: bool(encoded.endswith("="))]:
            armor = BEGIN + b"\n" + other.encode() + b"\n" + END + b"\n"
            with pytest.raises(Malformed):
                unarmor(armor)
            assert not accepts_armor(desk, armor)


# Keys of small order: a signature that holds for many messages.

SMALL_ORDER = [bytes(32), b"\x01" + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")]  # fmt: skip


@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda p: p.hex()[:8])
def test_a_key_of_small_order_signs_nothing(point: bytes) -> None:
    """Also where the owner was talked into naming it: R of small order and S zero would hold for messages at will."""
    key = string(b"ssh-ed25519") + string(point)
    public = f"ssh-ed25519 {base64.b64encode(key).decode()}"
    for other in SMALL_ORDER:
        signature = string(b"ssh-ed25519") + string(other + bytes(32))
        blob = wire(SshSignature(key, NAMESPACE, "sha512", signature))
        for number in range(8):
            rejected(blob, [public], b"message %d" % number)


def test_a_document_is_parted_from_its_signature(desk: Desk) -> None:
    made = desk.sign("alice")
    assert split(MESSAGE + made) == (MESSAGE, unarmor(made))
    # A document that holds another signature keeps it: the last one counts.
    inner = MESSAGE + desk.sign("mallory") + b"more\n"
    assert split(inner + made) == (inner, unarmor(made))


@pytest.mark.parametrize(
    "tail", [b"", BEGIN, BEGIN + b"\n" + BODY, END, BEGIN + b"\n" + BODY + b"\n" + END + b"\nmore\n"]
)
def test_a_document_without_a_signature_at_its_end_rejected(tail: bytes) -> None:
    with pytest.raises(Malformed):
        split(MESSAGE + tail)
