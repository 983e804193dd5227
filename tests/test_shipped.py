"""The policies that come with agent-ledger, the commands that check them, and schemas registered by id."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ledger
from ledger import schemas_added
from ledger.cli import main
from policies import prices, shipped
from policies.advice import advise
from policies.evaluate import evaluate
from policies.routing import route
from schemas.entries import SchemaAdded
from schemas.errors import KeyUnusable, Malformed, TooLarge
from schemas.policy import Policy
from tests.support.questions import NOON, ask
from tests.support.shell import Said, Say

ROOT = Path(__file__).parent.parent
SCHEMA = b'{"type": "object",  "required": ["a"]}'


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    def run(*args: str | Path) -> Said:
        capfd.readouterr()
        status = main.run([str(arg) for arg in args])
        return Said(status, *capfd.readouterr())

    return run


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ledger.init(tmp_path / ".ledger")
    monkeypatch.setenv("LEDGER", str(tmp_path / ".ledger"))
    return tmp_path / ".ledger"


def found(name: str) -> Policy:
    policy = shipped.shipped(name)
    assert policy is not None
    return policy


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_policy_is_valid_without_remarks_and_every_model_has_a_price(name: str) -> None:
    policy = found(name)
    assert policy.policy_id == name
    assert advise(policy, NOON) == []
    assert all(prices.known(model, NOON) for model in policy.allowed_models)
    assert policy.max_cost_usd is not None
    assert Policy.decode(policy.encode()) == policy


@pytest.mark.parametrize("name", ["", "nope", "../local", "local.toml", "data/local"])
def test_no_other_name_is_one(name: str) -> None:
    assert shipped.shipped(name) is None


def test_local_serves_the_specifications_model_by_what_bears_its_name_today() -> None:
    policy = found("local")
    model = route([policy], "gpt-5.2-codex", "general").model
    assert model == "gpt-5.3-codex"
    question = ask(asked="gpt-5.2-codex", model=model, reserved=600_000)
    assert evaluate([policy], question).effect == "allow"
    assert evaluate([policy], ask(asked="gpt-5.2-codex", model=model, reserved=5_000_001)).rules == ["budget"]
    assert evaluate([policy], ask(model=model, hosted_tools=("web_search",))).rules == ["tools"]


def test_m07_scheduled_runs_at_night_and_on_weekends_only() -> None:
    policy = found("scheduled")
    model = "gpt-5.3-codex"
    allowed = {
        text: evaluate([policy], ask(model=model, now=now, started=now)).effect == "allow"
        for text, now in (
            ("friday noon", NOON),
            ("friday night", NOON.replace(hour=20)),
            ("saturday morning", NOON.replace(day=21, hour=7)),
            ("sunday", NOON.replace(day=22)),
            ("monday early", NOON.replace(day=23, hour=5)),
            ("monday", NOON.replace(day=23, hour=6)),
        )
    }
    # Sunday ends at midnight; Monday's night begins in the evening.
    assert [text for text, yes in allowed.items() if yes] == ["friday night", "saturday morning", "sunday"]


def test_m14_scheduled_lanes_have_budgets_of_their_own() -> None:
    policy, night = found("scheduled"), NOON.replace(hour=21)
    for lane, retries in (("cleanup", 3), ("gfx", 10), ("general", 5), ("other", 5)):
        for attempt, effect in ((retries + 1, "allow"), (retries + 2, "deny")):
            question = ask(lane=lane, attempt=attempt, model="gpt-5.3-codex", now=night, started=night)
            assert evaluate([policy], question).effect == effect


def test_cleanup_goes_to_a_cheaper_model_and_only_in_its_lane() -> None:
    policy = found("cleanup-lane")
    assert route([policy], "gpt-5.3-codex", "cleanup")[:3] == ("gpt-5.3-codex", "gpt-5.4-mini", ("lane",))
    assert route([policy], "gpt-5-nano", "cleanup").steps == ()
    assert route([policy], "gpt-5.3-codex", "general").model == "gpt-5.3-codex"
    cheap = prices.worst("gpt-5.4-mini", 10_000, 1_000, NOON)
    dear = prices.worst("gpt-5.3-codex", 10_000, 1_000, NOON)
    assert cheap is not None
    assert dear is not None
    assert cheap < dear


def test_m08_release_waits_for_people_but_for_planning() -> None:
    policy, day = found("release"), NOON.replace(hour=10)
    for stage, effect in (("lift", "require_approval"), ("", "require_approval"), ("plan", "allow")):
        assert evaluate([policy], ask(stage=stage, model="gpt-5.3-codex", now=day, started=day)).effect == effect
    assert policy.approvals is not None
    assert policy.approvals.threshold == 2
    assert policy.required_checks == ["build-and-verify", "test-suite"]
    assert policy.protected_targets == ["manifest-hashes", "generated-files"]


def test_a_wheel_brings_them_along(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {f"policies/data/{name}.toml" for name in shipped.names()} <= inside


@pytest.mark.parametrize("name", shipped.names())
def test_what_show_prints_is_what_check_takes(name: str, say: Say, tmp_path: Path) -> None:
    shown = say("policy", "show", name)
    assert shown.status == 0
    (tmp_path / "mine.toml").write_text(shown.out)
    checked = say("policy", "check", tmp_path / "mine.toml")
    assert (checked.status, checked.err) == (0, "")
    assert checked.out.split() == [name, found(name).version]
    (record,) = say("policy", "show", name, "--json").json
    (tmp_path / "mine.json").write_text(json.dumps(record))
    assert say("policy", "check", tmp_path / "mine.json", "--json").json == [
        {"policy_id": name, "version": found(name).version, "remarks": []}
    ]


def test_list_names_them_all(say: Say) -> None:
    out = say("policy", "list").out
    assert [line.split()[0] for line in out.splitlines()] == list(shipped.names())
    assert [row["policy_id"] for row in say("policy", "list", "--json").json] == list(shipped.names())


def test_check_warns_and_says_so_by_its_status(say: Say, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(
        '{"policy_id":"p","requires_approval":true,"allowed_models":["gpt-5.2-codex","zz"]}'
    )
    said = say("policy", "check", tmp_path / "p.json")
    assert said.status == 1
    for words in ("was shut down on 2026-07-23", "no price is known for zz", "no cap"):
        assert words in said.err
    (row,) = say("policy", "check", tmp_path / "p.json", "--json").json
    assert [remark["field"] for remark in row["remarks"]][:2] == ["allowed_models", "allowed_models"]


@pytest.mark.parametrize("text", ["", "{", '{"policy_id":"\\u001b[31mx"}', "policy_id = 7", "\x00"])
def test_check_refuses_what_is_no_policy(text: str, say: Say, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(text)
    say("policy", "check", tmp_path / "p.toml").fails(2, "p.toml")


def test_check_and_show_refuse_what_is_not_there(say: Say, tmp_path: Path) -> None:
    assert say("policy", "check", tmp_path / "nope.toml").status in (1, 2)
    say("policy", "show", "nope").fails(2, "local, scheduled")
    say("policy", "show", "../local").fails(2)


def test_a_schema_is_registered_read_back_byte_for_byte_and_replaced(path: Path, tmp_path: Path, say: Say) -> None:
    (tmp_path / "s.json").write_bytes(SCHEMA)
    index = int(say("schema", "add", "plan", tmp_path / "s.json").out)
    with ledger.open(path) as log:
        entry = log.entry(index).entry
        assert isinstance(entry, SchemaAdded)
        assert (entry.schema, entry.run, entry.step) == ("plan", "", 0)
        assert schemas_added.find(log, "plan") == SCHEMA
        assert schemas_added.find(log, "pla") is None
        assert schemas_added.find(log, "") is None
        log.run("between").prompt('{"kind":"schema"')
        schemas_added.add(log, "other", b"true")
        newer = schemas_added.add(log, "plan", b"{}")
        assert schemas_added.find(log, "plan") == b"{}"
    rows = say("schema", "list", "--json").json
    assert [(row["id"], row["index"]) for row in rows] == [("other", newer - 2), ("plan", newer)]
    assert [line.split()[:2] for line in say("schema", "list").out.splitlines()] == [
        ["other", str(newer - 2)],
        ["plan", str(newer)],
    ]
    assert ledger.verify(path).findings == []


@pytest.mark.parametrize(
    ("id", "schema", "error"),
    [
        ("", SCHEMA, Malformed),
        ("x" * 201, SCHEMA, Malformed),
        ("a\nb", SCHEMA, Malformed),
        ("\ud800", SCHEMA, Malformed),
        ("a", b"", Malformed),
        ("a", b'{"type":"objekt"}', Malformed),
        ("a", b'{"$ref":"https://example.com"}', Malformed),
        ("a", b'{"pattern":"(?=a)"}', Malformed),
        ("a", b'{"description":"' + b"x" * (256 << 10) + b'"}', TooLarge),
    ],
)
def test_what_is_no_schema_is_not_registered(path: Path, id: str, schema: bytes, error: type[Exception]) -> None:
    with ledger.open(path) as log:
        size = log.chain.state.size
        with pytest.raises(error):
            schemas_added.add(log, id, schema)
        assert log.chain.state.size == size


def test_who_can_not_read_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with ledger.open(path) as log:
        schemas_added.add(log, "plan", SCHEMA)
    monkeypatch.setenv("LEDGER_IDENTITY", f"file:{tmp_path}/nobody.txt")
    with ledger.open(path) as log, pytest.raises(KeyUnusable):
        schemas_added.find(log, "plan")


def test_a_schema_is_read_from_standard_input_and_refused_by_name(path: Path, say: Say, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    say("schema", "add", "x", tmp_path / "bad.json").fails(2, "not JSON")
    say("schema", "add", "", tmp_path / "bad.json").fails(2)
    assert say("schema", "list").out == ""


def test_policy_needs_no_ledger(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert say("policy", "list").status == 0
    say("schema", "list").fails(2)
