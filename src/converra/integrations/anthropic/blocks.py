"""Content blocks of the Messages API, in requests and in answers: texts, calls, results, hosted tools, thinking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.history.turn import Attachment, SourceMessage, SourceToolCall
from converra.integrations.payload.extras import merged, screened, unread
from converra.integrations.payload.fields import copied, fields, items, plain, string
from converra.integrations.payload.media import KINDS, attachment, embeds, encodings, inside, placeholder, taken_out
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOSTED = ("server_tool_use", "mcp_tool_use")
"""Calls that the provider carries out itself."""

RESULT = "_tool_result"
"""End of the types of their results: `web_search_tool_result`, `mcp_tool_result` and kinds to come."""

TEXT = frozenset({"type", "text", "citations", "cache_control", "parsed_output"})
CALL = frozenset({"type", "id", "name", "input", "cache_control"})
"""Fields of a text and of a call that are read, or left out on purpose. All others are kept in metadata."""

DIRECT = {"type": "direct"}
"""The caller of a call that the model made itself, as nearly all are."""


class Parts(NamedTuple):
    """Text and attachments of the blocks in a user's message, a tool's result or a system text."""

    text: str
    attachments: tuple[Attachment, ...] = ()


def parts(content: Any) -> Parts:
    """Read a string, or blocks of text, images, documents and search results: one line for each."""
    if isinstance(content, str):
        return Parts(content)
    lines: list[str] = []
    attachments: list[Attachment] = []
    for block in items(content):
        own = fields(block)
        line, attached = (block, None) if isinstance(block, str) else _part(own)
        lines.append(line if attached is None else placeholder(attached))
        if attached is not None:
            attachments.append(attached)
    return Parts("\n".join(lines), tuple(attachments))


def _part(own: dict[str, Any]) -> tuple[str, Attachment | None]:
    kind = string(own.get("type")) or "part"
    if kind == "text":
        return string(own.get("text")) or "", None
    if kind == "search_result":
        named = " ".join(filter(None, (string(own.get("title")), string(own.get("source")))))
        return "\n".join(filter(None, (f"[search_result: {named}]", parts(own.get("content")).text))), None
    if kind == "container_upload":
        return "", Attachment("file", None, None, None, string(own.get("file_id")))
    found = _document(own) if kind == "document" else attachment(own)
    return f"[{kind}]", found


def _document(own: dict[str, Any]) -> Attachment | None:
    """Read a document: a file, or a text that is sent in its place."""
    source, name = fields(own.get("source")), string(own.get("title"))
    kind, data = source.get("type"), string(source.get("data"))
    if kind == "content":
        data = parts(source.get("content")).text
    if kind in ("text", "content") and data is not None:  # as a data URL, whose escapes are undone for its digest
        return Attachment("document", "text/plain", "data:text/plain," + data.replace("%", "%25"), None, name)
    found = attachment(own)
    return found if found is None or name is None else found._replace(name=name)


def asked(role: str, content: Any) -> Iterator[SourceMessage]:
    """Read a message that is not the model's; each result of a tool in it is a message of its own."""
    if isinstance(content, str):
        yield SourceMessage(role, content)
        return
    rest: list[Any] = []
    for block in items(content):
        own = fields(block)
        if own.get("type") == "tool_result":
            if rest:
                yield _words(role, rest)
                rest = []
            yield _result(own)
        else:
            rest.append(block)
    if rest:
        yield _words(role, rest)


def _words(role: str, blocks: Sequence[Any]) -> SourceMessage:
    found = parts(blocks)
    return SourceMessage(role, found.text, (), None, None, found.attachments)


def _result(own: dict[str, Any]) -> SourceMessage:
    """Read the result of a tool; the recording knows the name of the call that it answers."""
    found = parts(own.get("content"))
    failed = {"status": "error"} if own.get("is_error") is True else None
    return SourceMessage("tool", found.text, (), identifier(own.get("tool_use_id")), None, found.attachments, failed)


class Said(NamedTuple):
    """Messages of the model in order, and metadata that belongs to none of them."""

    messages: tuple[SourceMessage, ...]
    metadata: dict[str, Any]


def said(content: Any) -> Said:
    """Read the content of an assistant message, of an answer or resent.

    Its texts and calls are one message. A tool that the provider ran itself is a message of its own, with its call and
    its result, and divides the texts before it from those after it.
    """
    if isinstance(content, str):
        return Said((SourceMessage("assistant", content),), {})
    reader = _Reader()
    for block in items(content):
        own = fields(block)
        kind = string(own.get("type")) or ("text" if own.get("text") is not None else "")
        reader.read(kind, own)
    return reader.said()


