"""The arguments that open a conversation: checked, and made into the header that delivery opens it with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from converra._version import __version__
from converra.delivery.header import Header
from converra.errors import InvalidArgumentError
from converra.process.guard import guard
from converra.wire import json_safe

SDK = {"name": "converra", "version": __version__}

MAX_ID = 512
"""Longest prompt id or session id, in characters."""


class ConversationSpec(msgspec.Struct, frozen=True, gc=False):
    """Everything that identifies and describes a conversation before it exists; all of it is checked already."""

    prompt_id: str
    session_id: str | None = None
    """If it has one, other processes may join it: the session id makes its idempotency key."""
    metadata: Mapping[str, Any] = {}
    company_name: str | None = None

    def header(self) -> Header:
        """Build the header, with a new idempotency key unless there is a session. User metadata cannot displace ours.

        Called by the first message, so a conversation in which nothing happens costs no random bytes.
        """
        reserved: dict[str, Any] = {"sdk": SDK}
        if self.session_id is not None:
            reserved["sessionId"] = self.session_id
        return Header(
            key=fresh_key() if self.session_id is None else f"{self.prompt_id}:{self.session_id}",
            prompt_id=self.prompt_id,
            company_name=self.company_name,
            shared=self.session_id is not None,
            metadata={**self.metadata, **reserved},
        )


def fresh_key() -> str:
    """Return an idempotency key that no other conversation has. The app's random generator stays untouched."""
    return os.urandom(16).hex()


def checked_id(name: str, value: Any) -> str:
    """Return a prompt or session id, trimmed.

    Args:
        name: The argument's name, for the error.
        value: The id: 1 to `MAX_ID` printable characters, not counting white space around them.

    Raises:
        InvalidArgumentError: It is no string, is empty or too long, or holds characters that cannot be printed.

    """
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} is {type(value).__name__}, expected a string")
    trimmed = value.strip()
    if not trimmed or len(trimmed) > MAX_ID or not trimmed.isprintable():
        raise InvalidArgumentError(f"{name} is {value[:40]!r}, expected 1 to {MAX_ID} printable characters")
    return trimmed


def checked_metadata(values: Any) -> dict[str, Any]:
    """Return metadata as plain data that strict JSON can hold.

    Raises:
        InvalidArgumentError: `values` is no mapping.

    """
    if not isinstance(values, Mapping):
        raise InvalidArgumentError(f"metadata is {type(values).__name__}, expected a mapping")
    return dict(json_safe.plain(values, described))


def described(value: Any) -> str:
    """Return the `repr` of an object, or the name of its type if `repr` fails."""
    with guard("describing a value"):
        return repr(value)
    return json_safe.type_name(value)
