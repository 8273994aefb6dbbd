"""The settings: one row each, and the only reader of the environment.

An argument wins over the environment, the environment over the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from converra.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_BASE_URL = "https://converra.ai/api/v1"

SILENCED = "CONVERRA_SILENCED"
"""The variable that the pytest plugin sets for the tests and their child processes: nothing is captured, whatever the
settings say."""


def _text(value: Any) -> str | None:
    """A trimmed string; None for an empty one, since a blank setting is no setting."""
    if not isinstance(value, str):
        raise TypeError
    return value.strip() or None


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError


def _seconds(value: Any) -> float:
    number = _number(value)
    if number < 0 or number == float("inf"):
        raise ValueError
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if number != number:  # noqa: PLR0124 - the test for NaN
        raise ValueError
    return number


def _rate(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def _bytes(value: Any) -> int:
    number = int(_number(value))
    if number <= 0:
        raise ValueError
    return number


def _url(value: Any) -> str:
    url = (_text(value) or "").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c.isspace() for c in url):
        raise ValueError
    parts.port  # noqa: B018 - raises ValueError when it is no number
    return url


def _path(value: Any) -> str | None:
    return _text(os.fspath(value))


def _prompt(value: Any) -> Any:
    return value if callable(value) else _text(value)


def _callable(value: Any) -> Any:
    if not callable(value):
        raise TypeError
    return value


class Setting(NamedTuple):
    """One row: its name as an argument, its environment variable, its default, how it is read, what is expected."""

    name: str
    environment: str | None
    default: Any
    read: Callable[[Any], Any]
    expected: str
    meaning: str


SETTINGS: tuple[Setting, ...] = (
    Setting("api_key", "CONVERRA_API_KEY", None, _text, "a string", "the API key; never logged"),
    Setting("base_url", "CONVERRA_BASE_URL", DEFAULT_BASE_URL, _url, "an http(s) URL", "where the API is"),
    Setting(
        "prompt_id", "CONVERRA_PROMPT_ID", None, _prompt, "a string or a callable", "prompt of calls outside a block"
    ),
    Setting("enabled", "CONVERRA_ENABLED", True, _flag, "true or false", "false: nothing is patched, no thread"),
    Setting("outbox", "CONVERRA_OUTBOX", None, _path, "a file path", "the durable outbox; default: memory"),
    Setting(
        "flush_interval", "CONVERRA_FLUSH_INTERVAL", 2.0, _seconds, "seconds", "longest wait of a turn before sending"
    ),
    Setting(
        "idle_timeout",
        "CONVERRA_IDLE_TIMEOUT",
        300.0,
        _seconds,
        "seconds",
        "silence that ends an implicit conversation",
    ),
    Setting("timeout", "CONVERRA_TIMEOUT", 10.0, _seconds, "seconds", "one HTTP request"),
    Setting(
        "shutdown_timeout", "CONVERRA_SHUTDOWN_TIMEOUT", 5.0, _seconds, "seconds", "the most that process exit may cost"
    ),
    Setting(
        "max_pending_bytes",
        "CONVERRA_MAX_PENDING_BYTES",
        64 * 1024 * 1024,
        _bytes,
        "a positive number of bytes",
        "bound of what waits in memory",
    ),
    Setting("redact", None, None, _callable, "a callable", "(message) -> message or None, before anything leaves"),
    Setting(
        "capture_content", "CONVERRA_CAPTURE_CONTENT", True, _flag, "true or false", "false: words go, structure stays"
    ),
    Setting("sample_rate", "CONVERRA_SAMPLE_RATE", 1.0, _rate, "a number from 0 to 1", "share of conversations kept"),
    Setting("console", "CONVERRA_CONSOLE", False, _flag, "true or false", "print turns as they are captured"),
    Setting(
        "handle_sigterm",
        "CONVERRA_HANDLE_SIGTERM",
        False,
        _flag,
        "true or false",
        "deliver within the budget on SIGTERM; the known servers do without it",
    ),
)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one recorder, read once. The key alone may appear later: see `api_key_now`."""

    api_key: str | None = None
    base_url: str = DEFAULT_BASE_URL
    prompt_id: str | Callable[[Any], str | None] | None = None
    enabled: bool = True
    outbox: str | None = None
    flush_interval: float = 2.0
    idle_timeout: float = 300.0
    timeout: float = 10.0
    shutdown_timeout: float = 5.0
    max_pending_bytes: int = 64 * 1024 * 1024
    redact: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    capture_content: bool = True
    sample_rate: float = 1.0
    console: bool = False
    handle_sigterm: bool = False

    def __repr__(self) -> str:
        """All settings but the key's value."""
        shown = ((row.name, getattr(self, row.name)) for row in SETTINGS)
        return f"Config({', '.join(f'{n}={_masked(n, v)!r}' for n, v in shown)})"

    def api_key_now(self) -> str | None:
        """The key, looked up again in the environment while there is none (`load_dotenv()` may come late)."""
        return self.api_key or (os.environ.get("CONVERRA_API_KEY") or "").strip() or None


def freezes_between_calls(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this is a function (AWS Lambda) that stands still between calls, so that nothing may wait for later."""
    return bool((os.environ if environ is None else environ).get("AWS_LAMBDA_FUNCTION_NAME"))


def refuses_colour(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the user wants no colours (no-color.org), or has a terminal that knows none."""
    environ = os.environ if environ is None else environ
    return bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"


def _masked(name: str, value: Any) -> Any:
    return "***" if name == "api_key" and value else value


def load(arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Config:
    """Settings from arguments, then the environment, then defaults.

    Raises InvalidArgumentError that names the setting, what it got and what it expects. An argument of None counts
    as not given; so does a blank environment variable.
    """
    unknown = arguments.keys() - {row.name for row in SETTINGS}
    if unknown:
        known = ", ".join(row.name for row in SETTINGS)
        raise TypeError(f"unknown setting {', '.join(sorted(unknown))}; known are: {known}")
    environ = os.environ if environ is None else environ
    values = dict(_values(arguments, environ))
    return Config(**values | ({"enabled": False} if environ.get(SILENCED) else {}))


def _values(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for row in SETTINGS:
        given = arguments.get(row.name)
        if given is not None:
            yield row.name, _read(row, given, row.name)
        elif row.environment and environ.get(row.environment, "").strip():
            yield row.name, _read(row, environ[row.environment], row.environment)
        else:
            yield row.name, row.default


def _read(row: Setting, value: Any, source: str) -> Any:
    try:
        return row.read(value)
    except (ValueError, TypeError, OverflowError) as error:
        got = "a value that it cannot use" if row.name == "api_key" else repr(value)
        raise InvalidArgumentError(f"{source} is {got}, expected {row.expected}") from error
