"""The stand-in's HTTP side: paths and errors of the APIs that it answers, and every way to break off."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from converra.server.faults.connections import disconnected, gone_within
from converra.server.model import anthropic, bedrock, chat, gemini, ollama, responses
from converra.server.model.script import reply
from converra.server.model.wire import ModelError, Stamps
from converra.server.viewer.resending import answer_digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from converra.server.faults.connections import Connections
    from converra.server.model.script import Asked, Reply
    from converra.server.store.request_log import RequestLog
    from converra.server.viewer.drafts import Drafts

    Handler = Callable[[Request, dict[str, Any]], Awaitable[Response]]

Event = tuple[str | None, dict[str, Any]]
"""An event of a stream: its name, where the format names events, and its data."""


class Model:
    """The stand-in of one server: its routes and what it remembers."""

    def __init__(self, connections: Connections, log: RequestLog, drafts: Drafts) -> None:
        self._connections = connections
        self._log = log
        self._drafts = drafts
        self._stamps = Stamps()
        self._memory = responses.Memory()
        self._errors: Counter[str] = Counter()

    def routes(self) -> list[BaseRoute]:
        """Of OpenAI below `/v1`, and of Azure, which names the model in the path."""
        return [
            *(
                self._route(path, self._chat)
                for path in ("/v1/chat/completions", "/deployments/{model}/chat/completions")
            ),
            *(self._route(path, self._responses) for path in ("/v1/responses", "/responses")),
            Route("/v1/responses/{id}", self._retrieve, methods=["GET"]),
            Route("/responses/{id}", self._retrieve, methods=["GET"]),
        ]

    def gemini_routes(self) -> list[BaseRoute]:
        """Of Gemini: `/v1beta/models/X:generateContent`, and Vertex's longer ones, whose path names a publisher."""
        path = "/{version}/{path:path}/{model}"
        return [
            self._route(f"{path}:generateContent", self._generate, gemini.error_body),
            self._route(f"{path}:streamGenerateContent", self._generate_stream, gemini.error_body),
        ]

    def anthropic_routes(self) -> list[BaseRoute]:
        """Of Anthropic."""
        return [self._route("/v1/messages", self._messages, anthropic.error_body)]

    def bedrock_routes(self) -> list[BaseRoute]:
        """Of Bedrock: Converse and InvokeModel, whose body is Anthropic's; the model is an id or an ARN."""
        return [
            self._route(f"/model/{{model:path}}/{end}", handler, bedrock.error_body)
            for end, handler in (
                ("converse", self._converse),
                ("converse-stream", self._converse),
                ("invoke", self._invoke),
                ("invoke-with-response-stream", self._invoke),
            )
        ]

    def mistral_routes(self) -> list[BaseRoute]:
        """Of Mistral, whose chats are OpenAI's but for a few fields."""
        return [self._route("/v1/chat/completions", partial(self._chat, mistral=True))]

    def ollama_routes(self) -> list[BaseRoute]:
        """Of Ollama, which asks for no key."""
        return [self._route("/api/chat", self._ollama, ollama.error_body, keyless=True)]

    def _route(
        self,
        path: str,
        handler: Handler,
        error_body: Callable[[ModelError], dict[str, Any]] = ModelError.body,
        *,
        keyless: bool = False,
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request, await _body(request, keyless=keyless))
            except ModelError as error:
                return _json(error_body(error), error.status)

        return Route(path, endpoint, methods=["POST"])

    async def _chat(self, request: Request, body: dict[str, Any], *, mistral: bool = False) -> Response:
        body.setdefault("model", request.path_params.get("model"))
        asked = chat.read(body)
        answer = reply(asked)
        self._raise_error(asked, answer)
        completion = chat.Completion(body, answer, self._stamps, mistral=mistral)
        calls = completion.whole()["choices"][0]["message"].get("tool_calls") or ()
        self._remember(request, answer, [call["id"] for call in calls], len(body["messages"]))
        if body.get("stream"):
            events: Iterable[Event] = ((None, chunk) for chunk in completion.chunks())
            broken = (None, ModelError(500, "The stand-in was asked to fail.").body())
            return await self._stream(asked, answer, list(events), broken, end=b"data: [DONE]\n\n")
        return await self._whole(request, answer, completion.whole())

    async def _responses(self, request: Request, body: dict[str, Any]) -> Response:
        asked = responses.read(body, self._memory)
        answer = reply(asked)
        self._raise_error(asked, answer)
        response = responses.ResponseOf(body, answer, self._stamps)
        calls = [item["call_id"] for item in response.whole()["output"] if "call_id" in item]
        self._remember(request, answer, calls, len(body["input"]) if isinstance(body.get("input"), list) else 1)
        queued = bool(body.get("background"))
        self._memory.keep(list(asked.turns), response.whole(), queued=queued)
        if body.get("stream"):
            events = [(event["type"], event) for event in response.events()]
            return await self._stream(asked, answer, events, ("response.failed", response.failed()))
        return await self._whole(request, answer, response.unfinished("queued") if queued else response.whole())

    async def _generate(self, request: Request, body: dict[str, Any]) -> Response:
        answer, generation, _ = self._generated(request, body)
        return await self._whole(request, answer, generation.whole())

    async def _generate_stream(self, request: Request, body: dict[str, Any]) -> Response:
        answer, generation, asked = self._generated(request, body)
        broken = (None, gemini.error_body(ModelError(500, "The stand-in was asked to fail.")))
        return await self._stream(asked, answer, [(None, chunk) for chunk in generation.chunks()], broken)

    def _generated(self, request: Request, body: dict[str, Any]) -> tuple[Reply, gemini.Generation, Asked]:
        asked = gemini.read(body)
        answer = reply(asked)
        self._raise_error(asked, answer)
        generation = gemini.Generation(request.path_params["model"], body, answer, self._stamps)
        self._remember(request, answer, generation.call_ids, len(asked.turns))
        return answer, generation, asked

    async def _messages(self, request: Request, body: dict[str, Any]) -> Response:
        asked = anthropic.read(body)
        answer = reply(asked)
        self._raise_error(asked, answer)
        message = anthropic.Message(body, answer, self._stamps)
        self._remember(request, answer, message.call_ids, len(body["messages"]))
        if body.get("stream"):
            events = [(event["type"], event) for event in message.events()]
            broken = ("error", anthropic.error_body(ModelError(500, "The stand-in was asked to fail.")))
            return await self._stream(asked, answer, events, broken)
        return await self._whole(request, answer, message.whole())

    async def _converse(self, request: Request, body: dict[str, Any]) -> Response:
        asked = bedrock.read(body)
        answer = reply(asked)
        self._raise_error(asked, answer)
        generation = bedrock.Generation(answer, self._stamps)
        self._remember(request, answer, generation.call_ids, len(body["messages"]))
        if request.url.path.endswith("stream"):
            return await self._stream(asked, answer, list(generation.events()), BROKEN, framing=AWS)
        return await self._whole(request, answer, generation.whole())

    async def _invoke(self, request: Request, body: dict[str, Any]) -> Response:
        body.setdefault("model", request.path_params["model"])
        asked = anthropic.read(body)
        answer = reply(asked)
        self._raise_error(asked, answer)
        message = anthropic.Message(body, answer, self._stamps)
        self._remember(request, answer, message.call_ids, len(body["messages"]))
        if request.url.path.endswith("stream"):
            chunks: list[Event] = [("chunk", {"bytes": msgspec.json.encode(event)}) for event in message.events()]
            return await self._stream(asked, answer, chunks, BROKEN, framing=AWS)
        return await self._whole(request, answer, message.whole())

    async def _ollama(self, request: Request, body: dict[str, Any]) -> Response:
        asked = ollama.read(body)
        answer = reply(asked)
        self._raise_error(asked, answer)
        generation = ollama.Chat(body, answer, self._stamps)
        self._remember(request, answer, [], len(body["messages"]))
        if ollama.is_streamed(body):
            broken = (None, ollama.error_body(ModelError(500, "The stand-in was asked to fail.")))
            events: list[Event] = [(None, chunk) for chunk in generation.chunks()]
            return await self._stream(asked, answer, events, broken, framing=LINES)
        return await self._whole(request, answer, generation.whole())

    async def _retrieve(self, request: Request) -> Response:
        response_id = request.path_params["id"]
        found = self._memory.retrieve(response_id)
        if found is None:
            return _json(ModelError(404, f"Response with id '{response_id}' not found.").body(), 404)
        return _json(found)

    async def _whole(self, request: Request, answer: Reply, body: dict[str, Any]) -> Response:
        if answer.directives.get("fail"):
            raise ModelError(500, "The stand-in was asked to fail.")
        if pause := _pause(answer):
            await gone_within(pause, request.receive)
        breaking = _breaking(answer)
        return _Stream(self._connections, [], breaking) if breaking else _json(body)

    async def _stream(
        self,
        asked: Asked,
        answer: Reply,
        events: list[Event],
        broken: Event,
        end: bytes = b"",
        framing: Framing | None = None,
    ) -> Response:
        framing = framing or SERVER_SENT
        failing = answer.directives.get("fail")
        breaking = _breaking(answer)
        how = failing or (answer.directives.get(breaking) if breaking else None)
        if how:
            events, end = events[: how.number(len(events) // 2)], b""
        if failing:
            name, data = broken
            events.append((name, data | ({"sequence_number": len(events)} if name == "response.failed" else {})))
        said = [(framing.encoded(event), framing.words(event)) for event in events]
        draft = self._drafts.begin(asked.turns)
        stream = _Stream(self._connections, [*said, (end, "")], breaking, pause=_pause(answer), said=draft.add)
        stream.headers["content-type"] = framing.media_type
        return stream

    def _remember(self, request: Request, answer: Reply, calls: list[str], sent: int) -> None:
        """Show the viewer the answer to a request, by its number of messages."""
        digest = answer_digest(answer.text or answer.refusal or "", calls)
        self._log.model_turn(request.scope["converra.request"], answer=digest, sent=sent)

    def _raise_error(self, asked: Asked, answer: Reply) -> None:
        """The error that a message asks for: for all requests with it, or only for the first ones."""
        wanted = answer.directives.get("error")
        if wanted is None:
            return
        status, times = wanted.named()
        self._errors[asked.said] += 1
        if times.startswith("x") and times[1:].isdecimal() and self._errors[asked.said] > int(times[1:]):
            return
        number = int(status) if status.isdecimal() else 500
        raise ModelError(number, f"The stand-in was asked for an error {number}.", code="stand_in_error")


class _Stream(Response):
    """Server-sent events, or the silence or the break that a message asked for."""

    media_type: str = "text/event-stream"

    def __init__(
        self,
        connections: Connections,
        events: list[tuple[bytes, str]],
        breaking: str | None = None,
        *,
        pause: float = 0.0,
        said: Callable[[str], None] = lambda _words: None,
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._connections = connections
        self._events = events
        self._breaking = breaking
        self._pause = pause
        self._said = said

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._events:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for event, words in self._events:
            if self._pause and await gone_within(self._pause, receive):
                return
            await send({"type": "http.response.body", "body": event, "more_body": True})
            self._said(words)
        if self._breaking is None:
            await send({"type": "http.response.body", "body": b""})
            return
        if self._breaking == "cut":
            self._connections.close(scope)
        await disconnected(receive)


def _pause(answer: Reply) -> float:
    slow = answer.directives.get("slow")
    return slow.seconds() if slow else 0.0


def _breaking(answer: Reply) -> str | None:
    return next((directive.name for directive in answer.directives.all("cut", "hang")), None)


def _words(event: Event) -> str:
    """Return the text that an event adds to the answer."""
    name, data = event
    if name is not None and name.startswith("response."):
        return str(data["delta"]) if name == "response.output_text.delta" else ""
    if name is not None:
        return anthropic.words(data)
    if "candidates" in data:
        return "".join(gemini.words(data["candidates"][0]))
    choices = [choice for choice in data.get("choices", ()) if choice["index"] == 0]
    return str(choices[0]["delta"].get("content") or "") if choices else ""


def _encoded(event: Event) -> bytes:
    name, data = event
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


class Framing(NamedTuple):
    """The format of the events of a stream, and the text that each adds to the answer."""

    media_type: str
    encoded: Callable[[Event], bytes]
    words: Callable[[Event], str]


SERVER_SENT = Framing(_Stream.media_type, _encoded, _words)
AWS = Framing(bedrock.MEDIA_TYPE, bedrock.encoded, bedrock.words)
LINES = Framing(ollama.MEDIA_TYPE, ollama.encoded, ollama.words)
BROKEN = ("modelStreamErrorException", {"message": "The stand-in was asked to fail."})
"""The event with which a stream of AWS fails."""


async def _body(request: Request, *, keyless: bool) -> dict[str, Any]:
    if not keyless and not any(
        request.headers.get(name) for name in ("authorization", "api-key", "x-api-key", "x-goog-api-key")
    ):
        raise ModelError(401, "You didn't provide an API key.", code="invalid_api_key")
    try:
        body = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(400, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(body, dict):
        raise ModelError(400, "The JSON body of a request is an object.")
    return body


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
