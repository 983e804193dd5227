"""Our scanner, as the profile `homebrew` has it, over planted secrets and clean texts; and the bars for both."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

from policies.redaction.profile import shipped as shipped_profile
from policies.redaction.rules import shipped as shipped_rules
from policies.redaction.scan import REVERSIBLE, Scanner
from tests.support.clean_texts import Clean
from tests.support.secrets_corpus import PLACEMENTS, Planted, leaked

BARS = {"raw": 0.95, "json": 0.92, "json twice": 0.92, "diff": 0.92, "tool output": 0.92, "source": 0.92}
"""Shares of the secrets that must be found, by placement."""
HELD_OUT = 0.88
"""The same for each placement of the lines held out, some of which only a reader could tell."""
OFTEN = 1.0
"""False alarms that a megabyte of source may raise."""
SOURCE = ("python", "javascript, minified")
OURS = ("records of ours", "requests")


class Alarms(NamedTuple):
    """What was found in texts without a secret.

    Attributes:
        megabytes, found: by class.
        rules: how often each rule found something, by class.
    """

    megabytes: dict[str, float]
    found: Counter[str]
    rules: dict[str, Counter[str]]

    def often(self, *classes: str) -> float:
        """False alarms a megabyte, over some classes or all."""
        of = classes or tuple(self.megabytes)
        return sum(self.found[name] for name in of) / (sum(self.megabytes[name] for name in of) or 1)


def scanner() -> Scanner:
    """Ours, with all rules and forms for what is secret in the profile `homebrew`."""
    rules, profile = shipped_rules(), shipped_profile("homebrew")
    return Scanner(rules, {kind for kind in Scanner(rules).kinds if profile.masks(kind)} - REVERSIBLE)


@cache
def _ours() -> Scanner:
    return scanner()


def secrets_in(text: str | bytes) -> list[tuple[str, int]]:
    """Rule and place of each secret that stands in a text that must have none, such as a log or clear entries."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return [(span.rule, span.start) for span in _ours().find(data)]


def missed(corpus: Iterable[Planted], ours: Scanner) -> list[Planted]:
    """Texts in which a secret remains."""
    return [one for one in corpus if leaked(one, [(s.start, s.end) for s in ours.find(one.text)])]


def recall(corpus: list[Planted], lost: list[Planted]) -> dict[str, float]:
    """Share of the secrets that were found, by placement."""
    all_, not_ = (Counter(one.placement for one in some) for some in (corpus, lost))
    return {placement: 1 - not_[placement] / all_[placement] for placement in PLACEMENTS}


def alarms(texts: Iterable[Clean], find: Callable[[Clean], Iterable[str]]) -> Alarms:
    """What `find`, which names rules, raises over clean texts."""
    sizes: defaultdict[str, float] = defaultdict(float)
    found: Counter[str] = Counter()
    rules: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        sizes[text.of] += len(text.text) / 1e6
        for rule in find(text):
            found[text.of] += 1
            rules[text.of][rule] += 1
    return Alarms(dict(sizes), found, dict(rules))
