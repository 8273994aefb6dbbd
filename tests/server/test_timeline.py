"""The timeline of a conversation, the price of its answers, and two of them side by side."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from converra.server.viewer import compare_page, costs, timeline
from tests.server.test_viewer import HOSTILE, conversation, page

if TYPE_CHECKING:
    import httpx

    from converra.server.run import LocalServer


def said(role: str, second: float, latency: float | None = None, **fields: Any) -> dict[str, Any]:
    minute, rest = divmod(second, 60)
    took = {} if latency is None else {"latencyMs": latency}
    return {"role": role, "content": "x", "timestamp": f"2025-01-20T12:{minute:02.0f}:{rest:06.3f}Z"} | took | fields


CALL = {"toolCalls": [{"id": "1", "name": "orders", "arguments": {}}, {"id": "2", "name": "weather", "arguments": {}}]}
CHAT = [
    said("user", 0),
    said("tool", 1, 1000, **CALL),
    said("tool", 2, 1000, toolCalls=[{"id": "1", "name": "orders"}]),
    said("tool", 2, 500, toolCalls=[{"id": "2", "name": "weather"}], metadata={"status": "error"}),
    said("assistant", 4, 2000, model="gpt-4o", usage={"promptTokens": 1000, "completionTokens": 10}),
    said("user", 604),
]


def test_a_timeline_shows_when_and_how_long() -> None:
    """Each message where it happened, parallel tools beside each other, a long pause cut short and named."""
    rows = timeline.timeline(CHAT, range(6))
    assert [row.x for row in rows] == [0, 0, 142.9, 214.3, 285.7, 996.0]
    assert [row.width for row in rows] == [4, 142.9, 142.9, 71.4, 285.7, 4]
    assert [row.kind for row in rows] == ["user", "model", "tool", "tool", "model", "user"]
    assert [row.label for row in rows] == ["user", "calls orders, weather", "orders", "weather", "gpt-4o", "user"]
    assert [row.failed for row in rows] == [False, False, False, True, False, False]
    assert [row.pause for row in rows] == [None] * 5 + ["10.0 min"]
    assert rows[4].tokens == "1,000 → 10"
    assert timeline.sums(CHAT) == timeline.Sums(model="3.0 s", tools="1.5 s", between="10.0 min")


def test_a_timeline_without_times_is_one_after_the_other() -> None:
    """Also with broken times, and of nothing at all."""
    rows = timeline.timeline([{**each, "timestamp": "soon"} for each in CHAT], range(6))
    assert [row.x for row in rows] == [0, 0, 222.2, 444.4, 555.6, 996.0]
    assert timeline.timeline([], range(0)) == []
    assert timeline.sums([]) == timeline.Sums(None, None, None)


@pytest.mark.parametrize("latency", [0, 1e300, -5, 1])
def test_any_numbers_stay_on_the_timeline(latency: float) -> None:
    """Whatever was sent, each bar is within the picture."""
    chat = [said("assistant", second, latency) for second in (5, 1, 1, 700, 3)]
    for row in timeline.timeline(chat, range(5)):
        assert row.x >= 0
        assert row.x + row.width <= timeline.WIDTH + 0.1


def answer(model: str, sent: int, received: int, cached: int | None = None) -> dict[str, Any]:
    metadata = {} if cached is None else {"metadata": {"usageDetails": {"cachedTokens": cached}}}
    usage = {"promptTokens": sent, "completionTokens": received}
    return {"role": "assistant", "content": "x", "model": model, "usage": usage} | metadata


def test_answers_have_a_price() -> None:
    """By the model's list price; cached tokens are cheaper, and the stand-in model is free."""
    whole, cached = costs.of(answer("gpt-4o-mini", 10**6, 0)), costs.of(answer("gpt-4o-mini", 10**6, 0, cached=10**6))
    assert whole is not None
    assert cached is not None
    assert 0 < cached < whole < 1
    for unpriced in (answer("gpt-4o-stand-in", 1, 1), answer("no such model", 1, 1), {"role": "user", "content": "x"}):
        assert costs.of(unpriced) is None
    assert costs.of(answer("gpt-4o-mini", 10, 1, cached=10**9)) is not None
    assert costs.of(answer("gpt-4o-mini", "many", 1)) is not None  # type: ignore[arg-type] # somebody may send it


def test_a_sum_says_whether_it_is_whole() -> None:
    """An answer without a price makes it a lower bound."""
    priced = answer("gpt-4o-mini", 10**6, 0)
    assert str(costs.total([priced, priced])).startswith("≈ $0.")
    assert str(costs.total([priced, answer("no such model", 1, 1)])).startswith("≥ $0.")
    assert costs.total([answer("no such model", 1, 1)]) is None


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [("0", "$0.0000"), ("0.00001", "< $0.0001"), ("0.00123", "$0.0012"), ("0.1234", "$0.123"), ("1234.5", "$1,234.50")],
)
def test_a_price_has_the_decimals_it_needs(dollars: str, shown: str) -> None:
    """Cents of a cent where it is that little."""
    assert costs.money(Decimal(dollars)) == shown


def test_without_the_price_list_there_is_no_price(
    server: LocalServer, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is the same, without a cost."""
    found = conversation(http, answer("gpt-4o-mini", 10**6, 7))
    assert ">Cost<" in page(server, f"/conversations/{found}").text
    monkeypatch.setattr(costs, "_prices", lambda: None)
    costs._price.cache_clear()
    for path in (f"/conversations/{found}", f"/conversations/{found}/timeline", f"/compare?a={found}&b={found}"):
        answered = page(server, path)
        assert (answered.status_code, "Cost" in answered.text, "$" in answered.text) == (200, False, False)
    costs._price.cache_clear()


def test_turns_are_compared_in_their_order() -> None:
    """What is the same is marked; a turn that only one has stands against nothing."""
    system, ask, other = (
        {"role": role, "content": text} for role, text in (("system", "s"), ("user", "a"), ("user", "b"))
    )
    yes, no = ({"role": "assistant", "content": text, "timestamp": "2025-01-20T12:00:00Z"} for text in ("yes", "no"))
    turns = compare_page.turns([system, ask, yes, other], [system, ask, {**no, "timestamp": "x"}])
    assert [(turn.same, len(turn.left), len(turn.right)) for turn in turns] == [
        (True, 1, 1),
        (False, 2, 2),
        (False, 1, 0),
    ]
    assert [turn.same for turn in compare_page.turns([ask, yes], [ask, {**yes, "timestamp": "later"}])] == [True]
    assert compare_page.turns([], []) == [compare_page.Turn(True, [], [])]


def test_two_conversations_are_side_by_side(server: LocalServer, http: httpx.Client) -> None:
    """Those of the same prompt are offered; hostile words are only words; an unknown one is a 404."""
    one = conversation(http, {"role": "assistant", "content": HOSTILE}, content=f"User: {HOSTILE}")
    two = conversation(http, {"role": "assistant", "content": "No."})
    conversation(http, promptId="other")
    offered = page(server, f"/compare?a={one}").text
    assert offered.count("data-item") == 1
    assert f"b={two}" in offered
    shown = page(server, f"/compare?a={one}&b={two}").text
    assert ("alert(1)" in shown, "<img src=x" in shown, "No." in shown) == (True, False, True)
    for query in ("", "?a=none", f"?a={one}&b=none"):
        assert page(server, f"/compare{query}").status_code == 404
