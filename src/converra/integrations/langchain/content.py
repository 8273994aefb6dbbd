"""Content of a LangChain message: a string, or a list of blocks in LangChain's own forms (v0, v1) or a provider's.

Blocks that look like parts of OpenAI's are read as those are. Nothing is decoded, and nothing of a message is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.turn import Attachment, SourceMessage, SourceToolCall
from converra.integrations.openai import items as openai_items
from converra.integrations.payload import parts as openai_parts
from converra.integrations.payload.fields import as_json, fields, items, plain, string
from converra.integrations.payload.media import data_mime, placeholder

if TYPE_CHECKING:
    from collections.abc import Callable

SKIPPED = frozenset(
    {
        *("tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "input_json_delta"),
        *("function_call", "custom_tool_call", "redacted_thinking", "function_call_signature", "cachePoint"),
    }
)
"""Blocks that are skipped: they repeat the message's tool calls, are encrypted, or hold no content."""

KINDS = frozenset({"image", "audio", "video"})


class Content(msgspec.Struct):
    """The content of a message, in order. `hosted` are the tools that the provider itself has run."""

    lines: list[tuple[str, bool]] = []
    """Text, and whether it stands on a line of its own."""
    attachments: list[Attachment] = []
    reasoning: list[str] = []
    annotations: list[Any] = []
    hosted: list[SourceMessage] = []
    called: dict[str, SourceToolCall] = {}
    """Calls of hosted tools that wait for their result, by id."""
    refusal: bool = False
    opaque: list[Any] | None = None
    """Blocks of unknown kinds, if they are to be kept; if None, a placeholder stands in the text."""

    @property
    def is_more(self) -> bool:
        """True if it is more than text, hosted tools aside."""
        return bool(self.attachments or self.reasoning or self.annotations or self.refusal or self.opaque)

    def text(self, glue: str) -> str:
        """Join all text; `glue` joins pieces that the model or the user wrote as one."""
        if len(self.lines) == 1:
            return self.lines[0][0]
        text, alone = "", True
        for line, own_line in self.lines:
            joint = "\n" if own_line or alone else glue
            text += (joint if text else "") + line
            alone = own_line
        return text

    def tools_used(self) -> tuple[SourceMessage, ...]:
        """Return the hosted tools, those without a result last."""
        return (*self.hosted, *(_hosted(call, "", {}) for call in self.called.values()))

    def attach(self, attachment: Attachment) -> None:
        """Note a part that is not text."""
        self.attachments.append(attachment)
        self.lines.append((placeholder(attachment), True))


def content(value: Any, *more: Any, opaque: bool = False) -> Content:
    """Read a message's content, and blocks that stand beside it.

    An answer's unknown blocks are kept as they are (`opaque`), as unknown items are.
    """
    found = Content(opaque=[] if opaque else None)
    if isinstance(value, str):
        found.lines.append((value, False))
    for block in (*items(value), *more):
        _read(block, found)
    return found


def _read(block: Any, found: Content) -> None:
    own = fields(block)
    kind = string(own.get("type")) or next((name for name in own if name in _DATA or name in SKIPPED), "")
    if kind in SKIPPED:
        return
    reader = _READERS.get(kind)
    if reader is not None:
        reader(own, found)
    elif kind and openai_items.known(own):
        found.hosted.extend(openai_items.read({key: own[key] for key in own if key != "index"}))
    elif kind.endswith("_tool_result"):
        _hosted_result(own, found)
    elif found.opaque is not None and kind and not openai_parts.known(kind):
        found.opaque.append(plain(own))
    else:
        _as_part(block, found)


def _as_part(block: Any, found: Content) -> None:
    """Read a block as OpenAI's parts are read; an unknown kind leaves a placeholder."""
    part = openai_parts.content([block])
    found.attachments.extend(part.attachments)
    found.reasoning.extend(part.reasoning)
    found.refusal = found.refusal or part.refusal
    if part.text:
        found.lines.append((part.text, bool(part.attachments)))


def _text(own: dict[str, Any], found: Content) -> None:
    found.lines.append((string(own.get("text")) or "", False))
    found.annotations.extend(plain(note) for note in (*items(own.get("annotations")), *items(own.get("citations"))))


def _document_text(own: dict[str, Any], found: Content) -> None:
    if string(own.get("text")) is None:
        _data(own, found)
    else:
        found.lines.append((own["text"], True))


def _reasoning(own: dict[str, Any], found: Content) -> None:
    thought = own.get("reasoning") or fields(own.get("reasoning_content")).get("text")
    parts = [string(fields(part).get("text")) for part in items(own.get("summary"))]
    text = string(thought) or "\n".join(filter(None, parts))
    if text:
        found.reasoning.append(text)


