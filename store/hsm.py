"""Ed25519 keys on a PKCS#11 token (CKM_EDDSA): they sign there, and never leave it.

One process logs in to a token once, whatever keys of it are used; a session that broke is opened anew once for each
signature. A PIN that was refused is never tried again in the same process: a few tries lock most tokens.
"""

import threading
import warnings
from typing import TYPE_CHECKING, Any

from schemas.errors import KeyUnusable
from store import secrets
from store.pkcs11uri import TokenUri, parse

if TYPE_CHECKING:
    import pkcs11

_lock = threading.Lock()
"""One call at a time: modules need not bear several."""

_refused: dict[str, str] = {}
"""URIs whose login failed for good, and why."""

_ED25519 = "1.3.101.112"


class TokenKey:
    """A private key on a token.

    Attributes:
        public: its public key, 32 bytes; None where the token holds the private half alone.
        can_leave: whether the token would hand it out.
    """

    def __init__(self, where: TokenUri) -> None:
        self.where = where
        with _lock:
            self._key = _open(where)
            self.public = _public(where, self._key)
            self.can_leave = _can_leave(self._key)

    def sign(self, message: bytes) -> bytes:
        """A signature of 64 bytes.

        Raises:
            KeyUnusable: the token does not sign.
        """
        import pkcs11

        with _lock:
            try:
                made = self._sign(message)
            except pkcs11.PKCS11Error as first:
                if not isinstance(first, _broken(pkcs11)):
                    raise _unusable(self.where, first) from None
                self._key = _open(self.where)
                try:
                    made = self._sign(message)
                except pkcs11.PKCS11Error as error:
                    raise _unusable(self.where, error) from None
        return made

    def _sign(self, message: bytes) -> bytes:
        import pkcs11

        return bytes(self._key.sign(message, mechanism=pkcs11.Mechanism.EDDSA))

    def __repr__(self) -> str:
        return f"TokenKey({self.where.shown})"


def open_key(uri: str) -> TokenKey:
    """The key that a `pkcs11:` URI names.

    Raises:
        KeyUnusable: there is no such module, token or key, or its PIN is wrong.
    """
    return TokenKey(parse(uri))


def generate(uri: str) -> TokenKey:
    """Makes a new key pair on a token, under the URI's label and identifier; never beside one of that name.

    Raises:
        KeyUnusable: a key is there, or the token makes none.
    """
    where = parse(uri)
    pkcs11 = _library(where)
    from pkcs11.util.ec import encode_named_curve_parameters

    kind, attribute = pkcs11.KeyType.EC_EDWARDS, pkcs11.Attribute
    with _lock:
        session = _session(where, rw=True)
        try:
            if any(session.get_objects(_template(where, pkcs11.ObjectClass.PRIVATE_KEY))):
                raise KeyUnusable(f"{where.shown}: a key is there already", hint="keys are never overwritten")
            curve = {attribute.EC_PARAMS: encode_named_curve_parameters(_ED25519)}
            session.create_domain_parameters(kind, curve, local=True).generate_keypair(
                mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
                store=True,
                label=where.object or None,
                id=where.id or where.object.encode(),
                private_template={attribute.EXTRACTABLE: False, attribute.SENSITIVE: True, attribute.SIGN: True},
            )
        except pkcs11.PKCS11Error as error:
            raise _unusable(where, error) from None
        finally:
            session.close()
    return TokenKey(where)


def _library(where: TokenUri) -> Any:
    try:
        import pkcs11
    except ImportError:
        raise KeyUnusable(f"{where.shown}: needs a package", hint="pip install 'agent-ledger[pkcs11]'") from None
    return pkcs11


def _open(where: TokenUri) -> Any:
    pkcs11 = _library(where)
    session = _session(where)
    try:
        found = list(session.get_objects(_template(where, pkcs11.ObjectClass.PRIVATE_KEY)))
    except pkcs11.PKCS11Error as error:
        raise _unusable(where, error) from None
    if len(found) != 1:
        what = f"{len(found):,} private keys are called so" if found else "no such private key on this token"
        raise KeyUnusable(
            f"{where.shown}: {what}", hint="pkcs11-tool --list-objects --type privkey shows labels and ids"
        )
    if found[0].key_type != pkcs11.KeyType.EC_EDWARDS:
        raise KeyUnusable(
            f"{where.shown}: not an Ed25519 key", hint="pkcs11-tool --keypairgen --key-type EC:edwards25519"
        )
    if not _flag(found[0], pkcs11.Attribute.SIGN):
        raise KeyUnusable(f"{where.shown}: this key may not sign", hint="name a key with CKA_SIGN")
    return found[0]


