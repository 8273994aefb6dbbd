"""Chat Completions, read: requests as JSON, answers as SDK objects or JSON. Pure, and nothing of the SDK is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.turn import Answer, Attachment, Dialect, Request, SourceMessage, SourceToolCall
from converra.integrations.payload.extras import merged, screened, unread
from converra.integrations.payload.fields import ANSWERING, BARE, BLOB_LENGTH, fields, fingerprint, items, plain, string
from converra.integrations.payload.media import beside as media_beside
from converra.integrations.payload.media import embeds, encodings, placeholder, taken_out
from converra.integrations.payload.parts import Content, content, text_extras, unknown
from converra.integrations.payload.tool_calls import TOOL_CALL, meant, unnamed
from converra.integrations.payload.usage import counts, logprobs_summary, snapshot, token_logprobs, usage, usage_details
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROLES = {"developer": "system", "function": "tool"}
"""Roles whose API name is another; all others are kept as they are."""

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where compatible providers put what a model thought, beside its text."""


COMPLETION = frozenset(
    {
        *("id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint", "error"),
        *("metadata", "obfuscation", "p", "x_groq"),  # the request's own; padding; an id and the usage
    }
)
CHOICE = frozenset({"index", "message", "delta", "text", "finish_reason", "logprobs", "error"})
MESSAGE = frozenset(
    {
        *("role", "content", "refusal", "tool_calls", "function_call", "audio", "annotations", "parsed"),
        *("reasoning_content", "reasoning", "reasoning_details"),
    }
)
"""Fields of each level of an answer that are read, or left out on purpose. All others are kept in metadata."""


def request(body: dict[str, Any]) -> Request:
    """Read the body of a call to `/chat/completions`."""
    messages, model = body.get("messages"), body.get("model")
    tools = (body.get("tools") or body.get("functions")) if len(body) > BARE else None
    return Request(
        CHAT,
        messages if messages.__class__ is list else items(messages),
        None,
        model if model.__class__ is str else string(model),
        None,
        items(tools) if tools else (),
    )


def read(message: Any) -> tuple[SourceMessage, ...]:
    """Read one message of a request; most have a role and a text, and nothing else."""
    own = message if message.__class__ is dict else fields(message)
    role, text = own.get("role"), own.get("content")
    if text.__class__ is str and role.__class__ is str:
        if len(own) == BARE and not (len(text) > BLOB_LENGTH and role == "assistant"):
            return (SourceMessage(ROLES.get(role, role), text),)
        call_id = own.get("tool_call_id")
        if len(own) == ANSWERING and role == "tool" and call_id.__class__ is str:
            return (SourceMessage("tool", text, (), call_id),)
    role = string(role)
    if role == "assistant":
        return (assistant(own),)
    if role is None:
        return ()
    found = content(own.get("content"))
    if role in ("tool", "function"):
        call_id, name = identifier(own.get("tool_call_id")), string(own.get("name"))
        return (SourceMessage("tool", found.text, (), call_id, name, found.attachments),)
    metadata = {"name": own["name"]} if string(own.get("name")) else None
    return (SourceMessage(ROLES.get(role, role), found.text, (), None, None, found.attachments, metadata),)


def echo(source: SourceMessage) -> dict[str, Any]:
    """Build an answer as most apps resend it, as far as fingerprints read it."""
    if not source.calls:
        return {"role": "assistant", "content": source.text}
    calls = [{"id": c.id, "function": {"name": c.name, "arguments": c.arguments}} for c in source.calls]
    return {"role": "assistant", "content": source.text or None, "tool_calls": calls}


CHAT = Dialect("openai.chat", fingerprint, read, echo)


def assistant(own: dict[str, Any]) -> SourceMessage:
    """Read an assistant message, of an answer or resent; most have text or calls, and nothing else."""
    text: Any = own.get("content")
    calls = plain_calls(own) if own.get("tool_calls") or own.get("function_call") else ()
    if (
        calls is not None
        and not (
            own.get("refusal")
            or own.get("annotations")
            or own.get("reasoning_content")
            or own.get("reasoning")
            or own.get("audio")
            or own.get("reasoning_details")
        )
        and (text is None or isinstance(text, str))
        and own.keys() <= MESSAGE
        and not embeds(text)
    ):
        return SourceMessage("assistant", text or "", calls)
    return _assistant(own, tuple(_calls(own)) if calls is None else calls)