def _data(own: dict[str, Any], found: Content) -> None:
    """Read an image, a sound or a file: embedded, linked or named, in any of the known forms."""
    kind = string(own.get("type")) or next(name for name in own if name in _DATA)
    inner = fields(own.get(kind)) or own
    source = fields(inner.get("source")) or inner
    if kind == "file" and fields(own.get("file")):
        _as_part(own, found)
        return
    data, url = _held(source)
    mime = next((string(source[key]) for key in ("mime_type", "media_type") if key in source), None)
    if mime is None and string(inner.get("format")):
        mime = f"{kind}/{inner['format']}"
    found.attach(Attachment(_kind(kind, mime), mime or data_mime(data), data, url, _name(own, inner, source)))


def _name(*holders: dict[str, Any]) -> str | None:
    """Find a file name, a title or a provider's file id; a block's `id` counts only with `source_type: id`."""
    holders = (fields(holders[0].get("extras")), *holders)
    names = (string(holder.get(key)) for key in ("filename", "name", "title", "file_id") for holder in holders)
    by_id = (string(holder.get("id")) for holder in holders if holder.get("source_type") == "id")
    return next(filter(None, (*names, *by_id)), None)


def _held(source: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the data and the address of a part, of which it has at most one."""
    data = next((string(source[key]) for key in ("base64", "data") if key in source), None)
    url = next((string(source[key]) for key in ("url", "file_uri") if key in source), None)
    return (url, None) if url and url.startswith("data:") else (data, url)


def _kind(kind: str, mime: str | None) -> str:
    if kind != "media":
        return "document" if kind == "text-plain" else kind
    family = (mime or "").partition("/")[0]
    return family if family in KINDS else "file"


def _non_standard(own: dict[str, Any], found: Content) -> None:
    _read(own.get("value"), found)


def _hosted_call(own: dict[str, Any], found: Content) -> None:
    """Read a call; a streamed one may have its arguments beside it, as the JSON so far (Anthropic)."""
    arguments = own.get("args") or own.get("input") or string(own.get("partial_json"))
    if arguments is None:
        arguments = own.get("args", own.get("input"))
    call = SourceToolCall(string(own.get("id")), string(own.get("name")), plain(arguments))
    found.called[call.id or ""] = call


def _code(own: dict[str, Any], found: Content) -> None:
    """Code that Google has run; of older versions neither it nor its result has an id."""
    arguments = {"code": plain(own.get("executable_code")), "language": plain(own.get("language"))}
    call = SourceToolCall(string(own.get("id")), "code_execution", arguments)
    found.called[call.id or ""] = call


def _hosted_result(own: dict[str, Any], found: Content) -> None:
    call_id = string(own.get("tool_call_id")) or string(own.get("tool_use_id"))
    call = found.called.pop(call_id or "", SourceToolCall(call_id, None, None))
    output = next((own[key] for key in ("output", "content", "code_execution_result") if key in own), None)
    text = output if isinstance(output, str) else _as_json(output)
    found.hosted.append(_hosted(call, text, plain(own)))


def _tool_result(own: dict[str, Any], found: Content) -> None:
    """Read the result of the app's own tool, sent as a part of the user's message (Anthropic)."""
    inner = content(own.get("content"))
    metadata = {"status": "error"} if own.get("is_error") else None
    call_id, attachments = string(own.get("tool_use_id")), tuple(inner.attachments)
    found.hosted.append(SourceMessage("tool", inner.text("\n"), (), call_id, None, attachments, metadata))


def _hosted(call: SourceToolCall, text: str, item: dict[str, Any]) -> SourceMessage:
    return SourceMessage("tool", text, (call,), call.id, call.name, (), {"item": item} if item else None)


def _as_json(output: Any) -> str:
    return "" if output is None else as_json(output)


_DATA = frozenset({"image", "audio", "video", "file", "document", "media"})

_READERS: dict[str, Callable[[dict[str, Any], Content], None]] = {
    "text": _text,
    "output_text": _text,
    "text-plain": _document_text,
    "reasoning": _reasoning,
    "reasoning_content": _reasoning,
    **dict.fromkeys(_DATA, _data),
    "non_standard": _non_standard,
    "server_tool_call": _hosted_call,
    "server_tool_use": _hosted_call,
    "server_tool_call_chunk": _hosted_call,
    "mcp_tool_use": _hosted_call,
    "executable_code": _code,
    "server_tool_result": _hosted_result,
    "code_execution_result": _hosted_result,
    "tool_result": _tool_result,
}
