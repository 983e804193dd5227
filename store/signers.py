"""Ed25519 keys under the names of C2SP signed notes: who signs, and who checks.

Formats of keys as text: C2SP signed-note and golang.org/x/mod/sumdb/note.
"""

import base64
import binascii
from hashlib import sha256
from typing import Self

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

from schemas.errors import KeyUnusable, Malformed
from store import secrets

_ED25519 = b"\x01"
_PRIVATE = "PRIVATE+KEY+"


def key_id(name: str, public: bytes) -> bytes:
    """The first 4 bytes of SHA-256(name ‖ LF ‖ 01 ‖ public key)."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def check_key_name(name: str) -> str:
    """The name again, if a key may bear it: not empty, no white space, no `+`.

    Raises:
        Malformed: it may not.
    """
    if not name or "+" in name or any(c.isspace() or not c.isprintable() for c in name):
        raise Malformed(f"not a key name: {name[:80]!r}")
    return name


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("a key is not in base64") from None


class Verifier:
    """A public key and its name.

    Attributes:
        name: as on signature lines.
        key_id: 4 bytes.
        public: 32 bytes.
    """

    __slots__ = ("key_id", "name", "public")

    def __init__(self, name: str, public: bytes) -> None:
        if len(public) != 32:
            raise Malformed(f"the key of {name[:80]} does not have 32 bytes")
        self.name = check_key_name(name)
        self.public = public
        self.key_id = key_id(name, public)

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Reads a vkey, `<name>+<8 hex>+<base64 of 01 and the key>`.

        Raises:
            Malformed: it is none, of another algorithm, or its key id is not that of its key.
        """
        name, _, rest = vkey.partition("+")
        id_text, _, key = rest.partition("+")
        raw = _unbase64(key)
        if raw[:1] != _ED25519:
            raise Malformed(f"not an Ed25519 vkey: {vkey[:80]!r}", hint="NAME+KEYID+KEY, as `ledger keys` prints it")
        found = cls(name, raw[1:])
        if found.vkey != vkey or found.key_id.hex() != id_text:
            raise Malformed(f"a vkey's id is not that of its key: {vkey[:80]!r}", hint="was the line copied whole?")
        return found

    @property
    def vkey(self) -> str:
        """The key as one line of text."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature of 64 bytes is this key's over the message (RFC 8032, no malleable forms)."""
        if len(signature) != 64:
            return False
        try:
            crypto_sign_open(signature + message, self.public)
        except CryptoError:
            return False
        return True

    def __repr__(self) -> str:
        return f"Verifier({self.vkey})"


class Signer:
    """A private key and its name."""

    __slots__ = ("_secret", "verifier")

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != 32:
            raise KeyUnusable(f"the private key of {name[:80]} does not have 32 bytes")
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.verifier = Verifier(name, public)

    @classmethod
    def load(cls, uri: str) -> Self:
        """Reads a private key, `PRIVATE+KEY+<name>+<8 hex>+<base64>`, from where the URI points.

        Raises:
            KeyUnusable: it can't be read, or is no such key.
        """
        text = secrets.load(uri)
        try:
            if not text.startswith(_PRIVATE):
                raise Malformed("no private key")
            name, _, rest = text.removeprefix(_PRIVATE).partition("+")
            id_text, _, key = rest.partition("+")
            raw = _unbase64(key)
            if raw[:1] != _ED25519:
                raise Malformed("another algorithm")
            signer = cls(name, raw[1:])
        except (Malformed, KeyUnusable):
            # Nothing of the text may reach the message.
            raise KeyUnusable(f"{uri}: not a private key", hint="expected PRIVATE+KEY+NAME+KEYID+KEY") from None
        if signer.verifier.key_id.hex() != id_text:
            raise KeyUnusable(f"{uri}: a private key's id is not that of its key", hint="was the line copied whole?")
        return signer

    @property
    def name(self) -> str:
        """As on signature lines."""
        return self.verifier.name

    @staticmethod
    def format(name: str, seed: bytes) -> str:
        """The text of a private key."""
        id_text = Signer(name, seed).verifier.key_id.hex()
        return f"{_PRIVATE}{name}+{id_text}+{base64.b64encode(_ED25519 + seed).decode()}"

    def sign(self, message: bytes) -> bytes:
        """A signature of 64 bytes."""
        return bytes(crypto_sign(message, self._secret)[:64])

    def __repr__(self) -> str:
        return f"Signer({self.verifier.vkey})"
