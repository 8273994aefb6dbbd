"""`converra run`: a command becomes this process, with the hook in its environment. Needs no extra."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from converra import config
from converra.cli import child
from converra.errors import MissingAPIKeyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_IGNORED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")
"""A command would inherit that they are ignored (`subprocess`, "restore_signals")."""


def environment(before: Mapping[str, str], prompt_id: str | None) -> dict[str, str]:
    """Variables with which a command records to the API of its settings.

    Raises:
        InvalidArgumentError: A setting can never work.
        MissingAPIKeyError: There is no key, and capture is not disabled.

    """
    after = child.hooked(before) | ({"CONVERRA_PROMPT_ID": prompt_id} if prompt_id else {})
    settings = config.load({}, after)
    if settings.enabled and settings.api_key is None:
        raise MissingAPIKeyError(
            "no API key: set CONVERRA_API_KEY; converra dev -- COMMAND records on this machine without one"
        )
    return after


def notes(environ: Mapping[str, str]) -> list[str]:
    """Say what will keep calls from being recorded."""
    settings = config.load({}, environ)
    if not settings.enabled:
        name = config.SILENCED if environ.get(config.SILENCED) else "CONVERRA_ENABLED"
        return [f"{name} switches capture off: nothing will be recorded"]
    if settings.prompt_id is None:
        return ["only calls inside a conversation() will be recorded; --prompt-id gives the others a prompt"]
    return []


def run(command: Sequence[str], prompt_id: str | None) -> NoReturn:
    """Run a command in the place of this process; exit like a shell if it cannot be started.

    Raises:
        InvalidArgumentError: A setting can never work.
        MissingAPIKeyError: There is no key, and capture is not disabled.

    """
    environ = environment(os.environ, prompt_id)
    for note in notes(environ):
        sys.stderr.write(f"converra run: {note}\n")
    try:
        _replace(command, environ)
    except OSError as error:
        why, status = child.not_run(command, error)
        sys.stderr.write(f"converra run: {why}\n")
        sys.exit(status)


def _replace(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Let input, output, signals and exit status be the command's own."""
    if sys.platform == "win32":  # pragma: no cover - there exec starts another process and ends this one
        sys.exit(child.run(command, environ, lambda: None))
    for number in (getattr(signal, name) for name in _IGNORED_BY_PYTHON if hasattr(signal, name)):
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(command[0], list(command), dict(environ))  # noqa: S606 - the user's own command
