"""Where a user's keys, pins and caches lie: outside of every ledger, by origin."""

from pathlib import Path

import platformdirs


def keys(origin: str) -> Path:
    """Folder of signers, identity and trust root."""
    return Path(platformdirs.user_config_dir("ledger", appauthor=False)) / origin


def pins(origin: str) -> Path:
    """Folder of the highest head seen."""
    return Path(platformdirs.user_state_dir("ledger", appauthor=False)) / origin


def cache(origin: str) -> Path:
    """Folder of what can be built again."""
    return Path(platformdirs.user_cache_dir("ledger", appauthor=False)) / origin
