"""Prices: exact, rounded up, unknown where they are, and never less at worst than what is paid."""

import itertools
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices import Usage as Billed
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import budget, prices
from policies.prices import Usage, cost, known, snapshot, worst
from tests.support.questions import NOON, policy

TIERS = ["", "default", "auto", "priority", "flex"]
LONG = 272_000
"""Tokens of input after which gpt-5.6-sol and others cost more, all of it."""


@pytest.mark.parametrize(
    ("model", "usage", "micro"),
    [
        ("gpt-5.3-codex", Usage(1_000_000, 0, 1_000_000), 15_750_000),
        ("gpt-5.2-codex", Usage(1_000, 400, 100, 50), 1_050 + 70 + 1_400),
        ("gpt-5.6-sol", Usage(1_000, 0, 0), 4_000),
        ("gpt-5.6-sol", Usage(1_000, 0, 0, 0, 1_000), 5_000),
        ("gpt-5.6-sol", Usage(LONG, 0, 10), 1_088_000 + 200),
        ("gpt-5.6-sol", Usage(LONG + 1, 0, 10), 2_176_008 + 300),
        # Rounded up, by the call and not by its parts.
        ("gpt-5-nano", Usage(1, 0, 0), 1),
        ("gpt-5-nano", Usage(1, 0, 1), 1),
        ("gpt-5-nano", Usage(0, 0, 0), 0),
    ],
)
def test_what_a_call_costs(model: str, usage: Usage, micro: int) -> None:
    assert cost(model, usage, NOON) == micro


@pytest.mark.parametrize(
    "model",
    [
        "",
        "gpt",
        "gpt-5-nonsense",
        "gpt-5.2-codex-mini",
        "GPT-5.2-CODEX",
        " gpt-5",
        "gpt-5 ",
        "gpt-5\n",
        "openai/gpt-5",
        "claude-sonnet-4-5",
        # These the library takes for a model whose name they begin with, or contain.
        "gpt-5-nano-anything",
        "computer-use-me",
        "gpt-3.5-turbo-instruct-x",
        "gpt-4o-realtime-x",
        "ft:gpt-4o-2024-08-06:me::x",
        "my-moderation-model",
        # By a pattern with a date, which has to be one.
        "gpt-5.6-sol-2026-9-1",
        "gpt-5.6-sol-2026-09-01-x",
        "gpt-5.6-sol-2026-09-01\n",
        # Not by tokens of text alone.
        "whisper-1",
        "tts-1",
        "gpt-image-1",
        "gpt-4o-audio-preview",
        "x" * 100_000,
    ],
    ids=lambda model: repr(model[:30]),
)
def test_a_model_that_is_not_exactly_known_has_no_price(model: str) -> None:
    assert cost(model, Usage(10, 0, 10), NOON) is None
    assert worst(model, 10, 10, NOON) is None
    assert not known(model, NOON)


def test_a_retired_models_price_is_remembered_and_a_dated_name_is_known() -> None:
    assert known("gpt-5.2-codex", NOON)
    assert known("gpt-5-2025-08-07", NOON)
    assert cost("gpt-5.6-sol-2026-09-01", Usage(7, 0, 7), NOON) == cost("gpt-5.6-sol", Usage(7, 0, 7), NOON)


def test_a_price_is_that_of_the_day() -> None:
    before = datetime(2026, 8, 20, 23, 59, tzinfo=UTC)
    assert cost("gpt-5.6-sol", Usage(1_000), before) == 5_000
    assert cost("gpt-5.6-sol", Usage(1_000), before + timedelta(minutes=1)) == 4_000


@pytest.mark.parametrize(
    ("tier", "micro"), [("", 4_000), ("default", 4_000), ("flex", 2_000), ("priority", 8_000), ("auto", 8_000)]
)
def test_a_tier_of_service_has_its_own_price_and_auto_may_be_the_dearest(tier: str, micro: int) -> None:
    assert cost("gpt-5.6-sol", Usage(1_000), NOON, tier) == micro


@pytest.mark.parametrize("tier", ["scale", "Priority", "batch", "x"])
def test_an_unknown_tier_has_no_price(tier: str) -> None:
    assert cost("gpt-5.6-sol", Usage(1_000), NOON, tier) is None
    assert worst("gpt-5.6-sol", 1_000, 10, NOON, 0, tier) is None


def test_the_snapshot_is_named_and_stays() -> None:
    assert len(bytes.fromhex(snapshot())) == 32
    assert snapshot() == snapshot()


