"""Formats that are known by what is inside, and the views in which they are looked for."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.redaction import likely, structured
from policies.redaction.examples import spelled
from policies.redaction.plain import joined, plain
from policies.redaction.rules import shipped
from policies.redaction.scan import REVERSIBLE, Scanner
from tests.test_rules import whole

SECRETS = Scanner(shipped(), shipped().kinds - REVERSIBLE)
LABELS = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]
LABELS += ["DSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"]


def armour(label: str, lines: int = 8, newline: str = "\n") -> str:
    body = [spelled(f"⟨b64⟩·{label}{line}").decode()[:64] for line in range(lines)]
    return newline.join([f"-----BEGIN {label}-----", *body, f"-----END {label}-----"])


def found(text: str) -> list[tuple[str, str]]:
    data = text.encode()
    return [(span.kind, data[span.start : span.end].decode()) for span in SECRETS.find(data)]


@pytest.mark.parametrize(
    ("label", "newline"), list(product(LABELS, ["\n", "\r\n", "\\n", "\\\\n", "\\r\\n", "\n  ", "\n+", '"\n"', " "]))
)
def test_a_private_key_is_taken_whole_however_its_lines_are_spelled(label: str, newline: str) -> None:
    key = armour(label, newline=newline)
    assert found(f"cat id_rsa\n{key}\ndone") == [("private-key", key)]


def test_a_private_key_with_headers_is_taken_whole() -> None:
    key = armour("RSA PRIVATE KEY").replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,0A\n\n", 1)
    assert found(key) == [("private-key", key)]


@pytest.mark.parametrize("lines", [1, 2, 7])
def test_a_private_key_cut_off_by_a_limit_is_masked_as_far_as_it_goes(lines: int) -> None:
    key = armour("PRIVATE KEY").splitlines()[: lines + 1]
    [(kind, value)] = found("x\n" + "\n".join(key) + "\n[truncated]")
    assert kind == "private-key"
    assert all(line in value for line in key)
    assert "truncated" not in value


def test_two_private_keys_are_two_finds_and_the_text_between_stays() -> None:
    one, two = armour("PRIVATE KEY"), armour("EC PRIVATE KEY")
    assert [value for _, value in found(f"{one}\nin between\n{two}")] == [one, two]


def test_a_beginning_without_an_end_does_not_swallow_the_next_key() -> None:
    text = f"a line of code: '-----BEGIN PRIVATE KEY-----' in text\n{armour('PRIVATE KEY')}"
    assert found(text) == [("private-key", armour("PRIVATE KEY"))]


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----",
        'if "-----BEGIN RSA PRIVATE KEY-----" in text and text.endswith("-----END RSA PRIVATE KEY-----"):',
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        armour("PUBLIC KEY"),
        armour("CERTIFICATE"),
        armour("PGP PUBLIC KEY BLOCK"),
    ],
)
def test_markers_without_a_key_and_public_keys_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_a_key_of_sixteen_thousand_bits_in_json_within_json_is_taken_whole() -> None:
    key = armour("PRIVATE KEY", lines=196)
    text = json.dumps({"a": json.dumps({"b": key})})
    [(kind, value)] = found(text)
    assert kind == "private-key"
    assert len(value) > len(key)


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("dXNlcjpwYXNz" + "d29yZDE=", True),
        ("dXNlcjpwYXNz" + "d29yZDE", True),
        ("authentication", False),
        ("YmluYXJ5AAEC" + "OgMEBQ==", False),
        ("bm9jb2xvbmhlcmU=", False),
        ("dXNlcjo=", False),
    ],
)
def test_basic_is_a_name_and_a_password_in_base64(value: str, is_one: bool) -> None:
    assert structured.basic(value.encode()) is is_one


@pytest.mark.parametrize(
    "text",
    [
        "the mnemonic for this instruction is not documented and you must look at the manual before using it",
        "seed phrase words are chosen from the list of two thousand and forty eight words that the standard gives",
        "mnemonic: move load store branch",
        "wallet: marble marble marble marble marble marble marble marble marble marble marble marble",
    ],
)
def test_sentences_about_seeds_are_no_seed(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "uint8_t key[16] = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15};",
        "uint8_t zero_key[16] = {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};",
        "int key_scores[8] = {512, 1031, 44, 2, 77, 90, 3000, 12};",
        "static const uint8_t sbox[8] = {0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5};",
        "public_key = [31, 139, 68, 2, 169, 209, 124, 51]",
        "keymap[] = {0x1f, 0x8b, 0x44, 0x02, 0xa9, 0xd1, 0x7c, 0x33}",
    ],
)
def test_numbers_that_are_no_key_are_left_alone(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "value",
    [
        "getElementsByTagName2",
        "convert_tokens_to_ids_v2",
        "application/x-www-form-urlencoded2",
        "XMLHttpRequestUpload3",
        "your-api-key-goes-here-1",
        "11111111111111111111a",
        "com.example.service.Handler1",
        "ffffffffffffffffffffffffffffffff",
        "1234567890123456",
    ],
)
def test_names_and_placeholders_are_not_drawn_by_chance(value: str) -> None:
    assert not likely.strong(value.encode())


def test_nearly_all_that_is_drawn_by_chance_is_told() -> None:
    for alphabet, length in product("wxaub", (20, 32, 40, 64)):
        drawn = [spelled(f"⟨{alphabet}{length}⟩·{number}")[:length] for number in range(200)]
        assert sum(map(likely.random, drawn)) >= 192, (alphabet, length)


@given(st.text(alphabet="ab\"'/\\\n\té€⟦😀&%=+<>0A", max_size=60), st.integers(1, 3), st.booleans())
def test_the_plain_view_gives_back_what_json_wrapped_and_every_place_leads_home(
    text: str, depth: int, is_ascii: bool
) -> None:
    wrapped = text.replace("\\", "").replace("%", "").replace("&", "").replace("😀", "")
    inner = wrapped
    for _ in range(depth):
        wrapped = json.dumps(wrapped, ensure_ascii=is_ascii)[1:-1]
    data = wrapped.encode()
    view = plain(data)
    spelling = data if view is None else view.text
    assert spelling.decode() == inner
    if view is not None:
        reached = 0
        for at in range(len(view.text)):
            start, end = view.origin(at, at + 1)
            assert start <= reached <= end
            reached = end
        assert reached == len(data)


@given(st.binary(max_size=200))
def test_views_of_any_bytes_lead_to_places_within_them(data: bytes) -> None:
    for view in (plain(data), joined(data, (b"ab",))):
        for at in range(0 if view is None else len(view.text)):
            assert view is not None
            start, end = view.origin(at, at + 1)
            assert 0 <= start < end <= len(data)


def test_a_keyword_at_the_edge_of_a_chunk_is_seen() -> None:
    secret = spelled("gh·p_⟨w36⟩").decode()
    for offset in range(-45, 5):
        text = " " * (65536 + offset) + secret + " x"
        assert found(text) == [("github-token", secret)], offset


def test_a_token_longer_than_its_window_is_masked_to_its_end() -> None:
    token = spelled("eyJ⟨u60⟩.eyJ⟨u30000⟩.⟨u43⟩").decode()
    covered = sum(len(value) for _, value in found(f"Bearer {token} x"))
    assert covered >= len(token) - 50


def test_names_of_people_and_places_are_of_kinds_that_come_back() -> None:
    data = b"in /home/mira/src by Mira <mira@work-place.org>, USER=mira"
    assert {span.kind for span in whole().find(data)} == REVERSIBLE


def test_console_keys_and_titles_are_kinds_of_their_own() -> None:
    data = spelled("master_key_05 = ⟨x32⟩\ntitle 0100⟨X12⟩\nslot0x25KeyX=⟨X32⟩\n")
    assert {span.kind for span in whole().find(data)} == {"console-key", "title-id"}
