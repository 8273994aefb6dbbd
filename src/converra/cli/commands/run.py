"""`converra run`: a command is recorded without a change of its code, to the API of the settings."""

from __future__ import annotations

import click

from converra.cli import launch


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--prompt-id",
    metavar="ID",
    help="Prompt of the command's calls outside a conversation().  [default: $CONVERRA_PROMPT_ID]",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(*, prompt_id: str | None, command: tuple[str, ...]) -> None:
    """Run a COMMAND and record its calls to the API, without a change of its code.

    The command takes the place of this process: its input, output, signals and exit status are its own. Its child
    processes are recorded too. Settings are those of the environment; CONVERRA_API_KEY is required.
    """
    launch.run(command, prompt_id)
