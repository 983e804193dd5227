"""Questions to policy, as a well-behaved pipeline asks them; tests change what they are about."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from policies.evaluate import Question
from schemas.envelope import TaskScope
from schemas.policy import Policy

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""A Friday."""

GOOD = Question(
    action="model.request",
    run="018f3c1e-7b2a-7c3d-8e4f-0123456789ab",
    stage="plan",
    lane="general",
    task="t1",
    asked="m",
    model="m",
    effort="high",
    scope=TaskScope("file", "src/a.c"),
    hosted_tools=(),
    attempt=1,
    reserved=1_000,
    spent=0,
    held=0,
    now=NOON,
    started=NOON,
    paused=False,
)


def ask(**changes: Any) -> Question:
    return msgspec.structs.replace(GOOD, **changes)


def policy(**members: Any) -> Policy:
    return Policy(**({"policy_id": "p", "requires_approval": False, "allowed_models": ["m"]} | members))
