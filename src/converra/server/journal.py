"""Reads each request whole, writes it down as it was received, and how it was answered."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.datastructures import Headers

from converra.otlp.body import MAX_BODY_BYTES as OTLP_BODY_BYTES
from converra.otlp.routes import PREFIX as OTLP
from converra.otlp.routes import REASON
from converra.server.api.answers import JSON
from converra.server.api.exporter import refused_exporter
from converra.server.api.refusal import Refusal
from converra.server.store.records import fingerprint
from converra.server.store.request_log import BODY_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from converra.server.store.conversations import Store

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Room for the largest content the API takes with every character escaped, and for tool calls beside it."""


class API(NamedTuple):
    """An API that this server answers."""

    name: str
    key: str
    """The usual environment variable for its key."""
    max_body_bytes: int = MAX_BODY_BYTES
    is_logged_whole: bool = True
    """The log keeps the bodies of requests; spans would fill it within minutes."""


API_BY_PATH = {
    "/api/": API("Conversations API", "CONVERRA_API_KEY"),
    "/openai/": API("OpenAI's API", "OPENAI_API_KEY"),
    "/google/": API("Gemini's API", "GEMINI_API_KEY"),
    "/anthropic/": API("Anthropic's API", "ANTHROPIC_API_KEY"),
    "/bedrock/": API("Bedrock's API", "AWS_BEARER_TOKEN_BEDROCK"),
    "/mistral/": API("Mistral's API", "MISTRAL_API_KEY"),
    "/ollama/": API("Ollama's API", "OLLAMA_API_KEY"),
    OTLP: API("OpenTelemetry (OTLP)", "CONVERRA_API_KEY", OTLP_BODY_BYTES, is_logged_whole=False),
}
"""The Conversations API, those in which the stand-in model answers, and OTLP, by the beginning of their paths."""

APIS = tuple(API_BY_PATH)
"""Beginnings of the paths of all APIs; other paths are pages."""

REPLAYED_FOR = "converra.account"
"""Of the scope of a request that the viewer sends again: its account. Its headers have no key any more."""

_REFUSED = 400
_KEY = re.compile("auth|key|password|secret|token", re.IGNORECASE)
"""Names of headers and parameters that may hold a key."""


class JournalMiddleware:
    """Outermost around the two APIs; the pages of the viewer are not logged."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self.app: ASGIApp = app
        self.store: Store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI's signature
        if scope["type"] != "http" or not scope["path"].startswith(APIS):
            await self.app(scope, receive, send)
            return
        api = next(api for path, api in API_BY_PATH.items() if scope["path"].startswith(path))
        body, whole = await _read(receive, api.max_body_bytes)
        entry = _Entry(self.store, scope, body, is_kept=api.is_logged_whole)
        try:
            if whole:
                scope["converra.body"] = body
                await self.app(scope, _replay(body, receive), entry.sending(send))
            else:
                await _refuse_body(scope, api.max_body_bytes, entry.sending(send))
        finally:
            entry.finish()


class _Error(msgspec.Struct):
    """Fields that the errors of both APIs share."""

    message: str
    details: Any = None


class _Answer(msgspec.Struct):
    """An error answer."""

    error: _Error


class _Entry:
    """One line of the log, from arrival to the last byte of the answer."""

    def __init__(self, store: Store, scope: Scope, body: bytes, *, is_kept: bool = True) -> None:
        self._store = store
        self._started = time.perf_counter()
        self._status: int | None = None
        self._bytes = 0
        self._answer = bytearray()
        self._written = 0
        self._answer_type: str | None = None
        self._scope = scope
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        account = scope[REPLAYED_FOR] if REPLAYED_FOR in scope else _without_keys(headers)
        self._number = store.log.add(
            account=account, method=scope["method"], path=_target(scope), headers=headers, body=body, keep_body=is_kept
        )
        scope["converra.request"] = self._number

    def sending(self, send: Send) -> Send:
        """Passes the answer on; the log has it before the client does."""

        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                self._answer_type = Headers(raw=list(message.get("headers", ()))).get("content-type")
            self._bytes += len(message.get("body", b""))
            self._answer += message.get("body", b"")[: BODY_BYTES - len(self._answer)]
            if message["type"] == "http.response.start" or not message.get("more_body"):
                self.finish()
            await send(message)

        return logged

    def finish(self) -> None:
        """Write the present state; the last call has the final numbers."""
        ms = (time.perf_counter() - self._started) * 1000
        answer = bytes(self._answer)
        self._store.log.answered(
            self._number,
            status=self._status,
            ms=round(ms, 3),
            answer_bytes=self._bytes,
            reason=self._reason(answer),
            fault=self._scope.get("converra.fault"),
            answer=answer if len(answer) > self._written else None,
            answer_type=self._answer_type,
        )
        self._written = len(answer)

    def _reason(self, answer: bytes) -> str | None:
        if self._status is None or self._status < _REFUSED:
            return None
        return self._scope.get(REASON) or _reason(answer)


def _reason(refusal: bytes) -> str | None:
    """Why, in the words of an answer of either API: its message, and each field at fault."""
    try:
        error = msgspec.json.decode(refusal, type=_Answer).error if refusal else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if error is None:
        return None
    details = error.details if isinstance(error.details, dict) else {}
    return "; ".join([error.message, *(f"{name}: {what}" for name, what in details.items())])


def _without_keys(headers: dict[str, str]) -> str | None:
    """Put its fingerprint where a key stood, in whatever header; the account's is what is returned."""
    headers.pop("cookie", None)
    scheme, _, key = headers.pop("authorization", "").partition(" ")
    for name, value in headers.items():
        if _KEY.search(name) and name != "idempotency-key":
            headers[name] = f"sha256:{fingerprint(value.strip())}"
    if not key.strip():
        return None
    account = fingerprint(key.strip())
    headers["authorization"] = f"{scheme} sha256:{account}"
    return account


def _target(scope: Scope) -> str:
    """Path and query; keys are not taken from a query, but that does not keep anybody from putting one there."""
    given = scope["query_string"].decode("latin-1").split("&")
    query = "&".join(f"{each.partition('=')[0]}=…" if _KEY.search(each.partition("=")[0]) else each for each in given)
    return f"{scope['path']}?{query}" if query else str(scope["path"])


async def _read(receive: Receive, limit: int) -> tuple[bytes, bool]:
    """The body, and whether it was read to its end; a client that goes away counts as an end."""
    parts: list[bytes] = []
    size = 0
    while size <= limit:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body"):
            return b"".join(parts), size <= limit
    return b"".join(parts), False


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever the connection says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


async def _refuse_body(scope: Scope, limit: int, send: Send) -> None:
    """413, and close: the rest of the body is not read."""
    refusal = Refusal(413, "PAYLOAD_TOO_LARGE", "Request body too large", {"body": f"At most {limit:,} bytes"})
    answer = refused_exporter(scope, refusal) or JSON(refusal.body(), refusal.status)
    answer.headers["connection"] = "close"
    await answer(scope, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
