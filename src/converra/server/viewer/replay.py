"""A logged request once more: as a command line to copy, and sent to this server again."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from converra.server.journal import API_BY_PATH, REPLAYED_FOR

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

    from converra.server.store.records import LoggedRequest

_SECONDS = 10.0
"""Longer no answer is waited for: a fault may hold it back for ever."""

_OF_THE_CONNECTION = (
    *("host", "content-length", "connection", "accept-encoding", "transfer-encoding", "expect", "cookie"),
)
_OF_THE_CLIENT = ("user-agent", "x-stainless-", "traceparent", "tracestate")
_REDACTED = "sha256:"


def can_be_sent(found: LoggedRequest) -> bool:
    """Return True if the log has all of a request: the whole body, and a path from which no key was removed."""
    return found.body_bytes == len(found.body) and "…" not in found.path


def curl(found: LoggedRequest, base_url: str) -> str | None:
    """Write a request as a shell command, with a variable for the key; None if the log has not all of it."""
    if not can_be_sent(found):
        return None
    try:
        body = found.body.decode()
    except UnicodeDecodeError:
        return None
    words = ["curl", shlex.quote(base_url + found.path)]
    if found.method != ("POST" if body else "GET"):
        words.append(f"-X {shlex.quote(found.method)}")
    variable = next(f"${api.key}" for path, api in API_BY_PATH.items() if found.path.startswith(path))
    for name, value in found.headers.items():
        if name == "authorization":
            words.append(f'-H "Authorization: Bearer {variable}"')
        elif value.startswith(_REDACTED):
            words.append(f'-H "{name}: {variable}"')
        elif name not in _OF_THE_CONNECTION and not name.startswith(_OF_THE_CLIENT):
            words.append(f"-H {shlex.quote(f'{name}: {value}')}")
    if body:
        words.append(f"--data-raw {shlex.quote(body)}")
    return " \\\n  ".join([" ".join(words[:2]), *words[2:]])


async def send_again(app: ASGIApp, found: LoggedRequest) -> int:
    """Send a request to this server as it was received, for the same account; return its number in the log."""
    path, _, query = found.path.partition("?")
    sent = {name: value for name, value in found.headers.items() if name not in _OF_THE_CONNECTION}
    headers = {"host": "127.0.0.1", **sent, "content-length": str(len(found.body))}
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": found.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": None,
        "server": ("127.0.0.1", 80),
        REPLAYED_FOR: found.account,
    }
    parts: list[Message] = [{"type": "http.request", "body": found.body, "more_body": False}]

    async def receive() -> Message:
        if parts:
            return parts.pop()
        await asyncio.sleep(_SECONDS)
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        """Leave the answer to the log."""

    with contextlib.suppress(TimeoutError, ConnectionResetError):  # a fault may break the connection, which is none
        async with asyncio.timeout(2 * _SECONDS):
            await app(scope, receive, send)
    return int(scope["converra.request"])
