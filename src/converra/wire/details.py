"""Message details: what a create carries of its messages beside the five fields of its content. Pure.

The content of a create has fields for a message's role, content, timestamp, model and token count (API document,
"Content Format"). Everything else is sent in the conversation's metadata, which the document leaves open, under the
message's position::

    {
        "messages": [{"role": "user", "content": "What is this?"}],
        "metadata": {"messageDetails": {"0": {"metadata": {"attachments": [{"kind": "image"}]}}}},
    }

Every reader of this package puts the details back, so a message looks the same whichever request carried it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

DETAILS = "messageDetails"
"""The name of the details in the conversation's metadata."""

CONTENT_FIELDS = frozenset({"role", "content", "timestamp", "model", "tokens"})
"""The fields of a message in a create's content."""


class Taken(NamedTuple):
    """A conversation's metadata without the details, and the details by position."""

    metadata: dict[str, Any]
    details: dict[str, dict[str, Any]]


def detach(messages: Sequence[Mapping[str, T]]) -> tuple[list[dict[str, T]], dict[str, dict[str, T]]]:
    """Split messages, spelled as on the wire, into what a create's content holds and their details by position."""
    held = [{name: value for name, value in message.items() if name in CONTENT_FIELDS} for message in messages]
    rest = ({name: value for name, value in message.items() if name not in CONTENT_FIELDS} for message in messages)
    return held, {str(position): each for position, each in enumerate(rest) if each}


def add(metadata: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conversation's metadata with the details, which may be encoded already.

    Details that the metadata holds already stay, unless they are replaced.
    """
    if not details:
        return dict(metadata)
    return {**metadata, DETAILS: {**take(metadata).details, **details}}


def take(metadata: Mapping[str, Any]) -> Taken:
    """Split a conversation's metadata; a value of another shape under the same name is the user's, and stays."""
    found = metadata.get(DETAILS)
    if not (isinstance(found, dict) and found and all(map(_is_entry, found.items()))):
        return Taken(dict(metadata), {})
    return Taken({name: value for name, value in metadata.items() if name != DETAILS}, found)


def renamed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a user's metadata with a value of theirs called `messageDetails` as `messageDetails_`."""
    return {f"{DETAILS}_" if name == DETAILS else name: value for name, value in metadata.items()}


def put_back(messages: Sequence[Any], details: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return the messages with their details. What a message has itself is not replaced."""
    return [_whole(message, details.get(str(position))) for position, message in enumerate(messages)]


def _is_entry(entry: tuple[Any, Any]) -> bool:
    position, details = entry
    return isinstance(position, str) and position.isdecimal() and isinstance(details, dict)


def _whole(message: Any, details: Mapping[str, Any] | None) -> Any:
    if not details or not isinstance(message, dict):
        return message
    whole = {**message, **{name: value for name, value in details.items() if message.get(name) is None}}
    own, told = message.get("metadata"), details.get("metadata")
    if isinstance(own, dict) and isinstance(told, dict):
        whole["metadata"] = {**told, **own}
    return whole
