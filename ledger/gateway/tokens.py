"""Run-scoped tokens: what a client shows instead of the real key, and what it is bound to.

A token is `sk-ledger-v1.<base64url of JSON>.<base64url of a MAC>`. The MAC is BLAKE3, keyed by a secret that only
this user's machine has, so that any process of the user can make one and any gateway of his can check it.
"""

import base64
import binascii
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec
from blake3 import blake3

from schemas.envelope import TaskScope
from schemas.errors import KeyUnusable, LedgerError
from schemas.ids import is_run_id
from store import secrets

PREFIX = "sk-ledger-v1."
_CONTEXT = "agent-ledger 2026-11 v1 gateway token"
_LONGEST = 8192


class TokenRefused(LedgerError):
    """A token is missing, forged, expired, or of another gateway."""


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token binds. Fields of a request may narrow it, and never widen it.

    Attributes:
        run: id of the run.
        stage, lane, task: empty where the request may say.
        scope: None where the request may say.
        policy: id of the policy that applies beside the gateway's own; empty for none.
        expires: Unix seconds.
    """

    run: str
    expires: int
    stage: str = ""
    lane: str = ""
    task: str = ""
    scope: TaskScope | None = None
    policy: str = ""

    def sign(self, secret: bytes) -> str:
        """The token's text."""
        payload = msgspec.json.encode(self)
        return PREFIX + _encode(payload) + "." + _encode(_mac(secret, payload))

    @classmethod
    def read(cls, text: str, secret: bytes, now: datetime) -> Self:
        """Reads a token.

        Raises:
            TokenRefused: it is none of this user's, or has expired.
        """
        body, _, mac = text.removeprefix(PREFIX).partition(".")
        try:
            if not text.startswith(PREFIX) or len(text) > _LONGEST:
                raise ValueError("another form")
            payload = _decode(body)
            # In constant time: `blake3` compares digests so.
            if _mac_of(secret, payload) != blake3(_decode(mac)).digest():
                raise ValueError("another MAC")
            found = msgspec.json.decode(payload, type=cls)
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            raise TokenRefused(
                "the API key is no token of this gateway", hint="ledger token --run RUN makes one"
            ) from None
        if not is_run_id(found.run):
            raise TokenRefused("the token names no run", hint="ledger token --run RUN makes one")
        if now.timestamp() >= found.expires:
            when = datetime.fromtimestamp(found.expires, UTC)
            raise TokenRefused(f"the token expired at {when:%Y-%m-%d %H:%M} UTC", hint="ledger token --run RUN")
        return found


def _mac(secret: bytes, payload: bytes) -> bytes:
    return blake3(payload, key=blake3(secret, derive_key_context=_CONTEXT).digest()).digest()


def _mac_of(secret: bytes, payload: bytes) -> bytes:
    """A digest of the MAC: comparing digests of unknown values tells nothing by its time."""
    return blake3(_mac(secret, payload)).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data) != text:
        raise ValueError("another spelling")
    return data


def load_secret(home: Path, random: bytes) -> bytes:
    """The secret of this user's gateways, made where there is none yet.

    Args:
        home: folder of the log's keys.
        random: 32 random bytes, for a new one.

    Raises:
        KeyUnusable: it is there and can't be used.
    """
    path = home / "gateway.key"
    if not path.exists():
        try:
            secrets.save(path, random.hex())
        except KeyUnusable:
            # Another process was first.
            pass
    try:
        return bytes.fromhex(secrets.load(f"file:{path}"))
    except ValueError:
        raise KeyUnusable(f"{path}: no gateway's secret", hint="remove it; running tokens end with it") from None
