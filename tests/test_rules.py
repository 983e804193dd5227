"""Rules: each finds its own examples and nothing near them, in every spelling, in linear time."""

import base64
import gzip
import json
import time
import tomllib
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.redaction import rules
from policies.redaction.examples import spelled
from policies.redaction.plain import Spellings, plain
from policies.redaction.rules import Rule, RuleSet, detector, rule_set, shipped, texts
from policies.redaction.scan import REVERSIBLE, OutOfTime, Scanner, TooMany
from policies.redaction.span import Span
from schemas.errors import Malformed

RULES = [msgspec.convert(rule, Rule) for text in texts().values() for rule in tomllib.loads(text.decode())["rule"]]
EXAMPLES = [(rule, spelled(text)) for rule in RULES for text in rule.examples]
MISSES = [(rule, spelled(text)) for rule in RULES for text in rule.misses]
PSEUDONYM = "⟦{}:MFRGGZDFMZTWQ2LK⟧"


def named(pair: tuple[Rule, bytes]) -> str:
    return pair[0].id


@cache
def whole() -> Scanner:
    return Scanner(shipped())


@cache
def only(name: str) -> Scanner:
    chosen = tuple(one for one in shipped().detectors if one.id == name)
    return Scanner(RuleSet(chosen, name))


def masked(data: bytes, spans: list[Span]) -> bytes:
    for span in reversed(spans):
        data = data[: span.start] + PSEUDONYM.format(span.kind).encode() + data[span.end :]
    return data


def values(data: bytes, spans: list[Span]) -> list[bytes]:
    return [data[span.start : span.end] for span in spans]


def test_every_rule_has_examples_that_must_and_must_not_match() -> None:
    assert [rule.id for rule in RULES if not rule.examples or not rule.misses] == []


def test_forty_eight_kinds_and_more_are_covered() -> None:
    assert len(shipped().kinds - REVERSIBLE) >= 48


@pytest.mark.parametrize("pair", EXAMPLES, ids=named)
def test_an_example_is_found(pair: tuple[Rule, bytes]) -> None:
    rule, text = pair
    assert {span.kind for span in only(rule.id).find(text)} == {rule.kind}


@pytest.mark.parametrize("pair", MISSES, ids=named)
def test_what_is_only_near_is_left_alone(pair: tuple[Rule, bytes]) -> None:
    rule, text = pair
    assert only(rule.id).find(text) == []


@pytest.mark.parametrize("pair", EXAMPLES, ids=named)
def test_an_example_is_found_by_all_rules_together_at_least_as_far(pair: tuple[Rule, bytes]) -> None:
    rule, text = pair
    found = whole().find(text)
    for span in only(rule.id).find(text):
        assert any(one.start <= span.start and span.end <= one.end for one in found)


@pytest.mark.parametrize("pair", EXAMPLES, ids=named)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_an_example_is_found_within_json_within_json(pair: tuple[Rule, bytes], depth: int, is_ascii: bool) -> None:
    rule, raw = pair
    text = "before\n" + raw.decode() + "\nafter"
    for _ in range(depth):
        text = json.dumps({"output": text}, ensure_ascii=is_ascii)
    assert rule.kind in {span.kind for span in only(rule.id).find(text.encode())}


@pytest.mark.parametrize("pair", [pair for pair in EXAMPLES if pair[0].token], ids=named)
def test_a_token_is_found_with_slashes_and_signs_escaped(pair: tuple[Rule, bytes]) -> None:
    rule, raw = pair
    text = "x\n" + raw.decode()
    escaped = json.dumps(text).replace("/", "\\/").replace("&", "\\u0026").replace("=", "\\u003d")
    assert rule.kind in {span.kind for span in only(rule.id).find(escaped.encode())}


@pytest.mark.parametrize("pair", EXAMPLES, ids=named)
def test_masking_makes_no_new_match(pair: tuple[Rule, bytes]) -> None:
    _, text = pair
    once = masked(text, whole().find(text))
    assert values(once, whole().find(once)) == []


@pytest.mark.parametrize("pair", EXAMPLES, ids=named)
def test_masking_in_json_makes_no_new_match(pair: tuple[Rule, bytes]) -> None:
    _, text = pair
    whole_text = json.dumps({"a": json.dumps([text.decode()])}).encode()
    once = masked(whole_text, whole().find(whole_text))
    assert values(once, whole().find(once)) == []


