"""Ed25519 keys under the names of C2SP signed notes: who signs, and who checks.

Formats of keys as text: C2SP signed-note and golang.org/x/mod/sumdb/note.
"""

import base64
import binascii
import warnings
from collections.abc import Callable, Iterable
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


_PROBE = b"agent-ledger/key-check@v1\n"
"""What a key on a token signs to show which it is; no text of ours begins so."""


class Signer:
    """A private key and its name: in this process's memory, or on a token that it never leaves."""

    __slots__ = ("_sign", "verifier")

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != 32:
            raise KeyUnusable(f"the private key of {name[:80]} does not have 32 bytes")
        public, secret = crypto_sign_seed_keypair(seed)
        self.verifier = Verifier(name, public)
        self._sign: Callable[[bytes], bytes] = lambda message: bytes(crypto_sign(message, secret)[:64])

    @classmethod
    def load(cls, uri: str, known: Iterable[Verifier] = ()) -> Self:
        """Reads a private key, `PRIVATE+KEY+<name>+<8 hex>+<base64>`, from where the URI points.

        Args:
            known: which keys it may be, for one on a token (`pkcs11:`): that bears no name of a log.

        Raises:
            KeyUnusable: it can't be read, or is no such key.
        """
        if uri.startswith("pkcs11:"):
            return cls._on_token(uri, list(known))
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

    @classmethod
    def named(cls, uri: str, name: str) -> Self:
        """The key at a URI under a name that it is to bear; one that is stored as text has its own, which must be that.

        Raises:
            KeyUnusable: it can't be used, or bears another name.
        """
        if not uri.startswith("pkcs11:"):
            signer = cls.load(uri)
            if signer.name != name:
                raise KeyUnusable(f"{uri}: this key is named {signer.name}, not {name}", hint="make one of that name")
            return signer
        from store import hsm

        key = hsm.open_key(uri)
        if key.public is None:
            raise KeyUnusable(
                f"{key.where.shown}: the token does not show its public key", hint="store that beside it, same CKA_ID"
            )
        return cls._on_token(uri, [Verifier(name, key.public)])

    @classmethod
    def _on_token(cls, uri: str, known: list[Verifier]) -> Self:
        from store import hsm

        key = hsm.open_key(uri)
        made = key.sign(_PROBE)
        # The signature decides, whatever the token says of its public half.
        found = next((one for one in known if one.verify(_PROBE, made)), None)
        if found is None:
            who = ", ".join(dict.fromkeys(one.name for one in known)) or "nobody"
            raise KeyUnusable(f"{key.where.shown}: not the key of {who}", hint="`ledger keys` lists whose keys count")
        if key.can_leave:
            warnings.warn(f"{key.where.shown}: the token would hand this key out: make one that can't", stacklevel=3)
        verifier = found

        def sign(message: bytes) -> bytes:
            made = key.sign(message)
            if not verifier.verify(message, made):
                raise KeyUnusable(f"{key.where.shown}: the token gave a signature that does not hold", hint="try again")
            return made

        signer = cls.__new__(cls)
        signer.verifier, signer._sign = verifier, sign
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
        """A signature of 64 bytes.

        Raises:
            KeyUnusable: the token that holds the key does not sign.
        """
        return self._sign(message)

    def __repr__(self) -> str:
        return f"Signer({self.verifier.vkey})"
