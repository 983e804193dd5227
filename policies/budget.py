"""What a call may cost at worst, and what a run may."""

from collections.abc import Sequence
from datetime import datetime

from policies import prices
from schemas.policy import Policy, cap_micro

DEFAULT_OUTPUT = 32_768
"""Output tokens of a call, where neither policy nor request say less."""


def cap(policies: Sequence[Policy]) -> int | None:
    """What a run may cost, in micro-USD: the smallest cap; None where no policy sets one."""
    return min((found for policy in policies if (found := cap_micro(policy)) is not None), default=None)


def clamp_output(policies: Sequence[Policy], wanted: int | None) -> int:
    """The `max_output_tokens` that a request leaves with: the smallest of what is wanted and what policies allow."""
    limits = [policy.max_output_tokens for policy in policies if policy.max_output_tokens is not None]
    return min([*(limits or [DEFAULT_OUTPUT]), *([] if wanted is None else [wanted])])


def reserve(
    policies: Sequence[Policy],
    model: str,
    body_bytes: int,
    max_output_tokens: int,
    tool_fees: int,
    now: datetime,
    tier: str = "",
) -> int | None:
    """What a call may cost at worst, in micro-USD; None where nobody knows the model's price.

    No tokenizer makes more tokens than there are bytes.

    Args:
        model: that serves it.
        max_output_tokens: as clamped; a policy's own limit holds all the same.
        tool_fees: micro-USD, of hosted tools.
        tier: `service_tier` of the request.
    """
    return prices.worst(model, body_bytes, clamp_output(policies, max_output_tokens), now, tool_fees, tier)
