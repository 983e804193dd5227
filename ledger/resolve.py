"""Whether what is registered can be used for what it is registered for."""

from ledger import registry
from ledger.log import Log
from schemas.errors import KeyUnusable
from store.datakeys import load_identity
from store.pkcs11uri import shown
from store.signers import Signer


def check(log: Log, one: registry.Named) -> None:
    """Looks one up as who uses it would, and forgets it.

    Raises:
        KeyUnusable: it can't be used, or is not the ledger's.
    """
    state = log.chain.state
    if one.use in ("redact", "upstream"):
        registry.value(one)
    elif one.use == "identity":
        load_identity(one.uri)
    elif one.use == "author":
        trust, next_leaf = state.trusted(), state.size + 1
        signer = Signer.load(one.uri, [verifier for verifier, _, _ in trust.authors])
        if all(author.vkey != signer.verifier.vkey for author in trust.authors_at(next_leaf)):
            raise KeyUnusable(f"{shown(one.uri)}: {signer.name} may not write with this key", hint="ledger keys")
    else:
        wanted = state.owner if one.use == "owner" else state.trusted().log
        signer = Signer.load(one.uri, [wanted])
        if signer.verifier.vkey != wanted.vkey:
            raise KeyUnusable(f"{shown(one.uri)}: not the {one.use}'s key of this ledger", hint="ledger keys")
