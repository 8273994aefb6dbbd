"""What a conversation adds up to."""

from __future__ import annotations

from typing import Any

from converra.server.store.conversations import Store
from converra.server.store.records import NewConversation
from converra.server.store.totals import Totals, together, total

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "x", "metadata": {"error": {"type": "E"}}, "usage": "odd"},
    {
        "role": "tool",
        "content": "",
        "toolCalls": [{"id": "1", "name": "a", "arguments": {}}, {"id": "2", "name": "b", "arguments": "{"}],
        "model": "gpt-4o",
        "usage": {"promptTokens": 1200, "completionTokens": 9},
        "latencyMs": 412.4,
    },
    {"role": "tool", "content": "r", "toolCalls": [{"id": "1"}], "latencyMs": 31, "metadata": {"status": "error"}},
    {"role": "assistant", "content": "x", "model": "other", "latencyMs": 1100, "tokens": 5},
    {"role": "assistant", "content": "x", "model": "gpt-4o", "metadata": {"partial": True}},
]
WHOLE = Totals(
    messages=5, tokens_in=1200, tokens_out=14, latency_ms=1512.4, calls=2, errors=2, models=("gpt-4o", "other")
)


def test_totals_add_up_what_was_reported() -> None:
    """Tokens of all turns, the waits for the model (not for tools), models, calls and errors."""
    assert total(MESSAGES) == WHOLE
    assert total([]) == Totals()


def test_numbers_that_no_sum_holds_are_bounded() -> None:
    """JSON can say any number of tokens; the list still works."""
    odd = {"role": "user", "content": "x", "usage": {"promptTokens": float("inf"), "completionTokens": -5}}
    huge = total([odd, odd | {"latencyMs": 1e308}])
    assert (huge.tokens_in, huge.tokens_out, huge.latency_ms) == (2**53, 0, 2**53)
    assert together(huge, huge) == huge._replace(messages=4)


def test_appends_add_up_to_the_whole() -> None:
    """However the messages were cut into batches."""
    for cut in range(len(MESSAGES) + 1):
        assert together(total(MESSAGES[:cut]), total(MESSAGES[cut:])) == WHOLE


def test_the_store_keeps_them() -> None:
    """A list knows them without reading a message."""
    store = Store()
    made = store.create(
        NewConversation(
            id="c", account="a", prompt_id="p", status="active", content="", messages=MESSAGES[:2], metadata={"a": 1}
        )
    )
    assert made.totals == total(MESSAGES[:2])
    store.append(made, MESSAGES[2:], metadata={"sessionId": "s", "b": 2}, end=False)
    ((found,), _) = store.conversations()
    assert (found.totals, found.session_id, found.metadata) == (WHOLE, "s", {"a": 1, "sessionId": "s", "b": 2})
    assert store.messages(found) == MESSAGES
    store.close()
