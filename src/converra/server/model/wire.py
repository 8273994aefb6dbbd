"""Parts that both wire formats share: ids, the model's name, the shape of an error, the pieces of a stream."""

from __future__ import annotations

import itertools
import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.server.model.script import Reply

FINGERPRINT = "stand-in"


class Stamps:
    """The ids and times of one server's answers: numbered, so that a run can be repeated."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def id(self, prefix: str) -> str:
        """An id that no other answer of this server has."""
        return f"{prefix}{next(self._numbers[prefix]):06d}"

    @staticmethod
    def now() -> int:
        """Seconds since the epoch."""
        return int(time.time())


class ModelError(Exception):
    """An error answer in OpenAI's shape."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status: int = status
        self.message: str = message
        self.code: str | None = code
        self.param: str | None = param

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= _SERVER_ERRORS else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


_SERVER_ERRORS = 500
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def model_name(body: Mapping[str, Any], reply: Reply) -> str:
    """The requested name with a mark, so that the answer cannot be mistaken for that model's."""
    named = reply.directives.get("model")
    return named.argument if named else f"{body.get('model', 'model')}-stand-in"


def pieces(text: str) -> list[str]:
    """A text as a stream brings it: word by word, with the space before each."""
    return re.findall(r"\s*\S+|\s+$", text)


def fragments(text: str, length: int = 8) -> list[str]:
    """Tool arguments as a stream brings them: in fragments that know no JSON."""
    return [text[at : at + length] for at in range(0, len(text), length)]


def text_of(content: Any) -> str:
    """The text of a message: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text") or "") for part in parts if isinstance(part, dict)).strip()
