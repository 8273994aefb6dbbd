"""A conversation as a file: the API's answer, structured content, a transcript, or one HTML page of its own."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from markupsafe import Markup

from converra.server.api import answers
from converra.server.viewer import chat_view, figures, pictures, texts
from converra.server.viewer.pages import templates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from converra.server.store.records import Conversation

    Messages = Sequence[Mapping[str, Any]]


class Export(NamedTuple):
    """A format: what it is called on its button, its media type, its file's suffix, and how it is written."""

    label: str
    media_type: str
    suffix: str
    write: Callable[[Conversation, Messages], bytes]


def exported(kind: Export, conversation: Conversation, messages: Messages) -> bytes:
    """The file's bytes."""
    return kind.write(conversation, messages)


def as_json(conversation: Conversation, messages: Messages) -> bytes:
    """Answer of GET /conversations/{id}, indented, with message details put back."""
    return _indented(answers.whole(conversation, messages))


def as_content(conversation: Conversation, messages: Messages) -> bytes:
    """The structured form of a content field (API document, "Content Format"), with all that is known."""
    return _indented({"messages": messages, "metadata": conversation.metadata})


def as_transcript(_conversation: Conversation, messages: Messages) -> bytes:
    """One `Role: content` after another."""
    return answers.spoken(messages).encode() + b"\n"


def as_html(conversation: Conversation, messages: Messages) -> bytes:
    """One page that needs no other file, no script and no network."""
    style = files("converra.server").joinpath("static", "viewer.css").read_text("utf-8")
    text = (
        templates()
        .get_template("export.html")
        .render(
            conversation=conversation,
            totals=conversation.totals,
            latency=figures.duration(conversation.totals.latency_ms),
            created=answers.iso(conversation.created_at),
            pictures=pictures.embedded(messages),
            title=texts.title(conversation.title),
            bubbles=chat_view.bubbles(messages, texts=texts.Texts(everything=True)),
            style=Markup(style),  # noqa: S704 - our own file
        )
    )
    return text.encode("utf-8", "replace")


def _indented(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


EXPORTS = {
    "json": Export("JSON", "application/json", "json", as_json),
    "content": Export("Structured content", "application/json", "content.json", as_content),
    "transcript": Export("Transcript", "text/plain; charset=utf-8", "txt", as_transcript),
    "html": Export("HTML page", "text/html; charset=utf-8", "html", as_html),
}
"""By the name in the address."""
