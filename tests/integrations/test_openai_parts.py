"""Content of messages: text, and lines in the place of what is no text."""

from __future__ import annotations

from typing import Any

import pytest

from converra.history.turn import Attachment
from converra.integrations.payload.media import placeholder
from converra.integrations.payload.parts import Content, content

WAV = "UklGRiQA"
PDF = "data:application/pdf;base64," + "A" * 2_800_000


@pytest.mark.parametrize(
    ("part", "line", "attachment"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://a/cat.png", "detail": "low"}},
            "[image: https://a/cat.png]",
            Attachment("image", url="https://a/cat.png"),
        ),
        (
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw=="},
            "[image: image/png, 4 bytes]",
            Attachment("image", "image/png", "data:image/png;base64,iVBORw=="),
        ),
        (
            {"type": "input_image", "file_id": "file-1"},
            "[image: file-1]",
            Attachment("image", name="file-1"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:,a%20cat"}},
            "[image: 7 bytes]",
            Attachment("image", None, "data:,a%20cat"),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}},
            "[audio: audio/wav, 6 bytes]",
            Attachment("audio", "audio/wav", WAV),
        ),
        ({"type": "input_audio", "input_audio": {}}, "[audio]", Attachment("audio")),
        (
            {"type": "file", "file": {"file_data": PDF, "filename": "report.pdf"}},
            "[file: report.pdf, application/pdf, 2.0 MB]",
            Attachment("file", "application/pdf", PDF, name="report.pdf"),
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, "[file: file-1]", Attachment("file", name="file-1")),
        (
            {"type": "input_file", "file_url": "https://a/b.pdf"},
            "[file: https://a/b.pdf]",
            Attachment("file", url="https://a/b.pdf"),
        ),
        (
            {"type": "video_url", "video_url": {"url": "https://a/v.mp4"}},
            "[video: https://a/v.mp4]",
            Attachment("video", url="https://a/v.mp4"),
        ),
        (
            {"type": "document_url", "document_url": "https://a/d.pdf", "document_name": "d"},
            "[document: d]",
            Attachment("document", url="https://a/d.pdf", name="d"),
        ),
    ],
)
def test_a_part_that_is_no_text(part: dict[str, Any], line: str, attachment: Attachment) -> None:
    """It leaves a line that says what stood there, and an attachment."""
    assert content([part]) == Content(line, (attachment,))


def test_lines_between_texts() -> None:
    """A placeholder stands on a line of its own, whatever joins the texts."""
    image = {"type": "image_url", "image_url": {"url": "https://a"}}
    parts = [{"text": "See"}, {"type": "text", "text": " this"}, image, "?", image]
    assert content(parts, "").text == "See this\n[image: https://a]\n?\n[image: https://a]"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Hi", Content("Hi")),
        (None, Content("")),
        ([], Content("")),
        (7, Content("")),
        ([{"type": "hologram", "data": "x"}, {}], Content("[hologram]\n[part]")),
        ([{"type": "reasoning_text", "text": "hm"}, {"type": "thinking"}], Content("", reasoning=("hm",))),
        ([{"type": "text", "text": 5}, {"type": "refusal"}], Content("\n", refusal=True)),
    ],
)
def test_odd_content(value: Any, found: Content) -> None:
    """Kinds to come are named, and nonsense is nothing."""
    assert content(value) == found


def test_a_long_address() -> None:
    """A placeholder shows the beginning of a long address."""
    assert placeholder(Attachment("image", url="https://a/" + "b" * 5_000)) == f"[image: https://a/{'b' * 190}]"
