"""The settings: types and defaults in `Config`, everything else in a row of `SETTINGS`.

Only this module reads the environment.

An argument wins over the environment, the environment over the default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from converra.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_BASE_URL = "https://converra.ai/api/v1"

RELAYS = ("inline", "none")
"""Values of the setting `relay`."""

SILENCED = "CONVERRA_SILENCED"
"""The variable by which the pytest plugin switches capture off in the tests and their child processes.

It wins over the setting `enabled`.
"""


def _text(value: Any) -> str | None:
    """Trim a string; return None for an empty one, since a blank setting counts as not given."""
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


def _outbox(value: Any) -> str | None:
    """Read a path or a URL. What is wrong with a Redis URL is found where it is used, and said there in detail."""
    text = _text(os.fspath(value))
    if text is not None and not is_fleet(text) and "://" in text:
        raise ValueError
    return text


def is_fleet(outbox: str | None) -> bool:
    """Return True for the URL of an outbox that machines share."""
    return outbox is not None and re.match(r"rediss?(\+\w*)?://", outbox) is not None


def _relay(value: Any) -> str:
    word = value.strip().lower() if isinstance(value, str) else value
    if word not in RELAYS:
        raise ValueError
    return str(word)


def _prompt(value: Any) -> Any:
    return value if callable(value) else _text(value)


def _callable(value: Any) -> Any:
    if not callable(value):
        raise TypeError
    return value


def _names(value: Any) -> tuple[str, ...]:
    """Read names that are separated by commas, or a list of them."""
    names = value.split(",") if isinstance(value, str) else list(value)
    if not all(isinstance(name, str) for name in names):
        raise TypeError
    return tuple(name.strip() for name in names if name.strip())


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one recorder, read once. The key alone may appear later: see `api_key_now`."""

    api_key: str | None = None
    base_url: str = DEFAULT_BASE_URL
    prompt_id: str | Callable[[Any], str | None] | None = None
    enabled: bool = True
    outbox: str | None = None
    relay: str = "inline"
    integrations: tuple[str, ...] | None = None
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
    otel: bool = False

    def __repr__(self) -> str:
        """Show all settings; of the key only that it is set."""
        shown = ((row.name, getattr(self, row.name)) for row in SETTINGS)
        return f"Config({', '.join(f'{n}={_masked(n, v)!r}' for n, v in shown)})"

    def api_key_now(self) -> str | None:
        """Return the key, looked up again in the environment while there is none: `load_dotenv()` may run late."""
        return self.api_key or (os.environ.get("CONVERRA_API_KEY") or "").strip() or None


_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Config)}


