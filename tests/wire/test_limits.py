"""The API's limits are known before anything is sent."""

from __future__ import annotations

import pytest

from converra.errors import ContentLimitError, PayloadTooLargeError
from converra.wire import limits

KB = 1024


def test_content_at_every_limit_passes() -> None:
    """What is exactly at a limit is accepted."""
    limits.check_content("x" * 512 * KB, ["x" * 100 * KB] + ["x"] * 499, structured=True)


def test_text_may_hold_any_number_of_messages() -> None:
    """The number of messages is limited in the structured format only."""
    limits.check_content("User: x", ["x"] * 501, structured=False)


@pytest.mark.parametrize(
    ("content", "messages", "expected", "details"),
    [
        pytest.param(
            "x" * (512 * KB + 1),
            [],
            "the content field has 524,289 bytes; the API's max content size is 524,288 bytes. Nothing was sent.",
            {"limit": "max content size", "maximum": 524288, "actual": 524289, "unit": "bytes"},
            id="content",
        ),
        pytest.param(
            "x",
            ["x"] * 501,
            "the structured content has 501 messages; the API's max messages is 500 messages. Nothing was sent.",
            {"limit": "max messages", "maximum": 500, "actual": 501, "unit": "messages"},
            id="messages",
        ),
        pytest.param(
            "x",
            ["x", "é" * (50 * KB) + "x"],
            "message 1 has 102,401 bytes; the API's max message length is 102,400 bytes. Nothing was sent.",
            {"limit": "max message length", "maximum": 102400, "actual": 102401, "unit": "bytes"},
            id="message, counted in UTF-8",
        ),
    ],
)
def test_content_over_a_limit_is_refused_by_name(
    content: str, messages: list[str], expected: str, details: dict[str, object]
) -> None:
    """The error names the limit and the actual size, and is caught as a 413 and as a ValueError."""
    with pytest.raises(ContentLimitError) as caught:
        limits.check_content(content, messages, structured=True)
    assert (str(caught.value), caught.value.details, caught.value.status_code) == (expected, details, 413)
    assert isinstance(caught.value, PayloadTooLargeError)
    assert isinstance(caught.value, ValueError)
