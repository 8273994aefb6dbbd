"""A list goes on over all its pages, each conversation once."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from converra.api.client import AsyncConverra
from converra.errors import InvalidArgumentError, NotFoundError
from tests.api.callers import KEY, Caller, both, call_sync
from tests.api.scripted import answer, scripted


def page(ids: str, **pagination: int) -> Any:
    """An answer that holds conversations of these one-letter ids."""
    return answer({"data": [{"id": name} for name in ids], "pagination": pagination})


async def _all(pages: Any) -> list[str]:
    return [conversation.id async for conversation in await pages]


def everything(**options: Any) -> Any:
    """A call that lists and iterates to the end, for either client."""

    def call(client: Any) -> Any:
        pages = client.conversations.list(**options)
        return _all(pages) if hasattr(pages, "__await__") else [conversation.id for conversation in pages]

    return call


def offsets(server: Any) -> list[str | None]:
    """Which offsets were asked for."""
    queries = [parse_qs(urlsplit(asked.path).query) for asked in server.asked]
    return [query.get("offset", [None])[0] for query in queries]


@both
@pytest.mark.parametrize(
    ("script", "options", "ids", "asked"),
    [
        pytest.param([page("", total=0, limit=20, offset=0)], {}, "", [None], id="nothing"),
        pytest.param([page("ab", total=2)], {}, "ab", [None], id="one page"),
        pytest.param(
            [page("ab", total=5), page("cd", total=5), page("e", total=5)],
            {"limit": 2},
            "abcde",
            [None, "2", "4"],
            id="several pages",
        ),
        pytest.param([page("cd", total=5), page("e", total=5)], {"offset": 2}, "cde", ["2", "4"], id="from an offset"),
        pytest.param([page("ab", total=3), page("c", total=3)], {"limit": 9}, "abc", [None, "2"], id="server caps"),
        pytest.param([page("ab", total=9), page("", total=9)], {}, "ab", [None, "2"], id="total too high"),
        pytest.param([page("ab"), page("c")], {"limit": 2}, "abc", [None, "2"], id="no total: until one is not full"),
        pytest.param([page("ab", limit=2), page("")], {}, "ab", [None, "2"], id="no total, the server's limit"),
        pytest.param([page("ab", total=4), page("bc", total=4)], {}, "abc", [None, "2"], id="a new one moved the rest"),
        pytest.param([answer({"data": None})], {}, "", [None], id="no data"),
    ],
)
def test_iterating_gives_every_conversation_once(
    caller: Caller, script: list[Any], options: dict[str, int], ids: str, asked: list[str | None]
) -> None:
    """Pages are fetched as needed, in order, and a conversation that moves to the next page comes once."""
    with scripted(*script) as server:
        assert caller(server.base_url, everything(**options)) == list(ids)
    assert offsets(server) == asked


def test_rows_without_an_id_all_come() -> None:
    """What cannot be told apart is not taken for the same."""
    with scripted(answer({"data": [{}, {}], "pagination": {"total": 2}})) as server:
        assert call_sync(server.base_url, everything()) == ["", ""]


def test_every_page_keeps_the_filters() -> None:
    """The second page is asked for with the filters of the first."""
    with scripted(page("a", total=2), page("b", total=2)) as server:
        call_sync(server.base_url, everything(prompt_id="p", has_insights=False, limit=1))
    assert [asked.path.partition("?")[2] for asked in server.asked] == [
        "promptId=p&hasInsights=false&limit=1",
        "promptId=p&hasInsights=false&limit=1&offset=1",
    ]


def test_pages_can_be_turned_by_hand() -> None:
    """`next_page` gives the page that follows; on the last one it says so."""

    def call(client: Any) -> None:
        first = client.conversations.list()
        assert first.has_next_page()
        last = first.next_page()
        assert [conversation.id for conversation in last.data] == ["b"]
        assert (len(last), last[0], last[-1:]) == (1, last.data[0], last.data)
        with pytest.raises(IndexError):
            last[1]
        assert not last.has_next_page()
        assert repr(last) == "Page(1 conversations, Pagination(total=2, limit=0, offset=0))"
        with pytest.raises(InvalidArgumentError, match="this is the last page"):
            last.next_page()

    with scripted(page("a", total=2), page("b", total=2)) as server:
        call_sync(server.base_url, call)


def test_async_pages_can_be_turned_by_hand_and_iterated_at_once() -> None:
    """Without `await` the list itself can be iterated; with it there is a page that can be turned."""

    async def main(base_url: str) -> None:
        async with AsyncConverra(api_key=KEY, base_url=base_url) as client:
            assert [conversation.id async for conversation in client.conversations.list()] == ["a", "b"]
            last = await (await client.conversations.list()).next_page()
            assert (last[0].id, len(last), last.has_next_page()) == ("b", 1, False)
            with pytest.raises(TypeError, match="not iterable"):
                iter(last)
            with pytest.raises(InvalidArgumentError, match="this is the last page"):
                await last.next_page()

    with scripted(*[page("a", total=2), page("b", total=2)] * 2) as server:
        asyncio.run(main(server.base_url))


@both
def test_an_error_on_a_later_page_is_raised(caller: Caller) -> None:
    """Iteration never ends early in silence."""
    with scripted(page("a", total=2), answer({}, 404)) as server, pytest.raises(NotFoundError):
        caller(server.base_url, everything())
