"""The command `converra`, which loads a command's module only when that command runs."""

from __future__ import annotations

import difflib
from errno import EPIPE
from importlib import import_module
from typing import Any, NamedTuple

import click

from converra._version import __version__
from converra.capture.console import visible
from converra.cli.failures import exit_status, explained, readable
from converra.errors import ConverraError


class _Row(NamedTuple):
    """Where a command is, and what the list of commands says about it, so that listing loads none."""

    module: str
    summary: str


_COMMANDS = {
    "demo": _Row("converra.cli.commands.demo", "Run the quickstart against this machine alone."),
    "dev": _Row("converra.cli.commands.dev", "Serve a local API with its viewer; record a command there."),
    "run": _Row("converra.cli.commands.run", "Run a command and record its calls to the API."),
    "tail": _Row("converra.cli.commands.tail", "Show turns as they are recorded."),
    "conversations": _Row("converra.cli.commands.conversations", "List and show conversations and insights."),
    "search": _Row("converra.cli.commands.search", "Find recorded conversations by words."),
    "export": _Row("converra.cli.commands.export", "Write conversations as JSON, text, HTML or a test."),
    "replay": _Row("converra.cli.commands.replay", "Ask another model what a recorded one was asked."),
    "mcp": _Row("converra.cli.commands.mcp", "Let a coding agent read what was recorded."),
    "push": _Row("converra.cli.commands.push", "Send what was recorded here to the real API, once."),
    "forget": _Row("converra.cli.commands.forget", "Delete what was recorded here."),
    "relay": _Row("converra.cli.commands.relay", "Send what a fleet has handed over to Redis."),
    "doctor": _Row("converra.cli.commands.doctor", "Check the settings, and that calls are recorded."),
    "completion": _Row("converra.cli.commands.completion", "Print the completion script of a shell."),
}


class _Failure(click.ClickException):
    """An error of the package as a command tells it."""

    def __init__(self, error: ConverraError) -> None:
        super().__init__(explained(error))
        self.exit_code = exit_status(error)  # type: ignore[misc]  # click declares it for the class; here each instance has its own


class _Commands(click.Group):
    """Commands by name, each the function of that name in its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        row = _COMMANDS.get(cmd_name)
        found: click.Command | None = getattr(import_module(row.module), cmd_name) if row else None
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; `help` is --help, and a misspelt name gets a suggestion."""
        if args[0] == "help":
            args = [*args[1:], "--help"]
        if args[0] == "--help":
            click.echo(ctx.get_help())
            ctx.exit()
        meant = difflib.get_close_matches(args[0], _COMMANDS, 1)
        if meant and args[0] not in _COMMANDS:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Tell errors in one line: those of the package, and those of the system that no command knows better."""
        try:
            return super().invoke(ctx)
        except ConverraError as error:
            raise _Failure(error) from error
        except OSError as error:
            if error.errno == EPIPE:  # the reader has enough: click knows what to do
                raise
            raise click.ClickException(visible(readable(str(error)))) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.summary) for name, row in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="converra")
def commands() -> None:
    """Log the conversations of your LLM app, and look at them."""
