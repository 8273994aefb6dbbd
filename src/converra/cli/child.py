"""A command that `converra dev` or `converra run` starts: its environment, its signals, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from converra.config import SILENCED
from converra.integrations.discovery import integrations
from converra.integrations.uncaptured import LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

HOOK = Path(__file__).with_name("hook")
"""The folder whose `sitecustomize` switches capture on."""

LOOPBACK = "127.0.0.1"
TICK_SECONDS = 0.1

_ELSEWHERE = ("CONVERRA_ENABLED", "CONVERRA_OUTBOX", "CONVERRA_SAMPLE_RATE", SILENCED)
"""Settings by which conversations would go elsewhere than here, or nowhere."""

_ADDRESSES = {
    "OPENAI_BASE_URL": "",
    "GOOGLE_GEMINI_BASE_URL": "/google",
    "ANTHROPIC_BASE_URL": "/anthropic",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "/bedrock",
    "GROQ_BASE_URL": "/",
    "TOGETHER_BASE_URL": "/openai",
    "OLLAMA_HOST": "/ollama",
    "MISTRAL_SERVER_URL": "/mistral",  # its client reads no variable: for apps that pass it on
}
"""Variables with the stand-in model's address, and the path there; none is that of OpenAI's API."""

_KEYS = (
    *("OPENAI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "TOGETHER_API_KEY", "MISTRAL_API_KEY"),
    "AWS_BEARER_TOKEN_BEDROCK",  # for Bedrock alone: other clients of AWS keep the app's credentials
)

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
"""The shell's exit statuses for a command that cannot be started."""

_FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_OF_TERMINALS = ("SIGINT", "SIGQUIT")
"""A terminal sends these to the command as well."""


def environment(
    before: Mapping[str, str],
    *,
    base_url: str,
    openai_url: str | None,
    prompt_id: str | None,
    key: str = "dev",
    sightings: Path | None = None,
) -> dict[str, str]:
    """Variables with which a command's conversations arrive at `base_url`, and its model calls at `openai_url`."""
    after = {name: value for name, value in hooked(before).items() if name not in _ELSEWHERE}
    after |= {
        "CONVERRA_BASE_URL": base_url,
        "CONVERRA_API_KEY": key,
        "CONVERRA_PROMPT_ID": prompt_id or before.get("CONVERRA_PROMPT_ID") or "dev",
        "CONVERRA_FLUSH_INTERVAL": before.get("CONVERRA_FLUSH_INTERVAL") or "0.2",
        "CONVERRA_PYTEST_SEND": "1",
    }
    for name in ("NO_PROXY", "no_proxy"):
        after[name] = ",".join(filter(None, (before.get(name), LOOPBACK)))
    if openai_url is not None:
        after |= {name: urljoin(openai_url, path) if path else openai_url for name, path in _ADDRESSES.items()}
        after |= dict.fromkeys(_KEYS, key)
    if sightings is not None:
        after["CONVERRA_HOOK_SIGHTINGS"] = str(sightings)
    return after


def hooked(before: Mapping[str, str]) -> dict[str, str]:
    """Variables with which every Python of a command captures, with the settings that the command has."""
    return {
        **before,
        "CONVERRA_HOOK_MODULES": ",".join(sorted(set(_modules()))),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HOOK), before.get("PYTHONPATH")))),
    }


def _modules() -> Iterator[str]:
    """Modules that switch capture on: of libraries that are captured, and of those that it names as not captured."""
    yield from (known.module.partition(".")[0] for known in integrations())
    yield from (library.module for library in LIBRARIES)


def libraries() -> list[str]:
    """Name the libraries that can be captured."""
    return [known.name for known in integrations()]


def not_run(command: Sequence[str], error: OSError) -> tuple[str, int]:
    """Say why a command cannot be started, and the shell's exit status for that."""
    hint = f"; did you mean python {command[0]}?" if command[0].endswith(".py") else ""
    missing = isinstance(error, FileNotFoundError)
    return f"cannot run {command[0]}: {error.strerror}{hint}", _NOT_FOUND if missing else _NOT_EXECUTABLE


def run(command: Sequence[str], environ: Mapping[str, str], tick: Callable[[], None]) -> int:
    """Run a command to its end and give its exit status, 128 + n for signal n; `tick` is called all the while.

    Raises OSError where it cannot be started.
    """
    with subprocess.Popen(list(command), env=dict(environ)) as process, _forwarding(process):  # noqa: S603 - the user's own command
        while True:
            try:
                status = process.wait(TICK_SECONDS)
            except subprocess.TimeoutExpired:
                tick()
            else:
                return status if status >= 0 else 128 - status


@contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[None]:
    def forward(number: int, _frame: FrameType | None) -> None:
        if signal.Signals(number).name not in _OF_TERMINALS or not _at_terminal():
            process.send_signal(number)

    numbers = [getattr(signal, name) for name in (*_FORWARDED, *_OF_TERMINALS) if hasattr(signal, name)]
    before = [(number, signal.signal(number, forward)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _at_terminal() -> bool:
    """Return True if this process is in the foreground of a terminal, whose keys then reach the command directly."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # standard input is no terminal
        return False
