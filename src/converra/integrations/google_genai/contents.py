"""Contents of Gemini's API, of requests and of answers, read as messages. Pure, and nothing of the SDK is kept.

A content has a role (`user` or `model`) and parts. One content may hold several messages: the results of parallel tool
calls, or a text before and after code that the provider has run. A streamed answer that a chat resends is one content
for each chunk, so neighbouring contents of the model are one answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Attachment, Dialect, SourceMessage, SourceToolCall
from converra.integrations.payload.extras import kept, merged, screened, unread
from converra.integrations.payload.fields import (
    BLOB_LENGTH,
    as_json,
    digest,
    fields,
    fingerprint_parts,
    items,
    plain,
    string,
)
from converra.integrations.payload.media import KINDS, embeds, placeholder, taken_out
from converra.wire.json_safe import identifier, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROLES: dict[str | None, str] = {"model": "assistant", "function": "tool", None: "user"}
"""Roles whose API name is another; all others are kept as they are."""

BARE = 2
"""Fields of a content that has only a role and parts."""

MEDIA = {"inlineData": "inline_data", "fileData": "file_data"}
"""Fields of a part with a picture, a sound, a video or a document; some versions use the second spelling."""

HOSTED = {
    "executableCode": "code_execution",
    "executable_code": "code_execution",
    "codeExecutionResult": "code_execution",
    "code_execution_result": "code_execution",
    "toolCall": "tool",
    "toolResponse": "tool",
}
"""Fields of a part with a call that the provider carries out itself, or its result: the tool's name."""

RESULTS = frozenset({"codeExecutionResult", "code_execution_result", "toolResponse"})

PART = frozenset(
    {
        *("text", "thought", "thoughtSignature", "thought_signature", "functionCall", "function_call"),
        *("functionResponse", "function_response", *HOSTED, *MEDIA, *MEDIA.values()),
        *("videoMetadata", "video_metadata", "mediaResolution", "media_resolution"),
    }
)
"""Fields of a part that are read, or left out on purpose (a signature is encrypted)."""

WRAPPERS = ("result", "output")
"""Fields in which the SDK wraps what a function returned."""


def read(content: Any) -> tuple[SourceMessage, ...]:
    """Read one content of a request; most have a role and one text."""
    own = fields(content)
    role, parts = own.get("role"), items(own.get("parts"))
    if role == "model":
        return spoken(parts)
    if len(parts) == 1:
        text = fields(parts[0]).get("text")
        if text.__class__ is str and role in ("user", None):
            return (SourceMessage("user", text),)
    return tuple(_received(ROLES.get(role, string(role) or "user"), parts))


def _received(role: str, parts: Iterable[Any]) -> Iterable[SourceMessage]:
    """Yield the messages of a content that the app made: tool results, and the user's words."""
    said = _Said()
    for part in parts:
        own = fields(part)
        response = own.get("functionResponse") or own.get("function_response")
        if response is not None:
            yield from said.message(role, "\n")
            said = _Said()
            yield _result(fields(response))
        elif not said.take(own):
            said.lines.append((f"[{next(iter(own), 'part')}]", True))
    yield from said.message("user" if role == "tool" else role, "\n")


def _result(own: dict[str, Any]) -> SourceMessage:
    """Read the result of a function. A result without an id belongs to the call of its name, in their order."""
    text = _output(own.get("response"))
    said = _Said()
    for part in items(own.get("parts")):
        said.take(fields(part))
    lines = [text, *(line for line, _ in said.lines)] if text else [line for line, _ in said.lines]
    call_id, name = identifier(own.get("id")), string(own.get("name"))
    return SourceMessage("tool", "\n".join(lines), (), call_id, name, tuple(said.attachments))


def _output(response: Any) -> str:
    """Return what a function returned as text: its words, or JSON."""
    own = fields(response)
    if len(own) == 1 and (wrapper := next(iter(own))) in WRAPPERS:
        response = own[wrapper]
    if response is None or isinstance(response, str):
        return response or ""
    return as_json(response)


def spoken(parts: Sequence[Any]) -> tuple[SourceMessage, ...]:
    """Read the parts of an answer as messages, in their order: one, unless the provider ran code in between."""
    if len(parts) == 1:
        own = fields(parts[0])
        text = own.get("text")
        if text.__class__ is str and len(own) == 1 and not embeds(text):
            return (SourceMessage("assistant", text),)
    return tuple(_spoken(parts)) or (SourceMessage("assistant"),)


