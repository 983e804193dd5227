"""Profiles at hand, those that come with agent-ledger and one's own; and what holds where several are named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from policies.redaction import compose
from policies.redaction.profile import Profile, names, read_profile, shipped
from policies.redaction.scan import Scanner
from schemas.errors import Malformed, UsageError

UNNAMED = "homebrew"
"""The profile where no policy names one."""

_STRICTNESS = ("pass", "digest", "block")


class Known(NamedTuple):
    """A profile and what it needs.

    Attributes:
        texts: of its files of further rules, by the names that it gives them.
    """

    profile: Profile
    texts: Mapping[str, bytes]

    def scanner(self) -> Scanner:
        """What looks for its kinds.

        Raises:
            Malformed: a file is no set of rules; names it.
        """
        return compose.scanner(self.profile, compose.load(self.profile, self.texts).rules)


def load(name: str) -> Known:
    """A profile in a file, with the files of rules that it names, which lie beside it.

    Raises:
        UsageError: one of them can't be read.
        Malformed: it is none, or bears the name of one that comes with agent-ledger.
    """
    path = Path(name)
    try:
        found = read_profile(path.read_bytes(), name)
        if found.profile_id in names():
            what = f"{name}: a profile of one's own can't be {found.profile_id!r}, which comes with agent-ledger"
            raise Malformed(what, hint="another profile_id; policies name it")
        return Known(found, {rules: (path.parent / rules).read_bytes() for rules in found.rules})
    except OSError as error:
        what = f"{error.filename or name}: {(error.strerror or '').lower()}"
        raise UsageError(what, hint=f"a profile's file; these need none: {', '.join(names())}") from None


def find(name: str, own: Mapping[str, Known]) -> Known:
    """A profile by its id.

    Raises:
        Malformed: there is none.
    """
    if name in own and name not in names():
        return own[name]
    if name not in names():
        raise Malformed(
            f"no redaction profile {name[:60]!r}",
            hint=f"one of {', '.join(names())}, or --redaction FILE for one's own",
        )
    return Known(shipped(name), {})


def strictest(known: Sequence[Known]) -> Known:
    """What holds where all of these do: what any masks is masked, and what all give back comes back.

    Raises:
        Malformed: two of them have other rules under one name.
    """
    if len(known) == 1:
        return known[0]
    profiles = [one.profile for one in known]
    texts: dict[str, bytes] = {}
    for one in known:
        for name, text in one.texts.items():
            if texts.setdefault(name, text) != text:
                raise Malformed(f"two redaction profiles have other rules under the name {name!r}", hint="rename one")
    passes = set.intersection(*(set(profile.passes) for profile in profiles))
    restores = set.intersection(*(set(profile.restores) for profile in profiles))
    allow = set.intersection(*(set(profile.allow) for profile in profiles))
    joined = Profile(
        profile_id="+".join(profile.profile_id for profile in profiles)[:200],
        passes=sorted(passes),
        restores=sorted(restores),
        binary=max((profile.binary for profile in profiles), key=_STRICTNESS.index),
        rules=list(texts),
        allow=sorted(allow),
    )
    return Known(joined, texts)
