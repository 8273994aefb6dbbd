"""Readers of litellm's calls: requests by the endpoint that is asked, answers by their shape. Pure.

Mostly both are OpenAI's, whichever the provider is. Its endpoints with Anthropic's or Google's format answer in theirs.
An answer may also come in another format than the request: litellm asks some chat models through the Responses API, and
the other way round.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.history.turn import Answer, Request, Scope, SourceMessage
from converra.integrations.anthropic import messages as anthropic
from converra.integrations.anthropic.events import MessageEvents
from converra.integrations.google_genai import generate
from converra.integrations.openai import chat, responses
from converra.integrations.openai.chat_chunks import ChatChunks
from converra.integrations.openai.events import ResponseEvents
from converra.integrations.payload.extras import merged
from converra.integrations.payload.fields import BLOB_LENGTH, fields, items, parsed, string
from converra.integrations.payload.usage import counts, snapshot
from converra.integrations.stainless.request import BodyPieces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from converra.integrations.stainless.stream import Pieces

CHATS = frozenset(
    {
        *("completion", "acompletion", "text_completion", "atext_completion"),
        *("responses", "aresponses"),
        *("anthropic_messages", "generate_content", "agenerate_content"),
        *("generate_content_stream", "agenerate_content_stream"),
    }
)
"""Functions of litellm whose calls are turns of a conversation."""

COPIES = frozenset({"thinking_blocks", "provider_specific_fields"})
"""Fields in which litellm keeps what a provider sent, beside the fields that it made of it. Some hold signatures."""

COMPLETION = chat.COMPLETION | COPIES | {"_response_ms"}
CHOICE = chat.CHOICE | COPIES
SPOKEN = COPIES | {"role", "content", "tool_calls"}
"""Fields of each level of an answer that is a text or calls, and nothing else."""

IN_ANOTHER_FORMAT = CHATS - {"completion", "acompletion", "text_completion", "atext_completion"}

PLACEHOLDER = [{"role": "user", "content": "default-message-value"}]
"""Stands in litellm 1.72 for messages in Anthropic's format that go to another provider: `given` has what it sends."""

MANAGED, OWN_ID = "resp_", "response_id:"
"""Begin of an id in which litellm has packed a response's provider, model and id; and what the latter follows there."""

LENGTH_OF_UUID = 36


class Asked(NamedTuple):
    """One call as litellm's `Logging` object has it, and what it hands over before it sends the request."""

    kind: str
    """The function of litellm that the app has called."""
    model: Any
    messages: Any
    settings: Mapping[str, Any]
    """The call's parameters beside its messages."""
    given: Any = None
    """The messages or the input that litellm sends."""
    sent: Any = None
    """The body, where it is known: as a mapping, or as JSON."""
    url: Any = None


def request(asked: Asked) -> Request:
    """Read the request of a call."""
    if asked.kind in IN_ANOTHER_FORMAT:
        return _foreign(asked, asked.sent if isinstance(asked.sent, dict) else fields(_document(asked.sent)))
    return _chat(asked, items(asked.given) if asked.messages == PLACEHOLDER else asked.messages)


def _foreign(asked: Asked, body: dict[str, Any]) -> Request:
    """Read a request of an endpoint with a format of its own, or the chat that litellm has made of it."""
    if "input" in body and "messages" not in body:
        made = responses.request(body)
        made.previous = own_id(made.previous)
        return made
    if "contents" in body and asked.kind.partition("generate_content")[1]:
        return generate.request(f"models/{asked.model}:generateContent", body)
    if "/messages" in (string(asked.url) or "") and items(body.get("messages")):
        return anthropic.request(body)
    return _chat(asked, items(asked.given) or asked.messages)


def _document(text: Any) -> Any:
    return parsed(text) if isinstance(text, str | bytes) else None


def _chat(asked: Asked, messages: Any) -> Request:
    if messages.__class__ is list and {*map(type, messages)} != {dict}:
        messages = [message if message.__class__ is dict else _as_sent(fields(message)) for message in messages]
    body, settings = {"messages": messages, "model": asked.model}, asked.settings
    for name in ("tools", "functions"):
        if name in settings:
            body[name] = settings[name]
    return chat.request(body)


