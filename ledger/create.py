"""A new ledger: its keys, the owner's two statements, the first pack."""

import re
from pathlib import Path

from ledger import homes, note
from ledger.locate import FOLDER, SETTINGS, settings
from ledger.log import Log, system_clock, system_random
from schemas.entries import KeysChanged, TrustChanged
from schemas.errors import UsageError
from schemas.ids import check_origin
from schemas.trust import Author, KeysNote, TrustNote, TrustRoot
from store import secrets
from store.blobs import Prepared
from store.datakeys import Keyring, data_name, encrypt_root, new_root, project_id, root_name
from store.durable import storage_errors
from store.folder import Folder
from store.seal import DataKey
from store.signers import Signer

AUTHOR = "main"
"""Name of the author whose key `init` makes."""


def create(path: Path | str = FOLDER, *, origin: str | None = None) -> TrustRoot:
    """Makes a ledger and its keys.

    Args:
        path: a folder that is not there yet, or empty.
        origin: the log's unique name; made from the folder's name and a random suffix where absent.

    Returns:
        What an auditor needs.

    Raises:
        UsageError: the folder is in use.
        KeyUnusable: keys for this origin are there already.
    """
    import pyrage

    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        hint = "it is a ledger already; see `ledger log`" if (path / SETTINGS).exists() else "name another folder"
        raise UsageError(f"{path} is in use", hint=hint)
    origin = check_origin(origin) if origin else _local_origin(path)
    seeds = {role: system_random(32) for role in ("owner", "log", "author")}
    names = {"owner": origin, "log": origin, "author": f"{origin}/{AUTHOR}"}
    owner, log, author = (Signer(names[role], seeds[role]) for role in ("owner", "log", "author"))
    identity = pyrage.x25519.Identity.generate()
    # The folder first: where it can't be made, no keys are left behind.
    try:
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError, FileNotFoundError):
        raise UsageError(f"{path}: no folder can be made there", hint="name another folder") from None
    home = homes.keys(origin)
    for role, seed in seeds.items():
        secrets.save(home / f"{role}.key", Signer.format(names[role], seed))
    secrets.save(home / "identity.txt", f"# public key: {identity.to_public()}\n{identity}")
    trust = TrustRoot(owner.verifier.vkey)
    secrets.save(home / "trust", trust.owner)

    folder = Folder(path)
    folder.disk.sync_folder(str(path.absolute().parent))
    root, project = new_root(), system_random(32)
    readers = (str(identity.to_public()),)
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
    return trust


def _local_origin(path: Path) -> str:
    """`local/<name of the folder around>-<random>`."""
    folder = path.absolute()
    name = (folder.parent if folder.name == FOLDER else folder).name.lower()
    name = re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:40].strip("-") or "ledger"
    return f"local/{name}-{system_random(2).hex()}"
