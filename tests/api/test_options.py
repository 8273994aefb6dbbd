"""Options of single calls and of clients, ids of requests, responses of errors, and the end of a client."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from converra import AsyncConverra, Converra
from converra.errors import (
    APIConnectionError,
    APIRequest,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    InvalidArgumentError,
    NotFoundError,
    RateLimitError,
    UnreadableResponseError,
)
from tests.api.callers import KEY, Caller, both, each_library
from tests.api.scripted import answer, hang, scripted
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO: Any = [{"role": "user", "content": "Hello"}]

CALLS: list[Any] = [
    pytest.param(lambda c, **options: c.conversations.create(prompt_id="p", content=HELLO, **options), id="create"),
    pytest.param(lambda c, **options: c.conversations.append_messages("c", messages=HELLO, **options), id="append"),
    pytest.param(lambda c, **options: c.conversations.list(**options), id="list"),
    pytest.param(lambda c, **options: c.conversations.get("c", **options), id="get"),
    pytest.param(lambda c, **options: c.conversations.insights("c", **options), id="insights"),
]


@each_library
@pytest.mark.usefixtures("library")
@both
@pytest.mark.parametrize("call", CALLS)
def test_every_method_takes_headers_and_a_timeout(caller: Caller, call: Callable[..., Any]) -> None:
    """They hold for that call alone; the client's own headers stay as they are."""
    twice = lambda c: _both(caller, call(c, timeout=LONG, extra_headers={"X-Tenant": "acme"}), call(c))  # noqa: E731
    with scripted(answer({}), answer({})) as server:
        caller(server.base_url, twice)
    assert sorted(asked.headers.get("x-tenant", "") for asked in server.asked) == ["", "acme"]
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    with scripted(hang) as server, pytest.raises(APITimeoutError, match=r"within 0\.05 s"):
        caller(server.base_url, lambda c: call(c, timeout=0.05), timeout=LONG, max_retries=0)


def _both(caller: Caller, first: Any, second: Any) -> Any:
    async def in_turn() -> None:
        await first
        await second

    return in_turn() if caller.__name__ == "call_async" else None  # type: ignore[attr-defined]  # both are functions


@both
def test_the_headers_of_a_list_hold_for_every_page(caller: Caller) -> None:
    """Pages that iterating fetches are requested as the first one was."""
    pages = [{"data": [{"id": str(n)}], "pagination": {"total": 2}} for n in range(2)]

    async def all_of(listed: Any) -> list[str]:
        return [each.id async for each in listed]

    def call(client: Any) -> Any:
        listed = client.conversations.list(extra_headers={"X-Tenant": "acme"})
        return [each.id for each in listed] if isinstance(client, Converra) else all_of(listed)

    with scripted(*map(answer, pages)) as server:
        assert caller(server.base_url, call) == ["0", "1"]
    assert [asked.headers["x-tenant"] for asked in server.asked] == ["acme", "acme"]


@both
def test_with_options_makes_another_client(caller: Caller) -> None:
    """It adds headers, retries as often as it says, and shares the connection; the first client stays as it was."""

    def call(client: Any) -> Any:
        other = client.with_options(max_retries=1, timeout=LONG, extra_headers={"X-Tenant": "acme", "X-Region": "eu"})
        third = other.with_options(extra_headers={"x-tenant": "other"})
        assert (type(third), repr(third)) == (type(client), repr(client))
        return third.conversations.get("c", extra_headers={"X-Trace": "t"})

    again = answer({}, 503, Retry_After="0")
    with scripted(again, answer({"id": "c"}), again) as server:
        assert caller(server.base_url, call, max_retries=0).id == "c"
        with pytest.raises(APIStatusError):
            caller(server.base_url, lambda c: c.conversations.get("c"), max_retries=0)
    shown = [[asked.headers.get(f"x-{name}") for name in ("tenant", "region", "trace")] for asked in server.asked]
    assert shown == [["other", "eu", "t"]] * 2 + [[None, None, None]]


WRONG: list[Any] = [
    ({"timeout": 0}, "timeout is 0, expected a positive number of seconds"),
    ({"timeout": float("inf")}, "timeout is inf, expected a positive number of seconds"),
    ({"timeout": float("nan")}, "timeout is nan, expected a positive number of seconds"),
    ({"timeout": "5"}, "timeout is '5', expected a positive number of seconds"),
    ({"extra_headers": "x"}, "extra_headers is str, expected a dict of strings"),
    ({"extra_headers": {"authorization": "x"}}, "extra_headers has 'authorization', which the client sets itself"),
    ({"extra_headers": {"Accept-Encoding": "br"}}, "extra_headers has 'Accept-Encoding', which the client sets itself"),
    ({"extra_headers": {"X Y": "x"}}, "extra_headers has the name 'X Y', which no header can have"),
    ({"extra_headers": {"X": "a\r\nY: b"}}, "extra_headers['X'] cannot be sent; expected a string of ASCII characters"),
    ({"extra_headers": {"X": 5}}, "extra_headers['X'] cannot be sent; expected a string of ASCII characters"),
]