def _spoken(parts: Iterable[Any]) -> Iterable[SourceMessage]:
    said, ran = _Said(), _Hosted()
    for part in parts:
        own = fields(part)
        hosted = next((name for name in own if name in HOSTED), None)
        if hosted is None:
            yield from ran.messages()
            if not said.take(own):
                said.strange.append(kept(own))
        else:
            yield from said.message("assistant", "")
            said = _Said(said.reasoning if said.only_thought else [])
            yield from ran.take(hosted, fields(own[hosted]))
    yield from ran.messages()
    yield from said.message("assistant", "")


class _Said:
    """The parts of one message, in order."""

    def __init__(self, reasoning: Sequence[str] = ()) -> None:
        self.lines: list[tuple[str, bool]] = []
        """Text, and whether it stands on a line of its own."""
        self.attachments: list[Attachment] = []
        self.calls: list[SourceToolCall] = []
        self.reasoning: list[str] = list(reasoning)
        self.strange: list[Any] = []
        self.extras: dict[str, Any] = {}

    @property
    def only_thought(self) -> bool:
        return not (self.lines or self.calls or self.strange)

    def take(self, own: dict[str, Any]) -> bool:
        """Read a part; return False if its kind is unknown."""
        text, called = own.get("text"), own.get("functionCall") or own.get("function_call")
        media = next((name for pair in MEDIA.items() for name in pair if own.get(name)), None)
        if media is not None:
            self._attach(fields(own[media]))
        elif called is not None:
            self.calls.append(call(fields(called)))
        elif isinstance(text, str):
            self._text(text, thought=own.get("thought") is True)
        else:
            return own.keys() <= PART
        if own.keys() - PART:
            self.extras.update(unread(own, PART))
        return True

    def message(self, role: str, glue: str) -> Iterable[SourceMessage]:
        """Yield the message, unless there is nothing to say."""
        if self.only_thought and not (self.reasoning and role == "assistant"):
            return
        metadata: dict[str, Any] = {}
        if self.reasoning:
            metadata["reasoning"] = joined(self.reasoning)
        if self.strange:
            metadata["parts"] = self.strange
        text = _joined(self.lines, glue)
        whole = (merged(metadata, self.extras) or None) if role == "assistant" else None
        yield SourceMessage(role, text, tuple(self.calls), None, None, tuple(self.attachments), whole)

    def _text(self, text: str, *, thought: bool) -> None:
        if thought:
            self.reasoning.append(text)
        elif len(text) > BLOB_LENGTH and embeds(text):
            words, found = taken_out(text)
            self.attachments += found
            self.lines.append((words, False))
        elif text:
            self.lines.append((text, False))

    def _attach(self, own: dict[str, Any]) -> None:
        attached = attachment(own)
        self.attachments.append(attached)
        self.lines.append((placeholder(attached), True))


