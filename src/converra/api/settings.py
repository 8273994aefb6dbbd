"""The settings of a client: what was given, then the environment, then the defaults."""

from __future__ import annotations

from typing import Any, NamedTuple

from converra import config
from converra.errors import InvalidArgumentError, MissingAPIKeyError


class Settings(NamedTuple):
    """What a connection needs; `timeout` is in seconds."""

    api_key: str
    base_url: str
    timeout: float


def settings(api_key: str | None, base_url: str | None, timeout: float | None) -> Settings:
    """The settings of a client; raises MissingAPIKeyError where there is no key."""
    found = config.load({"api_key": api_key, "base_url": base_url, "timeout": timeout})
    if found.api_key is None:
        raise MissingAPIKeyError("no API key: pass api_key=, or set CONVERRA_API_KEY in the environment")
    return Settings(found.api_key, found.base_url, found.timeout)


def header_safe(api_key: str) -> str:
    """A key that a header can hold. The message never shows it."""
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise InvalidArgumentError("api_key holds characters that no API key has, such as a space or a line break")
    return api_key


def retries(max_retries: Any) -> int:
    """How many times a request may be sent again."""
    if not isinstance(max_retries, int) or isinstance(max_retries, bool) or max_retries < 0:
        raise InvalidArgumentError(f"max_retries is {max_retries!r}, expected a whole number of at least 0")
    return max_retries