class _Reader:
    """The blocks of one assistant message so far."""

    def __init__(self) -> None:
        self._messages: list[SourceMessage] = []
        self._texts: list[str] = []
        self._calls: list[SourceToolCall] = []
        self._attachments: list[Attachment] = []
        self._extras: dict[str, Any] = {}
        """Unread fields of the texts and calls."""
        self._thoughts: list[str] = []
        """They go to the message that follows them."""
        self._redacted = 0
        self._citations: list[Any] = []
        self._hosted: dict[str, int] = {}
        """Id of a call that the provider carries out → index of its message."""
        self._opaque: list[Any] = []

    def read(self, kind: str, own: dict[str, Any]) -> None:
        reader = _READERS.get(kind)
        if reader is not None:
            reader(self, own)
        elif kind in HOSTED:
            self._hosted_call(own)
        elif kind.endswith(RESULT):
            self._hosted_result(kind, own)
        elif own:
            self._strange(own)

    def said(self) -> Said:
        self._flush()
        metadata: dict[str, Any] = {"items": self._opaque} if self._opaque else {}
        pending = self._pending()
        if not self._messages:
            return Said((SourceMessage("assistant", metadata=pending or None),), metadata)
        return Said(tuple(self._messages), {**metadata, **pending})

    def _text(self, own: dict[str, Any]) -> None:
        text = string(own.get("text")) or ""
        if embeds(text):
            text, embedded = taken_out(text)
            self._attachments += embedded
        self._texts.append(text)
        self._citations += map(screened, items(own.get("citations")))
        self._extras |= unread(own, TEXT)

    def _thinking(self, own: dict[str, Any]) -> None:
        self._thoughts.append(string(own.get("thinking")) or "")

    def _redacted_thinking(self, _own: dict[str, Any]) -> None:
        self._redacted += 1

    def _called(self, own: dict[str, Any]) -> None:
        call = _call(own)
        if call.is_meant:
            self._calls.append(call)
        beside = unread(own, CALL)
        if copied(beside.get("caller")) == DIRECT:
            del beside["caller"]
        if beside:
            self._extras.setdefault("calls", {})[call.id or str(len(self._calls) - 1)] = beside

    def _hosted_call(self, own: dict[str, Any]) -> None:
        self._flush()
        call = _call(own)
        if call.id is not None:
            self._hosted[call.id] = len(self._messages)
        metadata = {**self._pending(), "item": [screened(own)]}
        self._messages.append(SourceMessage("tool", "", (call,), call.id, call.name, (), metadata))

    def _hosted_result(self, kind: str, own: dict[str, Any]) -> None:
        """Put a result beside its call, which may be in an earlier answer (`pause_turn`)."""
        self._flush()
        call_id = identifier(own.get("tool_use_id"))
        attached = tuple(inside(own.get("content")))
        text = "\n".join(filter(None, (_output(own.get("content")), *map(placeholder, attached))))
        item = screened(own, encodings(attached))
        at = self._hosted.pop(call_id or "", None)
        if at is None:
            name, metadata = kind.removesuffix(RESULT), {**self._pending(), "item": [item]}
            self._messages.append(SourceMessage("tool", text, (), call_id, name, attached, metadata))
            return
        before = self._messages[at]
        metadata = merged(before.metadata, self._pending()) or {}
        metadata = {**metadata, "item": [*metadata["item"], item]}
        self._messages[at] = msgspec.structs.replace(before, text=text, attachments=attached, metadata=metadata)

    def _media(self, own: dict[str, Any]) -> None:
        attached = attachment(own)
        if attached is None:
            self._strange(own)
        else:
            self._attachments.append(attached)

    def _strange(self, own: dict[str, Any]) -> None:
        """Keep a block of an unknown kind as it is, and show its pictures and files."""
        attached = inside(own)
        self._opaque.append(screened(own, encodings(attached)))
        self._attachments += attached

    def _flush(self) -> None:
        """Make a message of the texts and calls so far, if there are any."""
        text = "".join(self._texts)
        if not (text or self._calls or self._attachments):
            return
        if self._attachments:
            lines = [line for line in map(placeholder, self._attachments) if line not in text]
            text = "\n".join(filter(None, (text, *lines)))
        metadata = self._pending()
        if self._citations:
            metadata["annotations"] = self._citations
        whole = merged(metadata, self._extras) or None
        source = SourceMessage("assistant", text, tuple(self._calls), None, None, tuple(self._attachments), whole)
        self._messages.append(source)
        self._texts, self._calls, self._attachments, self._citations, self._extras = [], [], [], [], {}

    def _pending(self) -> dict[str, Any]:
        """Take what the model has thought since the last message; the signatures of thoughts are not kept."""
        found: dict[str, Any] = {}
        reasoning = "\n".join(filter(None, self._thoughts))
        if reasoning:
            found["reasoning"] = reasoning
        if self._redacted:
            found["redactedThinking"] = self._redacted
        self._thoughts, self._redacted = [], 0
        return found


_READERS: dict[str, Callable[[_Reader, dict[str, Any]], None]] = {
    "text": _Reader._text,  # noqa: SLF001 - its own methods
    "thinking": _Reader._thinking,  # noqa: SLF001 - as above
    "redacted_thinking": _Reader._redacted_thinking,  # noqa: SLF001 - as above
    "tool_use": _Reader._called,  # noqa: SLF001 - as above
    **dict.fromkeys(KINDS, _Reader._media),  # noqa: SLF001 - as above
}


def _call(own: dict[str, Any]) -> SourceToolCall:
    given = own.get("input")
    arguments = given if given is None or isinstance(given, str) else plain(given)
    return SourceToolCall(identifier(own.get("id")), string(own.get("name")), arguments)


def _output(content: Any) -> str:
    """Return the words of a hosted tool's result: what a program printed, what was found where, MCP's output."""
    if isinstance(content, str):
        return content
    own = fields(content)
    if own:
        printed = (string(own.get(name)) for name in ("stdout", "stderr", "error_code", "url"))
        return "\n".join(filter(None, printed))
    return "\n".join(filter(None, map(_line, map(fields, items(content)))))


def _line(own: dict[str, Any]) -> str:
    return string(own.get("text")) or " ".join(filter(None, (string(own.get("title")), string(own.get("url")))))
