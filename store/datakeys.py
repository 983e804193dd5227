"""Roots and data keys, encrypted by age: who can read, and what erasure destroys.

`keys/root/<n>.age` is an age identity, encrypted to the ledger's readers. `keys/data/<2 hex>/<id>.age` is a
data key, encrypted to the newest root's recipient; so writing needs no identity. Neither file is trusted for
what it claims: a root is compared with the recipient, a data key with the commitment, that signed entries
state.
"""

import base64
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyrage

from schemas.errors import CannotTell, Erased, KeyUnusable, Malformed, Missing, NotSound
from schemas.ids import blind_key_id, check_origin
from store import secrets
from store.folder import Folder
from store.seal import DataKey

_OPENSSH = b"openssh-key-v1\0"
_TOMBSTONE = re.compile(rb"agent-ledger/erased@v1\n([^\n]+)\n(0|[1-9][0-9]{0,15})\n")
Random = Callable[[int], bytes]


def project_id(root: int) -> bytes:
    """Id of the data key that runs share, of the time of a root."""
    return root.to_bytes(16, "big")


def root_name(number: int) -> str:
    """The object that holds a root."""
    return f"keys/root/{number}.age"


def data_name(id: bytes) -> str:
    """The object that holds a data key, or its tombstone."""
    return f"keys/data/{id.hex()[:2]}/{id.hex()}.age"


def tombstone(origin: str, entry: int) -> bytes:
    """What replaces an erased data key: it names the erasure's entry."""
    return f"agent-ledger/erased@v1\n{origin}\n{entry}\n".encode()


def read_tombstone(data: bytes, origin: str) -> int | None:
    """The entry that a tombstone names, or None where the object is none of this log."""
    match = _TOMBSTONE.fullmatch(data)
    if match is None or match[1].decode("utf-8", "replace") != check_origin(origin):
        return None
    return int(match[2])


# pyrage has no types of its own.
Recipient = Any
Identity = Any


def recipient(text: str) -> Recipient:
    """Reads an age or SSH recipient.

    Raises:
        Malformed: it is none.
    """
    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        return kind.from_str(text)
    except pyrage.RecipientError:
        raise Malformed(f"not a recipient: {text[:60]!r}", hint="age1… or an SSH public key") from None


def load_identity(uri: str) -> list[Identity]:
    """The identities in a secret: an age key file, or an OpenSSH private key without passphrase.

    Raises:
        KeyUnusable: it can't be read, or holds none.
    """
    text = secrets.load(uri)
    try:
        if text.startswith("-----BEGIN"):
            _check_ssh(uri, text)
            return [pyrage.ssh.Identity.from_buffer((text + "\n").encode())]
        lines = [line.strip() for line in text.splitlines()]
        found: list[Identity] = [pyrage.x25519.Identity.from_str(x) for x in lines if x and x[0] != "#"]
    except (pyrage.IdentityError, ValueError):
        found = []
    if not found:
        raise KeyUnusable(f"{uri}: not an identity", hint="expected an age key file or an OpenSSH private key")
    return found


def _check_ssh(uri: str, text: str) -> None:
    """Says what an OpenSSH private key is that can't be used; its public part stands in clear (PROTOCOL.key)."""
    lines = text.splitlines()
    try:
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        return
    if not data.startswith(_OPENSSH) or lines[0] != "-----BEGIN OPENSSH PRIVATE KEY-----":
        return
    cipher_end = len(_OPENSSH) + 4 + int.from_bytes(data[len(_OPENSSH) : len(_OPENSSH) + 4], "big")
    if data[len(_OPENSSH) + 4 : cipher_end] != b"none":
        what = "this SSH key is protected by a passphrase, which nobody is here to type"
        raise KeyUnusable(f"{uri}: {what}", hint="name a key without one: age-keygen makes such")
    kind = re.search(rb"(?:ecdsa-sha2-nistp\d+|sk-[a-z0-9-]+@openssh\.com|ssh-dss)", data[:200])
    if kind is not None:
        what = f"an SSH key of type {kind[0].decode()} can't decrypt"
        raise KeyUnusable(f"{uri}: {what}", hint="name an ssh-ed25519 or ssh-rsa key, or an age key file")


class NewRoot(NamedTuple):
    """A root just made: its recipient, and what is needed to write its object."""

    recipient: str
    identity: str

    def __repr__(self) -> str:
        return f"NewRoot({self.recipient})"


def new_root() -> NewRoot:
    """A fresh age identity."""
    made = pyrage.x25519.Identity.generate()
    return NewRoot(str(made.to_public()), str(made))


def encrypt_root(root: NewRoot, readers: list[str]) -> bytes:
    """The bytes of a root's object."""
    sealed: bytes = pyrage.encrypt(root.identity.encode(), [recipient(r) for r in readers])
    return sealed


class _Roots(NamedTuple):
    """Roots, as found at one moment: those that the identity opens, by number, and how many there are."""

    opened: dict[int, Identity]
    total: int

    def decrypt(self, data: bytes) -> bytes | None:
        """What one of them opens, newest first; None where none does."""
        for number in sorted(self.opened, reverse=True):
            try:
                found: bytes = pyrage.decrypt(data, [self.opened[number]])
            except pyrage.DecryptError:
                continue
            return found
        return None


