"""Messages on spans: the pieces that readers of dialects are built from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.record import call_key
from converra.history.turn import Answer, Attachment, Dialect, SourceMessage, SourceToolCall
from converra.integrations.payload.extras import kept
from converra.integrations.payload.fields import parsed, string
from converra.integrations.payload.media import placeholder
from converra.integrations.payload.parts import Content, content
from converra.wire import json_safe
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

ROLES = {"developer": "system", "function": "tool", "model": "assistant", "ai": "assistant", "human": "user"}
"""Roles whose API name is another."""

FINISHED = {"tool_call": "tool_calls"}
"""Finish reasons that emitters have renamed."""


def fingerprint(messages: Sequence[SourceMessage]) -> list[int]:
    """Return one integer per message: equal if it is resent, as text or parsed, with or without its facts."""
    return [_look(message) for message in messages]


def _look(source: SourceMessage) -> int:
    calls = [call_key(call.id, call.name, call.arguments) for call in source.calls]
    attached = [hash(a.data or a.url or a.name) for a in source.attachments]
    return hash((source.role, source.text.strip(), source.call_id, *calls, *attached))


SPANS = Dialect("spans", fingerprint, lambda message: (message,), lambda source: source)
"""The dialect in which requests from spans are compared with each other, from any emitter."""


# -- attributes --------------------------------------------------------------------------------------------------------


def structured(value: Any) -> Any:
    """Return an attribute as plain data: parsed if it is the text of a JSON object or list, else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        found = parsed(value)
        return value if found is None else found
    return value


def own(value: Any) -> dict[str, Any]:
    """Return a mapping as a dict, to be read only; an empty one for anything else."""
    if isinstance(value, dict):
        return value
    return dict(value) if isinstance(value, Mapping) else {}


def as_text(value: Any) -> str:
    """Return a result as text: a string as it is, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(json_safe.plain(value)).decode()


# -- messages ----------------------------------------------------------------------------------------------------------


class Parts:
    """The parts of one message, in order, on the way to source messages.

    An unknown part is kept in `metadata.parts`, and a line such as `[kind]` stands for it.
    """

    def __init__(self, role: str, glue: str = "\n") -> None:
        self.role: str = ROLES.get(role, role)
        self._glue = "" if self.role == "assistant" else glue
        self._lines: list[tuple[str, bool]] = []
        self.calls: list[SourceToolCall] = []
        self.results: list[SourceMessage] = []
        self.attachments: list[Attachment] = []
        self.reasoning: list[str] = []
        self.unknown: list[Any] = []
        self.is_refusal: bool = False

    def text(self, text: str) -> None:
        """Add a text."""
        self._lines.append((text, False))

    def refusal(self, text: str) -> None:
        """Add a refusal."""
        self.is_refusal = True
        self._lines.append((text, True))

    def attach(self, attachment: Attachment) -> None:
        """Add a part that is not text; a line stands for it."""
        self.attachments.append(attachment)
        self._lines.append((placeholder(attachment), True))

    def call(self, call_id: Any, name: Any, arguments: Any) -> None:
        """Add a tool call."""
        made = SourceToolCall(identifier(call_id), string(name), arguments)
        if made.is_meant:
            self.calls.append(made)

    def result(self, call_id: Any, name: Any, result: Any) -> None:
        """Add the result of a tool call: a message of its own."""
        found = Content(result if isinstance(result, str) else as_text(result))
        if isinstance(result, list | tuple) and all(string(own(part).get("type")) for part in result):
            found = content([{"text": own(part).get("content"), **own(part)} for part in result])
        self.results.append(SourceMessage("tool", found.text, (), identifier(call_id), string(name), found.attachments))

    def other(self, kind: str, part: Any) -> None:
        """Add a part of a kind that is not known."""
        self.unknown.append(kept(part))
        self._lines.append((f"[{kind}]", True))

    def sources(self) -> tuple[SourceMessage, ...]:
        """Return the source messages: the results of tools first, then the message itself if anything is left."""
        text, alone = "", True
        for n, (line, own_line) in enumerate(self._lines):
            text = line if n == 0 else text + ("\n" if own_line or alone else self._glue) + line
            alone = own_line
        metadata: dict[str, Any] = {}
        if self.is_refusal:
            metadata["refusal"] = True
        if self.reasoning:
            metadata["reasoning"] = "\n".join(self.reasoning)
        if self.unknown:
            metadata["parts"] = self.unknown
        if self.role == "tool":
            if self.results or not text:
                return tuple(self.results)
            return (SourceMessage("tool", text, (), None, None, tuple(self.attachments), metadata or None),)
        if self.results and not (text or self.calls or self.attachments or metadata):
            return tuple(self.results)
        own = SourceMessage(self.role, text, tuple(self.calls), None, None, tuple(self.attachments), metadata or None)
        return (*self.results, own)


# -- answers -----------------------------------------------------------------------------------------------------------


def wordless(answer: Answer) -> Answer:
    """Return an answer with one assistant message without words, if it has no message: its facts need a carrier."""
    if not answer.messages:
        answer.messages = (SourceMessage("assistant"),)
    return answer


def choices(messages: Sequence[tuple[SourceMessage, ...]], reasons: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Describe further choices of one answer (n > 1), as `metadata.alternatives` lists them."""
    found = []
    for index, sources in enumerate(messages, 1):
        record: dict[str, Any] = {"index": index, "content": "\n".join(s.text for s in sources if s.text)}
        calls = [msgspec.structs.asdict(call) for source in sources for call in source.calls]
        if calls:
            record["toolCalls"] = calls
        reason = string(reasons[index]) if index < len(reasons) else None
        if reason:
            record["finishReason"] = FINISHED.get(reason, reason)
        found.append(record)
    return tuple(found)