@pytest.mark.parametrize("before", range(65_536 - 60, 65_536 + 20, 3))
@pytest.mark.parametrize("filler", ["a\\n", "\\\\", "x y\\n"])
def test_an_escaped_secret_is_found_wherever_a_part_of_the_text_ends(before: int, filler: str) -> None:
    secret = 'password = "hunter2!/hunter"'
    text = (filler * before)[:before] + json.dumps(json.dumps(secret).replace("/", "\\/"))
    found = whole().find(text.encode())
    assert any("unter" in text.encode()[span.start : span.end].decode() for span in found)


ESCAPES = ["\\n", "\\\\n", "\\u0026", "%41", "&amp;", "\\", "a", " ", "é", "n", '\\"', "&#39;"]


@given(st.lists(st.sampled_from(ESCAPES), max_size=30).map("".join), st.integers(0, 40), st.integers(0, 40))
def test_a_window_of_a_spelling_is_that_of_its_text_and_leads_back_into_it(text: str, first: int, last: int) -> None:
    data = text.encode()
    start, end = min(first, last, len(data)), min(max(first, last), len(data))
    view, whole_text = Spellings(data).window(start, end), plain(data)
    if view is None:
        assert whole_text is None or data[start:end] in whole_text.text
        return
    assert whole_text is not None
    assert view.text in whole_text.text
    spans = [view.origin(at, at + 1) for at in range(len(view.text))]
    assert all(begin < stop for begin, stop in spans)
    assert spans == sorted(spans)
    # What is cut at its edges is taken whole, and nothing beyond.
    assert all(span[1] <= end - start + 12 for span in spans)


AROUND = ["{}", "password = '{}'", "API_KEY={}", "https://u:{}@h/", "Bearer {}", '"key": "{}",', "the password is {}."]


@pytest.mark.parametrize("around", AROUND)
def test_a_pseudonym_of_any_kind_is_never_a_secret(around: str) -> None:
    for kind in shipped().kinds:
        text = around.format(PSEUDONYM.format(kind))
        assert whole().find(text.encode()) == [], kind
        assert whole().find(json.dumps(text).encode()) == [], kind


def test_a_secret_around_a_planted_pseudonym_does_not_pass() -> None:
    secret = spelled("gh·p_⟨w36⟩").decode()
    key = spelled("-----BEGIN PRIVATE KEY-----\n⟨b64⟩\nPSEUDONYM\n⟨b64⟩\n-----END PRIVATE KEY-----").decode()
    mark = PSEUDONYM.format("x")
    text = f"{mark}{secret}{mark} {key.replace('PSEUDONYM', mark)}".encode()
    once = masked(text, whole().find(text))
    assert secret.encode() not in once
    assert not any(line.encode() in once for line in key.splitlines() if len(line) == 64)


def test_a_key_split_by_a_newline_is_still_found() -> None:
    secret = spelled("gh·p_⟨w36⟩").decode()
    for glue in ("\n", "\r\n    ", "\\\n", '" +\n    "', "' '", "\n+  ", '"\n  "'):
        text = f"x {secret[:17]}{glue}{secret[17:]} y".encode()
        assert values(text, whole().find(text)) == [f"{secret[:17]}{glue}{secret[17:]}".encode()], glue


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: base64.b64encode(text),
        lambda text: base64.urlsafe_b64encode(b"~~" + text),
        lambda text: b"x/" + base64.b64encode(text),
        lambda text: text.hex().encode(),
        lambda text: text.hex().upper().encode(),
        lambda text: base64.b64encode(gzip.compress(text)),
        lambda text: gzip.compress(text),
        lambda text: base64.b64encode(text.decode().encode("utf-16-le")),
        lambda text: base64.encodebytes(text * 3),
        lambda text: quote(text.decode(), safe="").encode(),
    ],
)
def test_a_token_one_encoding_deep_is_found_and_masked_whole(encode) -> None:  # type: ignore[no-untyped-def]
    secret = spelled("gh·p_⟨w36⟩")
    text = b'{"data": "' + encode(b"GITHUB_TOKEN=" + secret) + b'"}'
    found = whole().find(text)
    assert "github-token" in {span.kind for span in found}
    assert sum(span.end - span.start for span in found) >= 40