def _assistant(own: dict[str, Any], made: tuple[SourceToolCall, ...]) -> SourceMessage:
    found, calls = content(own.get("content"), ""), meant(made)
    beside = tuple(media_beside(own, MESSAGE))
    words, embedded = taken_out(found.text) if embeds(found.text) else (found.text, ())
    text = "\n".join(filter(None, (words, *map(placeholder, beside))))
    attachments = (*found.attachments, *embedded, *beside)
    refusal = string(own.get("refusal"))
    if refusal:
        text = f"{text}\n{refusal}" if text else refusal
    audio = fields(own.get("audio"))
    if audio:
        text = text or string(audio.get("transcript")) or ""
        if string(audio.get("data")):
            attachments = (*attachments, Attachment("audio", None, audio["data"]))
    extras = {**unread(own, MESSAGE, encodings(beside)), **text_extras(items(own.get("content")))}
    metadata = merged({**dict(_extras(own, found)), **unnamed(made)}, extras)
    return SourceMessage("assistant", text, calls, None, None, attachments, metadata or None)


def _extras(own: dict[str, Any], found: Content) -> Iterator[tuple[str, Any]]:
    if found.refusal or string(own.get("refusal")):
        yield "refusal", True
    audio = fields(own.get("audio"))
    if audio:
        yield "audio", {key: audio[key] for key in ("id", "expires_at") if audio.get(key) is not None} or True
    thoughts = [*found.reasoning, *(text for name in REASONING_FIELDS if (text := string(own.get(name))))]
    thoughts = thoughts or list(filter(None, [detailed(own)]))
    if thoughts:
        yield "reasoning", "\n".join(dict.fromkeys(thoughts))
    if own.get("annotations"):
        yield "annotations", screened(own["annotations"])
    strange = unknown(own.get("content"))
    if strange:
        yield "parts", strange
    signed = dict(_call_extras(own))
    if signed:
        yield "calls", signed


def detailed(own: dict[str, Any]) -> str:
    """Join the reasoning that stands in `reasoning_details` alone (OpenRouter); encrypted parts stay unread."""
    details = map(fields, items(own.get("reasoning_details")))
    return "".join(string(one.get("text")) or string(one.get("summary")) or "" for one in details)


