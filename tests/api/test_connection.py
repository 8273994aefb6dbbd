"""Settings, sockets and deadlines: how the client lives in a process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry import context

from converra.api import deadline, operations
from converra.api.client import AsyncConverra, Converra
from converra.api.connection import AsyncConnection, Connection
from converra.api.results import StoredConversation
from converra.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    InvalidArgumentError,
    MissingAPIKeyError,
)
from tests.api.callers import KEY, Caller, both, call_async, each_connection, each_library
from tests.api.scripted import answer, drip, hang, refusing_url, reset, scripted
from tests.patience import HANG, LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.api.scripted import Scripted

GET = operations.get_conversation("c")
CLIENTS = pytest.mark.parametrize("kind", [Converra, AsyncConverra])


def get(client: Any) -> Any:
    """The simplest call."""
    return client.conversations.get("c")


@CLIENTS
def test_no_key_is_an_error_that_names_the_variable(kind: type[Converra | AsyncConverra]) -> None:
    """Whoever forgot the key learns where it goes."""
    for key in (None, "", "  "):
        with pytest.raises(MissingAPIKeyError) as caught:
            kind(api_key=key)
        assert str(caught.value) == "no API key: pass api_key=, or set CONVERRA_API_KEY in the environment"


@CLIENTS
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"base_url": "converra.ai"}, "base_url is 'converra.ai', expected an http(s) URL"),
        ({"base_url": "http://h/api?v=1"}, "base_url holds a user, a query or a fragment; expected scheme, host and"),
        ({"base_url": "http://me:pw@h/api"}, "base_url holds a user, a query or a fragment; expected scheme, host and"),
        ({"base_url": "http://\u0660.\u2488com"}, "base_url is no URL: "),
        ({"timeout": -1}, "timeout is -1, expected seconds"),
        ({"max_retries": -1}, "max_retries is -1, expected a whole number of at least 0"),
        ({"max_retries": 1.5}, "max_retries is 1.5, expected a whole number of at least 0"),
        ({"max_retries": True}, "max_retries is True, expected a whole number of at least 0"),
        ({"http_client": "httpx"}, "http_client is 'httpx', expected an httpx."),
        ({"api_key": "sk\nx"}, "api_key holds characters that no API key has, such as a space or a line break"),
        ({"api_key": "sk x"}, "api_key holds characters that no API key has, such as a space or a line break"),
        ({"api_key": "ключ"}, "api_key holds characters that no API key has, such as a space or a line break"),
    ],
)
def test_wrong_settings_are_refused_when_the_client_is_made(
    kind: Callable[..., Any], arguments: dict[str, Any], expected: str
) -> None:
    """A setting that cannot work is an error at once, and no message ever shows the key."""
    with pytest.raises(InvalidArgumentError) as caught:
        kind(**{"api_key": KEY} | arguments)
    assert str(caught.value).startswith(expected)


@each_connection
def test_settings_come_from_the_environment(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address may stand in CONVERRA_BASE_URL; an argument wins over it."""
    with scripted(answer({"id": "c"}), answer({"id": "c"})) as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", f" {server.base_url}/ ")
        monkeypatch.setenv("CONVERRA_API_KEY", "other")
        assert caller(None, get) == StoredConversation(id="c")  # type: ignore[arg-type]
        monkeypatch.setenv("CONVERRA_BASE_URL", "http://127.0.0.1:1")
        assert caller(server.base_url, get) == StoredConversation(id="c")
    assert [asked.headers["authorization"] for asked in server.asked] == [f"Bearer {KEY}"] * 2


def test_the_key_comes_from_the_environment_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a line break around it, as files have it, works."""
    monkeypatch.setenv("CONVERRA_API_KEY", f" {KEY}\n")
    with scripted(answer({})) as server, Converra(base_url=server.base_url) as client:
        client.conversations.get("c")
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_key_is_never_shown() -> None:
    """Neither clients nor connections print the key."""
    url = "http://127.0.0.1:1/api/v1/"
    for made in (Converra, AsyncConverra):
        assert repr(made(api_key=KEY, base_url=url)) == f"{made.__name__}(base_url='http://127.0.0.1:1/api/v1')"
    for opened in (Connection, AsyncConnection):
        assert repr(opened(KEY, url, 1)) == f"{opened.__name__}(base_url='http://127.0.0.1:1/api/v1')"


@each_library
@pytest.mark.usefixtures("library")
def test_connections_are_kept_and_closed() -> None:
    """Requests share a socket; a closed connection opens a new one when it is used again."""
    with scripted(*[answer({}, Connection="keep-alive")] * 3) as server:
        ports = _watch_ports(server)
        connection = Connection(KEY, server.base_url, LONG)
        connection.send(GET)
        connection.send(GET)
        connection.close()
        connection.close()
        connection.send(GET)
        connection.close()
    assert ports[0] == ports[1] != ports[2]


def _watch_ports(server: Any) -> list[int]:
    """The client's port of every request, as the server sees it."""
    ports: list[int] = []

    def noting(line: Any) -> Any:
        def play(handler: Any) -> None:
            ports.append(handler.client_address[1])
            line(handler)

        return play

    server.script[:] = [noting(line) for line in server.script]
    return ports