def test_a_picture_in_base64_holds_no_secret() -> None:
    from random import Random

    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + Random(1).randbytes(400_000))
    assert whole().find(b'"data:image/png;base64,' + picture + b'"') == []


@pytest.mark.parametrize(
    "text",
    [
        "commit ⟨x40⟩",
        "sha256:⟨x64⟩",
        "⟨x8⟩-⟨x4⟩-⟨x4⟩-⟨x4⟩-⟨x12⟩",
        '"integrity": "sha512-⟨b86⟩=="',
        'name = "x"\nversion = "1.0"\nchecksum = "⟨x64⟩"',
        "--hash=sha256:⟨x64⟩ \\\n    --hash=sha256:⟨x64⟩",
        '{"key":"requests/⟨x64⟩","digest":"⟨x64⟩"}',
        '{"cache_key": "⟨x64⟩", "object_key": "a/⟨x32⟩"}',
        "artifact://⟨x64⟩",
        '"blob": "⟨x64⟩", "root": "⟨b43⟩=", "size": 12',
        '{"id":"resp_⟨x48⟩","call_id":"call_⟨w24⟩","item":"fc_⟨x48⟩"}',
        '"encrypted": false, "token_count": 1234567890123456',
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI⟨b43⟩ someone",
        "-----BEGIN CERTIFICATE-----\n⟨b64⟩\n⟨b64⟩\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\n⟨b64⟩\n-----END PUBLIC KEY-----",
        'etag: W/"⟨x32⟩"\nx-request-id: req_⟨x32⟩',
        "00000000: ⟨x4⟩ ⟨x4⟩ ⟨x4⟩ ⟨x4⟩ ⟨x4⟩ ⟨x4⟩ ⟨x4⟩ ⟨x4⟩  ................",
        'const passwordField = document.getElementById("password-field-2")',
        "token_type_ids = tokenizer2.convert_tokens_to_ids(tokens)",
        'keys = ["alpha1", "beta2"]; for key in keys2: print(key)',
        "def authenticate(self, username=None, password=None, token=None):",
        "raise ValueError('password must be at least 12 characters')",
        '{"tokens": {"input_tokens": 12345678901234567, "output_tokens": 1}}',
    ],
)
def test_what_programs_and_records_are_full_of_is_left_alone(text: str) -> None:
    scanner = Scanner(shipped(), shipped().kinds - REVERSIBLE)
    data = spelled(text)
    assert values(data, scanner.find(data)) == []
    data = json.dumps(data.decode()).encode()
    assert values(data, scanner.find(data)) == []