def _call_extras(own: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the unread fields of tool calls, by the id of the call."""
    for number, item in enumerate(items(own.get("tool_calls"))):
        made = fields(item)
        extras = unread(made, TOOL_CALL)
        if extras:
            yield identifier(made.get("id")) or str(number), extras


def plain_calls(own: dict[str, Any]) -> tuple[SourceToolCall, ...] | None:
    """Read the calls if all are of functions, with strings for all fields and none unread, as most are; else None."""
    try:
        calls = []
        if not own.get("function_call"):
            for item in own["tool_calls"]:
                if item.__class__ is dict:
                    made, extra = item, not item.keys() <= TOOL_CALL
                else:
                    made, extra = item.__dict__, item.__pydantic_extra__
                    if not made:  # one of litellm's, all of whose fields are extra ones
                        made, extra = extra, not extra.keys() <= TOOL_CALL
                called = made["function"]
                if called.__class__ is not dict:
                    called = called.__dict__
                name, call_id, arguments = called["name"], made["id"], called["arguments"]
                if extra or not (name and name.__class__ is call_id.__class__ is arguments.__class__ is str):
                    break
                calls.append(SourceToolCall(call_id, name, arguments))
            else:
                return tuple(calls)
    except (AttributeError, KeyError, TypeError):  # of a custom tool, or of an odd shape
        pass
    return None


def _calls(own: dict[str, Any]) -> Iterator[SourceToolCall]:
    for tool_call in items(own.get("tool_calls")):
        yield call(fields(tool_call))
    function = fields(own.get("function_call"))
    if function:
        yield SourceToolCall(None, string(function.get("name")), _arguments(function.get("arguments")))


def call(own: dict[str, Any]) -> SourceToolCall:
    """Read a tool call: of a function, or of a custom tool with plain text for input."""
    called = fields(own.get("function")) or fields(own.get("custom"))
    arguments = called["arguments"] if "arguments" in called else called.get("input")
    return SourceToolCall(identifier(own.get("id")), string(called.get("name")), _arguments(arguments))


def _arguments(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else plain(value)


def answer(completion: Any) -> Answer:
    """Read a whole answer. An error inside a success status, or a lack of choices, goes to its metadata.

    Most are SDK objects with one choice, of text and calls: they have a way of their own, at a third of the price. An
    attribute of a pydantic object costs three times a key of its `__dict__`.
    """
    try:
        own = completion.__dict__
        (choice,) = own["choices"]
        chosen = choice.__dict__
        message = chosen["message"]
        held = message.__dict__
        calls = plain_calls(held) if held["tool_calls"] else ()
        text, reason, model, name = held["content"], chosen["finish_reason"], own["model"], own["id"]
        if (
            calls is not None
            and (text is None or text.__class__ is str)
            and not (text and len(text) > BLOB_LENGTH and embeds(text))
            and held["refusal"] is None
            and held["function_call"] is None
            and held["audio"] is None
            and not held["annotations"]
            and not message.__pydantic_extra__
            and not choice.__pydantic_extra__
            and not completion.__pydantic_extra__
            and own.get("moderation") is None
            and chosen["logprobs"] is None
            and model
            and reason.__class__ is model.__class__ is name.__class__ is str
        ):
            source = SourceMessage("assistant", text or "", calls)
            counted = snapshot(own["usage"])
            return Answer((source,), model, finish_reason=reason, response_id=name, unread=counted, read=counts)
    except (AttributeError, KeyError, TypeError, ValueError):  # a dict, an odd shape, no choice or several
        pass
    return any_answer(completion)


def any_answer(completion: Any) -> Answer:
    """Read an answer of any shape."""
    own = fields(completion)
    choices = _choices(own)
    first = choices[0] if choices else {}
    reported = own.get("usage") or groq_usage(own)
    source: tuple[SourceMessage, ...] = (assistant(fields(first["message"])),) if first else ()
    if not source and reported:  # without words, but not for free
        source = (SourceMessage("assistant"),)
    return Answer(
        messages=source,
        model=string(own.get("model")) or None,
        usage=usage(reported),
        usage_details=usage_details(reported),
        finish_reason=string(first.get("finish_reason")),
        alternatives=tuple([alternative(c, assistant(fields(c["message"]))) for c in choices[1:]]),
        response_id=identifier(own.get("id")),
        metadata=_facts(own, first) if first else {"error": error_record(completion)},
    )


def _facts(own: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any] | None:
    return metadata(own, choice, token_logprobs(choice.get("logprobs")))


def metadata(own: dict[str, Any], choice: dict[str, Any], logprobs: Sequence[float]) -> dict[str, Any] | None:
    """Collect the facts of no single message: log probabilities, an error beside the text, unread fields."""
    facts = confidence(logprobs) or {}
    failed = next((one for one in (choice, own) if one.get("error")), None)
    if failed is not None:
        facts["error"] = error_record(failed)
    return merged(facts, {**unread(own, COMPLETION), **unread(choice, CHOICE)}) or None


def groq_usage(own: dict[str, Any]) -> Any:
    """Return the usage of a Groq stream: in a field of its own, in the last chunk."""
    return fields(own.get("x_groq")).get("usage")


def confidence(numbers: Sequence[float]) -> dict[str, Any] | None:
    """Return the metadata that log probabilities make, if they were asked for."""
    return {"logprobs": logprobs_summary(numbers)} if numbers else None


def _choices(own: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the choices with a message, the one with the lowest index first."""
    found = [choice for item in items(own.get("choices")) if "message" in (choice := fields(item))]
    if len(found) > 1:
        found.sort(key=_index)
    return found


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def alternative(choice: dict[str, Any], source: SourceMessage) -> dict[str, Any]:
    """Describe a second choice (n > 1), as `metadata.alternatives` lists it."""
    record: dict[str, Any] = {"index": choice.get("index"), "content": source.text}
    if source.calls:
        record["toolCalls"] = [msgspec.structs.asdict(called) for called in source.calls]
    record["finishReason"] = string(choice.get("finish_reason"))
    record["attachments"] = source.attachments or None  # described with those of the message
    record["metadata"] = merged(source.metadata, unread(choice, CHOICE)) or None
    return {key: value for key, value in record.items() if value is not None}


def error_record(body: Any) -> dict[str, Any]:
    """`metadata.error` of a success status without an answer: the error's type or code, never its words."""
    error = fields(fields(body).get("error"))
    kind = next((kind for name in ("type", "code") if (kind := string(error.get(name)))), None)
    code = error.get("code")
    return {"type": kind or (str(code) if type(code) is int else "NoAnswer")}


def completions_request(body: dict[str, Any]) -> Request:
    """Read the body of a call to `/completions`: one prompt or several; prompts of token ids are skipped."""
    prompt = body.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else [text for text in items(prompt) if isinstance(text, str)]
    messages = [{"role": "user", "content": text} for text in prompts]
    return Request(dialect=CHAT, messages=messages, model=string(body.get("model")))


def completions_answer(completion: Any) -> Answer:
    """Read a whole legacy completion; its choices hold a text where a chat's hold a message."""
    return answer(as_chat(completion, "message"))


def as_chat(completion: Any, name: str) -> dict[str, Any]:
    """Read a legacy completion, or a chunk of one, as a chat's: its text becomes the choice's `name`."""
    own = dict(fields(completion))
    choices = (fields(choice) for choice in items(own.get("choices")))
    own["choices"] = [{**choice, name: {"content": choice.get("text")}} for choice in choices]
    return own
