"""What a rule finds, and what all findings together decide."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Effect = Literal["allow", "deny", "require_approval"]


class Finding(msgspec.Struct, frozen=True):
    """What one rule of one policy says of a question.

    Attributes:
        rule: its name.
        field: the member of policy or question that decided.
        expected, actual: as people read them.
        policy: `policy_id`; empty where no policy was there to ask.
    """

    rule: str
    effect: Effect
    field: str
    expected: str
    actual: str
    policy: str = ""


class Decision(msgspec.Struct, frozen=True):
    """What is decided, and every finding that led to it.

    Attributes:
        effect: the strictest finding's.
    """

    effect: Effect
    findings: tuple[Finding, ...]

    @property
    def rules(self) -> list[str]:
        """Names of the rules that decided, each once; none where all allow."""
        if self.effect == "allow":
            return []
        return list(dict.fromkeys(found.rule for found in self.findings if found.effect == self.effect))


def combine(findings: Iterable[Finding]) -> Decision:
    """Deny before require_approval before allow; where nothing was found, nothing is allowed."""
    found = tuple(findings)
    effects = {finding.effect for finding in found}
    if not found or "deny" in effects:
        return Decision("deny", found)
    return Decision("require_approval" if "require_approval" in effects else "allow", found)