@both
@pytest.mark.parametrize(("options", "expected"), WRONG)
def test_options_that_can_never_work_are_refused(caller: Caller, options: Any, expected: str) -> None:
    """At the call as at `with_options`, before anything is sent; the value of a header is not repeated."""
    for call in (lambda c: c.conversations.get("c", **options), lambda c: c.with_options(**options)):
        with scripted() as server, pytest.raises(InvalidArgumentError) as caught:
            caller(server.base_url, call)
        assert (str(caught.value), server.asked) == (expected, [])


@both
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["X_Request_Id", "request_id"])
def test_results_know_their_response(caller: Caller, call: Callable[..., Any], name: str) -> None:
    """Status, headers and body, without the key; and the id of the request, None where there is none."""
    headers: Any = {name: "req_1"}
    with scripted(answer({}, **headers), answer({})) as server:
        result = caller(server.base_url, call)
        response = result.response
        assert (result.request_id, response.status_code, response.json()) == ("req_1", 200, {})
        assert response.headers[name.lower().replace("_", "-")] == "req_1"
        path = server.asked[0].path.partition("?")[0].removeprefix("/api/v1")
        assert response.request == APIRequest(server.asked[0].method, f"{server.base_url}{path}")
        assert "response" not in repr(result)
        assert KEY not in repr(response)
        assert caller(server.base_url, call).request_id is None


@both
def test_errors_have_the_response(caller: Caller) -> None:
    """With status, headers, body and address, and without the key; the id of the request stands beside it."""
    body = {"error": {"code": "NOT_FOUND", "message": "Conversation not found"}}
    with scripted(answer(body, 404, X_Request_Id="req_2")) as server, pytest.raises(NotFoundError) as caught:
        caller(server.base_url, lambda c: c.conversations.get("c", include_insights=False))
    error, response = caught.value, caught.value.response
    assert response is not None
    assert error.request_id == "req_2"
    assert (response.method, response.url) == ("GET", f"{server.base_url}/conversations/c?includeInsights=false")
    assert (response.status_code, response.headers["x-request-id"], response.json()) == (404, "req_2", body)
    assert json.loads(response.text) == body
    assert error.request == response.request == APIRequest("GET", f"{server.base_url}/conversations/c")
    assert KEY not in repr(vars(error)) + repr(response)
    with pytest.raises(APIConnectionError) as unanswered:
        caller("http://127.0.0.1:9/api", lambda c: c.conversations.get("c"), max_retries=0)
    assert unanswered.value.request == APIRequest("GET", "http://127.0.0.1:9/api/conversations/c")
    assert pickle.loads(pickle.dumps(unanswered.value)).request == unanswered.value.request  # noqa: S301 - our own


@both
def test_a_wrong_address_is_named(caller: Caller) -> None:
    """A web page in the place of the API is not repeated; the error asks for the address."""
    page = answer(b"<!doctype html>" + b"x" * 999, Content_Type="text/html; charset=utf-8")
    with scripted(page) as server, pytest.raises(UnreadableResponseError) as caught:
        caller(server.base_url, lambda c: c.conversations.get("c"), max_retries=0)
    assert str(caught.value) == (
        "200: the answer to GET /conversations/c cannot be read: it is an HTML page; is base_url right?"
    )
    assert caught.value.response is not None
    assert caught.value.response.text.startswith("<!doctype html>")


def test_a_closed_client_is_closed() -> None:
    """Every use after `close()` or the block is an error that says so; so it is of the clients made from it."""
    message = "this Converra client was closed; make a new one"
    with scripted(answer({"data": [{"id": "a"}], "pagination": {"total": 2}})) as server:
        client = Converra(api_key=KEY, base_url=server.base_url)
        other = client.with_options(max_retries=0)
        page = client.conversations.list()
        client.close()
        client.close()
        for call in (lambda: client.conversations.get("c"), lambda: other.conversations.get("c"), lambda: list(page)):
            with pytest.raises(ClientClosedError, match=message):
                call()
        with pytest.raises(ClientClosedError, match=message):
            client.__enter__()
    assert len(server.asked) == 1


def test_a_closed_async_client_is_closed() -> None:
    """As the sync one."""

    async def main(base_url: str) -> None:
        client = AsyncConverra(api_key=KEY, base_url=base_url)
        async with client.with_options(timeout=5) as other:
            pass
        for each in (client, other):
            with pytest.raises(ClientClosedError, match="this AsyncConverra client was closed; make a new one"):
                await each.conversations.get("c")
        with pytest.raises(ClientClosedError):
            await client.__aenter__()

    with scripted() as server:
        asyncio.run(main(server.base_url))
    assert server.asked == []


def test_a_client_that_is_closed_while_it_waits_sends_nothing_more() -> None:
    """A retry that another thread's `close()` overtakes is not sent."""
    with scripted(answer({}, 429, Retry_After="0")) as server:
        client = Converra(api_key=KEY, base_url=server.base_url)
        original = server.script[0]

        def closing(handler: Any) -> None:
            client._connection.closed = True  # as `close()` does first
            original(handler)

        server.script[0] = closing
        with pytest.raises((ClientClosedError, RateLimitError)) as caught:
            client.conversations.get("c")
        assert type(caught.value) is ClientClosedError
        client.close()