def test_a_connection_can_be_made_ready_ahead() -> None:
    """`open` does what is slow about the first request, and reaches for nothing."""
    connection = Connection(KEY, refusing_url(), 5)
    connection.open()
    [ready] = connection._built.values()
    with pytest.raises(APIConnectionError):
        connection.send(GET)
    assert list(connection._built.values()) == [ready]
    connection.close()


def test_abandoned_connections_send_nothing() -> None:
    """After `abandon` nothing more is sent through a connection, and the server hears no goodbye from its sockets."""
    with scripted(answer({})) as server:
        connection = Connection(KEY, server.base_url, LONG)
        connection.send(GET)
        [old] = connection._built.values()
        connection.abandon()
        with pytest.raises(APIConnectionError, match="belongs to the parent process"):
            connection.send(GET)
        assert not old.is_closed
        old.close()
        connection.close()
        assert len(server.asked) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_sockets_of_its_own() -> None:
    """A client that was warm when the process forked works in both, each over its own connection."""
    program = """if True:
        import os, sys
        from converra import errors
        from converra.api.client import Converra
        client = Converra(api_key="k", base_url=sys.argv[1], max_retries=0)
        client.conversations.get("warm")
        child = os.fork()
        client.conversations.get("child" if child == 0 else "parent")
        if child == 0:
            os._exit(len(client._connection._built) - 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    with scripted(*[answer({})] * 3) as server:
        ports = _watch_ports(server)
        subprocess.run([sys.executable, "-c", program, server.base_url], check=True, timeout=LONG)
    by_path = {asked.path.rpartition("/")[2]: port for asked, port in zip(server.asked, ports, strict=True)}
    assert by_path["warm"] == by_path["parent"] != by_path["child"]


def test_an_async_client_may_be_used_in_loop_after_loop() -> None:
    """Each `asyncio.run` gets connections of its own; none is of a loop that has ended."""
    with scripted(*[answer({"id": "c"})] * 2) as server:
        client = AsyncConverra(api_key=KEY, base_url=server.base_url)

        async def main() -> StoredConversation:
            try:
                return await client.conversations.get("c")
            finally:
                await client._connection.close()  # its sockets are those of the loop

        assert asyncio.run(main()) == asyncio.run(main()) == StoredConversation(id="c")


def test_a_loop_that_ended_is_forgotten() -> None:
    """Nothing is kept for an event loop that is closed."""
    with scripted(*[answer({})] * 2) as server:
        connection = AsyncConnection(KEY, server.base_url, LONG)

        async def main(*, close: bool) -> None:
            await connection.send(GET)
            [client] = connection._built.values()
            await (connection.close() if close else client.aclose())

        asyncio.run(main(close=False))
        asyncio.run(main(close=True))
        assert connection._built == {}


def test_many_threads_may_share_a_client() -> None:
    """One client serves many threads at once, each with its own answer and its own deadline."""
    lines = [answer({"id": "c"}), hang, answer({"id": "c"}), answer({"id": "c"})]
    outcomes: list[Any] = []

    def call(client: Converra) -> None:
        try:
            outcomes.append(client.conversations.get("c"))
        except APITimeoutError as error:
            outcomes.append(type(error))

    with (
        scripted(*lines) as server,
        Converra(api_key=KEY, base_url=server.base_url, timeout=5, max_retries=0) as client,
    ):
        threads = [threading.Thread(target=call, args=(client,)) for _ in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(map(str, outcomes)) == sorted(map(str, [APITimeoutError, *[StoredConversation(id="c")] * 3]))


def test_one_request_may_have_a_timeout_of_its_own() -> None:
    """`send` keeps to the time that is left to it, on a pooled connection too."""
    with scripted(answer({}), drip(b"HTTP/1.1 200 OK\r\n")) as server:
        connection = Connection(KEY, server.base_url, LONG)
        connection.send(GET)
        started = time.monotonic()
        with pytest.raises(APITimeoutError):
            connection.send(GET, timeout=0.2)
        assert time.monotonic() - started < HANG
        connection.close()


@each_connection
def test_no_time_at_all_is_a_timeout(caller: Caller) -> None:
    """A timeout of nothing is over before anything is sent."""
    with scripted() as server, pytest.raises(APITimeoutError):
        caller(server.base_url, get, timeout=0, max_retries=0)
    assert server.asked == []


@contextlib.contextmanager
def listening(react: Callable[[socket.socket], bool]) -> Iterator[str]:
    """The address of a server that accepts one connection and does with it what it is told, until that is enough."""
    over = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError):
            accepted, _ = listener.accept()
            with accepted:
                while react(accepted) and not over.wait(0.02):
                    pass
                over.wait(LONG)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@each_library
@pytest.mark.usefixtures("library")
@each_connection
@pytest.mark.parametrize("taken", [0, 4096], ids=["nothing", "a little at a time"])
def test_a_server_that_does_not_read_cannot_stretch_the_timeout(caller: Caller, taken: int) -> None:
    """A large request is held up no longer than the timeout, also where some of it is taken now and then."""
    messages = [{"role": "user", "content": "x" * 1024 * 100}] * 200
    with listening(lambda accepted: bool(taken and accepted.recv(taken))) as address:
        started = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            caller(f"http://{address}", lambda c: c.conversations.append_messages("c", messages=messages), timeout=2)
        assert time.monotonic() - started < HANG
    assert caught.value.sent is True


@each_library
@pytest.mark.usefixtures("library")
@each_connection
def test_a_handshake_that_hangs_has_sent_nothing(caller: Caller) -> None:
    """Without a secure connection no request was made, so sending it again is safe."""
    with listening(lambda _: False) as address, pytest.raises(APITimeoutError) as caught:
        caller(f"https://{address}", get, timeout=0.3, max_retries=0)
    assert caught.value.sent is False


@pytest.mark.parametrize("event", ["connection.start_tls.started", "http11.send_request_headers.started"])
def test_a_loop_that_is_late_does_not_claim_that_a_request_was_sent(
    event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cancels before the transport gives up, it knows from the transport how far the request had come."""
    monkeypatch.setattr(deadline, "CONNECT_GRACE", -0.1)

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await request.extensions["trace"](event, {})
            await asyncio.sleep(LONG)
            raise AssertionError

    with pytest.raises(APITimeoutError) as caught:
        call_async("http://127.0.0.1:9", get, timeout=0.3, max_retries=0, given=lambda kind: kind(transport=Silent()))
    assert caught.value.sent is event.startswith("http11")


