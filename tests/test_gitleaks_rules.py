"""Rules in gitleaks' format: what they find here, what they allow, and what is refused."""

import pytest

from policies.redaction.examples import spelled
from policies.redaction.gitleaks import load
from policies.redaction.scan import Scanner
from schemas.errors import Malformed

ACME = """
title = "ours"
[[rules]]
id = "Acme_Token"
description = "a token of Acme's"
regex = '''(?i)acme[a-z_ .-]{0,20}=\\s*["']?(ac-([0-9a-z]{20}))["']?'''
keywords = ["ACME"]
tags = ["acme"]
"""
TOKEN = spelled("ac-⟨a20⟩").decode()


def values(config: str, text: str) -> list[str]:
    data = text.encode()
    return [
        data[span.start : span.end].decode() for span in Scanner(load(config.encode(), "mine.toml").rules).find(data)
    ]


def test_the_first_group_is_the_secret_and_the_kind_is_the_rules_name() -> None:
    rules = load(ACME.encode(), "mine.toml").rules
    [span] = Scanner(rules).find(f"ACME_KEY = '{TOKEN}'".encode())
    assert (span.kind, span.rule) == ("x-acme-token", "Acme_Token")
    assert values(ACME, f"ACME_KEY = '{TOKEN}'") == [TOKEN]


def test_secret_group_chooses() -> None:
    assert values(ACME + "secretGroup = 2\n", f"acme_key={TOKEN}") == [TOKEN[3:]]


def test_without_its_keyword_a_rule_finds_nothing() -> None:
    config = ACME.replace('["ACME"]', '["nowhere"]')
    assert values(config, f"acme_key={TOKEN}") == []


def test_without_keywords_a_rule_sees_everything() -> None:
    assert values(ACME.replace('keywords = ["ACME"]', ""), f"acme_key={TOKEN}") == [TOKEN]


def test_it_is_found_within_escaped_json() -> None:
    assert values(ACME, '{"a":"{\\"b\\":\\"x\\\\nacme_key = \'' + TOKEN + '\'\\"}"}') == [TOKEN]


def test_a_secret_of_low_entropy_is_none() -> None:
    config = ACME + "entropy = 3.0\n"
    assert values(config, "acme_key=ac-aaaaaaaaaaaaaaaaaaaa") == []
    assert values(config, f"acme_key={TOKEN}") == [TOKEN]
    assert values(ACME, "acme_key=ac-aaaaaaaaaaaaaaaaaaaa") != []


ALLOWS = [
    '[rules.allowlist]\nstopwords = ["{word}"]',
    '[[rules.allowlists]]\nstopwords = ["{word}"]',
    "[[rules.allowlists]]\nregexes = ['''{word}''']",
    "[[rules.allowlists]]\nregexTarget = 'match'\nregexes = ['''acme_key''']",
    "[[rules.allowlists]]\nregexTarget = 'line'\nregexes = ['''# fine$''']",
    '[allowlist]\nstopwords = ["{word}"]',
    "[[allowlists]]\ntargetRules = ['Acme_Token']\nstopwords = ['{word}']",
    "[[rules.allowlists]]\ncondition = 'AND'\nstopwords = ['{word}']\nregexes = ['''^ac-''']",
    "[[rules.allowlists]]\npaths = ['''x''']\nstopwords = ['{word}']",
]


@pytest.mark.parametrize("allow", ALLOWS)
def test_what_an_allowlist_names_is_no_find(allow: str) -> None:
    config = ACME + allow.format(word=TOKEN[5:12])
    assert values(config, f"x\nacme_key={TOKEN} # fine\ny") == []


REFUSES = [
    '[rules.allowlist]\nstopwords = ["elsewhere"]',
    "[[rules.allowlists]]\nregexTarget = 'line'\nregexes = ['''^# fine$''']",
    "[[rules.allowlists]]\nregexes = ['''acme_key''']",
    "[[allowlists]]\ntargetRules = ['other']\nstopwords = ['{word}']",
    "[[rules.allowlists]]\ncondition = 'AND'\nstopwords = ['{word}']\nregexes = ['''^bc-''']",
    "[[rules.allowlists]]\ncondition = 'AND'\nstopwords = ['{word}']\npaths = ['''.*''']",
    "[[rules.allowlists]]\ncondition = 'AND'\nstopwords = ['{word}']\ncommits = ['abc']",
    "[[rules.allowlists]]\npaths = ['''.*''']",
    "[[rules.allowlists]]\ncommits = ['abc']",
]


@pytest.mark.parametrize("refuse", REFUSES)
def test_what_no_allowlist_covers_is_found(refuse: str) -> None:
    config = ACME + refuse.format(word=TOKEN[5:12])
    assert values(config, f"x\nacme_key={TOKEN} # fine\ny") == [TOKEN]


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ("[extend]\nuseDefault = true\n" + ACME, "extend"),
        ("[extend]\npath = 'x'\n" + ACME, "extend"),
        (ACME.replace("(?i)acme", "(?<!x)acme"), "Acme_Token.*RE2 refuses"),
        (ACME.replace("(?i)acme", r"(?i)(a)\1cme"), "Acme_Token.*RE2 refuses"),
        (ACME + "secretGroup = 9\n", "Acme_Token.*group 9"),
        (ACME + "[[rules.allowlists]]\nregexes = ['''(''']", "Acme_Token, allowlist.*RE2 refuses"),
        (ACME + ACME.replace('title = "ours"', ""), "one id"),
        ("[[rules]]\nid = 'x'", "no regex"),
        ("[[rules]]\nid = 'x'\nregex = 'a*'", "matches nothing"),
        ("[[rules]]\nid = 3", "int"),
        ("rules = ", "mine.toml"),
    ],
)
def test_what_cannot_run_is_refused_by_name(config: str, what: str) -> None:
    with pytest.raises(Malformed, match=what):
        load(config.encode(), "mine.toml")


def test_a_rule_for_paths_alone_is_named_as_ignored() -> None:
    loaded = load((ACME + "[[rules]]\nid = 'keystore'\npath = '''\\.jks$'''\n").encode(), "mine.toml")
    assert [one.id for one in loaded.rules.detectors] == ["Acme_Token"]
    assert loaded.ignored == ("keystore: it looks at paths only",)


def test_no_pattern_makes_it_slow() -> None:
    config = "[[rules]]\nid = 'evil'\nregex = '''(a+)+(b+)+$c'''\nkeywords = ['a']\n"
    assert values(config, "a" * 200_000) == []
