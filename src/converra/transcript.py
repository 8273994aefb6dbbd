"""Both forms of the content field, built and parsed (API document, "Content Format").

The structured form is JSON and holds everything: what it has no field for is in its metadata, see `details`. The text
form is lines that begin with a role label, in one of three pairs::

    User: Hello                 Human: Hello            Customer: Hello
    Assistant: Hi!              AI: Hi!                 Agent: Hi!

A message may go on over several lines. The text form has no way to quote a label, so the first label decides which
lines begin a message:

1. Where both labels of its pair are in use, only they count: "AI: ..." inside a User/Assistant transcript is words.
2. Else, where both labels of another pair are in use, they are quoted: only the first label counts.
3. Else the pairs are mixed: the first label counts, and the first one that stands for the other role.

`build_text` picks the first pair with which everything survives. What the text form cannot hold: roles other than user
and assistant, any field but role and content, white space around a message, CRLF line ends (they become LF), and words
that would read as labels whichever pair is picked.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.errors import InvalidArgumentError
from converra.wire import details
from converra.wire.models import Message
from converra.wire.parsing import message_from, messages_from, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LABEL_PAIRS = (("User", "Assistant"), ("Human", "AI"), ("Customer", "Agent"))
"""The label of the user and the label of the assistant."""

_ROLE = {label.lower(): role for pair in LABEL_PAIRS for label, role in zip(pair, ("user", "assistant"), strict=True)}
_PAIRS = [{label.lower() for label in pair} for pair in LABEL_PAIRS]
_LABEL = re.compile(rf"^[ \t]*({'|'.join(_ROLE)})[ \t]*:", re.IGNORECASE | re.MULTILINE)
_STRUCTURED_ROLES = ("user", "assistant", "system")
_FIELDS = {field.name: field.encode_name for field in msgspec.structs.fields(Message)}


class Transcript(NamedTuple):
    """What a content field says. Only the structured form has metadata."""

    messages: list[Message]
    metadata: dict[str, Any] | None = None


def build_structured(messages: Sequence[Message | Mapping[str, Any]], metadata: Mapping[str, Any] | None = None) -> str:
    """The structured form: JSON with a `messages` list and, where there is any, `metadata`.

    Fields that the API document lists for appended messages only (usage, latency, ...) are kept in the metadata, where
    `parse` finds them.
    """
    given = messages_from(messages)
    for index, message in enumerate(given):
        if message.role not in _STRUCTURED_ROLES:
            raise InvalidArgumentError(
                f"messages[{index}]: content holds user, assistant and system messages; append a {message.role} message"
            )
    held, found = details.detach(list(map(_wire, given)))
    content: dict[str, Any] = {"messages": held}
    if found or metadata is not None:
        content["metadata"] = details.add(metadata or {}, found)
    return to_json(content).decode()


def _wire(message: Message) -> dict[str, Any]:
    fields = ((wire_name, getattr(message, name)) for name, wire_name in _FIELDS.items())
    return {name: value for name, value in fields if value is not None}


def build_text(messages: Sequence[Message | Mapping[str, Any]]) -> str:
    """The text form; raises InvalidArgumentError where it cannot hold the messages (see the module's docstring)."""
    said: list[tuple[str, str]] = [(message.role, _trimmed(message.content)) for message in messages_from(messages)]
    for index, (role, text) in enumerate(said):
        if role not in _ROLE.values():
            raise InvalidArgumentError(f"messages[{index}]: the text form has no label for a {role} message")
        if not text:
            raise InvalidArgumentError(f"messages[{index}]: the text form cannot hold white space alone")
    for pair in LABEL_PAIRS:
        text = _labelled(said, *pair)
        if _split(text) == said:
            return text
    raise InvalidArgumentError(
        "the messages quote labels that the text form would read as messages; the structured form can hold them"
    )


def parse(content: str) -> Transcript:
    """Either form, told apart by itself; raises InvalidArgumentError that says what cannot be read.

    Broken JSON counts as text. In the structured form unknown fields are ignored. In the text form labels count in
    any case and after white space, empty messages are left out, and words before the first label are a system message.
    """
    structured = _structured(content)
    if structured is not None:
        return _read_structured(structured)
    said = [(role, text) for role, text in _split(content) if text]
    if not any(role != "system" for role, _ in said):
        expected = ", ".join("/".join(pair) for pair in LABEL_PAIRS)
        raise InvalidArgumentError(f"the transcript has no role label at the start of a line; known are {expected}")
    return Transcript([message_from({"role": role, "content": text}) for role, text in said])


class Weighed(NamedTuple):
    """The texts of the messages in a content field, as the API's limits count them."""

    texts: list[str]
    structured: bool


def weighed(content: str) -> Weighed:
    """What the limits apply to, told without judging: whatever cannot be read counts as no text."""
    return fitted(content)[1]


def fitted(content: str) -> tuple[str, Weighed]:
    """The content field with no message beyond the fields that it has there, and what the limits apply to."""
    structured = _structured(content)
    if structured is None:
        return content, Weighed([text for _, text in _split(content)], structured=False)
    texts = (item.get("content") if isinstance(item, dict) else None for item in structured["messages"])
    told = Weighed([text if isinstance(text, str) else "" for text in texts], structured=True)
    return _with_details_apart(content, structured), told


def _with_details_apart(content: str, structured: dict[str, Any]) -> str:
    """The content as it is, unless a message has a field that it has no place for."""
    messages, metadata = structured["messages"], structured.get("metadata", {})
    if not (isinstance(metadata, dict) and all(isinstance(item, dict) for item in messages)):
        return content
    held, found = details.detach(messages)
    if not found:
        return content
    return to_json({**structured, "messages": held, "metadata": details.add(metadata, found)}).decode()


def _labelled(said: list[tuple[str, str]], user: str, assistant: str) -> str:
    label = {"user": user, "assistant": assistant}
    return "\n".join(f"{label[role]}: {text}" for role, text in said)


def _structured(content: str) -> dict[str, Any] | None:
    """The decoded structured form; None where the content is text."""
    text = content.lstrip("\ufeff \t\r\n")
    if not text.startswith("{"):
        return None
    try:
        decoded = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded.get("messages"), list) else None


