"""Policy decides: every rule alone, all together, and never in favour of what is unknown."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.evaluate import RULES, Question, evaluate
from policies.findings import Decision, Finding, combine
from schemas.envelope import TaskScope
from schemas.policy import Approvals, Lane, Policy, Stage
from tests.support.questions import GOOD, NOON, ask, policy

SATURDAY = NOON + timedelta(days=1)


def test_a_good_question_is_allowed_and_every_rule_says_so() -> None:
    decision = evaluate([policy()], GOOD)
    assert decision.effect == "allow"
    assert decision.rules == []
    assert [found.rule for found in decision.findings] == list(RULES)


def test_without_a_policy_nothing_is_allowed() -> None:
    assert evaluate([], GOOD).effect == "deny"
    assert evaluate([], GOOD).rules == ["policy"]
    assert combine([]) == Decision("deny", ())


WRONG: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # rule, members of the policy, changes of the question
    ("policy", {}, {"action": ""}),
    ("policy", {}, {"action": "publication"}),
    ("model", {}, {"model": "other"}),
    ("model", {}, {"model": ""}),
    ("model", {}, {"model": "M"}),
    ("model", {"allowed_models": []}, {}),
    ("model", {"allowed_models": ["asked"]}, {"asked": "asked", "model": "routed"}),
    ("window", {"run_windows": []}, {}),
    ("window", {"run_windows": ["weekend:00:00-24:00"]}, {}),
    ("window", {"run_windows": ["weekday:09:00-18:00"]}, {"now": SATURDAY}),
    ("window", {"run_windows": ["daily:00:00-12:00"]}, {}),
    ("window", {"run_windows": ["daily:12:00-12:30"], "zone": "Europe/Berlin"}, {}),
    ("window", {"run_windows": ["daily:00:00-24:00"]}, {"now": datetime(2026, 11, 20, 12)}),
    (
        "window",
        {"run_windows": ["daily:00:00-24:00"], "zone": "Europe/Berlin"},
        {"now": datetime.max.replace(tzinfo=UTC)},
    ),
    ("scope", {}, {"scope": None}),
    ("scope", {}, {"scope": TaskScope("file", "")}),
    ("scope", {}, {"scope": TaskScope("universe", "x")}),  # type: ignore[arg-type]
    ("tools", {}, {"hosted_tools": ("web_search",)}),
    ("tools", {"hosted_tools": []}, {"hosted_tools": ("mcp",)}),
    ("tools", {"hosted_tools": ["web_search"]}, {"hosted_tools": ("web_search", "mcp")}),
    ("retries", {}, {"attempt": 0}),
    ("retries", {}, {"attempt": -1}),
    ("retries", {"max_retries_per_task": 0}, {"attempt": 2}),
    ("retries", {"max_retries_per_task": 30}, {"attempt": 32}),
    ("retries", {"max_retries_per_task": 30, "lanes": {"general": Lane(retries=1)}}, {"attempt": 3}),
    ("retries", {"lanes": {"general": Lane(retries=0)}}, {"attempt": 2}),
    ("budget", {"max_cost_usd": Decimal(1)}, {"reserved": 1_000_001}),
    ("budget", {"max_cost_usd": Decimal(1)}, {"reserved": 1, "spent": 1_000_000}),
    ("budget", {"max_cost_usd": Decimal(1)}, {"reserved": 1, "held": 1_000_000}),
    ("budget", {"max_cost_usd": Decimal(1)}, {"reserved": 1, "spent": 500_000, "held": 500_000}),
    ("budget", {"max_cost_usd": Decimal(0)}, {"reserved": 1}),
    ("budget", {"max_cost_usd": Decimal(1)}, {"spent": -5}),
    ("budget", {"max_cost_usd": Decimal(1)}, {"held": -5}),
    ("runtime", {"max_runtime_minutes": 60}, {"now": NOON + timedelta(minutes=60, microseconds=1)}),
    ("runtime", {"max_runtime_minutes": 0}, {"now": NOON + timedelta(microseconds=1)}),
    ("runtime", {"max_runtime_minutes": 60}, {"started": datetime(2026, 11, 20, 12)}),
    ("paused", {}, {"paused": True}),
    ("paused", {}, {"paused": None}),
    ("effort", {}, {"effort": ""}),
    ("effort", {}, {"effort": "HIGH"}),
    ("effort", {}, {"effort": "extreme"}),
]


@pytest.mark.parametrize(("rule", "members", "changes"), WRONG, ids=str)
def test_each_rule_denies_by_itself(rule: str, members: dict[str, Any], changes: dict[str, Any]) -> None:
    decision = evaluate([policy(**members)], ask(**changes))
    assert decision.effect == "deny"
    assert decision.rules == [rule]
    # All the others were asked as well.
    assert [found.rule for found in decision.findings] == list(RULES)


@pytest.mark.parametrize(
    ("members", "changes"),
    [
        ({"max_cost_usd": Decimal(1)}, {"reserved": 1_000_000}),
        ({"max_cost_usd": Decimal(1)}, {"reserved": 1, "spent": 499_999, "held": 500_000}),
        ({"max_cost_usd": Decimal(0)}, {"reserved": 0}),
        ({"max_retries_per_task": 30}, {"attempt": 31}),
        ({"max_retries_per_task": 0, "lanes": {"general": Lane(retries=5)}}, {"attempt": 6}),
        ({"max_retries_per_task": 0, "lanes": {"gfx": Lane(retries=5)}}, {"attempt": 1}),
        ({"max_runtime_minutes": 60}, {"now": NOON + timedelta(minutes=60)}),
        ({"max_runtime_minutes": 60}, {"started": NOON + timedelta(seconds=2)}),
        ({"run_windows": ["fri:12:00-12:01"]}, {}),
        ({"run_windows": ["weekend:00:00-24:00", "daily:13:00-13:30"], "zone": "Europe/Berlin"}, {}),
        ({"hosted_tools": ["web_search"]}, {"hosted_tools": ("web_search",)}),
        ({}, {"reserved": None}),
    ],
    ids=str,
)
def test_what_is_just_within_is_allowed(members: dict[str, Any], changes: dict[str, Any]) -> None:
    assert evaluate([policy(**members)], ask(**changes)).effect == "allow"


def test_an_unknown_price_is_denied_under_a_cap() -> None:
    assert evaluate([policy(max_cost_usd=Decimal(5))], ask(reserved=None)).rules == ["price", "budget"]
    assert evaluate([policy(max_cost_usd=Decimal(5))], ask(reserved=-1)).effect == "deny"
    over = policy(approvals=Approvals(over_usd=Decimal(5)))
    assert evaluate([over], ask(reserved=None)).rules == ["price"]


def test_m14_a_lanes_retry_budget_is_its_own() -> None:
    lanes = policy(max_retries_per_task=2, lanes={"gfx": Lane(retries=10), "cleanup": Lane(retries=0), "x": Lane()})
    allowed = {
        lane: max(n for n in range(1, 40) if evaluate([lanes], ask(lane=lane, attempt=n)).effect == "allow")
        for lane in ("gfx", "cleanup", "x", "general", "")
    }
    assert allowed == {"gfx": 11, "cleanup": 1, "x": 3, "general": 3, "": 3}


def test_m14_unattended_loops_end_whatever_else_allows() -> None:
    question = ask(attempt=5, approved=True, lane="cleanup")
    generous, strict = policy(max_retries_per_task=100), policy(policy_id="q", lanes={"cleanup": Lane(retries=3)})
    for policies in ([generous, strict], [strict, generous]):
        assert evaluate(policies, question).rules == ["retries"]


def test_m13_a_task_without_scope_is_denied_under_every_policy() -> None:
    for members in ({}, {"requires_approval": True}, {"max_cost_usd": Decimal(9)}):
        decision = evaluate([policy(**members)], ask(scope=None, approved=True))
        assert decision.effect == "deny"
        assert "scope" in decision.rules


@pytest.mark.parametrize(
    ("members", "changes", "needed"),
    [
        ({"requires_approval": True}, {}, True),
        ({"requires_approval": True}, {"approved": True}, False),
        ({"requires_approval": True}, {"approved": 1}, True),
        ({"stages": {"plan": Stage(requires_approval=True)}}, {}, True),
        ({"stages": {"lift": Stage(requires_approval=True)}}, {}, False),
        ({"requires_approval": True, "stages": {"plan": Stage(requires_approval=False)}}, {}, False),
        ({"requires_approval": True, "stages": {"plan": Stage(effort="low")}}, {}, True),
        ({"approvals": Approvals(over_usd=Decimal("0.001"))}, {"reserved": 1_000}, False),
        ({"approvals": Approvals(over_usd=Decimal("0.001"))}, {"reserved": 1_001}, True),
        ({"approvals": Approvals(over_usd=Decimal("0.001"))}, {"reserved": 1_001, "approved": True}, False),
        ({"approvals": Approvals(over_usd=Decimal(0))}, {"reserved": 1}, True),
        ({"approvals": Approvals()}, {"reserved": 10**12}, False),
    ],
    ids=str,
)
def test_m08_what_costs_much_waits_for_a_person(members: dict[str, Any], changes: dict[str, Any], needed: bool) -> None:
    decision = evaluate([policy(**members)], ask(**changes))
    assert decision.effect == ("require_approval" if needed else "allow")
    assert decision.rules == (["approval"] if needed else [])


def test_m08_an_approval_lifts_no_denial() -> None:
    for _, members, changes in WRONG:
        question = ask(**changes | {"approved": True})
        assert evaluate([policy(**members | {"requires_approval": True})], question).effect == "deny"


def test_the_strictest_of_several_policies_wins_in_any_order() -> None:
    easy, asking = policy(), policy(policy_id="a", requires_approval=True)
    denying = policy(policy_id="d", allowed_models=["x"])
    for policies in ([easy, asking], [asking, easy]):
        assert evaluate(policies, GOOD).effect == "require_approval"
    for policies in ([easy, asking, denying], [denying, asking, easy]):
        decision = evaluate(policies, GOOD)
        assert decision.effect == "deny"
        assert [f.policy for f in decision.findings if f.effect == "deny"] == ["d"]
        assert len(decision.findings) == 3 * len(RULES)


def test_the_smallest_cap_of_several_policies_holds() -> None:
    policies = [policy(max_cost_usd=Decimal(9)), policy(policy_id="s", max_cost_usd=Decimal(1)), policy(policy_id="n")]
    assert evaluate(policies, ask(reserved=1_000_000)).effect == "allow"
    assert evaluate(policies, ask(reserved=1_000_001)).rules == ["budget"]


EFFECTS = st.sampled_from(["allow", "deny", "require_approval"])
FINDINGS = st.lists(st.builds(Finding, rule=st.sampled_from("abc"), effect=EFFECTS, field=st.just(""),
                              expected=st.just(""), actual=st.just("")))  # fmt: skip


@given(FINDINGS, FINDINGS)
def test_more_findings_never_make_it_laxer(some: list[Finding], more: list[Finding]) -> None:
    order = ["allow", "require_approval", "deny"]
    if some:
        assert order.index(combine(some + more).effect) >= order.index(combine(some).effect)
    assert combine(some + more).effect == combine(more + some).effect


TEXTS = st.text(max_size=8)
ODD = st.builds(
    Question,
    action=st.just("model.request") | TEXTS,
    run=TEXTS,
    stage=st.just("plan") | TEXTS,
    lane=st.just("general") | TEXTS,
    task=TEXTS,
    asked=TEXTS,
    model=st.just("m") | TEXTS,
    effort=st.just("high") | TEXTS,
    scope=st.none() | st.builds(TaskScope, kind=st.sampled_from(["file", "stage"]), target=TEXTS),
    hosted_tools=st.lists(st.just("web_search") | TEXTS, max_size=2).map(tuple),
    attempt=st.integers(-2, 40),
    reserved=st.none() | st.integers(-1, 10**7),
    spent=st.integers(-1, 10**7),
    held=st.integers(-1, 10**7),
    now=st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    started=st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    paused=st.booleans(),
    approved=st.booleans(),
)
SOME = st.builds(
    policy,
    requires_approval=st.booleans(),
    max_cost_usd=st.none() | st.decimals(0, 20, places=2),
    max_runtime_minutes=st.none() | st.integers(0, 10**6),
    max_retries_per_task=st.none() | st.integers(0, 30),
    run_windows=st.none() | st.just(["weekday:09:00-18:00"]),
    zone=st.sampled_from([None, "Europe/Berlin", "America/New_York"]),
    hosted_tools=st.none() | st.just(["web_search"]),
    stages=st.none() | st.just({"plan": Stage(requires_approval=True)}),
    lanes=st.none() | st.just({"general": Lane(retries=3)}),
    approvals=st.none() | st.builds(Approvals, over_usd=st.none() | st.decimals(0, 9, places=2)),
)


@settings(max_examples=300)
@given(st.lists(SOME, max_size=3), ODD)
def test_there_is_always_an_explained_answer_and_the_unknown_is_denied(policies: list[Policy], odd: Question) -> None:
    decision = evaluate(policies, odd)
    assert evaluate(list(reversed(policies)), odd).effect == decision.effect
    assert len(decision.findings) == max(1, len(policies) * len(RULES))
    assert all(isinstance(text, str) for f in decision.findings for text in (f.field, f.expected, f.actual, f.policy))
    if decision.effect == "allow":
        assert policies
        assert odd.scope is not None
        assert odd.model == "m"
        assert odd.attempt >= 1
        assert not odd.paused
        caps = [found.max_cost_usd for found in policies if found.max_cost_usd is not None]
        if caps:
            assert odd.reserved is not None
            assert odd.spent + odd.held + odd.reserved <= min(caps) * 1_000_000
        if any(found.requires_approval for found in policies):
            assert odd.approved
