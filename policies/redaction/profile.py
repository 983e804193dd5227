"""Redaction profiles: which kinds leave, which come back in tool calls, and what becomes of images and files."""

from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated, Literal

import msgspec
from blake3 import blake3

from policies.redaction.pseudonym import REVERSIBLE
from schemas.errors import Malformed
from schemas.reading import convert, parse

Kind = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

_NAMES = ("homebrew", "research", "strict")
_HINT = "`profile_id` names it; see passes, restores, binary, rules and allow in policies/data/profiles"


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """One profile. What it does not let pass is masked: of kinds that are unknown today, too.

    Attributes:
        profile_id: its name.
        passes: kinds that leave as they are.
        restores: kinds that complete tool calls get back; some of `path`, `user`, `name`, `email`, none that passes.
        binary: what becomes of images, files and data: URLs: denied, replaced by a digest, or sent.
        rules: files of further rules in gitleaks' form, beside the profile's own.
        allow: texts that are no secrets, though a rule says so; never one of the values that are known by name.
    """

    profile_id: Name
    passes: list[Kind] = []
    restores: list[Kind] = []
    binary: Literal["block", "digest", "pass"] = "block"
    rules: list[Name] = []
    allow: list[Text] = []

    def __post_init__(self) -> None:
        if other := sorted(set(self.restores) - REVERSIBLE):
            raise ValueError(f"restores: {other[0]} never comes back; only {', '.join(sorted(REVERSIBLE))} can")
        if both := sorted(set(self.restores) & set(self.passes)):
            raise ValueError(f"restores: {both[0]} passes as it is, so that there is nothing to restore")

    def encode(self) -> bytes:
        """The record in its one spelling: JSON, members in the order above, what is absent left out."""
        return msgspec.json.encode(self, order="deterministic")

    @cached_property
    def version(self) -> str:
        """BLAKE3 of the record in its one spelling, hex."""
        return blake3(self.encode()).hexdigest()

    def masks(self, kind: str) -> bool:
        """Whether what is of this kind must not leave."""
        return kind not in self.passes


def read_profile(text: bytes, where: str) -> Profile:
    """Reads a profile that somebody wrote, in TOML or JSON.

    Args:
        where: the file's name, for the message.

    Raises:
        Malformed: it is none; names the member.
    """
    return convert(parse(text, where), Profile, where, _HINT)


def names() -> tuple[str, ...]:
    """Those that come with agent-ledger."""
    return _NAMES


@cache
def text(name: str) -> bytes | None:
    """One of them as it is written, with its comments; None where there is none of that name."""
    return files("policies").joinpath("data", "profiles", f"{name}.toml").read_bytes() if name in _NAMES else None


def shipped(name: str) -> Profile:
    """One of them.

    Raises:
        Malformed: there is none of that name.
    """
    found = text(name)
    if found is None:
        raise Malformed(f"no profile {name[:60]!r} comes with agent-ledger", hint=", ".join(_NAMES))
    return read_profile(found, f"{name}.toml")