def _as_sent(own: dict[str, Any]) -> dict[str, Any]:
    """Return a message that litellm has made, and the app hands back, as the one that it is sent as.

    An agent hands back all of its messages with every call, so the usual ones cost a microsecond.
    """
    made = own.get("tool_calls")
    found = {"role": own.get("role"), "content": own.get("content")}
    found |= {name: value for name, value in own.items() if value and name not in SPOKEN}
    if made:
        found["tool_calls"] = [_call_as_sent(item) for item in items(made)]
    return found


def _call_as_sent(item: Any) -> dict[str, Any]:
    own = fields(item)
    return {**own, "function": fields(own.get("function"))}


def answer(result: Any) -> Answer:
    """Read a whole answer."""
    own = fields(result)
    if "choices" in own:
        return _plain_answer(own) or _chat_answer(own)
    if "output" in own:
        found = responses.answer(result)
        found.response_id = own_id(found.response_id)
        return found
    if own.get("response") is not None:  # the event that ends a stream of the Responses API
        return answer(own["response"])
    if "candidates" in own:
        return generate.answer(own)
    return anthropic.answer(result) if "stop_reason" in own else chat.any_answer(own)


def _chat_answer(own: dict[str, Any]) -> Answer:
    choices = [fields(choice) for choice in items(own["choices"])]
    if choices and "message" not in choices[0]:
        return chat.completions_answer(own)
    plain = [{**_plain(choice), "message": _plain(fields(choice.get("message")))} for choice in choices]
    return chat.any_answer({**_plain(own), "choices": plain})


def _plain_answer(own: dict[str, Any]) -> Answer | None:
    """Read an answer with one choice of a text, or calls, and nothing else, as most are, at a tenth of the price."""
    message, reason = _only(own["choices"], "message")
    text, made = message.get("content"), message.get("tool_calls")
    calls = chat.plain_calls(message) if made else ()
    if calls is None or not (text or calls) or not (text is None or _is_plain(text)):
        return None
    model, name = own.get("model"), own.get("id")
    if reason.__class__ is model.__class__ is name.__class__ is str and not _more(own, COMPLETION):
        counted, source = snapshot(own.get("usage")), SourceMessage("assistant", text or "", calls)
        return Answer((source,), model, finish_reason=reason, response_id=name, unread=counted, read=counts)
    return None


def _only(choices: Any, holder: str) -> tuple[dict[str, Any], Any]:
    """Return the message of an only choice, and the reason why it has ended; an empty one if there is more to read."""
    if choices.__class__ is list and len(choices) == 1:
        choice = fields(choices[0])
        message = fields(choice.get(holder))
        plain = not (choice.get("index") or choice.get("logprobs"))
        if plain and not _more(message, SPOKEN) and not _more(choice, CHOICE):
            return message, choice.get("finish_reason")
    return {}, None