def _read_structured(decoded: dict[str, Any]) -> Transcript:
    metadata = decoded.get("metadata")
    if not isinstance(metadata, dict | None):
        raise InvalidArgumentError(f"metadata of the transcript is {type(metadata).__name__}, expected an object")
    rest, found = details.take(metadata or {})
    whole = details.put_back(decoded["messages"], found)
    messages = [_read_message(index, item) for index, item in enumerate(whole)]
    return Transcript(messages, (rest or None) if found else metadata)


def _read_message(index: int, item: Any) -> Message:
    try:
        return message_from(_known_fields(item) if isinstance(item, dict) else item)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"messages[{index}] of the transcript: {error}") from error.__cause__


def _known_fields(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name in _FIELDS.values()}


def _split(content: str) -> list[tuple[str, str]]:
    """Roles and trimmed texts; what stands before the first label has the role `system`."""
    text = content.removeprefix("\ufeff").replace("\r\n", "\n")
    labels = _labels(text)
    starts = [("system", 0, 0), *labels]
    ends = [start for _, start, _ in labels] + [len(text)]
    said = [(role, _trimmed(text[body:end])) for (role, _, body), end in zip(starts, ends, strict=True)]
    return said[1:] if not said[0][1] else said


def _labels(text: str) -> list[tuple[str, int, int]]:
    """Role, start of the line, start of the words of every label that begins a message."""
    found = [(match[1].lower(), match.start(), match.end()) for match in _LABEL.finditer(text)]
    counted = _counted([label for label, _, _ in found])
    return [(_ROLE[label], start, end) for label, start, end in found if label in counted]


def _counted(labels: list[str]) -> set[str]:
    """Which of the labels at line starts, in their order, begin messages (rules 1 to 3)."""
    first, used = labels[:1], set(labels)
    whole = [pair for pair in _PAIRS if pair <= used]
    for pair in whole:
        if first[0] in pair:
            return pair
    if whole:
        return set(first)
    other = (label for label in labels if _ROLE[label] != _ROLE[first[0]])
    return {*first, *itertools.islice(other, 1)}


def _trimmed(text: str) -> str:
    return text.replace("\r\n", "\n").strip()