class Setting(NamedTuple):
    """One row: the argument, its environment variable, its reader, the expected values and the documented meaning.

    The default is that of `Config`. The docstring of `converra.instrument()` and the page of settings repeat `meaning`.
    """

    name: str
    environment: str | None
    read: Callable[[Any], Any]
    expected: str
    meaning: str

    @property
    def default(self) -> Any:
        """The value where neither an argument nor the environment gives one."""
        return _DEFAULTS[self.name]


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "api_key",
        "CONVERRA_API_KEY",
        _text,
        "a string",
        "The key of the Conversations API. White space around it is trimmed. It is never logged and never in a `repr`.",
    ),
    Setting("base_url", "CONVERRA_BASE_URL", _url, "an http(s) URL", "The URL of the Conversations API."),
    Setting(
        "prompt_id",
        "CONVERRA_PROMPT_ID",
        _prompt,
        "a string or a callable",
        "The prompt of calls outside any `conversation()`: a string, or as an argument also a callable that maps a call"
        " to a prompt id or None.",
    ),
    Setting(
        "enabled",
        "CONVERRA_ENABLED",
        _flag,
        "true or false",
        "`false`: nothing is patched, no thread is started, nothing is logged.",
    ),
    Setting(
        "outbox",
        "CONVERRA_OUTBOX",
        _outbox,
        "a file path, or a URL such as redis://host:6379/0",
        "The path of a file that keeps pending messages through a crash, or the URL of a Redis server that the"
        " processes of all machines share (`redis://`, `rediss://`). Without one they are kept in memory.",
    ),
    Setting(
        "relay",
        "CONVERRA_RELAY",
        _relay,
        "inline or none",
        "With a Redis outbox: `inline`, each process takes part in sending; `none`, only `converra relay` sends.",
    ),
    Setting(
        "integrations",
        "CONVERRA_INTEGRATIONS",
        _names,
        "names of integrations, such as openai or -langchain",
        "The names of the integrations to switch on, or names with `-` before them to leave those out: a list, or"
        " separated by commas. Without it, all are on.",
    ),
    Setting(
        "flush_interval",
        "CONVERRA_FLUSH_INTERVAL",
        _seconds,
        "seconds",
        "Seconds: the longest that a turn waits before it is sent.",
    ),
    Setting(
        "idle_timeout",
        "CONVERRA_IDLE_TIMEOUT",
        _seconds,
        "seconds",
        "Seconds without a call after which an implicit conversation ends.",
    ),
    Setting("timeout", "CONVERRA_TIMEOUT", _seconds, "seconds", "Seconds: the longest that one HTTP request may take."),
    Setting(
        "shutdown_timeout",
        "CONVERRA_SHUTDOWN_TIMEOUT",
        _seconds,
        "seconds",
        "Seconds: the longest that delivery may delay the exit of the process.",
    ),
    Setting(
        "max_pending_bytes",
        "CONVERRA_MAX_PENDING_BYTES",
        _bytes,
        "a positive number of bytes",
        "Bytes (64 MiB): the bound of pending messages in memory. Past it the newest turns are dropped, counted and"
        " logged.",
    ),
    Setting(
        "redact",
        None,
        _callable,
        "a callable",
        "A callable `(message: dict) -> dict | None`. It runs before anything leaves the process or touches a disk;"
        " None drops the message.",
    ),
    Setting(
        "capture_content",
        "CONVERRA_CAPTURE_CONTENT",
        _flag,
        "true or false",
        "`false`: roles, models, usage, latency and tool names are kept, texts are not.",
    ),
    Setting(
        "sample_rate",
        "CONVERRA_SAMPLE_RATE",
        _rate,
        "a number from 0 to 1",
        "The share of conversations that is recorded, from 0 to 1. A conversation is recorded whole or not at all.",
    ),
    Setting(
        "console",
        "CONVERRA_CONSOLE",
        _flag,
        "true or false",
        "`true`: turns are printed on standard error as they are captured, in colour on a terminal. Needs no key.",
    ),
    Setting(
        "handle_sigterm",
        "CONVERRA_HANDLE_SIGTERM",
        _flag,
        "true or false",
        "`true`: on SIGTERM pending messages are sent within `shutdown_timeout`, then the process dies of the signal as"
        " before. Only if SIGTERM has no other handler; else a warning says what to do. The known servers deliver"
        " without it.",
    ),
    Setting(
        "otel",
        "CONVERRA_OTEL",
        _flag,
        "true or false",
        "`true`: GenAI spans of this process become turns as well (extra `otel`). A call that is captured directly and"
        " also makes a span is recorded once.",
    ),
)


def freezes_between_calls(environ: Mapping[str, str] | None = None) -> bool:
    """Return True in AWS Lambda, which freezes the process between calls: nothing may be left for later."""
    return bool((os.environ if environ is None else environ).get("AWS_LAMBDA_FUNCTION_NAME"))


def refuses_colour(environ: Mapping[str, str] | None = None) -> bool:
    """Return True if the user declined colours (no-color.org) or the terminal has none."""
    environ = os.environ if environ is None else environ
    return bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"


def _masked(name: str, value: Any) -> Any:
    """Mask the key, and the password of an outbox's URL."""
    if name == "outbox" and isinstance(value, str):
        return without_password(value)
    return "***" if name == "api_key" and value else value


def without_password(url: str) -> str:
    """Return a URL with its passwords masked."""
    return re.sub(r"(://[^/@]*?:)[^/]*@", r"\1***@", re.sub(r"(password=)[^&]*", r"\1***", url))


def load(arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings from arguments, then the environment, then the defaults.

    Raises InvalidArgumentError that names the setting, what it got and what it expects. An argument of None counts
    as not given; so does a blank environment variable.
    """
    unknown = arguments.keys() - {row.name for row in SETTINGS}
    if unknown:
        known = ", ".join(row.name for row in SETTINGS)
        raise TypeError(f"unknown setting {', '.join(sorted(unknown))}; known are: {known}")
    environ = os.environ if environ is None else environ
    values = dict(_values(arguments, environ))
    if environ.get(SILENCED):
        values["enabled"] = False
    return Config(**values)


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
        got = "a value that it cannot use" if row.name == "api_key" else repr(_masked(row.name, value))
        raise InvalidArgumentError(f"{source} is {got}, expected {row.expected}") from error
