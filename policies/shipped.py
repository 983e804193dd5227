"""The policies that come with agent-ledger, to use or to copy."""

from functools import cache
from importlib.resources import files

from schemas.policy import Policy, read_policy

_NAMES = ("local", "scheduled", "cleanup-lane", "release")


def names() -> tuple[str, ...]:
    """Their names."""
    return _NAMES


@cache
def text(name: str) -> bytes | None:
    """A policy as it is written, with its comments; None where there is none of that name."""
    return files("policies").joinpath("data", f"{name}.toml").read_bytes() if name in _NAMES else None


def shipped(name: str) -> Policy | None:
    """A policy by its name, or None."""
    found = text(name)
    return None if found is None else read_policy(found, f"{name}.toml")
