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
TEXT = COPIES | {"role", "content"}
"""Fields of each level of an answer that is a text and nothing else."""

IN_ANOTHER_FORMAT = CHATS - {"completion", "acompletion", "text_completion", "atext_completion"}

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
    return _chat(asked, asked.messages)


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
    if messages.__class__ is list and {*map(type, messages)} - {dict}:
        messages = [message if message.__class__ is dict else _as_sent(fields(message)) for message in messages]
    tools = {name: asked.settings[name] for name in ("tools", "functions") if name in asked.settings}
    return chat.request({"messages": messages, "model": asked.model, **tools})


def _as_sent(own: dict[str, Any]) -> dict[str, Any]:
    """Return a message that litellm has made, and the app hands back, as the one that it is sent as."""
    found = {"role": own.get("role"), "content": own.get("content")}
    found |= {name: value for name, value in own.items() if value and name not in COPIES and name not in found}
    made = found.get("tool_calls")
    if made:
        found["tool_calls"] = [{**call, "function": fields(call.get("function"))} for call in map(fields, items(made))]
    return found


def answer(result: Any) -> Answer:
    """Read a whole answer."""
    own = fields(result)
    if "choices" in own:
        return _text_answer(own) or _chat_answer(own)
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


def _text_answer(own: dict[str, Any]) -> Answer | None:
    """Read an answer with one choice that is a text and nothing else, as most are, at a quarter of the price."""
    choices = own["choices"]
    text, reason = _text_of(choices, "message")
    model, name = own.get("model"), own.get("id")
    if text and reason.__class__ is model.__class__ is name.__class__ is str and not _more(own, COMPLETION):
        counted, source = snapshot(own.get("usage")), SourceMessage("assistant", text)
        return Answer((source,), model, finish_reason=reason, response_id=name, unread=counted, read=counts)
    return None


def _text_of(choices: Any, holder: str) -> tuple[str | None, Any]:
    """Return the text of an only choice, if that is all that is recorded of it, and the reason why it has ended."""
    if choices.__class__ is not list or len(choices) != 1:
        return None, None
    choice = fields(choices[0])
    message = fields(choice.get(holder))
    text = message.get("content")
    if not isinstance(text, str) or len(text) > BLOB_LENGTH or choice.get("index") or choice.get("logprobs"):
        return None, None
    if _more(message, TEXT) or _more(choice, CHOICE):
        return None, None
    return text, choice.get("finish_reason")


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
    found.metadata = merged(dict(facts), found.metadata or {}) or None
    return found


def without_usage(found: Answer) -> Answer:
    """Remove an answer's usage: no provider has reported it for this call."""
    found.usage = found.usage_details = found.read = found.unread = None
    return found


def scope(parameters: Mapping[str, Any]) -> Scope | None:
    """Read the session that the app has named.

    An id of a trace may be one that litellm's router has made up for one call and its retries.
    """
    metadata = fields(parameters.get("metadata"))
    session = string(parameters.get("litellm_session_id")) or string(metadata.get("session_id"))
    traced = string(parameters.get("litellm_trace_id")) or string(metadata.get("trace_id"))
    if not session and not traced:
        return None
    chosen = session or traced
    return Scope(chosen, invented=chosen == traced and len(traced or "") == LENGTH_OF_UUID)


def facts(parameters: Mapping[str, Any], provider: Any) -> dict[str, Any]:
    """Read what litellm knows of the call beside its messages: the provider, and the router's group of models."""
    group = string(fields(parameters.get("metadata")).get("model_group"))
    named = {"provider": string(provider), "modelGroup": group}
    return {name: value for name, value in named.items() if value}


def own_id(response_id: str | None) -> str | None:
    """Return the provider's id of a response, also where litellm has packed it into one of its own."""
    packed = (response_id or "").removeprefix(MANAGED)
    try:
        text = base64.b64decode(packed, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return response_id
    return text.partition(OWN_ID)[2] or response_id if text.startswith("litellm:") else response_id


def _text_alone(chunk: Any) -> str | None:
    """Return the text of a chunk that brings nothing else, at a third of the price; litellm's fields are all extra."""
    try:
        (choice,) = chunk.__dict__["choices"]
        held = choice.__pydantic_extra__
        delta = held["delta"]
        brought = delta.__pydantic_extra__
        text = brought["content"]
        said = len([*filter(None, brought.values())]) - bool(brought.get("role"))
        alone = said == 1 == len([*filter(None, held.values())]) and not choice.__dict__ and text.__class__ is str
        return text if alone and delta.__dict__.keys() <= COPIES else None
    except (AttributeError, KeyError, TypeError, ValueError):  # a chunk of another shape
        return None


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
        """Read one chunk, as the app gets it. Nearly all bring a piece of text and nothing else."""
        if self.started and (text := _text_alone(chunk)):
            self._add_text(text)
            return
        own = fields(chunk)
        text, ended = _text_of(own.get("choices"), "delta") if self.started else (None, None)
        if text is not None and ended is None:
            self._add_text(text)
            return
        choices = [fields(choice) for choice in items(own.get("choices"))]
        plain = [{**_plain(choice), "delta": _plain(fields(choice.get("delta")))} for choice in choices]
        super().feed({**own, "choices": plain, "usage": None})

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        for chunk in list(self._kept):
            reported = fields(chunk).get("usage")
            if reported is not None:
                super().feed({"choices": [], "usage": reported})
        return self._finish(super().answer())


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