@both
def test_a_given_http_client_is_used_and_stays_open(caller: Caller) -> None:
    """Whoever brings an HTTP client keeps its settings, but for the key, and closes it."""

    def given(kind: Any) -> Any:
        headers = {"X-Mine": "1", "Authorization": "Basic other"}
        return kind(headers=headers, auth=("me", "pw"), follow_redirects=True)

    with scripted(answer({"id": "c"}), answer({}, 307, Location="/elsewhere")) as server:
        assert caller(server.base_url, get, given=given) == StoredConversation(id="c")
        with pytest.raises(APIStatusError):
            caller(server.base_url, get, given=given)
    assert len(server.asked) == 2
    assert server.asked[0].headers["x-mine"] == "1"
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("given", ["httpx", "httpx2"])
def test_a_given_http_client_may_be_of_either_library(given: str) -> None:
    """Where a process has both, a client of either is taken, and its failures are told alike."""
    pytest.importorskip("httpx2")
    with importlib.import_module(given).Client() as http_client, scripted(reset) as server:
        connection = Connection(KEY, server.base_url, 5, http_client=http_client)
        with pytest.raises(APIConnectionError):
            connection.send(GET)
        with pytest.raises(APITimeoutError):
            connection.send(GET, timeout=0)


def test_the_library_of_the_app_is_used() -> None:
    """Where the app has httpx2, our requests use it, and httpx is not imported beside it."""
    program = """if True:
        import sys, httpx2
        from converra.api.connection import Connection
        from converra.api.operations import get_conversation
        print(Connection("k", sys.argv[1], 5).send(get_conversation("c")), "httpx" in sys.modules)
    """
    pytest.importorskip("httpx2")
    with scripted(answer({"id": "c"})) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.base_url], capture_output=True, text=True, timeout=LONG, check=True
        )
    assert done.stdout == "StoredConversation(id='c') False\n"


def test_a_given_http_client_that_was_closed_is_told() -> None:
    """An HTTP client that its owner has closed is a typed error."""
    given = httpx.Client()
    given.close()
    with pytest.raises(APIConnectionError, match="closed"):
        Connection(KEY, "http://127.0.0.1:1", 5, http_client=given).send(GET)


