"""What a recorded command gets of the environment: all but secrets, and what opens stores of secrets."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from ledger import registry
from ledger.gateway.server import Settings
from schemas.errors import KeyUnusable
from store import secrets
from store.pkcs11uri import parse

_ROLES = ("LEDGER_SIGNER", "LEDGER_OWNER", "LEDGER_IDENTITY")
"""Variables that name keys of the ledger, which no agent needs."""

_OPENERS = {
    "aws-sm": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    "pkcs11": ("PKCS11_PIN",),
}
"""What would open a store anew for the command, where a secret lies there."""


_WITHIN = 8
"""Characters from which on a value is looked for within texts."""


class Handed(NamedTuple):
    """An environment for a command.

    Attributes:
        variables: what it gets.
        withheld: names of those that it does not get.
    """

    variables: dict[str, str]
    withheld: tuple[str, ...]

    def said(self) -> str:
        """`41 variables handed on, 2 withheld: DB_PASSWORD, UPSTREAM_KEY`."""
        count = f"{len(self.variables):,} variables handed on"
        return f"{count}, {len(self.withheld):,} withheld: {', '.join(self.withheld)}" if self.withheld else count

    def __repr__(self) -> str:
        return f"Handed({self.said()})"


def handed_on(environment: Mapping[str, str], settings: Settings, origin: str) -> Handed:
    """This environment without secrets, under whatever name and within whatever text they stand."""
    uris = {settings.key, *settings.secrets, *(one.uri for one in registry.read(origin))}
    uris |= {environment[name] for name in _ROLES if name in environment}
    uris |= set(_pins(uris))
    withheld = {name for name in _ROLES if name in environment}
    withheld |= {uri.removeprefix("env:") for uri in uris if uri.startswith("env:")}
    for uri in uris:
        withheld |= set(_OPENERS.get(uri.partition(":")[0], ()))
    values = set(_values(uris, environment))
    withheld |= {name for name, text in environment.items() if any(_holds(text, value) for value in values)}
    return Handed(
        {name: text for name, text in environment.items() if name not in withheld},
        tuple(sorted(withheld & environment.keys())),
    )


def _holds(text: str, value: str) -> bool:
    """Whether a secret stands in a variable; a short one counts only where it is all of it."""
    return text.strip() == value or (len(value) >= _WITHIN and value in text)


def _values(uris: set[str], environment: Mapping[str, str]) -> Iterator[str]:
    for uri in uris:
        try:
            text = environment.get(uri[4:], "").strip() if uri.startswith("env:") else secrets.load(uri)
        except KeyUnusable:
            # Not to be had by us. What must be had was looked at before.
            continue
        if text:
            yield text


def _pins(uris: set[str]) -> Iterator[str]:
    """Where the PINs of tokens lie."""
    for uri in uris:
        if uri.startswith("pkcs11:"):
            with suppress(KeyUnusable):
                if source := parse(uri).pin_source:
                    yield source
