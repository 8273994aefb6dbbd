"""Conversations are found by what they are about."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from converra.server.store.catalogue import SORTS, Filters
from converra.server.store.conversations import Store
from converra.server.store.excerpt import excerpt
from converra.server.store.records import NewConversation

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL = {
    "role": "tool",
    "content": "",
    "toolCalls": [{"id": "1", "name": "track_parcel", "arguments": {"city": "Rīga"}}],
}
ODD_CALL = {
    "role": "tool",
    "content": "",
    "toolCalls": [{"name": "raw", "arguments": "unparsed zebra"}, {"name": "none"}],
}


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    add(store, "one", "Where is my parcel?", CALL, metadata={"sessionId": "s1"}, prompt="a")
    add(store, "two", "Naïve café OR bar", {"role": "assistant", "content": "No.", "model": "gpt-4o"}, prompt="b")
    add(store, "three", "It broke", {"role": "user", "content": "x", "metadata": {"error": "E"}}, status="completed")
    add(store, "four", "parcels are late", ODD_CALL, metadata={"sessionId": "s1", "continues": "one"})
    yield store
    store.close()


def add(
    store: Store, name: str, said: str, *messages: Any, metadata: Any = None, prompt: str = "p", status: str = "active"
) -> None:
    opening = {"role": "user", "content": said}
    store.create(
        NewConversation(
            id=name,
            account="a",
            prompt_id=prompt,
            status=status,
            content=json.dumps(said),
            messages=[opening, *messages],
            metadata=metadata or {},
        )
    )


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["four", "three", "two", "one"]),
        ({"status": "completed"}, ["three"]),
        ({"insights": "yes"}, ["three"]),
        ({"insights": "no"}, ["four", "two", "one"]),
        ({"prompt": "a"}, ["one"]),
        ({"model": "gpt-4o"}, ["two"]),
        ({"session": "s1"}, ["four", "one"]),
        ({"errors": "yes"}, ["three"]),
        ({"session": "s1", "prompt": "a"}, ["one"]),
        ({"q": "PARCEL"}, ["four", "one"]),
        ({"q": "parcel my"}, ["one"]),
        ({"q": "parcel", "prompt": "a"}, ["one"]),
        ({"q": "cafe naive"}, ["two"]),
        ({"q": "track_parcel"}, ["one"]),
        ({"q": "riga"}, ["one"]),
        ({"q": "zeb"}, ["four"]),
        ({"q": "s1"}, ["four", "one"]),
        ({"q": " three "}, ["three"]),
        ({"q": "nothing of it"}, []),
        ({"q": '"(!*'}, []),
    ],
)
def test_each_filter_finds_what_it_asks_for(store: Store, asked: dict[str, str], found: list[str]) -> None:
    """Newest first; words by their beginning, without case and accents, in what was said and in tool calls."""
    page = store.catalogue.page(Filters(**asked), limit=10)
    assert ([each.id for each in page.conversations], page.total) == (found, len(found))


@pytest.mark.parametrize("q", ["a OR b", 'a "b', "NEAR(a b)", "a*", "content:a", "-a", "a\0b", "^a", "\x02", "(", "'"])
def test_no_word_is_an_operator(store: Store, q: str) -> None:
    """Whatever is typed is looked for, and nothing typed is an error."""
    assert store.catalogue.page(Filters(q=q), limit=10).total in (0, 1)


def test_pages_are_counted(store: Store) -> None:
    """A page, and how many there are in all."""
    for filters, found in ((Filters(), ["three", "two"]), (Filters(q="x"), [])):
        page = store.catalogue.page(filters, limit=2, offset=1)
        assert [each.id for each in page.conversations] == found
    assert store.catalogue.page(Filters(q="parcel"), limit=1, offset=1).total == 2


def test_a_hit_knows_its_message(store: Store) -> None:
    """The first that has the words; none where only a name was found."""
    page = store.catalogue.page(Filters(q="track"), limit=1)
    assert [store.catalogue.said(place) for place in page.places.values()] == ['track_parcel {"city":"Rīga"}']
    assert store.catalogue.page(Filters(q="one"), limit=1).places == {}


@pytest.mark.parametrize(
    ("text", "q", "found"),
    [
        ("Where is my parcel?", "MY par", ["Where is ", "[my]", " ", "[parcel]", "?"]),
        ("Naïve\n\n  café", "cafe", ["Naïve ", "[café]"]),
        ("nothing", "else", []),
        ("nothing", "!", []),
        ("x" * 100 + " <b>hit</b> " + "y" * 300, "hit", ["…", "x" * 36 + " <b>", "[hit]", "</b> " + "y" * 112 + "…"]),
        ("hit " + "y" * 200 + " hit", "hit", ["[hit]", " " + "y" * 156 + "…"]),
    ],
)
def test_an_excerpt_shows_where(text: str, q: str, found: list[str]) -> None:
    """What is around the first of the words, on one line, each of them marked."""
    assert [f"[{words}]" if hit else words for words, hit in excerpt(text, q)] == found


def test_filters_offer_what_there_is(store: Store) -> None:
    """Prompts, models, and what belongs together."""
    assert store.catalogue.prompts() == ["a", "b", "p"]
    assert store.catalogue.models() == ["gpt-4o"]
    assert store.catalogue.continuations("one") == ["four"]
    assert store.catalogue.of_session("s1") == 2


def _many(count: int, messages: int = 6) -> Store:
    store = Store()
    said = [{"role": "user", "content": f"the parcel {place}"} for place in range(messages)]
    with store.transaction():
        for number in range(count):
            status = "completed" if number == count // 2 else "active"
            add(store, f"c{number}", "the parcel", *said[1:], prompt=f"p{number % 2}", status=status)
    return store


def _reading(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The hits that are read from now on."""
    read: list[Any] = []
    each = store.each

    def noted(sql: str, values: Any) -> Iterator[Any]:
        for row in each(sql, values):
            read.append(row)
            yield row

    monkeypatch.setattr(store, "each", noted)
    return read