@each_connection
def test_the_wrong_kind_of_http_client_is_refused(caller: Caller) -> None:
    """A sync client does not take an async one, nor the other way round."""
    wrong = httpx.Client() if caller is call_async else httpx.AsyncClient()
    with pytest.raises(InvalidArgumentError, match=r"expected an httpx\."):
        caller("http://127.0.0.1:1", get, http_client=wrong)


@both
@pytest.mark.parametrize(("error", "sent"), [(httpx.ConnectError("x"), False), (httpx.ReadError("x"), True)])
def test_failures_of_a_transport_that_tells_nothing_are_judged_by_their_kind(
    caller: Caller, error: Exception, sent: bool
) -> None:
    """With a transport of the user's own, only an error that says so counts as not sent."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    def given(kind: Any) -> Any:
        return kind(transport=httpx.MockTransport(fail))

    with pytest.raises(APIConnectionError) as caught:
        caller("http://127.0.0.1:1", get, given=given, max_retries=0)
    assert caught.value.sent is sent


def _in_child(environment: Mapping[str, str], url: str) -> str:
    """What a program that makes one request prints, in an environment of its own."""
    program = """if True:
        import sys
        from converra import errors
        from converra.api.client import Converra
        try:
            print(Converra(api_key="k", base_url=sys.argv[1], max_retries=0, timeout=5).conversations.get("c"))
        except errors.APIConnectionError as error:
            print(f"{type(error).__name__}: {error} sent={error.sent}")
    """
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    return done.stdout.strip()


def test_a_proxy_of_the_environment_is_used() -> None:
    """Requests go through HTTP_PROXY, as everywhere in a company's network."""
    with scripted(answer({"id": "proxied"})) as proxy:
        environment = {"HTTP_PROXY": proxy.base_url.removesuffix("/api/v1")}
        assert _in_child(environment, "http://api.invalid/v1") == "StoredConversation(id='proxied')"
    assert proxy.asked[0].path == "http://api.invalid/v1/conversations/c"


@pytest.mark.parametrize(
    "environment",
    [
        {"SSL_CERT_FILE": "/nowhere/certificates.pem"},
        {"HTTPS_PROXY": "gopher://127.0.0.1:1"},
        {"HTTPS_PROXY": "http://127.0.0.1:port"},
        {"ALL_PROXY": "socks5://127.0.0.1:1"},
    ],
    ids=["certificates", "scheme", "address", "SOCKS without its package"],
)
def test_an_environment_that_cannot_be_used_is_told(environment: dict[str, str]) -> None:
    """Broken proxy or certificate settings are an error that says so, before anything is sent."""
    told = _in_child(environment, "https://127.0.0.1:1/api/v1")
    assert told.startswith("APIConnectionError: proxies or certificates of the environment cannot be used: ")
    assert told.endswith("sent=False")


@pytest.mark.parametrize("url", ["http://a..b/api", f"http://{'a' * 70}.example/api"])
def test_a_host_that_is_no_name_is_told(url: str) -> None:
    """A host name that cannot exist is a typed error too."""
    with pytest.raises(APIConnectionError) as caught, Converra(api_key=KEY, base_url=url, max_retries=0) as client:
        client.conversations.get("c")
    assert caught.value.sent is False


@both
def test_our_requests_are_hidden_from_tracing(caller: Caller) -> None:
    """Instrumentations of HTTP clients are told to look away while we send, and only then."""
    seen: list[bool] = []

    def hidden() -> bool:
        return bool(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))

    def look(_: Any) -> None:
        seen.append(hidden())

    async def look_async(_: Any) -> None:
        look(_)

    def given(kind: Any) -> Any:
        return kind(event_hooks={"request": [look if kind is httpx.Client else look_async]})

    with scripted(answer({})) as server:
        caller(server.base_url, get, given=given)
    assert seen == [True]
    assert not hidden()


def test_a_cancelled_call_is_cancelled() -> None:
    """Cancelling a task ends the request with CancelledError, not with an error of ours; the client stays usable."""

    async def main(server: Scripted) -> None:
        async with AsyncConverra(api_key=KEY, base_url=server.base_url) as client:
            cancelled = asyncio.ensure_future(client.conversations.get("c"))
            while not server.asked:  # noqa: ASYNC110 - another thread is waited for
                await asyncio.sleep(0.01)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert await client.conversations.get("c") == StoredConversation(id="c")

    with scripted(hang, answer({"id": "c"})) as server:
        asyncio.run(main(server))


def test_a_broken_connection_does_not_stay_in_the_pool() -> None:
    """After a reset the next request works."""
    with scripted(answer({}), reset, answer({"id": "c"})) as server:
        connection = Connection(KEY, server.base_url, LONG)
        connection.send(GET)
        with pytest.raises(APIConnectionError):
            connection.send(GET)
        assert connection.send(GET) == StoredConversation(id="c")
        connection.close()
