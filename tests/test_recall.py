"""The bars of redaction: what the scanner finds of planted secrets, and what it takes for one in clean texts."""

import os
from collections import Counter
from pathlib import Path

import pytest

from policies.redaction.scan import Scanner
from tests.support.clean_texts import Clean, clean, minified
from tests.support.scanned import BARS, HELD_OUT, OFTEN, OURS, SOURCE, Alarms, alarms, missed, recall, scanner
from tests.support.secret_kinds import KINDS
from tests.support.secrets_corpus import PLACEMENTS, Planted, leaked, planted

KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def ours() -> Scanner:
    return scanner()


@pytest.fixture(scope="module")
def corpus() -> list[Planted]:
    return list(planted())


@pytest.fixture(scope="module")
def lost(corpus: list[Planted], ours: Scanner) -> list[Planted]:
    return missed(corpus, ours)


def _one(text: bytes, *places: tuple[int, int]) -> Planted:
    return Planted("key", "raw", "txt", text, places)


# --- What is found ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", BARS)
def test_recall_keeps_its_bar(placement: str, corpus: list[Planted], lost: list[Planted]) -> None:
    share = recall(corpus, lost)[placement]
    kinds = Counter(one.kind for one in lost if one.placement == placement)
    assert share >= BARS[placement], f"{share:.1%} of the secrets; missed: {dict(kinds)}"


def test_lines_and_values_that_no_rule_was_written_by_are_found_nearly_as_often(ours: Scanner) -> None:
    held_out = list(planted(20_261_125, held_out=True))
    shares = recall(held_out, missed(held_out, ours))
    assert min(shares.values()) >= HELD_OUT, shares


def test_no_kind_is_missed_as_a_whole(corpus: list[Planted], lost: list[Planted]) -> None:
    all_, not_ = (Counter((one.kind, one.placement) for one in some) for some in (corpus, lost))
    blind = [of for of, count in all_.items() if not_[of] == count]
    assert not blind


def test_a_scanner_does_not_reach_its_recall_by_masking_everything(corpus: list[Planted], ours: Scanner) -> None:
    beside = masked = 0
    for one in corpus:
        secret = {at for start, end in one.places for at in range(start, end)}
        found = {at for span in ours.find(one.text) for at in range(span.start, span.end)}
        beside += len(one.text) - len(secret)
        masked += len(found - secret)
    assert masked / beside < 0.15


# --- What is not a secret --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[Clean]:
    # A module's fixture comes before the `home` of a test: keys must not land in that of who runs it.
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("LEDGER", "XDG_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        return list(clean(3.5, tmp_path_factory.mktemp("clean") / "ledger"))


def test_source_raises_no_more_than_one_alarm_a_megabyte(sample: list[Clean], ours: Scanner) -> None:
    raised = _alarms([text for text in sample if text.of in SOURCE], ours)
    assert raised.often() <= OFTEN, raised.rules


def test_our_own_records_raise_none(sample: list[Clean], ours: Scanner) -> None:
    raised = _alarms([text for text in sample if text.of in OURS], ours)
    assert not raised.rules


def test_what_is_long_and_random_but_open_to_all_is_let_through(sample: list[Clean], ours: Scanner) -> None:
    raised = _alarms([text for text in sample if text.of not in (*SOURCE, *OURS)], ours)
    assert raised.often() <= OFTEN, raised.rules


@pytest.mark.soak
def test_twenty_megabytes_raise_no_more_than_one_alarm_each(tmp_path: Path, ours: Scanner) -> None:
    texts = list(clean(20, tmp_path / "ledger"))
    assert sum(len(text.text) for text in texts) >= 20_000_000
    raised = _alarms(texts, ours)
    assert raised.often(*SOURCE) <= OFTEN, raised.rules
    assert raised.often() <= OFTEN, raised.rules
    assert not any(raised.found[of] for of in OURS), raised.rules


def _alarms(texts: list[Clean], ours: Scanner) -> Alarms:
    def find(text: Clean) -> list[str]:
        return [f"{span.rule}: {text.text[max(0, span.start - 30) : span.end]!r}" for span in ours.find(text.text)]

    return alarms(texts, find)


# --- The measure itself ----------------------------------------------------------------------------------------


def test_the_corpus_is_as_large_as_it_must_be(corpus: list[Planted]) -> None:
    raw = Counter(one.kind for one in corpus if one.placement == "raw")
    assert len(raw) == len(KINDS) >= 48
    assert min(raw.values()) >= 5
    assert raw.total() >= 240
    assert {one.placement for one in corpus} == set(PLACEMENTS)


def test_the_corpus_comes_from_its_seed_alone() -> None:
    assert list(planted(3, 1)) == list(planted(3, 1))
    assert not {one.text for one in planted(3, 1)} & {one.text for one in planted(4, 1)}


def test_every_planted_text_is_lost_unless_its_secret_is_masked(corpus: list[Planted]) -> None:
    for one in (*corpus, *planted(5, held_out=True)):
        assert leaked(one, []), one
        assert not leaked(one, one.places), one


def test_a_secret_of_which_eight_characters_remain_is_lost() -> None:
    one = _one(b"key=" + KEY, (4, 36))
    assert leaked(one, [(4, 28)])
    assert leaked(one, [(12, 36)])
    assert leaked(one, [(4, 16), (24, 36)])
    assert not leaked(one, [(4, 29)])


def test_a_short_secret_of_which_half_remains_is_lost() -> None:
    one = _one(b"p=hunter2", (2, 9))
    assert leaked(one, [(2, 5)])
    assert not leaked(one, [(2, 6)])


def test_a_mask_beside_a_secret_hides_nothing() -> None:
    one = _one(b"key=" + KEY + b" and more", (4, 36))
    assert leaked(one, [(0, 4), (36, 45)])


def test_each_line_of_a_secret_must_be_masked() -> None:
    one = _one(b"+" + KEY + b"\n+" + KEY, (1, 33), (35, 67))
    assert leaked(one, [(1, 33)])
    assert not leaked(one, [(0, 67)])


def test_minified_javascript_keeps_its_strings_and_no_comment() -> None:
    source = "// why\nconst wanted = 'a // b'; /* how */\nfunction ask ( wanted ) { return `${ wanted } c` }\n"
    assert minified(source).strip() == "const a='a // b';function ask(a){return`${ wanted } c`}"
