"""Building and parsing of both forms of the content field (API document, "Content Format").

The structured form is JSON. Fields that it has no place for are kept in its metadata; see `wire.details`. In the text
form, the first line of a message begins with a role label, from one of three pairs::

    User: Hello                 Human: Hello            Customer: Hello
    Assistant: Hi!              AI: Hi!                 Agent: Hi!

A message may have several lines. The text form cannot quote a label, so the first label decides which lines begin a
message:

1. If both labels of its pair are used, only they count: "AI: ..." in a User/Assistant transcript is text.
2. Else, if both labels of another pair are used, they are quoted text: only the first label counts.
3. Else the pairs are mixed: the first label counts, and the first label of the other role.

`build_text` takes the first pair with which the text parses back to the same messages. The text form cannot hold roles
other than user and assistant, fields other than role and content, white space around a message, CRLF line ends (they
become LF), or text that would parse as labels of every pair.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from converra.errors import InvalidArgumentError
from converra.wire import details
from converra.wire.models import Message, message_from, messages_from, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.wire.models import MessageLike

__all__ = ["Transcript", "build", "build_structured", "build_text", "parse"]

LABEL_PAIRS = (("User", "Assistant"), ("Human", "AI"), ("Customer", "Agent"))
"""The label of the user and the label of the assistant."""

_ROLE = {label.lower(): role for pair in LABEL_PAIRS for label, role in zip(pair, ("user", "assistant"), strict=True)}
_PAIRS = [{label.lower() for label in pair} for pair in LABEL_PAIRS]
_LABEL = re.compile(rf"^[ \t]*({'|'.join(_ROLE)})[ \t]*:", re.IGNORECASE | re.MULTILINE)
_STRUCTURED_ROLES = ("user", "assistant", "system")
_FIELDS = {field.name: field.encode_name for field in msgspec.structs.fields(Message)}


class Transcript(NamedTuple):
    """A parsed content field: its messages, and the metadata of the structured form."""

    messages: list[Message]
    metadata: dict[str, Any] | None = None


def build(
    messages: Sequence[MessageLike],
    form: Literal["structured", "text"] = "structured",
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Build the content field of a conversation in either form (API document, "Content Format").

    Args:
        messages: At least one message: `converra.types.Message` objects, or dicts with the same fields.
        form: "structured", JSON that holds everything; or "text", lines that begin with a role label.
        metadata: The conversation's metadata. Only the structured form can hold it.

    Returns:
        The content, for `client.conversations.create(content=...)`.

    Raises:
        InvalidArgumentError: A message is wrong, or the form cannot hold what was given.

    Example::

        content = build([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}])

    """
    if form == "structured":
        return build_structured(messages, metadata)
    if form != "text":
        raise InvalidArgumentError(f"form is {form!r}, expected one of structured, text")
    if metadata is not None:
        raise InvalidArgumentError("metadata is given, which the text form cannot hold; the structured form can")
    return build_text(messages)


def build_structured(messages: Sequence[MessageLike], metadata: Mapping[str, Any] | None = None) -> str:
    """Build the structured form: JSON with a `messages` list and, if there is any, `metadata`.

    Fields that the API document has for appended messages only (usage, latency, ...) are kept in the metadata, where
    `parse` finds them.

    Args:
        messages: At least one message of a user, assistant or system, as `Message` or dict.
        metadata: Metadata of the conversation.

    Raises:
        InvalidArgumentError: A message is invalid, or has the role `tool`.

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


def build_text(messages: Sequence[MessageLike]) -> str:
    """Build the text form.

    Args:
        messages: At least one message of a user or assistant, as `Message` or dict. Only role and content are kept.

    Raises:
        InvalidArgumentError: The text form cannot hold the messages; see the module's docstring.

    """
    turns: list[tuple[str, str]] = [(message.role, _trimmed(message.content)) for message in messages_from(messages)]
    for index, (role, text) in enumerate(turns):
        if role not in _ROLE.values():
            raise InvalidArgumentError(f"messages[{index}]: the text form has no label for a {role} message")
        if not text:
            raise InvalidArgumentError(f"messages[{index}]: the text form cannot hold white space alone")
    for pair in LABEL_PAIRS:
        text = _labelled(turns, *pair)
        if _split(text) == turns:
            return text
    raise InvalidArgumentError(
        "the messages quote labels that the text form would read as messages; the structured form can hold them"
    )


def parse(content: str) -> Transcript:
    """Parse the content field of a conversation in either form (API document, "Content Format").

    Broken JSON counts as text. In the structured form unknown fields are ignored. In the text form labels count in
    any case and after white space, empty messages are left out, and words before the first label are a system message.

    Args:
        content: The content field, in either form; the form is detected.

    Returns:
        The messages, and the metadata: None if there is none, as always in the text form.

    Raises:
        InvalidArgumentError: The content is neither form; the message says what cannot be read.

    """
    structured = _structured(content)
    if structured is not None:
        return _read_structured(structured)
    turns = [(role, text) for role, text in _split(content) if text]
    if not any(role != "system" for role, _ in turns):
        expected = ", ".join("/".join(pair) for pair in LABEL_PAIRS)
        raise InvalidArgumentError(f"the transcript has no role label at the start of a line; known are {expected}")
    return Transcript([message_from({"role": role, "content": text}) for role, text in turns])


class Weighed(NamedTuple):
    """The texts of the messages in a content field, which the API's limits apply to."""

    texts: list[str]
    structured: bool


