"""What a profile looks for: our own rules, those that it names, and no kind that it lets pass."""

from collections.abc import Mapping

from policies.redaction import gitleaks, rules
from policies.redaction.gitleaks import Loaded
from policies.redaction.profile import Profile
from policies.redaction.rules import RuleSet
from policies.redaction.scan import Scanner


def load(profile: Profile, texts: Mapping[str, bytes]) -> Loaded:
    """Our own rules and those of the profile's files.

    Args:
        texts: of these files, by the names that the profile gives them.

    Raises:
        Malformed: a file is no set of rules, or a rule makes no sense; names it.
    """
    every, ignored = rules.shipped(), []
    for name in profile.rules:
        loaded = gitleaks.load(texts[name], name)
        every = every.joined(loaded.rules)
        ignored += [f"{name}: {why}" for why in loaded.ignored]
    return Loaded(every, tuple(ignored))


def scanner(profile: Profile, every: RuleSet) -> Scanner:
    """The scanner of a profile. What passes is not looked for, so that it can't hide a secret that it overlaps."""
    whole = Scanner(every)
    return Scanner(every, whole.kinds - set(profile.passes)) if profile.passes else whole
