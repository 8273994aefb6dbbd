"""Pages of a list that lead to the next one, sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, SupportsIndex, TypeVar, overload

from converra.api.operations import DEFAULT_LIMIT
from converra.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator

    from converra.api.results import ConversationPage, Pagination, StoredConversation
    from converra.errors import APIResponse

Next = TypeVar("Next")


class _Place(Generic[Next]):
    """One page, its position, and the function that fetches the page at another offset."""

    def __init__(self, page: ConversationPage, *, offset: int, limit: int | None, fetch: Callable[[int], Next]) -> None:
        self.data: list[StoredConversation] = page.data
        self.pagination: Pagination = page.pagination
        self._request_id = page.request_id
        self._response = page.response
        self._offset = offset
        self._limit = limit or page.pagination.limit or DEFAULT_LIMIT
        self._fetch = fetch

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.data)} conversations, {self.pagination!r})"

    @property
    def request_id(self) -> str | None:
        """The id that the API gave to the request for this page; None if it gave none."""
        return self._request_id

    @property
    def response(self) -> APIResponse | None:
        """The whole response for this page, with status, headers and body."""
        return self._response

    def __len__(self) -> int:
        """Count the conversations on this page; `pagination.total` counts those of all pages."""
        return len(self.data)

    @overload
    def __getitem__(self, at: SupportsIndex, /) -> StoredConversation: ...
    @overload
    def __getitem__(self, at: slice, /) -> list[StoredConversation]: ...
    def __getitem__(self, at: SupportsIndex | slice, /) -> StoredConversation | list[StoredConversation]:
        """Return a conversation of this page by its place, or several; fetches nothing."""
        return self.data[at]

    def has_next_page(self) -> bool:
        """Return True if more follows: by the total, or if the API names none, by the page being full."""
        total = self.pagination.total
        if not self.data or not total:
            return len(self.data) >= self._limit
        return self._offset + len(self.data) < total

    def _fetch_next(self) -> Next:
        if not self.has_next_page():
            raise InvalidArgumentError("this is the last page; ask has_next_page() before next_page()")
        return self._fetch(self._offset + len(self.data))


class Page(_Place["Page"]):
    """A page of conversations; iterating over it fetches the following pages as needed."""

    def next_page(self) -> Page:
        """Fetch the next page; raises InvalidArgumentError on the last one."""
        return self._fetch_next()

    def __iter__(self) -> Iterator[StoredConversation]:
        page, seen = self, _Seen()
        yield from seen.new(page)
        while page.has_next_page():
            page = page.next_page()
            yield from seen.new(page)


class AsyncPage(_Place["Awaitable[AsyncPage]"]):
    """A page of conversations; iterating over it with `async for` fetches the following pages as needed."""

    __iter__: ClassVar[None] = None  # else a plain `for` would end after this page, through `__getitem__`

    async def next_page(self) -> AsyncPage:
        """Fetch the next page; raises InvalidArgumentError on the last one."""
        return await self._fetch_next()

    async def __aiter__(self) -> AsyncIterator[StoredConversation]:
        page, seen = self, _Seen()
        for conversation in seen.new(page):
            yield conversation
        while page.has_next_page():
            page = await page.next_page()
            for conversation in seen.new(page):
                yield conversation


class AsyncPages:
    """A list not yet fetched: await it for its first page, or iterate over it for all conversations."""

    def __init__(self, fetch: Callable[[], Awaitable[AsyncPage]]) -> None:
        self._fetch = fetch

    def __await__(self) -> Generator[object, None, AsyncPage]:
        return self._fetch().__await__()

    async def __aiter__(self) -> AsyncIterator[StoredConversation]:
        async for conversation in await self:
            yield conversation


class _Seen:
    """Filters out repeated conversations: new ones push old ones onto the next page."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def new(self, page: Page | AsyncPage) -> Iterator[StoredConversation]:
        for conversation in page.data:
            if not conversation.id:
                yield conversation
            elif conversation.id not in self._ids:
                self._ids.add(conversation.id)
                yield conversation
