"""What one policy decision takes: `python -m bench.decisions`, or `decision_us()` from another benchmark."""

import time
from decimal import Decimal

from policies.evaluate import evaluate
from schemas.policy import Approvals, Lane, Policy
from tests.support.questions import ask

# Every rule has something to do.
POLICY = Policy(
    policy_id="bench",
    requires_approval=False,
    allowed_models=["gpt-5.6-sol", "gpt-5.3-codex"],
    max_cost_usd=Decimal(5),
    max_runtime_minutes=600,
    run_windows=["weekday:09:00-18:00", "weekend:00:00-24:00"],
    zone="Europe/Berlin",
    max_retries_per_task=30,
    lanes={"cleanup": Lane(retries=3)},
    hosted_tools=["web_search"],
    approvals=Approvals(over_usd=Decimal(2)),
)


def decision_us(count: int = 20_000) -> float:
    """Microseconds of a decision by one policy, the mean of the best of five rounds."""
    question = ask(
        lane="cleanup",
        asked="gpt-5.2-codex",
        model="gpt-5.3-codex",
        hosted_tools=("web_search",),
        attempt=2,
        reserved=650_000,
        spent=1_234_567,
        held=650_000,
    )
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(count // 5):
            evaluate([POLICY], question)
        best = min(best, (time.perf_counter() - began) / (count // 5) * 1e6)
    return best


if __name__ == "__main__":
    print(f"{decision_us():.1f} µs a decision")