MODELS = ["gpt-5.6-sol", "gpt-5.6-luna", "gpt-5.4", "gpt-5.5-pro", "gpt-5.3-codex", "gpt-5-nano", "gpt-5-pro", "o3"]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.integers(0, 2 * LONG) | st.integers(LONG - 2, LONG + 2),
    st.integers(0, 100_000),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from(TIERS),
)
def test_the_worst_is_at_least_any_real_cost(
    model: str, most: int, output: int, parts: tuple[float, float, float, float], tier: str
) -> None:
    real = int(most * parts[0])
    cached = int(real * parts[1])
    usage = Usage(real, cached, int(output * parts[2]), 0, int((real - cached) * parts[3]))
    paid, bound = cost(model, usage, NOON, tier), worst(model, most, output, NOON, 0, tier)
    if bound is None:
        # A tier that the model does not have.
        assert paid is None
    else:
        assert paid is not None
        assert 0 <= paid <= bound


@pytest.mark.parametrize(
    "usage",
    [Usage(10, 50, 0), Usage(10, -5, 0), Usage(10, 0, 0, 0, 99), Usage(10, 8, 0, 0, 8), Usage(10, 0, 0, 99, -1)],
)
def test_a_usage_that_contradicts_itself_still_has_a_cost_within_its_worst(usage: Usage) -> None:
    paid, bound = cost("gpt-5.6-sol", usage, NOON), worst("gpt-5.6-sol", 10, 0, NOON)
    assert paid is not None
    assert bound is not None
    assert 0 <= paid <= bound


@pytest.mark.parametrize("model", sorted(prices._names()[0]))
def test_our_arithmetic_is_the_librarys(model: str) -> None:
    sizes = [0, 1, 999, LONG, LONG + 1, 5_000_000]
    for price in prices._prices(model, prices._day(NOON), "auto"):
        for size, cached, written in itertools.product(sizes, sizes, sizes):
            usage = Usage(size, cached, 77, 0, written)
            read = min(cached, size)
            told = {"input_tokens": size, "cache_read_tokens": read, "output_tokens": 77}
            if getattr(price, "cache_write_mtok", None) is not None:
                told["cache_write_tokens"] = min(written, size - read)
            assert prices._reckon(price, usage) == price.calc_price(Billed(**told))["total_price"]


def test_fees_of_tools_are_added() -> None:
    plain, more = worst("gpt-5", 10, 10, NOON), worst("gpt-5", 10, 10, NOON, tool_fees=30_000)
    assert plain is not None
    assert more == plain + 30_000
    assert worst("unknown", 10, 10, NOON, tool_fees=30_000) is None


def test_names_that_strangers_ask_for_are_not_kept() -> None:
    for number in range(5_000):
        assert not known(f"gpt-5-{number}-nonsense", NOON)
    assert prices._prices.cache_info().currsize <= 1024
    snapshot_of_theirs = sys.modules["genai_prices.data_snapshot"].get_snapshot()
    assert len(snapshot_of_theirs._provider_cache) < 100


@pytest.mark.parametrize(
    ("limits", "wanted", "found"),
    [
        ([], None, 32_768),
        ([], 100, 100),
        ([], 10**9, 32_768),
        ([None], None, 32_768),
        ([1_000], None, 1_000),
        ([1_000], 2_000, 1_000),
        ([1_000, 500], 2_000, 500),
        ([100_000], None, 100_000),
        ([100_000, None], 50_000, 50_000),
    ],
)
def test_output_is_clamped_to_the_smallest_limit(limits: list[int | None], wanted: int | None, found: int) -> None:
    assert budget.clamp_output([policy(max_output_tokens=limit) for limit in limits], wanted) == found


@pytest.mark.parametrize(("caps", "found"), [([], None), ([None], None), (["5", None, "2"], 2_000_000), (["0"], 0)])
def test_the_smallest_cap_holds(caps: list[str | None], found: int | None) -> None:
    assert budget.cap([policy(max_cost_usd=None if usd is None else Decimal(usd)) for usd in caps]) == found


def test_a_reservation_counts_every_byte_as_a_token_and_can_not_be_talked_down() -> None:
    assert budget.reserve([policy()], "gpt-5.3-codex", 1_000_000, 1_000_000, 7, NOON) == 1_750_000 + 458_752 + 7
    assert budget.reserve([policy()], "gpt-5.3-codex", 0, 0, 0, NOON) == 0
    assert budget.reserve([policy()], "never-heard-of", 1, 1, 0, NOON) is None
