"""Redaction profiles, and the command that shows what one would mask."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.cli import main
from policies.redaction import compose, gitleaks, known, profile, rules
from policies.redaction.coverage import uncovered
from policies.redaction.exact import Exact
from policies.redaction.profile import Profile, read_profile, shipped
from policies.redaction.redact import Redactor
from policies.redaction.scan import Scanner
from schemas.errors import Malformed
from tests.support.shell import Said, Say

KEY = b"run key, 32 bytes, of one ledger"
TOKEN = "gh" + "p_" + "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5"
OTHER_TOKEN = "gh" + "p_" + "zB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5"
KNOWN = "corr3ct-horse\tba'tt\"ery\\"
HOME = "/home/mira"
STRICTNESS = ("pass", "digest", "block")
ALL = rules.shipped()
HOMEBREW, RESEARCH, STRICT = (shipped(name) for name in ("homebrew", "research", "strict"))
SCANNERS = {of.profile_id: compose.scanner(of, ALL) for of in (HOMEBREW, RESEARCH, STRICT)}


def _redactor(of: Profile, key: bytes) -> Redactor:
    return Redactor(of, SCANNERS[of.profile_id], Exact([("env:KNOWN", KNOWN)]), key)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('passes = ["email"]', "profile_id: is missing"),
        ('profile_id = "x"\nrestores = ["aws-secret-key"]', "never comes back"),
        ('profile_id = "x"\nrestores = ["path"]\npasses = ["path"]', "nothing to restore"),
        ('profile_id = "x"\nbinary = "send"', "binary"),
        ('profile_id = "x"\npases = []', "pases"),
        ('profile_id = "x"\npasses = ["Not A Kind"]', "passes"),
        ('profile_id = "x"\nallow = [""]', "allow"),
        ('{"profile_id": "x", "profile_id": "y"}', "twice"),
        ("profile_id = ", "x.toml"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(Malformed, match=re.escape(words)):
        read_profile(text.encode(), "x.toml")


def test_what_a_profile_leaves_out_is_the_safe_choice() -> None:
    bare = read_profile(b'profile_id = "bare"', "x")
    assert (bare.passes, bare.restores, bare.binary) == ([], [], "block")
    assert bare.masks("a-kind-of-tomorrow")
    assert bare.version != read_profile(b'profile_id = "bare"\npasses = ["email"]', "x").version


def test_shipped_profiles_say_what_the_design_says() -> None:
    assert profile.names() == ("homebrew", "research", "strict")
    assert (HOMEBREW.restores, HOMEBREW.binary) == (["path"], "pass")
    assert (RESEARCH.restores, RESEARCH.binary) == ([], "block")
    assert all(RESEARCH.masks(kind) for kind in ("console-key", "title-id", "path", "github-token"))
    assert STRICT.passes == []
    # Every kind that a profile names exists.
    assert {kind for of in (HOMEBREW, RESEARCH) for kind in of.passes} <= ALL.kinds | {"name"}
    with pytest.raises(Malformed):
        shipped("../data/local")


def test_what_a_profile_allows_passes_but_never_a_known_value() -> None:
    allowing = read_profile(json.dumps({"profile_id": "x", "allow": [TOKEN, KNOWN]}).encode(), "x")
    run = Redactor(allowing, SCANNERS["strict"], Exact([("a", KNOWN)]), KEY)
    value = run.redact({"instructions": f"{TOKEN} {OTHER_TOKEN} {KNOWN}"}).value["instructions"]
    assert TOKEN in value
    assert OTHER_TOKEN not in value
    assert "corr3ct" not in value


def test_profile_rules_and_number_of_values_make_the_version() -> None:
    versions = {_redactor(of, KEY).version for of in (HOMEBREW, RESEARCH, STRICT)}
    versions.add(Redactor(STRICT, SCANNERS["strict"], Exact([]), KEY).version)
    versions.add(Redactor(STRICT, None, Exact([]), KEY).version)
    assert len(versions) == 5
    assert _redactor(STRICT, KEY).version == _redactor(STRICT, b"2" * 32).version


@pytest.mark.parametrize("name", profile.names())
def test_a_profile_of_ones_own_does_not_take_the_place_of_a_shipped_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'profile_id = "{name}"\npasses = ["github-token"]\n')
    with pytest.raises(Malformed, match=name):
        known.load(str(tmp_path / "mine.toml"))
    weak = known.Known(read_profile(f'{{"profile_id": "{name}", "passes": ["path"]}}'.encode(), "x"), {})
    assert known.find(name, {name: weak}).profile == shipped(name)


KINDS = sorted(SCANNERS["strict"].kinds)
OWN = b'[[rules]]\nid = "%s"\nregex = "BDG-[0-9]{6}"\n'


@st.composite
def profiles(draw: st.DrawFn) -> known.Known:
    if draw(st.booleans()):
        return known.find(draw(st.sampled_from(profile.names())), {})
    passes = draw(st.sets(st.sampled_from([*KINDS, "x-badge"]), max_size=6))
    restores = draw(st.sets(st.sampled_from(["path", "user", "email", "name"]))) - passes
    texts = {"ours.toml": OWN % b"badge"} if draw(st.booleans()) else {}
    record = {
        "profile_id": draw(st.sampled_from("abc")),
        "passes": sorted(passes),
        "restores": sorted(restores),
        "binary": draw(st.sampled_from(["block", "digest", "pass"])),
        "rules": list(texts),
        "allow": draw(st.lists(st.sampled_from([TOKEN, OTHER_TOKEN]), unique=True)),
    }
    return known.Known(read_profile(json.dumps(record).encode(), "x"), texts)


@given(st.lists(profiles(), min_size=1, max_size=4))
def test_profiles_together_are_never_weaker_than_one_of_them(several: list[known.Known]) -> None:
    joined = known.strictest(several).profile
    for one in (each.profile for each in several):
        assert all(joined.masks(kind) for kind in [*KINDS, "x-badge", "tomorrow"] if one.masks(kind))
        assert set(joined.restores) <= set(one.restores)
        assert set(joined.allow) <= set(one.allow)
        assert STRICTNESS.index(joined.binary) >= STRICTNESS.index(one.binary)
        assert set(joined.rules) >= set(one.rules)


@settings(max_examples=8, deadline=None)
@given(st.lists(profiles(), min_size=2, max_size=3))
def test_what_one_profile_masks_their_join_masks(several: list[known.Known]) -> None:
    text = f"{TOKEN} {OTHER_TOKEN} {HOME}/x mira@work-place.org BDG-184730 password = 'hunter2!hunter'"
    pieces = [TOKEN, OTHER_TOKEN, HOME, "mira@work-place.org", "BDG-184730", "hunter2!hunter"]

    def sent(of: known.Known) -> str:
        return str(Redactor(of.profile, of.scanner(), Exact([]), KEY).redact({"instructions": text}).value)

    joined = sent(known.strictest(several))
    for one in map(sent, several):
        assert all(piece not in joined for piece in pieces if piece not in one)


@pytest.mark.parametrize("name", ["path", "user", "email", "github-token", "--", "Path", "1path", "日"])
def test_a_rule_of_others_finds_no_kind_of_ours(name: str) -> None:
    loaded = gitleaks.load(OWN % name.encode(), "ours.toml").rules
    (kind,) = loaded.kinds
    assert kind.startswith("x-")
    assert len(kind) <= 64
    of = read_profile(b'profile_id = "x"\nrestores = ["path", "user"]', "x")
    redacted = Redactor(of, Scanner(loaded), Exact([]), KEY).redact({"instructions": "badge BDG-184730"})
    assert redacted.mapping == {}
    assert "BDG-1" not in str(redacted.value)
    read_profile(json.dumps({"profile_id": "y", "passes": [kind]}).encode(), "y")


def test_what_no_text_is_can_not_be_covered_and_is_not_repeated() -> None:
    with pytest.raises(Malformed, match="env:A") as refused:
        list(uncovered(SCANNERS["strict"], [("env:A", os.fsdecode(b"hunter2\xffhunter2"))]))
    assert "hunter2" not in str(refused.value)


@pytest.fixture
def say(capfdbinary: pytest.CaptureFixture[bytes]) -> Say:
    def run(*args: str | Path) -> Said:
        capfdbinary.readouterr()
        status = main.run([str(arg) for arg in args])
        return Said(status, *(text.decode() for text in capfdbinary.readouterr()))

    return run


def test_the_command_shows_what_a_model_would_see(say: Say, tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text(f"A=1\nGITHUB_TOKEN={TOKEN}\ncd {HOME}\n")
    shown = say("redact", tmp_path / "x.env")
    assert shown.status == 0
    assert re.fullmatch(r"A=1\nGITHUB_TOKEN=⟦github-token:\w{16}⟧\ncd ⟦path:\w{16}⟧\n", shown.out)
    assert len(shown.err.splitlines()) == 2
    assert all(line.endswith("  1") for line in shown.err.splitlines())


def test_the_command_explains_without_the_value(say: Say, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(f"é = {TOKEN}\n\n  at {HOME}/x and {KNOWN}\n")
    for options in (["--explain"], ["--json"]):
        shown = say("redact", tmp_path / "x", *options, "--profile", "strict")
        assert TOKEN[4:] not in shown.out + shown.err
        assert "mira" not in shown.out + shown.err
    (told,) = shown.json
    assert [(one["line"], one["column"], one["length"]) for one in told["found"]] == [(1, 5, 40), (3, 6, 10)]
    assert told["profile"] == "strict"
    assert sum(told["counts"].values()) == 2


def test_the_command_takes_known_values(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWN_VALUE", KNOWN)
    (tmp_path / "x").write_text(json.dumps([KNOWN]))
    shown = say("redact", tmp_path / "x", "--secret", "env:KNOWN_VALUE")
    assert "corr3ct" not in shown.out
    assert shown.err.strip() == "exact  1"


def test_the_command_reads_a_profile_of_ones_own(say: Say, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'profile_id = "mine"\nallow = ["{TOKEN}"]\n')
    (tmp_path / "x").write_text(f"{TOKEN} {OTHER_TOKEN}")
    shown = say("redact", "--profile", tmp_path / "mine.toml", tmp_path / "x")
    assert TOKEN in shown.out
    assert OTHER_TOKEN not in shown.out


def test_the_command_takes_rules_in_gitleaks_form(say: Say, tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text(
        '[[rules]]\nid = "badge"\nregex = "BDG-[0-9]{6}"\n[[rules]]\nid = "dumps"\npath = "dump"\n'
    )
    (tmp_path / "mine.toml").write_text('profile_id = "mine"\nrules = ["ours.toml"]\n')
    (tmp_path / "x").write_text("badge BDG-184730 and BDG-18473")
    shown = say("redact", "--profile", tmp_path / "mine.toml", tmp_path / "x")
    assert re.fullmatch(r"badge ⟦x-badge:\w{16}⟧ and BDG-18473", shown.out)
    assert "dumps" in shown.err
    (tmp_path / "ours.toml").write_text('[[rules]]\nid = "bad"\nregex = "(?=x)y"\n')
    say("redact", "--profile", tmp_path / "mine.toml", tmp_path / "x").fails(2, "bad", "RE2")


def test_the_command_leaves_bytes_that_are_no_text_as_they_are(capfdbinary: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\x00\r\n " + TOKEN.encode() + b"\xfe")
    assert main.run(["redact", str(tmp_path / "x")]) == 0
    out = capfdbinary.readouterr().out
    assert out.startswith(b"\xff\x00\r\n \xe2\x9f\xa6github-token:")
    assert out.endswith(b"\xfe")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["x", "--profile", "none-such"], ["none-such"]),
        (["x", "--profile", "bad.toml"], ["bad.toml", "never comes back"]),
        (["missing"], ["missing"]),
        (["x", "--secret", "env:NOT_SET_ANYWHERE"], ["NOT_SET_ANYWHERE"]),
    ],
)
def test_the_command_says_what_it_can_not_do(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").write_text(TOKEN)
    Path("bad.toml").write_text('profile_id = "x"\nrestores = ["jwt"]')
    said_ = say("redact", *args)
    assert said_.status in (1, 2)
    said_.fails(said_.status, *words)
    assert TOKEN not in said_.err