def _template(where: TokenUri, kind: "pkcs11.ObjectClass") -> dict[Any, Any]:
    import pkcs11

    template: dict[Any, Any] = {pkcs11.Attribute.CLASS: kind}
    if where.object:
        template[pkcs11.Attribute.LABEL] = where.object
    if where.id:
        template[pkcs11.Attribute.ID] = where.id
    return template


def _session(where: TokenUri, *, rw: bool = False) -> Any:
    """A session that is logged in."""
    pkcs11 = _library(where)
    if where.shown in _refused:
        raise KeyUnusable(_refused[where.shown], hint="a refused PIN is not tried again by this process")
    try:
        token = _token(where, pkcs11.lib(where.module))
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        if isinstance(error, pkcs11.PKCS11Error) and type(error) is not pkcs11.PKCS11Error:
            raise _unusable(where, error) from None
        raise KeyUnusable(f"{where.shown}: no PKCS#11 module at {where.module}", hint="check module-path") from None
    pin = _pin(where)
    try:
        try:
            return token.open(rw=rw, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            # By another key of this token; the login is the process's.
            return token.open(rw=rw)
    except (pkcs11.PinIncorrect, pkcs11.PinLocked, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
        _refused[where.shown] = f"{where.shown}: the token refused the PIN ({type(error).__name__})"
        raise KeyUnusable(
            _refused[where.shown], hint="correct it at its pin-source; a few tries lock the token"
        ) from None
    except pkcs11.PKCS11Error as error:
        raise _unusable(where, error) from None


def _pin(where: TokenUri) -> Any:
    """The PIN, or None where none is named: a key may need none."""
    if where.pin_value:
        warnings.warn(
            f"{where.shown}: the PIN stands in the URI, where processes and histories show it; use pin-source=",
            stacklevel=2,
        )
        return where.pin_value
    return secrets.load(where.pin_source) if where.pin_source else None


def _token(where: TokenUri, library: Any) -> Any:
    """The one token that fits."""
    found = []
    for slot in library.get_slots(token_present=True):
        token = slot.get_token()
        wanted = (
            (where.token, token.label),
            (where.manufacturer, token.manufacturer_id),
            (where.model, token.model),
            (where.serial, token.serial.decode(errors="replace")),
        )
        fits = all(not want or want == has.strip() for want, has in wanted)
        if fits and (where.slot is None or where.slot == slot.slot_id):
            found.append(token)
    if len(found) != 1:
        what = f"{len(found):,} tokens fit" if found else "no such token"
        raise KeyUnusable(f"{where.shown}: {what}", hint="is it plugged in? pkcs11-tool --list-token-slots shows names")
    return found[0]


def _public(where: TokenUri, key: Any) -> bytes | None:
    """From the public half on the token, which bears the same identifier or label."""
    import pkcs11

    attribute = pkcs11.Attribute
    try:
        id = bytes(key[attribute.ID])
        same = {attribute.ID: id} if id else {attribute.LABEL: key[attribute.LABEL]}
        found = list(key.session.get_objects({attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY, **same}))
        point = bytes(found[0][attribute.EC_POINT]) if len(found) == 1 else b""
    except pkcs11.PKCS11Error:
        return None
    # An OCTET STRING in DER, or the bare point, as modules have it.
    point = point.removeprefix(b"\x04\x20") if len(point) == 34 else point
    return point if len(point) == 32 else None


def _can_leave(key: Any) -> bool:
    import pkcs11

    return _flag(key, pkcs11.Attribute.EXTRACTABLE) or not _flag(key, pkcs11.Attribute.SENSITIVE)


def _flag(key: Any, attribute: "pkcs11.Attribute") -> bool:
    """An attribute that is yes or no; what a token does not tell is the worse of both."""
    import pkcs11

    try:
        return bool(key[attribute])
    except pkcs11.PKCS11Error:
        return attribute == pkcs11.Attribute.EXTRACTABLE


def _broken(pkcs11: Any) -> tuple[type[Exception], ...]:
    """What a session is that has to be opened anew."""
    return (
        pkcs11.SessionHandleInvalid,
        pkcs11.SessionClosed,
        pkcs11.DeviceRemoved,
        pkcs11.KeyHandleInvalid,
        pkcs11.ObjectHandleInvalid,
        pkcs11.UserNotLoggedIn,
    )


def _unusable(where: TokenUri, error: Exception) -> KeyUnusable:
    return KeyUnusable(
        f"{where.shown}: the token does not do it ({type(error).__name__})", hint="is it plugged in, and its PIN named?"
    )
