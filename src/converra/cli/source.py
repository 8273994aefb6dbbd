"""Where a command reads conversations from: the API of the settings, or the file of `converra dev`."""

from __future__ import annotations

from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import click

from converra import config
from converra.api.client import Converra
from converra.api.results import Insights, StoredConversation
from converra.errors import InvalidArgumentError, MissingAPIKeyError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation as Row
    from converra.wire.models import Status

LAST = "last"
"""Stands for the newest conversation wherever an id does."""

_PAGE = 100


class Source(Protocol):
    """Reads conversations, from the API or from a local store."""

    def list(
        self,
        *,
        limit: int,
        prompt_id: str | None = None,
        status: Status | None = None,
        has_insights: bool | None = None,
    ) -> Sequence[StoredConversation]:
        """The newest conversations, newest first."""

    def get(self, conversation_id: str) -> StoredConversation:
        """One conversation, whole; raises NotFoundError."""

    def insights(self, conversation_id: str) -> Insights:
        """Return the insights of a conversation; raises NotFoundError."""


class APISource:
    """The Conversations API."""

    def __init__(self, client: Converra) -> None:
        self._client = client

    def list(
        self,
        *,
        limit: int,
        prompt_id: str | None = None,
        status: Status | None = None,
        has_insights: bool | None = None,
    ) -> Sequence[StoredConversation]:
        """The newest conversations, as many pages as it takes."""
        try:
            page = self._client.conversations.list(
                prompt_id=prompt_id, status=status, has_insights=has_insights, limit=min(limit, _PAGE)
            )
        except NotFoundError as error:  # every account has a list
            where = config.load({}).base_url
            raise InvalidArgumentError(
                f"no Conversations API is at {where}: {error}; is CONVERRA_BASE_URL right?"
            ) from error
        return list(islice(page, limit))

    def get(self, conversation_id: str) -> StoredConversation:
        """One conversation."""
        return self._client.conversations.get(_newest(self, conversation_id))

    def insights(self, conversation_id: str) -> Insights:
        """Return the API's insights."""
        return self._client.conversations.insights(_newest(self, conversation_id))


class LocalSource:
    """A store on this machine, of every key that was used with it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(
        self,
        *,
        limit: int,
        prompt_id: str | None = None,
        status: Status | None = None,
        has_insights: bool | None = None,
    ) -> Sequence[StoredConversation]:
        """The newest conversations."""
        from converra.server.api import answers  # noqa: PLC0415 - of the extra `server`, like the store

        rows, _ = self._store.conversations(prompt_id=prompt_id, status=status, completed=has_insights, limit=limit)
        return [StoredConversation.from_dict(answers.summary(row)) for row in rows]

    def get(self, conversation_id: str) -> StoredConversation:
        """One conversation, with its simulated insights."""
        from converra.server.api import answers  # noqa: PLC0415 - as above

        row = self._row(conversation_id)
        messages = self._store.messages(row)
        whole = answers.whole(row, messages)
        if answers.has_insights(row):
            whole["insights"] = answers.short_insights(messages)
        return StoredConversation.from_dict(whole)

    def insights(self, conversation_id: str) -> Insights:
        """Return simulated insights, derived from the conversation's words alone."""
        from converra.server.api import answers  # noqa: PLC0415 - as above

        row = self._row(conversation_id)
        if not answers.has_insights(row):
            raise missing(f"{row.id} is not completed, so it has no insights")
        return Insights.from_dict(answers.full_insights(row, self._store.messages(row)))

    def _row(self, conversation_id: str) -> Row:
        row = self._store.find(None, _newest(self, conversation_id))
        if row is None:
            raise missing(f"no conversation {conversation_id} in {self._store.path}")
        return row


def _newest(source: Source, conversation_id: str) -> str:
    if conversation_id != LAST:
        return conversation_id
    newest = next(iter(source.list(limit=1)), None)
    if newest is None or not newest.id:
        raise missing("there are no conversations")
    return newest.id


class _MissingError(NotFoundError):
    """No HTTP status: the conversation is missing from a local store."""

    def __str__(self) -> str:
        return self.message


def missing(message: str) -> NotFoundError:
    """Make the error for a missing conversation of a local store."""
    return _MissingError(message, status_code=404)


@contextmanager
def source_of(*, local: bool, db: str | None) -> Iterator[Source]:
    """Open what the options say: the file for either of them, else the API."""
    if local or db:
        from converra.cli.local import recorded  # noqa: PLC0415 - of the extra `server`, which the API does not need

        with closing(recorded(db)) as store:
            yield LocalSource(store)
        return
    try:
        client = Converra()
    except MissingAPIKeyError as error:
        raise MissingAPIKeyError(
            "no API key: set CONVERRA_API_KEY; --local reads what converra dev recorded"
        ) from error
    with client:
        yield APISource(client)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that reads from either."""
    local = click.option("--local", is_flag=True, help="Read what `converra dev` recorded on this machine.")
    return local(db_option(command))


def db_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of every command that reads the file of `converra dev`."""
    return click.option("--db", metavar="PATH", help="The file of `converra dev`.  [default: in your data folder]")(
        command
    )


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of every command that answers programs, too."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)
