"""Feedback: what somebody thought of a conversation, as a score, a comment, or both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from converra.capture.privacy import WITHHELD
from converra.capture.spec import checked_id
from converra.errors import InvalidArgumentError
from converra.wire import json_safe
from converra.wire.models import FEEDBACK, Message

if TYPE_CHECKING:
    from datetime import datetime

    from converra.history.draft import Finish


class Feedback(msgspec.Struct, frozen=True):
    """One judgement of a conversation; `key` says whose, or of what kind."""

    key: str
    score: float | None = None
    comment: str | None = None

    def redacted(self, finish: Finish | None) -> Feedback:
        """Return it as it may leave the process: the comment is words of a person, like a user's message."""
        if self.comment is None or finish is None:
            return self
        message = finish(Message(role="user", content=self.comment))
        shown = message is not None and message.content not in ("", WITHHELD)
        return msgspec.structs.replace(self, comment=message.content if message is not None and shown else None)

    def record(self, called: datetime) -> dict[str, Any]:
        """Build what the metadata holds under its key."""
        fields = {"score": self.score, "comment": self.comment, "timestamp": called.isoformat(timespec="milliseconds")}
        return {name: value for name, value in fields.items() if value is not None}

    def message(self, message_id: str, called: datetime) -> Message:
        """Build the message that carries it where no other request would: an append has at least one message."""
        head = f"Feedback ({self.key})" + ("" if self.score is None else f": {self.score:g}")
        return Message(
            role="system",
            content=". ".join(filter(None, (head, self.comment))),
            timestamp=called,
            metadata={"messageId": message_id, FEEDBACK: {self.key: self.record(called)}},
        )


def checked(key: Any, score: Any, comment: Any) -> Feedback:
    """Return feedback of checked arguments.

    Raises:
        InvalidArgumentError: There is neither score nor comment, the score is no finite number, the comment no string,
            or the key no printable string.

    """
    if comment is not None and not isinstance(comment, str):
        raise InvalidArgumentError(f"comment is {type(comment).__name__}, expected a string")
    comment = json_safe.text(comment).strip() or None if comment else None
    if score is None and comment is None:
        raise InvalidArgumentError("feedback needs a score, a comment, or both")
    return Feedback(checked_id("key", key), None if score is None else _number(score), comment)


def _number(score: Any) -> float:
    try:
        number = float(score)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(score, str | bytes) or not math.isfinite(number):
        raise InvalidArgumentError(f"score is {score!r:.40}, expected a finite number or a bool")
    return int(number) if number.is_integer() else number
