"""Where a user's keys, pins and caches lie: outside of every ledger, by origin."""

from pathlib import Path

import platformdirs

_LEAF = "_"
"""No part of an origin is called so: what one log keeps is never in the way of a log of a longer origin."""


def keys(origin: str) -> Path:
    """Folder of signers, identity and trust root."""
    return Path(platformdirs.user_config_dir("ledger", appauthor=False)) / origin


def pins(origin: str) -> Path:
    """Folder of the highest head seen."""
    return Path(platformdirs.user_state_dir("ledger", appauthor=False)) / origin / _LEAF


def cache(origin: str) -> Path:
    """Folder of what can be built again."""
    return Path(platformdirs.user_cache_dir("ledger", appauthor=False)) / origin / _LEAF
