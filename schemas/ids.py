"""Identifiers: run ids, addresses, origins, and how each is checked."""

import re
from functools import lru_cache

from blake3 import blake3

from schemas.errors import Malformed

ADDRESS_PREFIX = "artifact://"
_BLIND = "agent-ledger 2026-11 v1 blind key id"
# One path, safe as a folder name on every system; no "+" (C2SP key names) and no "..".
_ORIGIN = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?:/[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)*")
_RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"artifact://([0-9a-f]{64})")
MAX_ORIGIN = 128
ROLE = "[a-z0-9][a-z0-9._-]{0,49}"
"""Form of the name of an approver's role."""


def new_run_id(unix_ms: int, random: bytes) -> str:
    """A UUIDv7 (RFC 9562) from a given time and given random bytes.

    Args:
        unix_ms: milliseconds since 1970, 48 bits.
        random: 10 random bytes; 74 of their bits are used.
    """
    number = (unix_ms & (1 << 48) - 1) << 80 | int.from_bytes(random[:10], "big")
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@lru_cache(maxsize=4096)
def is_run_id(text: str) -> bool:
    """Whether the text is a UUIDv7 in its canonical form."""
    return _RUN_ID.fullmatch(text) is not None


def run_key_id(run: str) -> bytes:
    """The id of a run's data key: the 16 bytes of the run id."""
    return bytes.fromhex(run.replace("-", ""))


def blind_key_id(key: bytes, nonce: bytes) -> bytes:
    """The id of a data key that stands in for another, made by a writer who can't open that one.

    It shows whose it is, so that an erasure can name it and reach no other run's.

    Args:
        key: id of the data key that it stands in for.
        nonce: 8 random bytes.
    """
    return nonce + blake3(key + nonce, derive_key_context=_BLIND).digest(8)


def belongs(key: bytes, run: str) -> bool:
    """Whether a data key with that id is a run's own: the one with its id, or one that stands in for it."""
    own = run_key_id(run)
    return key in (own, blind_key_id(own, key[:8]))


def address(cid: bytes) -> str:
    """The address of a blob: `artifact://` and the 64 hex digits of its cid."""
    return ADDRESS_PREFIX + cid.hex()


def cid_of(text: str) -> bytes:
    """The 32 bytes of an address.

    Raises:
        Malformed: it is no address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise Malformed(f"not an address: {text[:80]!r}", hint="an address is artifact:// and 64 hex digits")
    return bytes.fromhex(match[1])


def check_origin(text: str) -> str:
    """The text again, if it may be the origin of a log.

    Raises:
        Malformed: it may not.
    """
    if len(text) > MAX_ORIGIN or _ORIGIN.fullmatch(text) is None:
        raise Malformed(
            f"not an origin: {text[:80]!r}",
            hint="lowercase letters, digits, '.', '_', '-' and '/', for example acme.example/recompile",
        )
    return text
