"""A page that takes long holds up nobody: the API answers meanwhile."""

from __future__ import annotations

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.server.run import serve
from converra.server.store.conversations import Store
from converra.server.store.records import NewConversation
from converra.server.viewer import prompt_diff
from tests.server.conftest import client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converra.server.run import LocalServer

CREATE = {"promptId": "p", "content": "User: Hi\nAssistant: Hello"}
LONG_QUERY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 6000000) SELECT count(*) FROM c"


def _prompt(seed: int, size: int = 90_000) -> str:
    """Short lines that repeat, but none of them so often that difflib leaves it out."""
    chance = random.Random(seed)
    return "\n".join(f"- rule {chance.randrange(size // 600)}" for _ in range(size // 10))


def _fill(store: Store) -> None:
    prompts = [{"role": "system", "content": _prompt(seed)} for seed in range(5)]
    store.create(NewConversation("conv_1", "a", "p", "active", "", [*prompts, {"role": "user", "content": "Hi"}]))
    number = store.log.add(account=None, method="POST", path="/api/v1/conversations", headers={}, body=b"{}")
    store.log.answered(number, status=200, ms=1.0, answer_bytes=2)


@pytest.fixture(params=["memory", "file"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalServer]:
    path = ":memory:" if request.param == "memory" else tmp_path / "store.sqlite3"
    with closing(Store(path)) as store:
        _fill(store)
        with serve(store=store) as running:
            yield running


PAGES = [
    "/",
    "/?q=rule",
    "/?q=ru&status=active",
    "/conversations/conv_1",
    "/conversations/conv_1?after=2",
    "/conversations/conv_1/draft",
    *(f"/conversations/conv_1/export/{kind}" for kind in ("json", "content", "transcript", "html")),
    "/requests",
    "/requests/1",
    "/health",
]


@pytest.mark.parametrize("path", PAGES)
def test_an_api_request_is_answered_while_a_page_is_made(
    path: str, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page waits in the middle of its work until the API request was answered."""
    reached, answered = threading.Event(), threading.Event()
    rows = Store.rows

    def slow(store: Store, *args: Any) -> list[Any]:
        if not reached.is_set():
            reached.set()
            answered.wait(20)
        return rows(store, *args)

    monkeypatch.setattr(Store, "rows", slow)
    with ThreadPoolExecutor() as threads, client(server) as http:
        page = threads.submit(httpx.get, f"{server.url}{path}", timeout=30, trust_env=False)
        try:
            assert reached.wait(10)
            assert http.post("/conversations", json=CREATE).status_code == 200
            assert not page.done()
        finally:
            answered.set()
        assert page.result().status_code == 200


def test_a_long_query_of_a_page_holds_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a file, pages read through connections of their own: what is stored meanwhile does not wait for them."""
    reached = threading.Event()

    def prompts(catalogue: Any) -> list[str]:
        reached.set()
        return [str(catalogue._store.rows(LONG_QUERY))]

    monkeypatch.setattr("converra.server.store.catalogue.Catalogue.prompts", prompts)
    with serve(path=tmp_path / "store.sqlite3") as server, ThreadPoolExecutor() as threads, client(server) as http:
        page = threads.submit(httpx.get, server.url, timeout=60, trust_env=False)
        assert reached.wait(10)
        for _ in range(3):
            assert http.post("/conversations", json=CREATE).status_code == 200
        assert not page.done()
        assert page.result().status_code == 200


def test_more_pages_than_are_made_at_a_time_wait_for_each_other_only(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty pages at once are all answered, and API requests come between them."""
    with ThreadPoolExecutor(20) as threads, client(server) as http:
        pages = [
            threads.submit(httpx.get, f"{server.url}/conversations/conv_1", timeout=50, trust_env=False)
            for _ in range(20)
        ]
        assert http.post("/conversations", json=CREATE).status_code == 200
        assert {page.result().status_code for page in pages} == {200}


def test_the_page_of_prompts_that_cannot_be_compared_says_so(server: LocalServer) -> None:
    """It shows the prompts, and how much has changed."""
    text = httpx.get(f"{server.url}/conversations/conv_1", timeout=30, trust_env=False).text
    assert text.count("9,000 lines became 9,000: too much of it is different to be shown here") == 4


def _steps(before: str, after: str) -> int:
    """Lines of Python that comparing takes."""
    count = 0

    def trace(_frame: Any, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    previous = sys.gettrace()  # that of coverage
    sys.settrace(trace)
    try:
        prompt_diff.changes.__wrapped__(before, after)
    finally:
        sys.settrace(previous)
    return count


@pytest.mark.parametrize("kinds", [2, 30, 150, 10**6])
def test_comparing_prompts_takes_steps_by_their_length(kinds: int) -> None:
    """However often their lines repeat."""
    chance = random.Random(kinds)
    before, after = ("\n".join(f"rule {chance.randrange(kinds)}" for _ in range(9_000)) for _ in range(2))
    assert _steps(before, after) < 600_000


def test_a_change_in_a_long_prompt_of_lines_that_repeat_is_shown() -> None:
    """What both begin and end with costs nothing."""
    lines = _prompt(1).splitlines()
    after = [*lines[:5000], "- be kind", *lines[5001:]]
    shown = prompt_diff.changes("\n".join(lines), "\n".join(after)).splitlines()
    assert shown == ["@@ -5000,3 +5000,3 @@", f" {lines[4999]}", f"-{lines[5000]}", "+- be kind", f" {lines[5001]}"]


LINES = st.lists(st.sampled_from("abcdefg"), max_size=20)


@given(LINES, LINES)
def test_the_changes_make_the_one_prompt_of_the_other(before: list[str], after: list[str]) -> None:
    """Each hunk stands where its header says, and what is in none is the same in both."""
    old, new, moved = list(before), [], 0
    for line in prompt_diff.changes("\n".join(before), "\n".join(after)).splitlines():
        if line.startswith("@@"):
            first, _, count = line.split()[1][1:].partition(",")
            upto = int(first) - (count != "0")
            new += old[moved:upto]
            moved = upto
        elif line[0] == "+":
            new.append(line[1:])
        else:
            assert old[moved] == line[1:]
            new += [line[1:]] * (line[0] == " ")
            moved += 1
    assert [*new, *old[moved:]] == after