def _is_plain(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= BLOB_LENGTH


def _more(own: dict[str, Any], known: frozenset[str]) -> bool:
    """Report whether there is anything beside the known fields."""
    for name, value in own.items():  # noqa: SIM110 - `any` costs four times as much, for every chunk
        if value and name not in known:
            return True
    return False


def _plain(own: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in own.items() if name not in COPIES and not name.startswith("_")}


def marked(found: Answer, facts: Mapping[str, Any]) -> Answer:
    """Add facts of the call to an answer's metadata."""
    if facts:
        found.metadata = merged(dict(facts), found.metadata) if found.metadata else dict(facts)
    return found


def without_usage(found: Answer) -> Answer:
    """Remove an answer's usage: no provider has reported it for this call."""
    found.usage = found.usage_details = found.read = found.unread = None
    return found


def scope(parameters: Mapping[str, Any], metadata: Mapping[str, Any]) -> Scope | None:
    """Read the session that the app has named, in the parameters of a call or in their metadata.

    An id of a trace may be one that litellm's router has made up for one call and its retries.
    """
    named = parameters.get("litellm_session_id") or metadata.get("session_id")
    traced = parameters.get("litellm_trace_id") or metadata.get("trace_id")
    if not named and not traced:
        return None
    session, trace = string(named), string(traced)
    chosen = session or trace
    return Scope(chosen, invented=chosen == trace and len(trace or "") == LENGTH_OF_UUID) if chosen else None


def facts(metadata: Mapping[str, Any], provider: Any) -> dict[str, Any]:
    """Read what litellm knows of the call beside its messages: the provider, and the router's group of models."""
    found = {"provider": provider} if provider.__class__ is str and provider else {}
    group = metadata.get("model_group")
    if group and string(group):
        found["modelGroup"] = group
    return found


def own_id(response_id: str | None) -> str | None:
    """Return the provider's id of a response, also where litellm has packed it into one of its own."""
    packed = (response_id or "").removeprefix(MANAGED)
    try:
        text = base64.b64decode(packed, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return response_id
    return text.partition(OWN_ID)[2] or response_id if text.startswith("litellm:") else response_id


DELTA, STREAMED_CHOICE = 5, 4
"""Fields of a chunk that brings a piece of text and nothing else: of its delta, and of its choice."""


class StreamedChat(ChatChunks):
    """The chunks of a stream so far.

    Apps get the usage in the last chunk only if they ask for it, and then perhaps as litellm has estimated it. What the
    provider has reported is in the chunks that litellm keeps.
    """

    def __init__(self, kept: Sequence[Any], finish: Callable[[Answer], Answer]) -> None:
        super().__init__()
        self._kept = kept
        self._finish = finish

    def feed(self, chunk: Any) -> None:
        """Read one chunk, as the app gets it. Nearly all bring a piece of text and nothing else, so those go first.

        In chunks of litellm's own, all fields are extra ones of pydantic's.
        """
        try:
            (choice,) = chunk.__dict__["choices"]
            chosen = choice.__pydantic_extra__
            delta = chosen["delta"]
            own = delta.__pydantic_extra__
            if (
                (text := own["content"]).__class__ is str
                and self.started
                and chosen["finish_reason"] is None
                and own["tool_calls"] is None
                and own["function_call"] is None
                and own["audio"] is None
                and chosen["logprobs"] is None
                and chosen["index"] == 0
                and len(own) == DELTA
                and "role" in own
                and len(chosen) == STREAMED_CHOICE
                and not choice.__dict__
                and len(beside := delta.__dict__) == 1
                and "provider_specific_fields" in beside
            ):
                self._add_text(text)
                return
        except (AttributeError, KeyError, TypeError, ValueError):  # a chunk of another shape
            pass
        self._read(fields(chunk))

    def _read(self, own: dict[str, Any]) -> None:
        message, ended = _only(own.get("choices"), "delta") if self.started else ({}, None)
        text: Any = message.get("content")
        if ended is None and _is_plain(text) and not message.get("tool_calls"):
            self._add_text(text)
            return
        choices = [fields(choice) for choice in items(own.get("choices"))]
        plain = [{**_plain(choice), "delta": _plain(fields(choice.get("delta")))} for choice in choices]
        super().feed({**own, "choices": plain, "usage": None})

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        for reported in filter(None, map(_usage_of, list(self._kept))):
            super().feed({"choices": [], "usage": reported})
        return self._finish(super().answer())


def _usage_of(chunk: Any) -> Any:
    """Return the usage that a chunk reports, as few do; this is done for each when a stream ends."""
    try:
        return (chunk.__pydantic_extra__ or chunk.__dict__).get("usage") or chunk.__dict__.get("usage")
    except AttributeError:  # a dict
        return fields(chunk).get("usage")


class StreamedResponse(ResponseEvents):
    """The events of a stream of the Responses API so far."""

    def __init__(self, finish: Callable[[Answer], Answer]) -> None:
        super().__init__()
        self._finish = finish

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        found = super().answer()
        found.response_id = own_id(found.response_id)
        return self._finish(found)


class StreamedMessage(BodyPieces):
    """The bytes of a stream in Anthropic's format so far."""

    def __init__(self, finish: Callable[[Answer], Answer]) -> None:
        super().__init__(anthropic.answer, MessageEvents)
        self._finish = finish

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        return self._finish(super().answer())


def pieces(stream: Any, finish: Callable[[Answer], Answer]) -> Pieces:
    """Return what puts the chunks of a stream together; `finish` completes the answer."""
    kept = fields(stream).get("chunks")
    return StreamedResponse(finish) if kept is None else StreamedChat(kept, finish)