@pytest.mark.parametrize("example", ["gh·p_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "AK·IAAAAAAAAAAAAAAAAA"])
def test_a_pattern_drawn_with_one_letter_is_no_secret(example: str) -> None:
    assert whole().find(spelled(example)) == []


def test_spans_are_sorted_apart_and_within_the_text() -> None:
    text = b"\n".join(raw for _, raw in EXAMPLES)
    found = whole().find(text)
    assert found == sorted(found)
    assert all(one.end <= later.start for one, later in pairwise(found))
    assert found[-1].end <= len(text)
    assert len(found) > 200


def test_a_span_never_cuts_a_character_or_an_escape() -> None:
    text = json.dumps({"ü": "das Passwort lautet Über9Größe!\nweiter €"}, ensure_ascii=False).encode()
    for span in whole().find(text):
        text[span.start : span.end].decode()
    assert b"Gr\xc3\xb6\xc3\x9fe" not in masked(text, whole().find(text))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(EXAMPLES), st.binary(max_size=40))
def test_any_bytes_around_a_token_do_not_hide_it(before: bytes, pair: tuple[Rule, bytes], after: bytes) -> None:
    rule, raw = pair
    text = before + b"\n" + raw + b"\n" + after
    found = whole().find(text)
    assert all(0 <= span.start < span.end <= len(text) for span in found)
    assert all(one.end <= later.start for one, later in pairwise(found))
    if rule.token:
        at = len(before) + 1
        assert any(span.start < at + len(raw) and at < span.end for span in found)


def test_out_of_time_is_an_error_and_no_answer() -> None:
    with pytest.raises(OutOfTime):
        whole().find(b"password " * 10_000, lambda: True)


def test_the_version_tells_rules_and_kinds() -> None:
    first = Scanner(shipped())
    assert first.version == Scanner(shipped()).version
    assert first.version != Scanner(shipped(), {"github-token"}).version
    assert first.version != Scanner(RuleSet(shipped().detectors, "other")).version


def test_only_the_kinds_that_are_asked_for_are_found() -> None:
    scanner = Scanner(shipped(), {"email"})
    text = spelled("mail mira@work-place.org gh·p_⟨w36⟩")
    assert [span.kind for span in scanner.find(text)] == ["email"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"token": "(?=x)y"}, "RE2 refuses"),
        ({"token": r"(a)\1"}, "RE2 refuses"),
        ({"token": "a" * 20_000}, "over"),
        ({"token": None}, "one of"),
        ({"pattern": "x"}, "one of"),
        ({"near": "x"}, "one of"),
        ({"keywords": [""]}, "keyword"),
        ({"check": "magic"}, "check"),
        ({"token": None, "pattern": "x", "group": 3}, "group"),
        ({"unless": "("}, "RE2 refuses"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_name(change: dict[str, object], what: str) -> None:
    rule = {"id": "mine", "kind": "k", "keywords": ["abc"], "token": "abc[0-9]{8}"} | change
    with pytest.raises(Malformed, match=f"mine.*{what}"):
        detector(msgspec.convert({name: value for name, value in rule.items() if value is not None}, Rule))


@pytest.mark.parametrize(
    "text", [b"x", b"version = 1", b"version = 1\n[[rule]]\nid = 1", b"\xff", b"version=1\nrule=[]\nz=1"]
)
def test_a_file_that_holds_no_rules_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        rule_set(text, "mine.toml")


def test_no_example_in_the_files_has_the_form_of_a_credential() -> None:
    folder = Path(rules.__file__).parent.parent / "data" / "redaction"
    scanner = Scanner(RuleSet(tuple(one for one in shipped().detectors if one.wraps), "tokens"), shipped().kinds)
    for path in folder.glob("*.toml"):
        text = path.read_bytes()
        assert values(text, scanner.find(text)) == [], path.name


def near_misses(rule: Rule, size: int) -> bytes:
    """Beginnings of what the rule looks for, again and again, and its keywords alone."""
    parts = [spelled(text)[: len(spelled(text)) * 2 // 3] for text in rule.examples]
    parts += [spelled(text) for text in rule.misses]
    parts += [word.encode() for word in rule.keywords] * 3
    unit = b" ".join(parts) + b"\n" + b"".join(word.encode() for word in rule.keywords) + b"A" * 40
    return (unit * (size // len(unit) + 1))[:size]


SLOWEST_S = 4.0


def slow(rule: Rule, size: int) -> float:
    scanner, text = only(rule.id), near_misses(rule, size)
    started = time.process_time()
    # Of near misses some are finds: too many of them are refused, and soon.
    with suppress(TooMany):
        scanner.find(text)
    return time.process_time() - started


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_near_misses_take_linear_time(rule: Rule) -> None:
    small, large = slow(rule, 1 << 17), slow(rule, 1 << 20)
    for _ in range(3):
        # A machine that is busy with other things slows one look down, and not the next three too.
        if large < max(small * 8 * 3, 0.3):
            break
        small, large = max(small, slow(rule, 1 << 17)), min(large, slow(rule, 1 << 20))
    assert large < max(small * 8 * 3, 0.3), f"8 times the text, {large / small:.1f} times the time"
    assert large < SLOWEST_S


@pytest.mark.soak
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_fifty_megabytes_of_near_misses_take_linear_time(rule: Rule) -> None:
    small, large = slow(rule, 1_000_000), slow(rule, 50_000_000)
    assert large < small * 50 * 2


UNITS = [b"-----BEGIN PRIVATE KEY-----", b"eyJ", b"\\", b"://a:b", b"%41", b"&amp;", b"A", b'\n"+\n"', b"key=", b"0"]
UNITS += [b"\x1f\x8b\x08", b"seed " + b"abc " * 11, b"password is ", b"0x1f, ", b"pass=" * 3 + b"'"]


@pytest.mark.parametrize("unit", UNITS)
def test_one_megabyte_of_one_thing_is_looked_through_in_seconds(unit: bytes) -> None:
    text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
    started = time.process_time()
    whole().find(text)
    assert time.process_time() - started < 20
