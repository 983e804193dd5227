"""What a model call costs, by the price list that is installed: dated, tiered, and never fetched.

The list is genai-prices'. Its own search takes a name for one that resembles it (`gpt-5-nano-anything`), and keeps
every name that it was ever asked for; here a model is known by one of its exact names, or not at all.
"""

import re
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_PROVIDER = "openai"
# What is billed besides tokens of text; of a model that has other prices we know only a part of what it costs.
_TEXT = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"}
_BESIDES = {"web_searches_kcount", "storage_searches_kcount"}


class Usage(NamedTuple):
    """Tokens as billed.

    Attributes:
        cached, written: read from and written to the cache, both part of `input`.
        reasoning: part of `output`.
    """

    input: int
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    written: int = 0


@cache
def snapshot() -> str:
    """BLAKE3 of the installed price list, hex: which prices a cost was reckoned by."""
    from importlib.resources import files

    from blake3 import blake3

    return blake3(files("genai_prices").joinpath("data.py").read_bytes()).hexdigest()


@cache
def _provider() -> "Provider":
    # Not the library's current snapshot, which another part of the process may have set to fetched prices.
    from genai_prices.data import providers

    return next(provider for provider in providers if provider.id == _PROVIDER)


@cache
def _names() -> "tuple[dict[str, ModelInfo], list[tuple[re.Pattern[str], ModelInfo]]]":
    """Models by exact name, and by patterns of names that a date ends."""
    exact: dict[str, ModelInfo] = {}
    dated: list[tuple[re.Pattern[str], ModelInfo]] = []
    for model in _provider().models:
        waiting: list[Any] = [model.match]
        while waiting:
            clause = waiting.pop()
            if (any_of := getattr(clause, "or_", None)) is not None:
                waiting += any_of
            elif (name := getattr(clause, "equals", None)) is not None:
                exact.setdefault(name, model)
            elif (pattern := getattr(clause, "regex", "")) and pattern.startswith("^") and pattern.endswith("$"):
                dated.append((re.compile(pattern), model))
    return exact, dated


@lru_cache(maxsize=1024)
def _prices(name: str, day: datetime, tier: str) -> "tuple[ModelPrice, ...]":
    """What a model may cost on a day, in the tier of service; nothing where that is unknown."""
    exact, dated = _names()
    model = exact.get(name)
    if model is None and len(name) <= 200:
        model = next((found for pattern, found in dated if pattern.fullmatch(name)), None)
    if model is None:
        return ()
    # `auto` is whatever the account is set to.
    tiers = ["", *_tiers(model, day)] if tier == "auto" else ["" if tier == "default" else tier]
    if not {"", *_tiers(model, day)}.issuperset(tiers):
        return ()
    found = tuple(model.get_prices(day, {"service_tier": one} if one else None) for one in tiers)
    return found if all(map(_is_complete, found)) else ()


def _tiers(model: "ModelInfo", day: datetime) -> list[str]:
    """Tiers of service that have prices of their own on that day."""
    return [
        variant.when["service_tier"]
        for variant in model.price_variants or ()
        if list(variant.when) == ["service_tier"] and (variant.constraint is None or variant.constraint.active(day))
    ]


def _is_complete(price: "ModelPrice") -> bool:
    priced = {key for key, value in vars(price).items() if value is not None}
    return priced >= {"input_mtok", "output_mtok"} and not priced - _TEXT - _BESIDES


def known(model: str, when: datetime) -> bool:
    """Whether the list has a price for a model."""
    return bool(_prices(model, _day(when), ""))


def cost(model: str, usage: Usage, when: datetime, tier: str = "") -> int | None:
    """What a call has cost, in micro-USD, rounded up; None where the model's price is unknown.

    Args:
        model: as it was sent.
        when: of the request.
        tier: `service_tier` that the answer names; `auto`: the dearest that the model has.
    """
    return max((_micro(_reckon(price, usage)) for price in _prices(model, _day(when), tier)), default=None)


def worst(
    model: str, input_tokens: int, output_tokens: int, when: datetime, tool_fees: int = 0, tier: str = ""
) -> int | None:
    """The most that a call of at most so many tokens may cost, in micro-USD; None where the price is unknown.

    Args:
        tool_fees: micro-USD for hosted tools, added.
        tier: `service_tier` of the request; `auto`: the dearest that the model has.
    """
    prices = _prices(model, _day(when), tier)
    # Within one tier of sizes the price is linear in each part, so that an extreme is the dearest: all input fresh,
    # all read from the cache, or all written to it, which may cost more than fresh input.
    found = [
        _reckon(price, split)
        for price in prices
        for tokens in _sizes(price, input_tokens)
        for split in (
            Usage(tokens, output=output_tokens),
            Usage(tokens, cached=tokens, output=output_tokens),
            Usage(tokens, written=tokens, output=output_tokens),
        )
    ]
    return _micro(max(found)) + tool_fees if found else None


def _sizes(price: "ModelPrice", input_tokens: int) -> set[int]:
    """The size of the input, and the largest in each cheaper or dearer tier below it."""
    tiers = [tier for found in vars(price).values() for tier in getattr(found, "tiers", ())]
    return {input_tokens} | {tier.start for tier in tiers if tier.start < input_tokens}


def _reckon(price: "ModelPrice", usage: Usage) -> Decimal:
    """What the library's own `calc_price` says, which takes thirty times as long."""
    cached = min(max(usage.cached, 0), usage.input)
    written = min(max(usage.written, 0), usage.input - cached)
    read, write = _rate(price, "cache_read_mtok", usage.input), _rate(price, "cache_write_mtok", usage.input)
    total = Decimal(0)
    fresh = usage.input
    # Where it has no price of its own, it is input like any other.
    for tokens, rate in ((cached, read), (written, write)):
        if rate is not None:
            fresh -= tokens
            total += tokens * rate
    for tokens, name in ((fresh, "input_mtok"), (usage.output, "output_mtok")):
        total += tokens * (_rate(price, name, usage.input) or 0)
    return total / 1_000_000


def _rate(price: "ModelPrice", name: str, input_tokens: int) -> Decimal | None:
    """USD of a million tokens, by the tier that a request of that size is in."""
    found: Any = vars(price).get(name)
    tiers = getattr(found, "tiers", None)
    if tiers is None:
        return found if isinstance(found, Decimal) else None
    rate: Decimal = next((tier.price for tier in reversed(tiers) if input_tokens > tier.start), found.base)
    return rate


def _micro(usd: Decimal) -> int:
    return int((usd * 1_000_000).to_integral_value(ROUND_CEILING))


def _day(when: datetime) -> datetime:
    """The day of a time; prices change with days, and what is remembered stays small."""
    from datetime import UTC

    return when.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