class _Hosted:
    """Calls that the provider carries out itself, each with its result: by its id, or else the next that comes."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, dict[str, Any]]] = []

    def take(self, kind: str, own: dict[str, Any]) -> Iterable[SourceMessage]:
        """Read a call or a result; yield the message once both are there."""
        if kind not in RESULTS:
            self._waiting.append((kind, own))
            return
        call_id = own.get("id")
        at = next((n for n, (_, made) in enumerate(self._waiting) if made.get("id") == call_id), None)
        made = self._waiting.pop(at) if at is not None else None
        yield _hosted(kind, made[1] if made else {}, own)

    def messages(self) -> Iterable[SourceMessage]:
        """Yield the calls whose result has not come."""
        waiting, self._waiting = self._waiting, []
        for kind, made in waiting:
            yield _hosted(kind, made, {})


def _hosted(kind: str, made: dict[str, Any], result: dict[str, Any]) -> SourceMessage:
    """Read a call that the provider carried out itself: call and result in one message, both kept as they are."""
    name = string(made.get("toolType")) or string(result.get("toolType")) or HOSTED[kind]
    arguments = made.get("args", {key: made[key] for key in ("language", "code") if key in made} or None)
    called = SourceToolCall(identifier(made.get("id") or result.get("id")), name, plain(arguments))
    text = string(result.get("output")) or (_output(result["response"]) if result.get("response") else "")
    item = screened({"call": made, "result": result})
    return SourceMessage("tool", text, (called,), called.id, called.name, (), {"item": item})


def call(own: dict[str, Any]) -> SourceToolCall:
    """Read a call that the app is to carry out. Most models give it no id."""
    arguments = own.get("args")
    arguments = arguments if isinstance(arguments, str) else plain(arguments) or {}
    return SourceToolCall(identifier(own.get("id")), string(own.get("name")), arguments)


def attachment(own: dict[str, Any]) -> Attachment:
    """Read embedded data (base64), or the address of a file."""
    mime = string(own.get("mimeType")) or string(own.get("mime_type"))
    family = (mime or "").partition("/")[0]
    url = string(own.get("fileUri")) or string(own.get("file_uri"))
    name = string(own.get("displayName")) or string(own.get("display_name"))
    return Attachment(family if family in KINDS else "file", mime, string(own.get("data")), url, name)


def _joined(lines: list[tuple[str, bool]], glue: str) -> str:
    """Join texts by `glue`, and put what stands for an attachment on a line of its own."""
    if len(lines) == 1:
        return lines[0][0]
    pieces, alone = [], True
    for number, (line, own_line) in enumerate(lines):
        if number:
            pieces.append("\n" if own_line or alone else glue)
        pieces.append(line)
        alone = own_line
    return joined(pieces)


# -- resent contents ---------------------------------------------------------------------------------------------------


def whole(contents: Sequence[Any]) -> Sequence[Any]:
    """Put neighbouring contents of the model together, and give results the ids of their calls.

    A chat resends a streamed answer as one content for each chunk. What the SDK's automatic function calling returns
    has no id, even where the call has one: it belongs to the first open call of its name.
    """
    said = False
    try:
        for content in contents:
            if content["role"] != "model":
                said = False
            elif said or len(parts := content["parts"]) != 1 or "text" not in parts[0]:
                return _whole(contents)
            else:
                said = True
    except (TypeError, KeyError, IndexError):  # some content is odd
        return _whole(contents)
    return contents


def _whole(contents: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    said: list[Any] | None = None
    calls: list[dict[str, Any]] = []
    for content in contents:
        own = fields(content)
        parts = items(own.get("parts"))
        if own.get("role") == "model":
            if said is None:
                said = []
                found.append({"parts": said, "role": "model"})
            said += parts
            calls += [fields(called) for part in parts if (called := fields(part).get("functionCall")) is not None]
        else:
            said = None
            found.append(_with_ids(own, parts, calls) if calls else content)
    return found


def _with_ids(own: dict[str, Any], parts: Sequence[Any], calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Copy a content, with an id for each result whose call has one; answered calls are removed from `calls`."""
    found = []
    for part in parts:
        result = fields(fields(part).get("functionResponse"))
        answers = next((call for call in calls if result and _is_answered(call, result)), None)
        if answers is not None:
            calls.remove(answers)
            if answers.get("id") is not None:
                part = {**fields(part), "functionResponse": {**result, "id": answers["id"]}}  # noqa: PLW2901 - a copy
        found.append(part)
    return {**own, "parts": found}


def _is_answered(call: dict[str, Any], result: dict[str, Any]) -> bool:
    if result.get("id") is not None:
        return bool(call.get("id") == result["id"])
    return bool(call.get("name") == result.get("name"))


def fingerprint(contents: Sequence[Any]) -> list[int]:
    """Hash each content, equal if it is resent unchanged: in one piece or in chunks, with or without its thoughts."""
    return fingerprint_parts(contents, "parts", _digest)


def _digest(content: Any) -> int:
    own = fields(content)
    role, parts = string(own.get("role")), items(own.get("parts"))
    words: list[str] = []
    others: list[int] = []
    for part in map(fields, parts):
        text = part.get("text")
        called = part.get("functionCall")
        if called.__class__ is dict:
            others.append(hash((called.get("name"), called.get("id"), digest(called.get("args") or {}))))
        elif text.__class__ is not str:
            others.append(digest({key: part[key] for key in part if key not in _UNSTABLE}))
        elif part.get("thought") is not True:
            words.append(text)
        elif role != "model":
            others.append(hash(text))
    text = "".join(words) if role == "model" else "\n".join(words)
    return hash((role, text, *others)) if others else hash((role, text))


_UNSTABLE = ("thoughtSignature", "thought_signature", "thought")
"""Fields of a part that apps leave out when they resend it."""


def echo(source: SourceMessage) -> dict[str, Any]:
    """Build an answer as a chat resends it, as far as fingerprints read it."""
    parts: list[dict[str, Any]] = [{"text": source.text}] if source.text else []
    for made in source.calls:
        named = {"id": made.id, "args": made.arguments, "name": made.name}
        parts.append({"functionCall": {key: value for key, value in named.items() if value is not None}})
    return {"parts": parts, "role": "model"}


GENERATE = Dialect("google_genai.generate", fingerprint, read, echo)
