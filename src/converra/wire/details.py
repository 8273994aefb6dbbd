"""Message details: the fields of a message that a create's content has no place for.

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
    """A conversation's metadata without the details, and the details by position of their message."""

    metadata: dict[str, Any]
    details: dict[str, dict[str, Any]]


def detach(messages: Sequence[Mapping[str, T]]) -> tuple[list[dict[str, T]], dict[str, dict[str, T]]]:
    """Split messages into the fields of a create's content, and their details by position.

    Args:
        messages: The fields of each message, by their names in the API.

    """
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
    """Split a conversation's metadata. A value of another shape under the same name is the user's, and stays."""
    found = metadata.get(DETAILS)
    if not (isinstance(found, dict) and found and all(map(_is_entry, found.items()))):
        return Taken(dict(metadata), {})
    return Taken({name: value for name, value in metadata.items() if name != DETAILS}, found)


def renamed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a user's metadata with their own `messageDetails`, if they have one, as `messageDetails_`."""
    return {f"{DETAILS}_" if name == DETAILS else name: value for name, value in metadata.items()}


def put_back(messages: Sequence[Any], details: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return the messages with their details; fields that a message has itself are kept."""
    return [_merged(message, details.get(str(position))) for position, message in enumerate(messages)]


def _is_entry(entry: tuple[Any, Any]) -> bool:
    position, details = entry
    return isinstance(position, str) and position.isdecimal() and isinstance(details, dict)


def _merged(message: Any, details: Mapping[str, Any] | None) -> Any:
    if not details or not isinstance(message, dict):
        return message
    merged = {**message, **{name: value for name, value in details.items() if message.get(name) is None}}
    metadata, detached = message.get("metadata"), details.get("metadata")
    if isinstance(metadata, dict) and isinstance(detached, dict):
        merged["metadata"] = {**detached, **metadata}
    return merged
