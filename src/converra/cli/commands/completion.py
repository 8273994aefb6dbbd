"""`converra completion`: the script by which a shell completes commands, options and ids."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion(ctx: click.Context, *, shell: str | None) -> None:
    """Print the completion script of a shell; by default of the one in $SHELL.

    bash: eval "$(converra completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: converra completion fish |
    source in ~/.config/fish/config.fish.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    found = get_completion_class(name) if name in SHELLS else None
    if found is None:
        raise click.UsageError(f"name a shell: {', '.join(SHELLS)}")
    click.echo(found(ctx.find_root().command, {}, "converra", "_CONVERRA_COMPLETE").source())
