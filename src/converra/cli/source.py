"""Where a command reads conversations from: the API of the settings, or the file of `converra dev`."""

from __future__ import annotations

from contextlib import closing, contextmanager
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import click

from converra import config
from converra.api.client import Converra
from converra.api.results import Insights, StoredConversation
from converra.cli.failures import no_api
from converra.cli.ids import LAST, found_in, matching, missing, only
from converra.errors import InvalidArgumentError, MissingAPIKeyError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation as Row
    from converra.server.store.totals import Totals
    from converra.wire.models import Status

_Read = TypeVar("_Read")

_PAGE = 100

_SEARCHED = 500
"""Number of newest conversations of the API among which a part of an id is looked for."""


class Wanted(NamedTuple):
    """Filters of a list; None and False filter nothing."""

    prompt_id: str | None = None
    status: Status | None = None
    has_insights: bool | None = None
    since: datetime | None = None
    session: str | None = None
    model: str | None = None
    errors: bool = False


EVERYTHING = Wanted()


class Listed(NamedTuple):
    """A conversation of a list, with what only a local store knows without reading the messages."""

    conversation: StoredConversation
    title: str | None = None
    totals: Totals | None = None


class Source(Protocol):
    """Reads conversations, from the API or from a local store."""

    def list(self, *, limit: int, wanted: Wanted = EVERYTHING) -> Sequence[Listed]:
        """The newest conversations, newest first."""

    def get(self, conversation_id: str) -> StoredConversation:
        """One conversation, whole, by its id, a part of it, or `last`; raises NotFoundError."""

    def insights(self, conversation_id: str) -> Insights:
        """Return the insights of a conversation, found as in `get`; raises NotFoundError."""


class APISource:
    """The Conversations API."""

    def __init__(self, client: Converra) -> None:
        self._client = client

    def list(self, *, limit: int, wanted: Wanted = EVERYTHING) -> Sequence[Listed]:
        """The newest conversations, as many pages as it takes."""
        if wanted.session or wanted.model or wanted.errors:
            raise InvalidArgumentError(
                "the API's list has neither sessions, models nor errors: --session, --model and --errors need --local"
            )
        try:
            page = self._client.conversations.list(
                prompt_id=wanted.prompt_id,
                status=wanted.status,
                has_insights=wanted.has_insights,
                limit=min(limit, _PAGE),
            )
        except NotFoundError as error:
            raise no_api(error, config.load({}).base_url) from error
        found = takewhile(lambda each: _is_since(each, wanted.since), islice(page, limit))
        return [Listed(each, each.title) for each in found]

    def get(self, conversation_id: str) -> StoredConversation:
        """One conversation."""
        return self._read(conversation_id, self._client.conversations.get)

    def insights(self, conversation_id: str) -> Insights:
        """Return the API's insights."""
        return self._read(conversation_id, self._client.conversations.insights)

    def _read(self, word: str, read: Callable[[str], _Read]) -> _Read:
        """Read by the whole id if there is such a conversation, else by the one that the part fits."""
        if word == LAST:
            newest = next(iter(self.list(limit=1)), None)
            if newest is None or not newest.conversation.id:
                raise missing("there are no conversations")
            return read(newest.conversation.id)
        try:
            return read(word)
        except NotFoundError:
            found = matching(word, [each.conversation.id for each in self.list(limit=_SEARCHED)])
            if not found or word in found:
                raise
        return read(only(word, found))


def begun(conversation: StoredConversation) -> datetime | None:
    """Return the time at which a conversation was created; None from a server that leaves it out."""
    return conversation.created_at


def _is_since(found: StoredConversation, since: datetime | None) -> bool:
    created = begun(found)
    return since is None or created is None or created >= since


class LocalSource:
    """A store on this machine, of every key that was used with it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, *, limit: int, wanted: Wanted = EVERYTHING) -> Sequence[Listed]:
        """The newest conversations."""
        from converra.server.api import answers  # noqa: PLC0415 - of the extra `server`, like the store

        shown = ((row, StoredConversation.from_dict(answers.summary(row))) for row in self.rows(wanted))
        found = takewhile(lambda pair: _is_since(pair[1], wanted.since), shown)
        return [Listed(conversation, row.title, row.totals) for row, conversation in islice(found, limit)]

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """Yield the conversations of a list as they are stored, newest first."""
        from converra.server.store.catalogue import Filters  # noqa: PLC0415 - as above

        filters = Filters(
            status=wanted.status or "",
            prompt=wanted.prompt_id or "",
            model=wanted.model or "",
            session=wanted.session or "",
            insights="" if wanted.has_insights is None else "yes" if wanted.has_insights else "no",
            errors="yes" if wanted.errors else "",
        )
        at, page = 0, self._store.catalogue.page(filters, limit=_PAGE)
        while page.conversations:
            yield from page.conversations
            at += len(page.conversations)
            page = self._store.catalogue.page(filters, limit=_PAGE, offset=at)

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
        return found_in(self._store, conversation_id)


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
    return local(_db(command))


def db_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that reads the file of `converra dev` alone: `--local` says nothing new there."""
    return click.option("--local", is_flag=True, expose_value=False, hidden=True)(_db(command))


_db = click.option("--db", metavar="PATH", help="The file of `converra dev`.  [default: in your data folder]")


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of every command that answers programs, too."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)
