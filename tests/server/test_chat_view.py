"""A conversation as the viewer shows it."""

from __future__ import annotations

from typing import Any

import pytest

from converra.server.viewer.chat_view import Bubble, ShownCall, bubbles
from converra.server.viewer.texts import Text, pretty

ASKED = {"id": "c1", "name": "look_up", "arguments": {"order": 7}}
CALL = {
    "role": "tool",
    "content": "",
    "toolCalls": [ASKED, {"id": "c2", "name": "weather", "arguments": "{broken"}],
    "model": "acme-1",
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
    plain: dict[str, Any] = {
        **dict.fromkeys(("text", "time", "rest", "replaces")),
        "at": 0,
        "role": "user",
        "label": "User",
        **{name: [] for name in ("calls", "attachments", "facts", "badges", "notes")},
    }
    return Bubble(**plain | fields)


def test_a_call_and_its_result_are_one() -> None:
    """The result stands inside the call that it answers; a call without one is shown as such."""
    result = '{"status": "lost", "since": "Monday"}'
    assert bubbles([CALL, RESULT]) == [
        bubble(
            role="tool",
            label="Tool call",
            calls=[
                ShownCall(
                    key="m0c0",
                    name="look_up",
                    preview=f"(order=7) → {result}",
                    arguments=Text('{"order": 7}', ""),
                    result=Text(result, ""),
                    failed=False,
                    latency="31 ms",
                    notes=[],
                    answered_at=1,
                ),
                ShownCall(
                    "m0c1",
                    "weather",
                    "({broken)",
                    Text("{broken", ""),
                    None,
                    failed=False,
                    latency=None,
                    notes=[],
                    answered_at=None,
                ),
            ],
            facts=["acme-1", "1,200 → 9 tokens", "412 ms"],
        )
    ]


def test_a_failed_tool_says_so() -> None:
    """With what the result said of itself."""
    (shown,) = bubbles([CALL, RESULT | {"metadata": {"status": "error"}}])
    assert (shown.calls[0].failed, shown.calls[0].notes) == (True, [("details", '{"metadata": {"status": "error"}}')])


def test_a_call_fits_on_one_line() -> None:
    """As a person would write it down, cut where the line ends."""
    made = {"role": "tool", "content": "", "toolCalls": [{"id": "1", "name": "f", "arguments": {"text": "long " * 40}}]}
    preview = bubbles([made])[0].calls[0].preview
    assert (preview[:12], preview[-1], len(preview)) == ('(text="long ', "…", 90)


def test_a_changed_system_prompt_shows_what_changed() -> None:
    """Line by line; the same prompt again, feedback and the words that end a conversation are no change."""
    said = ["Be kind.\nBe brief.", "Be kind.\nBe brief.", "Be kind.\nBe loud.", "Conversation ended."]
    feedback = {"role": "system", "content": "Feedback (user): 1", "metadata": {"feedback": {"user": {"score": 1}}}}
    shown = bubbles([*({"role": "system", "content": text} for text in said), feedback])
    assert [each.badges for each in shown] == [[], [], [("info", "prompt changed")], [], []]
    assert shown[2].notes == [("what changed", "@@ -1,2 +1,2 @@\n Be kind.\n-Be brief.\n+Be loud.")]


def test_an_edit_names_what_it_replaces() -> None:
    """The page can link there; an edit of something that is not here links nowhere."""
    first = {"role": "user", "content": "a", "metadata": {"messageId": "one"}}
    shown = bubbles([first, *({"role": "user", "content": "b", "metadata": {"replaces": it}} for it in ("one", "two"))])
    assert [each.replaces for each in shown] == [None, 0, None]


def test_attachments_are_named() -> None:
    """Kind, type and size of each; where there is an address it is text, not a link."""
    given = [{"kind": "image", "mime": "image/png", "bytes": 2_300_000}, {"kind": "file", "url": "http://x"}, "odd"]
    (shown,) = bubbles([{"role": "user", "content": "x", "metadata": {"attachments": given}}])
    assert shown.attachments == ["image · image/png · 2.2 MB", "file · http://x", "odd"]
    (shown,) = bubbles([{"role": "user", "content": "x", "metadata": {"attachments": {"kind": "audio"}}}])
    assert shown.attachments == ["audio"]


def test_a_result_without_its_call_stands_alone() -> None:
    """Nothing that was stored is left out of the page."""
    orphans: list[dict[str, Any]] = [
        {"role": "tool", "content": "late", "toolCalls": [{"id": "other"}]},
        {"role": "tool", "content": "nameless", "toolCalls": [{}]},
        {"role": "tool", "content": "bare"},
    ]
    assert [each.text and each.text.shown for each in bubbles(orphans)] == ["late", "nameless", "bare"]
    named = {"role": "tool", "content": "x", "toolCalls": [{"id": "other", "name": "look_up"}]}
    assert [each.label for each in bubbles([*orphans, named])] == [*["Tool result"] * 3, "Result of look_up"]


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
    assert badges(thread="t2") == [("info", "thread t2")]
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
    assert shown[0].notes == [("other choices", '["b"]')]
    assert shown[2].rest == '{"metadata": {"timeToFirstTokenMs": "soon"}}'
    assert (shown[1].time, shown[1].rest) == ("2025-01-20T12:00:00.000Z", '{"colour": "red"}')


@pytest.mark.parametrize(
    ("told", "utc"),
    [
        ("2025-01-20T14:30:00+02:00", "2025-01-20T12:30:00.000Z"),
        ("2025-01-20t14:30:00.25z", "2025-01-20T14:30:00.250Z"),
        ("2025-01-20T14:30", "2025-01-20T14:30:00.000Z"),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times_of_every_zone_are_told_alike(told: str | None, utc: str | None) -> None:
    """In UTC, for the browser to show as its own; what is no time is none."""
    assert bubbles([{"role": "user", "content": "x", "timestamp": told}])[0].time == utc


def test_long_text_is_folded() -> None:
    """The whole text is on the page, most of it folded away; of a system prompt sooner than of what was said."""
    text = bubbles([{"role": "user", "content": "x" * 5000}])[0].text
    assert text == Text("x" * 3000, "x" * 2000)
    assert bubbles([{"role": "system", "content": "x" * 5000}])[0].text == Text("x" * 600, "x" * 4400)


def test_json_is_short_on_a_line_and_long_on_many() -> None:
    """Readable either way; text that only looks like JSON stays as it is."""
    assert pretty({"a": "é"}) == '{"a": "é"}'
    assert pretty({"a": "x" * 60}) == '{\n  "a": "' + "x" * 60 + '"\n}'
    broken = bubbles([CALL, RESULT | {"content": "{not json"}])[0].calls[0].result
    assert broken == Text("{not json", "")