class Keyring:
    """The data keys of a ledger, as far as this process can open or make them; safe to share among threads.

    Args:
        folder: the ledger's objects.
        identity: URI of the identity; empty where this process can only write.
        random: source of random bytes.

    Attributes:
        erased: entry that erased each data key, by its id in hex, as far as is known.
    """

    def __init__(self, folder: Folder, origin: str, identity: str, random: Random) -> None:
        self.folder = folder
        self.origin = origin
        self.identity = identity
        self.random = random
        self._keys: dict[bytes, DataKey] = {}
        self._own: dict[bytes, DataKey] = {}
        self._roots = _Roots({}, 0)
        self._making = threading.Lock()
        self.erased: Mapping[str, int] = {}

    def make(self, id: bytes, root_recipient: str) -> DataKey:
        """Makes a data key and writes its object; nobody else may have.

        Raises:
            NotSound: an object of that id exists (step 6).
        """
        secret = self.random(32)
        if not self.folder.create(data_name(id), self.encrypt(secret, root_recipient)):
            raise NotSound(f"data key {id.hex()} exists already", step=6)
        key = self._keys[id] = DataKey(id, secret)
        return key

    @staticmethod
    def encrypt(secret: bytes, root_recipient: str) -> bytes:
        """The bytes of a data key's object."""
        sealed: bytes = pyrage.encrypt(secret, [recipient(root_recipient)])
        return sealed

    def to_write(self, id: bytes, commitment: str, root_recipient: str) -> DataKey:
        """The data key to seal under: that of `id`, or, where it can't be opened, one of this process.

        Args:
            commitment: what signed entries say of the key.

        Raises:
            Erased: it was erased.
            NotSound: its object holds another key (step 6).
        """
        try:
            key = self.open(id)
        except (CannotTell, Missing):
            # One for all threads: an erasure must know every key that this process has used.
            with self._making:
                own = self._own.get(id)
                if own is None:
                    own = self._own[id] = self.make(blind_key_id(id, self.random(8)), root_recipient)
            self._check_erased(own.id)
            return own
        if key.commitment != commitment:
            raise NotSound(
                f"{data_name(id)} holds another key than the log commits to",
                step=6,
                hint="somebody replaced it; restore it from a backup",
            )
        return key

    def open(self, id: bytes) -> DataKey:
        """The data key of that id.

        Raises:
            CannotTell: there is no identity, or it opens no root of this ledger.
            Erased: it was erased.
            Missing: its object is gone without an erasure.
        """
        self._check_erased(id)
        if (key := self._keys.get(id)) is not None:
            return key
        data = self.folder.get(data_name(id))
        if (entry := read_tombstone(data, self.origin)) is not None:
            raise Erased(f"data key {id.hex()} was erased by entry {entry}", hint=f"ledger show {entry}")
        roots = self._find_roots()
        secret = roots.decrypt(data)
        if secret is None and self.folder.size(root_name(roots.total)) is not None:
            # Somebody was revoked since: what was written afterwards needs a newer root.
            roots = self._find_roots(again=True)
            secret = roots.decrypt(data)
        if secret is None:
            if len(roots.opened) == roots.total:
                raise NotSound(f"{data_name(id)} is opened by no root: it was damaged or replaced", step=10)
            raise CannotTell(
                f"the identity opens no root that opens data key {id.hex()}", hint="ask a reader to grant you"
            )
        if len(secret) != 32:
            raise NotSound(f"{data_name(id)} holds no data key", step=10)
        key = self._keys[id] = DataKey(id, secret)
        return key

    def roots(self) -> list[Identity]:
        """The roots that the identity opens, newest first.

        Raises:
            CannotTell: no identity was given, or it opens none.
        """
        opened = self._find_roots().opened
        return [opened[number] for number in sorted(opened, reverse=True)]

    def recipients(self) -> dict[int, str]:
        """The recipients of the roots that the identity opens, by number."""
        return {number: str(root.to_public()) for number, root in self._find_roots().opened.items()}

    def open_roots(self, identities: list[Identity]) -> dict[int, Identity]:
        """The roots that these identities open, by number."""
        return self._open_roots(identities).opened

    def _find_roots(self, *, again: bool = False) -> _Roots:
        roots = self._roots
        if again or not roots.opened:
            if not self.identity:
                raise CannotTell(
                    "no identity: contents can't be read", hint="name one by --identity or LEDGER_IDENTITY"
                )
            # Replaced whole: what another thread holds stays as it was found.
            roots = self._roots = self._open_roots(load_identity(self.identity))
        if not roots.opened:
            raise CannotTell(
                f"{self.identity}: this identity is no reader of {self.origin}",
                hint="ask a reader to run: ledger keys grant YOUR-RECIPIENT",
            )
        return roots

    def _open_roots(self, identities: list[Identity]) -> _Roots:
        found = {}
        number = 0
        while (data := self.folder.find(root_name(number))) is not None:
            try:
                text = pyrage.decrypt(data, identities).decode()
                found[number] = pyrage.x25519.Identity.from_str(text)
            except pyrage.DecryptError:
                pass
            except (pyrage.IdentityError, UnicodeDecodeError):
                raise NotSound(f"{root_name(number)} holds no root", step=10) from None
            number += 1
        return _Roots(found, number)

    def own(self, id: bytes) -> DataKey | None:
        """The key that this process made because it could not open that of `id`."""
        return self._own.get(id)

    def _check_erased(self, id: bytes) -> None:
        if (entry := self.erased.get(id.hex())) is not None:
            self.forget(id)
            raise Erased(f"data key {id.hex()} was erased by entry {entry}", hint=f"ledger show {entry}")

    def forget(self, id: bytes) -> None:
        """Drops a key from memory, after its erasure."""
        self._keys.pop(id, None)
        with self._making:
            self._own = {run: key for run, key in self._own.items() if key.id != id}
