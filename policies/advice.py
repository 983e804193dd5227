"""What the author of a policy may not have meant: valid, and yet worth a word."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import NamedTuple

from policies import prices
from policies.routing import MAX_ALIASES, route
from schemas.policy import Policy

RETIRED = {"gpt-5.2-codex": date(2026, 7, 23)}
"""Models that the provider has shut down, and when; their names live on in policies and in records."""


class Advice(NamedTuple):
    """One remark."""

    field: str
    what: str


def advise(policy: Policy, when: datetime) -> list[Advice]:
    """Remarks on a policy, as things are at that time."""
    return [*_models(policy, when), *_routes(policy), *_limits(policy)]


def _models(policy: Policy, when: datetime) -> Iterator[Advice]:
    if not policy.allowed_models:
        yield Advice("allowed_models", "no model is allowed: every call is denied")
    for model in policy.allowed_models:
        if model in RETIRED and when.date() >= RETIRED[model]:
            found = f"{model} was shut down on {RETIRED[model]}"
            if model not in (policy.aliases or {}):
                yield Advice("allowed_models", f"{found}: alias it to what serves it today")
        elif not prices.known(model, when):
            denied = ", so that its calls are denied" if policy.max_cost_usd is not None else ""
            yield Advice("allowed_models", f"no price is known for {model}{denied}")


def _routes(policy: Policy) -> Iterator[Advice]:
    for name in policy.aliases or {}:
        routed = route([policy], name, "")
        if routed.model == name or len(routed.steps) >= MAX_ALIASES or routed.model in (policy.aliases or {}):
            yield Advice("aliases", f"{name} leads in a circle, or over more than {MAX_ALIASES} names")
        elif routed.model not in policy.allowed_models:
            yield Advice("aliases", f"{name} leads to {routed.model}, which is not allowed")
    for lane, found in (policy.lanes or {}).items():
        for name in found.models:
            model = route([policy], name, lane).model
            if model not in policy.allowed_models:
                yield Advice(f"lanes.{lane}.models", f"{name} leads to {model}, which is not allowed")


def _limits(policy: Policy) -> Iterator[Advice]:
    if policy.max_cost_usd is None:
        yield Advice("max_cost_usd", "no cap: a run may cost anything")
    if policy.run_windows is not None and not policy.run_windows:
        yield Advice("run_windows", "there is none: every call is denied")
    if policy.run_windows and policy.zone is None:
        yield Advice("zone", "missing: the windows are taken for UTC")
    if policy.max_retries_per_task is None and not policy.lanes:
        yield Advice("max_retries_per_task", "no budget: a loop may try for ever")
