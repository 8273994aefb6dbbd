"""Log the conversations of your LLM app to the Converra Conversations API.

Importing this starts nothing, reads nothing and patches nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from converra._version import __version__

if TYPE_CHECKING:
    from converra._default import (
        complete,
        conversation,
        current_conversation,
        flush,
        instrument,
        shutdown,
        stats,
        uninstrument,
    )
    from converra.api.client import AsyncConverra, Converra
    from converra.capture.handle import Conversation
    from converra.errors import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        ClientClosedError,
        ContentLimitError,
        ConverraError,
        InternalServerError,
        InvalidArgumentError,
        MissingAPIKeyError,
        NotFoundError,
        PayloadTooLargeError,
        PermissionDeniedError,
        RateLimitError,
        UnreadableResponseError,
        ValidationError,
    )

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncConverra",
    "AuthenticationError",
    "ClientClosedError",
    "ContentLimitError",
    "Converra",
    "ConverraError",
    "Conversation",
    "InternalServerError",
    "InvalidArgumentError",
    "MissingAPIKeyError",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "RateLimitError",
    "UnreadableResponseError",
    "ValidationError",
    "__version__",
    "complete",
    "conversation",
    "current_conversation",
    "flush",
    "instrument",
    "shutdown",
    "stats",
    "uninstrument",
]

_ELSEWHERE = {"AsyncConverra": "api.client", "Converra": "api.client", "Conversation": "capture.handle"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'converra' has no attribute {name!r}")
    home = _ELSEWHERE.get(name) or ("errors" if name.endswith("Error") else "_default")
    value = getattr(import_module(f"converra.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
