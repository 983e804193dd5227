"""Policies and envelopes as records: both spellings of the field are read, and nothing else is."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.advice import advise
from policies.routing import MAX_ALIASES, route
from schemas import export
from schemas.envelope import EFFORTS, Envelope, TaskScope, default_effort, read_envelope
from schemas.errors import Malformed
from schemas.policy import Approvals, Lane, Policy, Stage, cap_micro, read_policy
from tests.support.questions import NOON, policy

ROOT = Path(__file__).parent.parent
SPECIFICATION = {
    "policy_id": "string",
    "requires_approval": True,
    "max_cost_usd": 500,
    "allowed_models": ["gpt-5.2-codex", "gpt-5.2"],
    "run_windows": ["weekday:09:00-18:00"],
    "required_checks": ["build-and-verify", "test-suite"],
    "protected_targets": ["manifest-hashes", "generated-files"],
    "max_retries_per_task": 30,
}
PIPELINE = {
    "schema_version": "1",
    "policy_id": "nightly",
    "execution_mode": "hybrid",
    "requires_approval": False,
    "max_cost_usd": None,
    "max_runtime_minutes": 90,
    "allowed_models": ["gpt-5.2-codex"],
    "run_windows": None,
    "redaction_profile": None,
}
ENVELOPE = {
    "run_id": "018f3c1e-7b2a-7c3d-8e4f-0123456789ab",
    "stage": "plan",
    "model": "gpt-5.2-codex",
    "reasoning_effort": "low",
    "input_artifacts": ["artifact://" + "ab" * 32],
    "redaction_profile": "policy-id",
    "response_schema": "schema-id",
    "task_scope": {"kind": "file", "target": "src/a.c"},
}
MINIMAL: dict[str, Any] = {"policy_id": "p", "requires_approval": False, "allowed_models": ["m"]}


def read(record: dict[str, Any]) -> Policy:
    return read_policy(json.dumps(record).encode(), "p.json")


@pytest.mark.parametrize("record", [SPECIFICATION, PIPELINE, MINIMAL])
def test_both_spellings_are_read_and_keep_every_member(record: dict[str, Any]) -> None:
    policy = read(record)
    for name, value in record.items():
        assert getattr(policy, name) == value
    assert Policy.decode(policy.encode()) == policy


def test_the_record_has_one_spelling_whatever_was_written() -> None:
    toml = b'allowed_models = ["m"]\nrequires_approval = false\npolicy_id = "p"\nmax_cost_usd = 5.00\n'
    spellings = [
        read_policy(toml, "p.toml"),
        read(MINIMAL | {"max_cost_usd": 5}),
        read({"max_cost_usd": 5.0} | MINIMAL | {"zone": None}),
        read_policy(json.dumps(MINIMAL).replace("{", '{"max_cost_usd": 0.5e1,').encode(), "p.json"),
    ]
    assert {policy.encode() for policy in spellings} == {
        b'{"policy_id":"p","requires_approval":false,"allowed_models":["m"],"max_cost_usd":5}'
    }
    assert len({policy.version for policy in spellings}) == 1


def test_maps_in_another_order_are_the_same_record() -> None:
    first = read(MINIMAL | {"aliases": {"a": "m", "b": "m"}})
    assert first.version == read(MINIMAL | {"aliases": {"b": "m", "a": "m"}}).version


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
POLICIES = st.builds(
    Policy,
    policy_id=NAMES,
    requires_approval=st.booleans(),
    allowed_models=st.lists(NAMES, max_size=3),
    max_cost_usd=st.none() | st.decimals(0, 10**9, places=6, allow_nan=False),
    max_runtime_minutes=st.none() | st.integers(0, 10**6),
    run_windows=st.none() | st.just(["mon-fri:22:00-06:00"]),
    zone=st.sampled_from([None, "UTC", "Europe/Berlin"]),
    aliases=st.none() | st.dictionaries(NAMES, NAMES, max_size=3),
    settle_s=st.none() | st.floats(0, 86_400),
    stages=st.none() | st.dictionaries(NAMES, st.builds(Stage, effort=st.sampled_from([None, *EFFORTS])), max_size=2),
    lanes=st.none() | st.dictionaries(NAMES, st.builds(Lane, retries=st.none() | st.integers(0, 99)), max_size=2),
    approvals=st.none() | st.builds(Approvals, over_usd=st.none() | st.decimals(0, 10**6, places=2, allow_nan=False)),
)


@given(POLICIES)
def test_every_policy_comes_back_from_its_spelling(policy: Policy) -> None:
    again = Policy.decode(policy.encode())
    assert again == policy
    assert again.encode() == policy.encode()
    assert read_policy(policy.encode(), "p").version == policy.version


@pytest.mark.parametrize(
    ("usd", "micro"),
    [
        ("5", 5_000_000),
        ("0", 0),
        ("0.0000019", 1),
        ("0.0000009", 0),
        ("0.1", 100_000),
        ("999999999.999999", 999999999999999),
    ],
)
def test_a_cap_is_exact_and_never_rounds_up(usd: str, micro: int) -> None:
    assert cap_micro(Policy(**MINIMAL, max_cost_usd=Decimal(usd))) == micro


def test_no_cap_is_none_and_a_cap_of_nothing_is_not() -> None:
    assert cap_micro(read(MINIMAL)) is None
    assert cap_micro(read(MINIMAL | {"max_cost_usd": 0})) == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"policy_id": ""}, "policy_id"),
        ({"policy_id": None}, "policy_id"),
        ({"policy_id": "x" * 201}, "policy_id"),
        ({"policy_id": "\ud800"}, "no character"),
        ({"requires_approval": "yes"}, "requires_approval"),
        ({"requires_approval": 1}, "requires_approval"),
        ({"allowed_models": "gpt-5"}, "allowed_models"),
        ({"allowed_models": [""]}, "allowed_models"),
        ({"allowed_models": None}, "allowed_models"),
        ({"schema_version": "2"}, "schema_version"),
        ({"schema_version": 1}, "schema_version"),
        ({"execution_mode": "moon"}, "execution_mode"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"max_cost_usd": "NaN"}, "max_cost_usd"),
        ({"max_cost_usd": "Infinity"}, "max_cost_usd"),
        ({"max_cost_usd": 10**10}, "max_cost_usd"),
        ({"max_cost_usd": "1e-999999"}, "max_cost_usd"),
        ({"max_cost_usd": True}, "max_cost_usd"),
        ({"max_runtime_minutes": -1}, "max_runtime_minutes"),
        ({"max_runtime_minutes": 1.5}, "max_runtime_minutes"),
        ({"max_retries_per_task": -1}, "max_retries_per_task"),
        ({"max_retries_per_task": 2**53}, "max_retries_per_task"),
        ({"run_windows": ["weekday:9:00-18:00"]}, "run_windows"),
        ({"run_windows": ["someday:09:00-18:00"]}, "run_windows"),
        ({"run_windows": ["mon:25:00-26:00"]}, "run_windows"),
        ({"run_windows": "weekday:09:00-18:00"}, "run_windows"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": "../../etc/passwd"}, "zone"),
        ({"zone": "Europe"}, "zone"),
        ({"zone": "localtime"}, "zone"),
        ({"zone": ""}, "zone"),
        ({"egress": "maybe"}, "egress"),
        ({"streaming": "fast"}, "streaming"),
        ({"hosted_tools": [1]}, "hosted_tools"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"settle_s": -1}, "settle_s"),
        ({"stages": {"plan": {"effort": "extreme"}}}, "stages"),
        ({"stages": {"plan": {"speed": 1}}}, "speed"),
        ({"lanes": {"a": {"retries": -1}}}, "lanes"),
        ({"lanes": {"a": {"models": {"*": ""}}}}, "lanes"),
        ({"approvals": {"threshold": 0}}, "approvals"),
        ({"approvals": {"over_usd": -1}}, "over_usd"),
        ({"max_cost": 5}, "max_cost"),
    ],
    ids=str,
)
def test_a_wrong_member_is_refused_by_its_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(MINIMAL | change)
    assert refused.value.what.startswith("p.json: ")
    assert field in refused.value.what
    assert refused.value.hint


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b"\xff\xfe",
        b'{"policy_id": NaN}',
        b"{" + b'"a":{' * 100_000,
        b"x = nan\n",
        b"a = 1\na = 2\n",
        b'{"policy_id":"p","requires_approval":true,"requires_approval":false,"allowed_models":["m"]}',
        b'policy_id="p"\nrequires_approval=false\nallowed_models=["m"]\nmax_cost_usd=inf\n',
        b'policy_id="p"\nrequires_approval=false\nallowed_models=["m"]\nmax_runtime_minutes=2026-01-01\n',
        b'{"policy_id":"p","requires_approval":false,"allowed_models":["m"],"max_cost_usd":' + b"9" * 5000 + b"}",
        b" " * (1 << 20) + b"{}",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_what_is_no_policy_is_refused_with_the_files_name(text: bytes) -> None:
    with pytest.raises(Malformed, match=r"^odd\.toml: "):
        read_policy(text, "odd.toml")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"requires_approval":false,"policy_id":"p","allowed_models":["m"]}',
        b'{"policy_id":"p","requires_approval":false,"allowed_models":["m"],"max_cost_usd":5.0}',
        b'{"policy_id":"p","requires_approval":false,"allowed_models":["m"],"zone":null}',
        b'{"policy_id":"p","requires_approval":false,"allowed_models":["m"]} ',
        b'{"policy_id":"p","policy_id":"p","requires_approval":false,"allowed_models":["m"]}',
        b"{}",
    ],
)
def test_a_recorded_policy_in_another_spelling_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        Policy.decode(raw)


def test_m13_an_envelope_is_exactly_the_specifications() -> None:
    envelope = read_envelope(ENVELOPE)
    assert msgspec.to_builtins(envelope) == ENVELOPE
    assert list(msgspec.to_builtins(envelope)) == list(ENVELOPE)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task_scope": None}, "task_scope"),
        ({"task_scope": {"kind": "file"}}, "task_scope.target"),
        ({"task_scope": {"kind": "universe", "target": "x"}}, "task_scope.kind"),
        ({"task_scope": {"kind": "file", "target": ""}}, "task_scope.target"),
        ({"task_scope": {"kind": "file", "target": "x" * 1001}}, "task_scope.target"),
        ({"task_scope": {"kind": "file", "target": "x", "also": "y"}}, "also"),
        ({"run_id": "nightly-1"}, "run_id"),
        ({"run_id": ""}, "run_id"),
        ({"schema_version": "1", "run_id": ""}, "run_id"),
        ({"schema_version": "9"}, "schema_version"),
        ({"stage": ""}, "stage"),
        ({"stage": 7}, "stage"),
        ({"model": None}, "model"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"input_artifacts": ["https://example.com"]}, "input_artifacts"),
        ({"input_artifacts": ["artifact://short"]}, "input_artifacts"),
        ({"input_artifacts": ["artifact://" + "AB" * 32]}, "input_artifacts"),
        ({"input_artifacts": ["artifact://" + "ab" * 32] * 1001}, "input_artifacts"),
        ({"prompt": "hello"}, "prompt"),
    ],
    ids=str,
)
def test_m13_an_envelope_without_scope_or_with_a_wrong_member_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed, match=r"^envelope: ") as refused:
        read_envelope(ENVELOPE | change)
    assert field in refused.value.what


@pytest.mark.parametrize("other", [None, [], "x", 3])
def test_what_is_no_envelope_at_all_is_refused(other: object) -> None:
    with pytest.raises(Malformed):
        read_envelope(other)


def test_the_pipelines_envelope_names_its_run_as_it_likes() -> None:
    found = read_envelope(ENVELOPE | {"schema_version": "1", "run_id": "nightly-2026-11-20"})
    assert found.run_id == "nightly-2026-11-20"


@pytest.mark.parametrize(
    ("stage", "effort"),
    [("plan", "high"), ("analysis", "high"), ("analyse", "high"), ("lift", "medium"), ("cleanup", "low"),
     ("review", "xhigh"), ("build", "medium"), ("", "medium")],
)  # fmt: skip
def test_an_absent_effort_is_the_stages(stage: str, effort: str) -> None:
    assert default_effort(stage) == effort
    if stage:
        without = {name: value for name, value in ENVELOPE.items() if name != "reasoning_effort"}
        assert read_envelope(without | {"stage": stage}).reasoning_effort == effort


@pytest.mark.parametrize("name", export.KINDS)
def test_exported_schemas_are_those_of_the_code(name: str) -> None:
    path = ROOT / "docs" / "schemas" / f"{name}.json"
    assert path.read_bytes() == export.schema(name), "run: python -m schemas.export"


@pytest.mark.parametrize("record", [SPECIFICATION, PIPELINE, MINIMAL])
def test_the_exported_schema_takes_what_the_code_takes(record: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(export.schema("policy").decode())
    validator.validate(record)
    assert not validator.is_valid(record | {"max_cost_usd": -1})
    assert not validator.is_valid(record | {"max_cost": 1})
    jsonschema_rs.validator_for(export.schema("envelope").decode()).validate(ENVELOPE)


def test_routing_takes_the_lane_first_and_then_what_bears_the_name_today() -> None:
    with_both = policy(lanes={"cleanup": Lane(models={"*": "small"})}, aliases={"small": "small-2", "old": "new"})
    assert route([with_both], "old", "cleanup") == (
        "old",
        "small-2",
        ("lane", "alias"),
        (("old", "small", "lane", "p"), ("small", "small-2", "alias", "p")),
    )
    assert route([with_both], "old", "general").model == "new"
    assert route([with_both], "other", "general") == ("other", "other", (), ())


def test_routing_prefers_a_name_to_the_star_and_the_first_policy_to_others() -> None:
    first = policy(policy_id="a", lanes={"l": Lane(models={"*": "x", "big": "big"})})
    second = policy(policy_id="b", lanes={"l": Lane(models={"big": "y"})}, aliases={"x": "z"})
    assert route([first, second], "big", "l").steps == ()
    assert route([second, first], "big", "l").model == "y"
    assert route([first, second], "any", "l").model == "z"


@pytest.mark.parametrize("aliases", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_aliases_in_a_circle_end(aliases: dict[str, str]) -> None:
    assert len(route([policy(aliases=aliases)], "a", "").steps) <= len(aliases)


def test_aliases_are_followed_only_so_far() -> None:
    chain = {f"m{i}": f"m{i + 1}" for i in range(50)}
    assert route([policy(aliases=chain)], "m0", "").model == f"m{MAX_ALIASES}"


@given(st.lists(POLICIES, max_size=3), NAMES, NAMES)
def test_routing_always_ends_and_explains_each_step(policies: list[Policy], asked: str, lane: str) -> None:
    found = route(policies, asked, lane)
    model = asked
    for step in found.steps:
        assert step.asked == model != step.model
        model = step.model
    assert model == found.model


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({}, "max_cost_usd"),
        ({"allowed_models": []}, "allowed_models"),
        ({"allowed_models": ["gpt-5.2-codex"]}, "allowed_models"),
        ({"allowed_models": ["nobody-knows"], "max_cost_usd": Decimal(1)}, "allowed_models"),
        ({"run_windows": ["daily:00:00-24:00"]}, "zone"),
        ({"run_windows": []}, "run_windows"),
        ({"aliases": {"a": "b", "b": "a"}}, "aliases"),
        ({"aliases": {"a": "not-listed"}}, "aliases"),
        ({"lanes": {"l": Lane(models={"*": "not-listed"})}}, "lanes.l.models"),
        ({}, "max_retries_per_task"),
    ],
    ids=str,
)
def test_what_an_author_may_not_have_meant_is_remarked(members: dict[str, Any], field: str) -> None:
    assert field in [remark.field for remark in advise(policy(**members), NOON)]


def test_envelopes_and_scopes_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        TaskScope("file", "a").target = "b"  # type: ignore[misc]
    assert Envelope.__struct_config__.frozen
