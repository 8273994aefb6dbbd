"""`converra export`: conversations as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from converra.capture.console import visible
from converra.cli import html_file, pytest_file, training_files
from converra.cli.completing import id_argument
from converra.cli.ids import LAST
from converra.cli.output import is_terminal
from converra.cli.plain import markdown, messages_of, spoken
from converra.cli.source import Wanted, source_of, source_options
from converra.wire import details

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converra.api.results import StoredConversation, StoredMessage
    from converra.cli.source import Source

MOST = 1_000_000
"""`--all` stops here."""


class Format(NamedTuple):
    """Format of an exported file."""

    meaning: str
    write: Callable[[Sequence[StoredConversation]], str]


def as_json(conversations: Sequence[StoredConversation]) -> str:
    """The API's own form: an object, or a list of several."""
    return _indented([each.to_dict() for each in conversations])


def as_content(conversations: Sequence[StoredConversation]) -> str:
    """The structured form of the content field (API document, "Content Format"), with all that is known."""
    return _indented([content(each) for each in conversations])


def content(conversation: StoredConversation) -> dict[str, Any]:
    """Messages and metadata; where the API shows only a transcript, what that says."""
    metadata = details.take(conversation.to_dict().get("metadata", {})).metadata
    return {"messages": [message.to_dict() for message in messages_of(conversation)], "metadata": metadata}


def as_transcript(conversations: Sequence[StoredConversation]) -> str:
    """One `Role: content` after another, for reading."""
    return "\n\n".join("\n".join(map(_line, messages_of(each))) for each in conversations) + "\n"


def _line(message: StoredMessage) -> str:
    words = "\n".join(spoken(message))
    return f"{(message.role or '?').capitalize()}: {words}"


def as_jsonl(conversations: Sequence[StoredConversation]) -> str:
    """One conversation on each line."""
    return "".join(msgspec.json.encode(each.to_dict()).decode() + "\n" for each in conversations)


def as_markdown(conversations: Sequence[StoredConversation]) -> str:
    """A heading for each conversation, and its messages quoted."""
    return "\n".join(
        "\n".join((f"# {visible(each.id)}\n", *(markdown(message) for message in messages_of(each))))
        for each in conversations
    )


def _indented(values: Sequence[Any]) -> str:
    value = values[0] if len(values) == 1 else values
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


FORMATS = {
    "json": Format("what the API answers", as_json),
    "content": Format("the structured content of a create", as_content),
    "transcript": Format("text, for reading", as_transcript),
    "markdown": Format("text with headings, for reading and pull requests", as_markdown),
    "jsonl": Format("one conversation on each line", as_jsonl),
    "fine-tuning": Format("examples for OpenAI's fine-tuning, one on each line", training_files.fine_tuning),
    "sharegpt": Format("examples in the form of ShareGPT, one on each line", training_files.sharegpt),
    "html": Format("one page that needs no other file", html_file.page),
    "pytest": Format("a test that your app still behaves like this", pytest_file.source),
}


@click.command()
@id_argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every conversation, oldest first.")
@click.option("--prompt-id", metavar="ID", help="With --all: only those of this prompt.")
@click.option(
    "--format", "style", type=click.Choice(tuple(FORMATS)), default="json", show_default=True, help="See the docs."
)
@click.option(
    "--output", "-o", metavar="PATH", type=click.Path(dir_okay=False), help="Write to a file, not to the terminal."
)
@click.option("--force", is_flag=True, help="Overwrite the file of --output.")
@source_options
def export(
    *,
    ids: tuple[str, ...],
    everything: bool,
    prompt_id: str | None,
    style: str,
    output: str | None,
    force: bool,
    local: bool,
    db: str | None,
) -> None:
    """Write conversations as a file; without an ID the newest."""
    if everything and ids:
        raise click.UsageError("give either --all or IDs")
    if prompt_id and not everything:
        raise click.UsageError("--prompt-id needs --all")
    if output and not force and Path(output).exists():
        raise click.ClickException(f"{output} exists; --force overwrites it")
    with source_of(local=local, db=db) as source:
        chosen = _all(source, prompt_id) if everything else ids or (LAST,)
        text = FORMATS[style].write([source.get(each) for each in chosen])
    if output is None:
        click.echo(visible(text) if is_terminal() else text, nl=False, color=True)  # which leaves the text as it is
        return
    try:
        with Path(output).open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from error


def _all(source: Source, prompt_id: str | None) -> list[str]:
    found = source.list(limit=MOST, wanted=Wanted(prompt_id=prompt_id))
    return [each.conversation.id for each in reversed(found) if each.conversation.id]
