"""The price of a model's answers, estimated from public list prices.

Needs the package `genai-prices` (extra `cost`), which brings its prices along: nothing is fetched. Without it, and for
models that it does not know, there is no price.
"""

from __future__ import annotations

import importlib
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.server.store.totals import answered, bounded, mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_STAND_IN = "-stand-in"
"""The suffix of the stand-in model's names: its answers are free."""

_CENT = Decimal("0.01")
_LEAST = Decimal("0.0001")


class Cost(NamedTuple):
    """The price of some answers in US dollars."""

    dollars: Decimal
    whole: bool
    """All answers with tokens have a price."""

    def __str__(self) -> str:
        return about(self.dollars, "≈" if self.whole else "≥")


def source() -> str | None:
    """Return the name and version of the price list; None if it is not installed."""
    prices = _prices()
    return f"genai-prices {prices.__version__}" if prices else None


def total(messages: Iterable[Mapping[str, Any]]) -> Cost | None:
    """Add up what is known; None if no answer has a price."""
    dollars, whole, found = Decimal(0), True, False
    for message in messages:
        price = of(message)
        if price is not None:
            dollars, found = dollars + price, True
        elif mapping(message.get("usage")) and not answered(message):
            whole = False
    return Cost(dollars, whole) if found else None


def of(message: Mapping[str, Any]) -> Decimal | None:
    """Return the price of one answer."""
    usage, model = mapping(message.get("usage")), message.get("model")
    if not usage or not isinstance(model, str) or model.endswith(_STAND_IN):
        return None
    details = mapping(mapping(message.get("metadata")).get("usageDetails"))
    counts = (usage.get("promptTokens"), usage.get("completionTokens"), details.get("cachedTokens"))
    prompt, completion, cached = (round(bounded(count)) if isinstance(count, int | float) else 0 for count in counts)
    return _price(model, prompt, completion, min(cached, prompt))


def about(dollars: Decimal, sign: str = "≈") -> str:
    """Write a sum that is estimated."""
    return money(dollars) if 0 < dollars < _LEAST else f"{sign} {money(dollars)}"


def money(dollars: Decimal) -> str:
    """Write a sum with as many decimals as it needs."""
    if 0 < dollars < _LEAST:
        return f"< ${_LEAST}"
    return f"${dollars:,.4f}" if dollars < _CENT else f"${dollars:,.3f}" if dollars < 1 else f"${dollars:,.2f}"


@cache
def _prices() -> Any:
    try:
        return importlib.import_module("genai_prices")
    except ImportError:
        return None


@lru_cache(10_000)
def _price(model: str, prompt: int, completion: int, cached: int) -> Decimal | None:
    prices = _prices()
    if prices is None:
        return None
    usage = prices.Usage(input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached)
    try:
        return Decimal(prices.calc_price(usage, model).total_price)
    except (LookupError, ValueError):  # it does not know the model, or cannot price these counts
        return None
