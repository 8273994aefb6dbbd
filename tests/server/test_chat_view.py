"""A conversation as the viewer shows it."""

from __future__ import annotations

from typing import Any

import pytest

from converra.server.chat_view import Bubble, Call, Text, Totals, ago, bubbles, duration, pretty, totals

ASKED = {"id": "c1", "name": "look_up", "arguments": {"order": 7}}
CALL = {
    "role": "tool",
    "content": "",
    "toolCalls": [ASKED, {"id": "c2", "name": "weather", "arguments": "{broken"}],
    "model": "gpt-4o",
    "usage": {"promptTokens": 1200, "completionTokens": 9},
    "latencyMs": 412.4,
}
RESULT = {
    "role": "tool",
    "content": '{"status": "lost", "since": "Monday"}',
    "toolCalls": [{"id": "c1", "name": "look_up"}],
    "latencyMs": 31,
}


def bubble(**fields: Any) -> Bubble:
    return Bubble(
        **({"role": "user", "text": None, "calls": [], "facts": [], "badges": [], "notes": [], "time": None} | fields)
    )


def test_a_call_and_its_result_are_one() -> None:
    """The result stands inside the call that it answers; a call without one is shown as such."""
    assert bubbles([CALL, RESULT]) == [
        bubble(
            role="tool",
            calls=[
                Call("look_up", "c1", '{"order": 7}', Text('{"status": "lost", "since": "Monday"}', ""), "31 ms"),
                Call("weather", "c2", "{broken", None, None),
            ],
            facts=["gpt-4o", "1,200 → 9 tokens", "412 ms"],
        )
    ]


def test_a_result_without_its_call_stands_alone() -> None:
    """Nothing that was stored is left out of the page."""
    orphans: list[dict[str, Any]] = [
        {"role": "tool", "content": "late", "toolCalls": [{"id": "other"}]},
        {"role": "tool", "content": "nameless", "toolCalls": [{}]},
        {"role": "tool", "content": "bare"},
    ]
    assert [each.text and each.text.shown for each in bubbles(orphans)] == ["late", "nameless", "bare"]


def test_what_went_wrong_is_a_badge() -> None:
    """Errors, cut streams, refusals, odd finishes, edits and parts."""

    def badges(**metadata: Any) -> Any:
        return bubbles([{"role": "assistant", "content": "x", "metadata": metadata}])[0].badges

    assert badges(error={"type": "APITimeoutError"}) == [("bad", "error: APITimeoutError")]
    assert badges(error={"type": "RateLimitError", "status": 429}) == [("bad", "error: RateLimitError 429")]
    assert badges(error={"odd": 1}) == [("bad", 'error: {"odd": 1}')]
    assert badges(error="plain") == [("bad", "error: plain")]
    assert badges(partial=True) == [("warn", "cut short")]
    assert badges(refusal=True) == [("warn", "refused")]
    assert badges(finishReason="length") == [("warn", "finish: length")]
    assert badges(replaces="m1") == [("info", "edited")]
    assert badges(part=2, parts=3) == [("info", "part 2 of 3")]
    assert badges(part=2) == [("info", "part 2 of ?")]


def test_what_a_turn_cost_stands_below_it() -> None:
    """Model, tokens and times, as far as they were reported."""
    full = {"timeToFirstTokenMs": 90, "alternatives": ["b"]}
    shown = bubbles(
        [
            {"role": "assistant", "content": "a", "model": "m", "tokens": 1234, "latencyMs": 61_000, "metadata": full},
            {"role": "user", "content": "b", "timestamp": "2025-01-20T12:00:00Z", "colour": "red"},
            {"role": "user", "content": "c", "metadata": {"timeToFirstTokenMs": "soon"}},
        ]
    )
    assert [each.facts for each in shown] == [["m", "1,234 tokens", "1.0 min", "first token 90 ms"], [], []]
    assert [heading for heading, _ in shown[0].notes] == ["other choices", "details"]
    assert (shown[1].time, shown[1].notes) == ("2025-01-20T12:00:00Z", [("details", '{"colour": "red"}')])


def test_long_text_is_folded() -> None:
    """The whole text is on the page, most of it folded away."""
    text = bubbles([{"role": "user", "content": "x" * 5000}])[0].text
    assert text == Text("x" * 3000, "x" * 2000)


def test_totals_add_up_what_was_reported() -> None:
    """Tokens of all turns, the waits for the model (not for tools), models, calls and troubles."""
    failed = {"role": "user", "content": "x", "metadata": {"error": {"type": "E"}}, "usage": "odd"}
    partial = {"role": "assistant", "content": "x", "model": "other", "latencyMs": 1100, "metadata": {"partial": True}}
    assert totals([CALL, RESULT, failed, partial]) == Totals(
        turns=4, tokens_in=1200, tokens_out=9, latency="1.5 s", models=["gpt-4o", "other"], calls=2, troubles=1
    )
    assert totals([]) == Totals(0, 0, 0, None, [], 0, 0)


@pytest.mark.parametrize(("ms", "words"), [(0.4, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (90_000, "1.5 min")])
def test_times_are_in_the_unit_a_person_would_use(ms: float, words: str) -> None:
    """Milliseconds, seconds or minutes."""
    assert duration(ms) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "just now"), (9, "just now"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")],
)
def test_how_long_ago_is_rounded_down(seconds: int, words: str) -> None:
    """A clock that was set back gives no negative age."""
    assert ago(0, seconds * 1000) == words


def test_json_is_short_on_a_line_and_long_on_many() -> None:
    """Readable either way; text that only looks like JSON stays as it is."""
    assert pretty({"a": "é"}) == '{"a": "é"}'
    assert pretty({"a": "x" * 60}) == '{\n  "a": "' + "x" * 60 + '"\n}'
    broken = bubbles([CALL, RESULT | {"content": "{not json"}])[0].calls[0].result
    assert broken == Text("{not json", "")