def weighed(content: str) -> Weighed:
    """Return the texts that the limits apply to, without validation: content that is no string counts as empty."""
    return fitted(content)[1]


def fitted(content: str) -> tuple[str, Weighed]:
    """Return the content field with all details in its metadata, and the texts that the limits apply to."""
    structured = _structured(content)
    if structured is None:
        return content, Weighed([text for _, text in _split(content)], structured=False)
    texts = (item.get("content") if isinstance(item, dict) else None for item in structured["messages"])
    weighed_texts = Weighed([text if isinstance(text, str) else "" for text in texts], structured=True)
    return _with_details_apart(content, structured), weighed_texts


def _with_details_apart(content: str, structured: dict[str, Any]) -> str:
    """Move fields that the content has no place for to its metadata; return it unchanged if there are none."""
    messages, metadata = structured["messages"], structured.get("metadata", {})
    if not (isinstance(metadata, dict) and all(isinstance(item, dict) for item in messages)):
        return content
    held, found = details.detach(messages)
    if not found:
        return content
    return to_json({**structured, "messages": held, "metadata": details.add(metadata, found)}).decode()


def _labelled(turns: list[tuple[str, str]], user: str, assistant: str) -> str:
    label = {"user": user, "assistant": assistant}
    return "\n".join(f"{label[role]}: {text}" for role, text in turns)


def _structured(content: str) -> dict[str, Any] | None:
    """Decode the structured form; return None for the text form."""
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
    items = details.put_back(decoded["messages"], found)
    messages = [_read_message(index, item) for index, item in enumerate(items)]
    return Transcript(messages, (rest or None) if found else metadata)


def _read_message(index: int, item: Any) -> Message:
    try:
        return message_from(_known_fields(item) if isinstance(item, dict) else item)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"messages[{index}] of the transcript: {error}") from error.__cause__


def _known_fields(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name in _FIELDS.values()}


def _split(content: str) -> list[tuple[str, str]]:
    """Split the text form into roles and trimmed texts; text before the first label has the role `system`."""
    text = content.removeprefix("\ufeff").replace("\r\n", "\n")
    labels = _labels(text)
    starts = [("system", 0, 0), *labels]
    ends = [start for _, start, _ in labels] + [len(text)]
    turns = [(role, _trimmed(text[body:end])) for (role, _, body), end in zip(starts, ends, strict=True)]
    return turns if turns[0][1] else turns[1:]


def _labels(text: str) -> list[tuple[str, int, int]]:
    """Find the labels that begin messages: role, start of the line, start of the text."""
    found = [(match[1].lower(), match.start(), match.end()) for match in _LABEL.finditer(text)]
    counted = _counted([label for label, _, _ in found])
    return [(_ROLE[label], start, end) for label, start, end in found if label in counted]


def _counted(labels: list[str]) -> set[str]:
    """Select the labels that begin messages, from all labels at line starts in their order (rules 1 to 3)."""
    first, used = labels[:1], set(labels)
    pairs_in_use = [pair for pair in _PAIRS if pair <= used]
    for pair in pairs_in_use:
        if first[0] in pair:
            return pair
    if pairs_in_use:
        return set(first)
    other = (label for label in labels if _ROLE[label] != _ROLE[first[0]])
    return {*first, *itertools.islice(other, 1)}


def _trimmed(text: str) -> str:
    return text.replace("\r\n", "\n").strip()
