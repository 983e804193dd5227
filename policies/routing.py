"""Which model serves a request: by the lane first, then by what bears a name today."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from schemas.policy import Policy

MAX_ALIASES = 8
"""Aliases that are followed, one after another."""

Reason = Literal["alias", "lane"]


class Step(NamedTuple):
    """One change of model, and the policy that asked for it."""

    asked: str
    model: str
    reason: Reason
    policy: str


class Routed(NamedTuple):
    """Where a request goes.

    Attributes:
        asked, model: before and after.
        reasons: of each step.
    """

    asked: str
    model: str
    reasons: tuple[Reason, ...]
    steps: tuple[Step, ...]


def route(policies: Sequence[Policy], asked: str, lane: str) -> Routed:
    """Routes a request.

    Of several policies the first that names a model decides, in the order given. Whether the model that serves in
    the end is allowed is another rule, and every policy's.
    """
    model, steps = asked, []
    for policy in policies:
        models = policy.lanes[lane].models if policy.lanes and lane in policy.lanes else {}
        found = models.get(model) or models.get("*")
        if found is not None:
            steps += _step(model, found, "lane", policy)
            model = found
            break
    seen = {model}
    for _ in range(MAX_ALIASES):
        by = next((policy for policy in policies if policy.aliases and model in policy.aliases), None)
        found = by.aliases[model] if by is not None and by.aliases else model
        # A circle ends where it would close.
        if by is None or found in seen:
            break
        steps += _step(model, found, "alias", by)
        model = found
        seen.add(model)
    return Routed(asked, model, tuple(step.reason for step in steps), tuple(steps))


def _step(asked: str, model: str, reason: Reason, policy: Policy) -> list[Step]:
    return [Step(asked, model, reason, policy.policy_id)] if asked != model else []