@pytest.mark.parametrize("asked", [{"q": "parcel"}, {"q": "par"}, {"q": "the parcel", "prompt": "p0"}, {"q": "the"}])
def test_a_search_takes_as_many_steps_among_many(asked: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on no page costs nothing: a search reads as far as it counts, and no further."""

    def hits(count: int) -> int:
        store = _many(count)
        read = _reading(store, monkeypatch)
        page = store.catalogue.page(Filters(**asked), limit=50)
        assert (len(page.conversations), page.total, page.more) == (50, 500, True)
        store.close()
        return len(read)

    assert hits(2_200) == hits(1_100)


def test_a_filter_skips_what_it_does_not_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """One conversation among many with the same words is found without reading the hits of the others."""
    store = _many(1_000)
    read = _reading(store, monkeypatch)
    page = store.catalogue.page(Filters(q="parcel 5", status="completed"), limit=50)
    assert ([each.id for each in page.conversations], page.total, page.more) == (["c500"], 1, False)
    assert len(read) < 20
    store.close()


def test_pages_go_on_behind_what_is_counted() -> None:
    """Every conversation is on one page, newest first, whatever is counted."""
    store = _many(1_234, messages=2)
    found = [
        page for at in range(0, 1_250, 50) for page in [store.catalogue.page(Filters(q="parcel"), limit=50, offset=at)]
    ]
    assert [each.id for page in found for each in page.conversations] == [f"c{at}" for at in reversed(range(1_234))]
    assert [page.more for page in found] == [True] * 24 + [False]
    assert found[-1].total == 1_234
    assert {place & 0xFFFFF for page in found for place in page.places.values()} == {0}
    store.close()


def test_what_is_forgotten_is_not_found() -> None:
    """The search forgets with the store."""
    store = Store(keep_conversations=1)
    add(store, "old", "an elephant")
    add(store, "new", "a mouse")
    store.prune()
    assert [store.catalogue.page(Filters(q=q), limit=1).total for q in ("elephant", "mouse")] == [0, 1]
    store.close()


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", ["c", "b", "a"]),
        ("updated", ["a", "c", "b"]),
        ("turns", ["b", "c", "a"]),
        ("tokens", ["a", "c", "b"]),
        ("latency", ["c", "b", "a"]),
        ("nonsense", ["c", "b", "a"]),
    ],
)
@pytest.mark.parametrize("q", ["", "word"])
def test_a_list_is_sorted(sort: str, expected: list[str], q: str) -> None:
    """By the last turn, by turns, tokens or latency, the most first; hits of a search too."""
    now = 1_000.0
    store = Store(clock=lambda: now)
    for name, turns, tokens, latency in (("a", 1, 900, 1), ("b", 3, 0, 2), ("c", 2, 5, 30)):
        answer = {"usage": {"promptTokens": tokens, "completionTokens": 0}, "latencyMs": latency}
        add(store, name, "a word", *[{"role": "assistant", "content": "x", **answer}] * turns)
    now += 60
    found = store.find(None, "a")
    assert found is not None
    store.append(found, [], metadata={}, end=False)
    page = store.catalogue.page(Filters(q=q, sort=sort), limit=10)
    assert ([each.id for each in page.conversations], page.total) == (expected, 3)
    store.close()


@pytest.mark.parametrize("sort", list(SORTS))
def test_a_sorted_page_reads_an_index(sort: str) -> None:
    """It takes the first of the index, and sorts nothing."""
    store = Store()
    plan = store.rows(f"EXPLAIN QUERY PLAN SELECT number FROM conversations WHERE 1 ORDER BY {SORTS[sort]} LIMIT 50")  # noqa: S608 - ours
    assert [f"conversations_by_{sort.removesuffix('d')}" in row[3] for row in plan] == [True]
    store.close()


def test_days_narrow_a_list() -> None:
    """From the first moment of one to the last of another, in the time zone of this machine; nonsense is no day."""
    now = datetime(2025, 1, 19, 23, 59).timestamp()  # noqa: DTZ001 - local
    store = Store(clock=lambda: now)
    for name in ("before", "first", "last", "after"):
        add(store, name, "a word")
        now += {"before": 60, "first": 2 * 86_400 - 1, "last": 1, "after": 0}[name]

    def found(since: str, until: str) -> list[str]:
        page = store.catalogue.page(Filters(since=since, until=until), limit=10)
        return [each.id for each in reversed(page.conversations)]

    assert found("2025-01-20", "2025-01-21") == ["first", "last"]
    assert found("2025-01-20", "") == ["first", "last", "after"]
    assert found("", "2025-01-19") == ["before"]
    assert found("yesterday", "2025-13-01") == found("", "")
    assert found("0001-01-01", "9999-12-31") == found("", "")
    store.close()


@pytest.mark.parametrize("q", ["pa", "par", "parc"])
def test_the_beginning_of_a_word_is_in_the_index(q: str) -> None:
    """The index has the beginnings of words: what is being typed takes no more steps among ten times as many hits."""

    def steps(count: int) -> int:
        store = Store()
        with store.transaction():
            for number in range(count):
                add(store, f"c{number}", f"parcel{number} part{number}")
        store.execute("INSERT INTO message_text (message_text) VALUES ('optimize')")
        taken = 0

        def counted() -> int:
            nonlocal taken
            taken += 1
            return 0

        store.pruning.stop()  # its thread takes steps of the same connection
        store._db.set_progress_handler(counted, 10)
        sql = "SELECT rowid FROM message_text WHERE message_text MATCH ? ORDER BY rowid DESC"
        with closing(store.each(sql, (f'"{q}"*',))) as hits:
            next(hits)
        store.close()
        return taken

    assert steps(2_000) <= 3 * steps(200)
