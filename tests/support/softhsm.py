"""A token of SoftHSM2: the vendor's library, a PIN, and keys that are made and used behind both."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pkcs11
from pkcs11.util.ec import encode_named_curve_parameters

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
)
PIN = "4711-hsm-pin"
LABEL = "agent ledger"


def module() -> str:
    """Its library; that it is missing fails the test: what is not tested is not claimed."""
    found = next((path for path in MODULES if os.path.exists(path)), None)
    assert found, "softhsm2 is not installed"
    return found


class Token(NamedTuple):
    """A token in a folder; processes reach it by SOFTHSM2_CONF."""

    folder: Path
    module: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see it."""
        return {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    def uri(self, key: str, pin: str = "", **more: str) -> str:
        """The URI of a key; its PIN lies in a file unless another source is named."""
        pin = pin or f"pin-source=file:{self.folder / 'pin'}"
        of = "".join(f";{name}={value}" for name, value in more.items())
        return f"pkcs11:token={LABEL.replace(' ', '%20')};object={key}{of}?module-path={self.module}&{pin}"

    def key(self, label: str, **private: bool) -> bytes:
        """Makes an Ed25519 key as somebody would with the vendor's tools; returns its public half.

        Args:
            private: attributes of the private half, in capitals.
        """
        token = pkcs11.lib(self.module).get_token(token_label=LABEL)
        with opened(token) as session:
            curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("1.3.101.112")}
            made = session.create_domain_parameters(pkcs11.KeyType.EC_EDWARDS, curve, local=True).generate_keypair(
                mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
                store=True,
                label=label,
                id=label.encode(),
                private_template={pkcs11.Attribute[name]: value for name, value in private.items()},
            )
            return bytes(made[0][pkcs11.Attribute.EC_POINT])[-32:]

    def destroy(self, label: str, kind: pkcs11.ObjectClass = pkcs11.ObjectClass.PUBLIC_KEY) -> None:
        """Takes one half of a key from the token."""
        token = pkcs11.lib(self.module).get_token(token_label=LABEL)
        with opened(token) as session:
            for found in session.get_objects({pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.LABEL: label}):
                found.destroy()


def opened(token: pkcs11.Token) -> pkcs11.Session:
    """A session that may change the token."""
    try:
        return token.open(rw=True, user_pin=PIN)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open(rw=True)


@cache
def token() -> Token:
    """The token of this process: its library reads where it lies but once."""
    folder = Path(tempfile.mkdtemp(prefix="softhsm-"))
    (folder / "tokens").mkdir()
    made = Token(folder, module())
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    (folder / "pin").write_text(PIN + "\n")
    (folder / "pin").chmod(0o600)
    os.environ.update(made.environment)
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", f"so-{PIN}"],
        check=True,
        capture_output=True,
    )
    return made
