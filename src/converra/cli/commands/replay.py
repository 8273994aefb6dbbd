"""`converra replay`: what another model answers in a recorded conversation, beside what was recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from converra.capture.console import visible
from converra.cli.completing import id_argument
from converra.cli.output import is_terminal, print_json, print_rich
from converra.cli.source import json_option, source_of, source_options
from converra.cli.training_files import chat_messages, declared_tools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.api.results import StoredConversation

NO_OPENAI = 'replay needs the openai client: pip install "converra[openai]"'


class Answered(NamedTuple):
    """One place of the conversation: what came before it last, the recorded answer, and the new one."""

    asked: str
    recorded: str
    new: str
    seconds: float
    tokens: int | None


@click.command()
@id_argument("conversation_id", metavar="ID")
@click.option("--model", required=True, metavar="NAME", help="The model to ask.")
@click.option(
    "--base-url", metavar="URL", envvar="OPENAI_BASE_URL", help="A server with OpenAI's API.  [default: OpenAI's]"
)
@source_options
@json_option
def replay(
    *, conversation_id: str, model: str, base_url: str | None, local: bool, db: str | None, as_json: bool
) -> None:
    """Ask another model for each answer of a conversation, and show both; the ID `last` is the newest.

    Each time it gets the recorded messages before that answer, with the recorded results of tools. The key of the model
    is that of the openai client: $OPENAI_API_KEY.
    """
    with source_of(local=local, db=db) as source:
        found = source.get(conversation_id)
    shown: list[dict[str, Any]] = []
    for answered in _replayed(found, model, base_url):
        if as_json:
            shown.append(answered._asdict())
        else:
            _print(answered, model)
    if as_json:
        print_json({"id": found.id, "model": model, "answers": shown})


def _replayed(conversation: StoredConversation, model: str, base_url: str | None) -> Iterator[Answered]:
    """Ask for one answer after another."""
    try:
        import openai  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise click.ClickException(NO_OPENAI) from error

    messages: list[Any] = chat_messages(conversation)
    places = [at for at, message in enumerate(messages) if at and message["role"] == "assistant"]
    if not places:
        raise click.ClickException(f"{conversation.id} has no answer to ask for again")
    tools = declared_tools(conversation)
    options: dict[str, Any] = {"tools": tools} if tools else {}
    try:
        with openai.OpenAI(base_url=base_url) as client:
            for at in places:
                began = time.perf_counter()
                made = client.chat.completions.create(model=model, messages=messages[:at], **options)
                seconds = time.perf_counter() - began
                new = made.choices[0].message.model_dump(exclude_none=True) if made.choices else {}
                tokens = made.usage.completion_tokens if made.usage else None
                yield Answered(_words(messages[at - 1]), _words(messages[at]), _words(new), round(seconds, 3), tokens)
    except openai.OpenAIError as error:
        raise click.ClickException(f"{model}: {error}") from error


def _words(message: dict[str, Any]) -> str:
    """The text of a message, and its tool calls."""
    calls = [
        f"{call['function']['name']}({call['function']['arguments']})"
        for call in message.get("tool_calls") or ()
        if "function" in call
    ]
    return "\n".join(filter(None, (message.get("content") or message.get("refusal"), *calls))) or "(no text)"


def _print(answered: Answered, model: str) -> None:
    cost = f"{answered.seconds:.1f} s" + ("" if answered.tokens is None else f", {answered.tokens} tokens")
    if not is_terminal():
        for name, words in (
            ("asked", answered.asked),
            ("recorded", answered.recorded),
            (f"{model} ({cost})", answered.new),
        ):
            click.echo(f"{visible(name)}:")
            click.echo("".join(f"  {line}\n" for line in visible(words).splitlines()), nl=False)
        click.echo()
        return
    from rich.table import Table  # noqa: PLC0415 - only for terminals
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(title=Text(visible(answered.asked), "bold"), title_justify="left", expand=True)
    table.add_column("recorded", ratio=1)
    table.add_column(Text(visible(f"{model} ({cost})")), ratio=1)
    table.add_row(Text(visible(answered.recorded)), Text(visible(answered.new)))
    print_rich(table)
