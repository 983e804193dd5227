"""What policy says of a model request: every rule of every policy, each explained.

Total: whatever the question holds, there is an answer. What is unknown or missing denies. The same function decides
before a request and again at its commit, against exactly the history that it is committed to.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from policies.findings import Decision, Effect, Finding, combine
from policies.windows import is_open
from schemas.envelope import EFFORTS, TaskScope
from schemas.errors import Malformed
from schemas.policy import Policy, cap_micro, micro


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request, redacted and routed, and what the history of its run says.

    Attributes:
        action: the kind of entry that is to be allowed: `model.request`.
        asked, model: before and after routing.
        hosted_tools: types of tools that would run at the provider.
        attempt: number of this try of the task, from 1.
        reserved: micro-USD that it may cost at worst; None where nobody knows.
        spent, held: micro-USD that the run has paid, and that its open calls have reserved.
        now, started: times with an offset, of the request and of the run.
        paused: whether the run is.
        approved: whether an approval of exactly this request is at hand.
    """

    action: str
    run: str
    stage: str
    lane: str
    task: str
    asked: str
    model: str
    effort: str
    scope: TaskScope | None
    hosted_tools: tuple[str, ...]
    attempt: int
    reserved: int | None
    spent: int
    held: int
    now: datetime
    started: datetime
    paused: bool
    approved: bool = False


_SCOPES = ("function", "file", "stage")

Said = tuple[Effect, str, str, str]
"""Effect, member, expected, actual."""


def evaluate(policies: Sequence[Policy], question: Question) -> Decision:
    """Decides a question: deny before require_approval before allow; without a policy, deny.

    Args:
        policies: of token, run and lane; all apply.
    """
    if not policies:
        return combine([Finding("policy", "deny", "policy_id", "a policy in force", "none")])
    return combine(
        [
            Finding(name, *rule(policy, question), policy.policy_id)
            for policy in policies
            for name, rule in RULES.items()
        ]
    )


def _verdict(allowed: bool) -> Effect:
    return "allow" if allowed else "deny"


def _policy(policy: Policy, question: Question) -> Said:
    return _verdict(question.action == "model.request"), "action", "model.request", question.action


def _model(policy: Policy, question: Question) -> Said:
    allowed = question.model in policy.allowed_models
    return _verdict(allowed), "allowed_models", ", ".join(policy.allowed_models), question.model


def _window(policy: Policy, question: Question) -> Said:
    if policy.run_windows is None:
        return "allow", "run_windows", "any time", ""
    zone = policy.zone or "UTC"
    try:
        allowed = is_open(policy.run_windows, zone, question.now)
    except (Malformed, OverflowError):
        allowed = False
    expected = f"{' or '.join(policy.run_windows) or 'no time'} {zone}"
    return _verdict(allowed), "run_windows", expected, question.now.isoformat()


def _scope(policy: Policy, question: Question) -> Said:
    scope = question.scope
    allowed = scope is not None and scope.kind in _SCOPES and bool(scope.target)
    return (
        _verdict(allowed),
        "task_scope",
        "a function, a file or a stage",
        f"{scope.kind} {scope.target}" if scope else "",
    )


def _tools(policy: Policy, question: Question) -> Said:
    listed = policy.hosted_tools or ()
    strange = [tool for tool in question.hosted_tools if tool not in listed]
    return (
        _verdict(not strange),
        "hosted_tools",
        ", ".join(listed) or "none",
        ", ".join(strange or question.hosted_tools),
    )


def _retries(policy: Policy, question: Question) -> Said:
    lane = policy.lanes.get(question.lane) if policy.lanes else None
    field, budget = "max_retries_per_task", policy.max_retries_per_task
    if lane is not None and lane.retries is not None:
        field, budget = f"lanes.{question.lane}.retries", lane.retries
    retries = question.attempt - 1
    allowed = retries >= 0 and (budget is None or retries <= budget)
    return _verdict(allowed), field, "any number" if budget is None else f"at most {budget}", str(retries)


def _price(policy: Policy, question: Question) -> Said:
    if question.reserved is not None and question.reserved >= 0:
        return "allow", "max_cost_usd", "a known price", _usd(question.reserved)
    limited = policy.max_cost_usd is not None or (
        policy.approvals is not None and policy.approvals.over_usd is not None
    )
    return _verdict(not limited), "max_cost_usd", "a known price" if limited else "no limit", "no price is known"


def _budget(policy: Policy, question: Question) -> Said:
    cap = cap_micro(policy)
    if cap is None:
        return "allow", "max_cost_usd", "no limit", ""
    spent, held, reserved = question.spent, question.held, question.reserved
    expected = f"at most {_usd(cap)} in a run"
    if reserved is None:
        return "deny", "max_cost_usd", expected, "no price is known"
    allowed = spent >= 0 and held >= 0 and reserved >= 0 and spent + held + reserved <= cap
    actual = f"{_usd(spent)} spent, {_usd(held)} held by open calls, {_usd(reserved)} for this one at worst"
    return _verdict(allowed), "max_cost_usd", expected, actual


def _runtime(policy: Policy, question: Question) -> Said:
    limit = policy.max_runtime_minutes
    if limit is None:
        return "allow", "max_runtime_minutes", "no limit", ""
    if question.now.utcoffset() is None or question.started.utcoffset() is None:
        return "deny", "max_runtime_minutes", f"at most {limit}", "times without zone"
    passed = question.now - question.started
    allowed = passed.total_seconds() <= limit * 60
    return _verdict(allowed), "max_runtime_minutes", f"at most {limit}", f"{passed.total_seconds() / 60:.1f}"


def _paused(policy: Policy, question: Question) -> Said:
    going = question.paused is False
    return _verdict(going), "paused", "a run that is not paused", "not paused" if going else "paused"


def _effort(policy: Policy, question: Question) -> Said:
    return _verdict(question.effort in EFFORTS), "reasoning_effort", f"one of {', '.join(EFFORTS)}", question.effort


def _approval(policy: Policy, question: Question) -> Said:
    stage = policy.stages.get(question.stage) if policy.stages else None
    field, needed = "requires_approval", policy.requires_approval
    if stage is not None and stage.requires_approval is not None:
        field, needed = f"stages.{question.stage}.requires_approval", stage.requires_approval
    expected = "an approval" if needed else "none needed"
    if not needed and policy.approvals is not None and policy.approvals.over_usd is not None:
        limit = micro(policy.approvals.over_usd)
        field, expected = "approvals.over_usd", f"an approval over {_usd(limit)}"
        needed = question.reserved is None or question.reserved > limit
    approved = question.approved is True
    effect: Effect = "require_approval" if needed and not approved else "allow"
    return effect, field, expected, "approved" if approved else "not approved"


def _usd(amount: int) -> str:
    return f"{amount / 1_000_000:,.6f} USD" if amount % 10_000 else f"{amount / 1_000_000:,.2f} USD"


RULES: dict[str, Callable[[Policy, Question], Said]] = {
    "policy": _policy,
    "model": _model,
    "window": _window,
    "scope": _scope,
    "tools": _tools,
    "retries": _retries,
    "price": _price,
    "budget": _budget,
    "runtime": _runtime,
    "paused": _paused,
    "effort": _effort,
    "approval": _approval,
}
"""Every rule by its name, in the order of the findings."""
