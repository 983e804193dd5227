"""`pkcs11:` URIs (RFC 7512): which key on which token, behind which module, and where its PIN lies."""

import os
import re
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from schemas.errors import KeyUnusable

_PATH = ("token", "manufacturer", "serial", "model", "object", "id", "type", "slot-id")
_QUERY = ("module-path", "pin-source", "pin-value")
_PIN = re.compile(r"(pin-value=)[^&]*")
_EXAMPLE = "pkcs11:token=NAME;object=KEY?module-path=/usr/lib/MODULE.so&pin-source=file:PATH"


class TokenUri(NamedTuple):
    """A key on a token; what is empty or None fits any.

    Attributes:
        shown: the URI as it may be told, without its PIN.
        token, manufacturer, serial, model: of the token.
        object, id: label and identifier of the key.
        slot: its number.
        module: path of the vendor's library.
        pin_source: URI of the PIN, `file:PATH` where the URI has a path alone.
        pin_value: the PIN, where somebody wrote it into the URI.
    """

    shown: str
    token: str
    manufacturer: str
    serial: str
    model: str
    object: str
    id: bytes
    slot: int | None
    module: str
    pin_source: str
    pin_value: str

    def __repr__(self) -> str:
        return f"TokenUri({self.shown})"


def shown(uri: str) -> str:
    """A URI of any kind as it may be told: a PIN in it is left out."""
    return _PIN.sub(r"\1…", uri)


def parse(uri: str) -> TokenUri:
    """Reads a URI. What it says and we do not know is refused, not passed over: it might have meant another key.

    Raises:
        KeyUnusable: it is malformed, or names no key or no module.
    """
    path, _, query = uri.removeprefix("pkcs11:").partition("?")
    name = shown(uri)
    of, how = _attributes(path, ";", _PATH), _attributes(query, "&", _QUERY)
    if of.get("type", "private") != "private":
        raise KeyUnusable(f"{name}: not a private key", hint="leave type= out, or type=private")
    if not of.get("object") and not of.get("id"):
        raise KeyUnusable(f"{name}: no key is named", hint=_EXAMPLE)
    slot = of.get("slot-id", "")
    if slot and not (slot.isascii() and slot.isdecimal()):
        raise KeyUnusable(f"{name}: slot-id is no number", hint=_EXAMPLE)
    module = unquote(how.get("module-path", "")) or os.environ.get("PKCS11_MODULE_PATH", "")
    if not module.startswith("/"):
        # Never by the loader's search path: the library gets the PIN.
        raise KeyUnusable(f"{name}: no module is named by its whole path", hint=f"{_EXAMPLE}, or PKCS11_MODULE_PATH")
    token, manufacturer, serial, model, label = (
        unquote(of.get(part, "")) for part in ("token", "manufacturer", "serial", "model", "object")
    )
    return TokenUri(
        shown=name,
        token=token,
        manufacturer=manufacturer,
        serial=serial,
        model=model,
        object=label,
        id=unquote_to_bytes(of.get("id", "")),
        slot=int(slot) if slot else None,
        module=module,
        pin_source=_source(unquote(how.get("pin-source", "")), name),
        pin_value=unquote(how.get("pin-value", "")),
    )


def _source(text: str, name: str) -> str:
    if text.startswith("|"):
        raise KeyUnusable(f"{name}: pin-source would run a program", hint="a file, or a secret's URI")
    if text.startswith("/"):
        return f"file:{text}"
    return "file:" + text.removeprefix("file://") if text.startswith("file:///") else text


def _attributes(text: str, between: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(between) if text else ():
        key, equals, value = part.partition("=")
        if not equals or key not in known or key in found:
            # Nothing of it is repeated: a PIN may stand where a name belongs.
            raise KeyUnusable("pkcs11: an attribute is malformed, unknown or there twice", hint=_EXAMPLE)
        found[key] = value
    return found
