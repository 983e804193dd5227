"""A new ledger: its keys, the owner's two statements, the first pack."""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from ledger import homes, note, registry
from ledger.locate import FOLDER, SETTINGS, settings
from ledger.log import Log, system_clock, system_random
from schemas.entries import KeysChanged, TrustChanged
from schemas.errors import StorageFailed, UsageError
from schemas.ids import check_origin
from schemas.trust import Author, KeysNote, TrustNote, TrustRoot
from store import secrets
from store.blobs import Prepared
from store.datakeys import Keyring, data_name, encrypt_root, new_root, project_id, root_name
from store.durable import make_folders, storage_errors
from store.folder import Folder
from store.seal import DataKey
from store.signers import Signer

AUTHOR = "main"
"""Name of the author whose key `init` makes."""


def create(
    path: Path | str = FOLDER, *, origin: str | None = None, owner: str = "", log: str = "", author: str = ""
) -> TrustRoot:
    """Makes a ledger and its keys.

    Args:
        path: a folder that is not there yet, or empty.
        origin: the log's unique name; made from the folder's name and a random suffix where absent.
        owner, log, author: URIs of keys that are there already, such as on a token; one is made where empty.

    Returns:
        What an auditor needs.

    Raises:
        UsageError: the folder is in use, or the origin can't be used.
        KeyUnusable: keys for this origin are there already, or one that is named can't be used.
    """
    import pyrage

    if not str(path):
        raise UsageError("no folder named", hint="ledger init PATH")
    path = Path(path)
    with storage_errors(path):
        if (path / SETTINGS).exists():
            raise UsageError(f"{path} is a ledger already", hint="see `ledger log`, or name another folder")
        new = not path.exists()
        if not new and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is in use", hint="name another folder")
    origin = _check_new(origin) if origin is not None else _local_origin(path)
    names = {"owner": origin, "log": origin, "author": f"{origin}/{AUTHOR}"}
    given: dict[registry.Use, str] = {"owner": owner, "log": log, "author": author}
    private: dict[str, str] = {}
    signers: dict[str, Signer] = {}
    for role, uri in given.items():
        if uri:
            signers[role] = Signer.named(uri, names[role])
        else:
            seed = system_random(32)
            signers[role] = Signer(names[role], seed)
            private[f"{role}.key"] = Signer.format(names[role], seed)
    identity = pyrage.x25519.Identity.generate()
    trust = TrustRoot(signers["owner"].verifier.vkey)
    private |= {"identity.txt": f"# public key: {identity.to_public()}\n{identity}", "trust": trust.owner}
    _make_folder(path, new)
    saved: list[Path] = []
    try:
        for name, text in private.items():
            secrets.save(homes.keys(origin) / name, text)
            saved.append(homes.keys(origin) / name)
        for role, uri in given.items():
            if uri:
                registry.add(origin, registry.Named(role, uri, role))
                saved.append(homes.keys(origin) / registry.FILE)
        _first_pack(path, signers["owner"], signers["author"], signers["log"], str(identity.to_public()))
    except BaseException:
        # Nobody has used it yet; what stayed behind would be in the way of the next try.
        _undo(path, new, saved)
        raise
    return trust


def _make_folder(path: Path, new: bool) -> None:
    """Makes the folder, or closes an empty one to other users."""
    try:
        with storage_errors(path):
            make_folders(path.absolute())
            path.chmod(0o700)
    except StorageFailed as error:
        raise UsageError(error.what, hint="name another folder") from None


def _undo(path: Path, new: bool, saved: list[Path]) -> None:
    """Takes away what can be: why it is done is what the caller must learn."""
    for there in saved + ([path] if new else list(path.iterdir())):
        if there.is_dir():
            shutil.rmtree(there, ignore_errors=True)
        else:
            with suppress(OSError):
                there.unlink()


def _first_pack(path: Path, owner: Signer, author: Signer, log: Signer, reader: str) -> None:
    """The ledger's first objects, and the owner's two statements."""
    origin = owner.name
    folder = Folder(path)
    folder.disk.sync_folder(str(path.absolute().parent))
    root, project = new_root(), system_random(32)
    readers = (reader,)
    folder.put(
        {
            ".gitignore": b"*\n",
            root_name(0): encrypt_root(root, list(readers)),
            data_name(project_id(0)): Keyring.encrypt(project, root.recipient),
            SETTINGS: settings(origin),
        }
    )
    trusted = TrustNote(origin, 0, log.verifier.vkey, (Author(author.verifier.vkey, 0),))
    commitment = DataKey(project_id(0), project).commitment
    keys = KeysNote(origin, 0, 0, root.recipient, commitment, readers)
    contents: list[Prepared] = []
    with Log.found(folder, owner.verifier, author, log) as opened:
        opened.append_statements(
            [
                TrustChanged(v=1, time=system_clock(), note=note.sign(trusted.format(), owner).decode()),
                KeysChanged(v=1, time=system_clock(), note=note.sign(keys.format(), owner).decode()),
            ],
            contents,
        )


def _check_new(origin: str) -> str:
    """The origin again, if its keys can lie in a folder of that name, whatever other logs there are."""
    for part in check_origin(origin).split("/"):
        if part in ("trust", "identity.txt", registry.FILE) or part.endswith(".key"):
            raise UsageError(
                f"{part!r} can't be a part of an origin: a file of keys is called so", hint="--origin NAME"
            )
    return origin


def _local_origin(path: Path) -> str:
    """`local/<name of the folder around>-<random>`."""
    folder = path.absolute()
    name = (folder.parent if folder.name == FOLDER else folder).name.lower()
    name = re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:40].strip("-") or "ledger"
    return f"local/{name}-{system_random(2).hex()}"
