"""SSHSIG, the signatures of `ssh-keygen -Y sign`: read, and verify for Ed25519 keys.

Format: OpenSSH, PROTOCOL.sshsig; keys: PROTOCOL.u2f for hardware keys (`sk-ssh-ed25519@openssh.com`).
"""

import base64
import binascii
from hashlib import sha256, sha512
from typing import NamedTuple, Self

from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

from schemas.errors import Malformed

NAMESPACE = "ledger-approval@v1"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_PLAIN, _HARDWARE = b"ssh-ed25519", b"sk-ssh-ed25519@openssh.com"
_USER_PRESENT = 1


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        self.at += count
        if self.at > len(self.data):
            raise Malformed("an SSH signature ends too early")
        return self.data[self.at - count : self.at]

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def end(self) -> None:
        if self.at != len(self.data):
            raise Malformed("an SSH signature has bytes left over")


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class SshSignature(NamedTuple):
    """A signature taken apart; nothing is verified yet.

    Attributes:
        key: the public key in SSH's wire format.
        namespace, hash: as signed.
        signature: in SSH's wire format.
    """

    key: bytes
    namespace: str
    hash: str
    signature: bytes

    @classmethod
    def parse(cls, blob: bytes) -> Self:
        """Reads the binary form.

        Raises:
            Malformed: it is none, or of another version.
        """
        reader = _Reader(blob)
        if reader.take(6) != _MAGIC or reader.take(4) != b"\x00\x00\x00\x01":
            raise Malformed("not an SSH signature of version 1")
        key, namespace, reserved, hash = (reader.string() for _ in range(4))
        signature = reader.string()
        reader.end()
        if reserved:
            raise Malformed("an SSH signature uses a reserved field")
        try:
            return cls(key, namespace.decode("ascii"), hash.decode("ascii"), signature)
        except UnicodeDecodeError:
            raise Malformed("an SSH signature has a malformed namespace") from None

    @property
    def public(self) -> str:
        """The key as in `id_ed25519.pub`, without the comment."""
        return f"{_Reader(self.key).string().decode('ascii', 'replace')} {base64.b64encode(self.key).decode()}"


def split(signed: bytes) -> tuple[bytes, bytes]:
    """Parts a document from the armored signature that follows it.

    Returns:
        The document, and the signature's binary form.

    Raises:
        Malformed: no armored signature stands at the end.
    """
    document, begin, rest = signed.rpartition(_BEGIN.encode())
    if not begin:
        raise Malformed("no SSH signature", hint=f"sign with: ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE")
    return document, unarmor(begin + rest)


def unarmor(armored: bytes) -> bytes:
    """The binary form of an armored signature.

    Raises:
        Malformed: it is none.
    """
    text = armored.decode("ascii", "replace")
    # As ssh-keygen has it, beginning and end on lines of their own; unlike there, with nothing behind the end.
    body = text.rstrip().removeprefix(_BEGIN + "\n")
    if len(body) == len(text.rstrip()) or not body.endswith("\n" + _END) or "\0" in text:
        raise Malformed("not an armored SSH signature", hint=f"sign with: ssh-keygen -Y sign -n {NAMESPACE}")
    encoded = "".join(body.removesuffix(_END).split())
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("an armored SSH signature is not in base64") from None
    if base64.b64encode(blob).decode() != encoded:
        raise Malformed("an armored SSH signature is in another spelling of base64")
    return blob


def verify(blob: bytes, digest: bytes, keys: list[str]) -> str:
    """The public key, one of `keys`, that signed a message with this SHA-512.

    Args:
        blob: the binary signature.
        digest: SHA-512 of the message; a signature that used SHA-256 is refused.
        keys: SSH public keys without comments.

    Raises:
        Malformed: it is not a signature of one of these keys over that message for approvals.
    """
    signature = SshSignature.parse(blob)
    if signature.namespace != NAMESPACE:
        raise Malformed(
            f"wrong namespace: signed for {signature.namespace[:40]!r}, not for {NAMESPACE!r}",
            hint="sign with -n " + NAMESPACE,
        )
    if signature.hash != "sha512":
        raise Malformed("other hash: an approval must use SHA-512, as ssh-keygen does by default")
    if signature.public not in keys:
        raise Malformed("stranger: signed by a key that may not approve here", hint="`ledger keys` lists approvers")
    fields = (signature.namespace.encode(), b"", b"sha512", digest)
    message = _MAGIC + b"".join(map(_string, fields))
    if not _verify_key(signature.key, signature.signature, message):
        raise Malformed("other bytes were signed: an approval's signature does not verify")
    return signature.public


def _verify_key(key: bytes, signature: bytes, message: bytes) -> bool:
    key_reader, reader = _Reader(key), _Reader(signature)
    kind, public = key_reader.string(), key_reader.string()
    if kind not in (_PLAIN, _HARDWARE) or reader.string() != kind or len(public) != 32:
        return False
    raw = reader.string()
    if kind == _HARDWARE:
        application = key_reader.string()
        flags, counter = reader.take(1), reader.take(4)
        if not flags[0] & _USER_PRESENT:
            return False
        message = sha256(application).digest() + flags + counter + sha256(message).digest()
    key_reader.end()
    reader.end()
    try:
        crypto_sign_open(raw + message, public)
    except (CryptoError, ValueError):
        return False
    return len(raw) == 64


def digest(message: bytes) -> bytes:
    """SHA-512 of a message, as SSHSIG signs it."""
    return sha512(message).digest()
