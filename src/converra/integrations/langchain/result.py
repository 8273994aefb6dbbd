"""Results of LangChain's runs: answers of chat and completion models, tool results, documents. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.turn import Answer, SourceMessage
from converra.integrations.langchain.content import content
from converra.integrations.langchain.messages import READ_BESIDE, answered, read
from converra.integrations.payload import usage as provider_usage
from converra.integrations.payload.extras import merged, unread
from converra.integrations.payload.fields import copied, fields, items, number, string
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.history.turn import Counts
    from converra.integrations.langchain.runs import ToolRun

FINISH_FIELDS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
PLAIN_STOPS = frozenset({"stop", "tool_use", "tool_call", "tool_calls", "end_turn", "unload"})
"""Reasons that say nothing, as providers spell them besides those that the wire knows."""


_DETAIL_NAMES = {("input", "cache_read"): "cachedTokens", ("output", "reasoning"): "reasoningTokens"}
_DETAIL_PREFIXES = {"input": "prompt", "output": "completion"}


def answer(result: Any) -> Answer:
    """Read the answer of one run; without any generation it is empty."""
    generations = items(fields(result).get("generations"))
    found = [fields(generation) for generation in items(generations[0] if generations else None)]
    if not found:
        return Answer()
    first, *others = found
    message = fields(first.get("message"))
    reported = {**fields(fields(result).get("llm_output")), **fields(message.get("response_metadata"))}
    source = _source(first, message)
    cached = _from_cache(message)
    counted = None if cached else _counted(message, reported)
    return Answer(
        messages=source,
        model=string(reported.get("model_name")) or string(reported.get("model")) or string(reported.get("model_id")),
        finish_reason=_finish(first, reported),
        alternatives=tuple(_alternative(n, other) for n, other in enumerate(others, 1)) if others else (),
        response_id=_response_id(message, reported),
        metadata=merged({"cached": True} if cached else None, unread(reported, READ_BESIDE)),
        unread=counted,
        read=None if counted is None else _counts,
    )


def partial(result: Any) -> Answer | None:
    """Read what had arrived when a run failed; None if nothing had."""
    found = answer(result)
    if not any(source.text or source.calls for source in found.messages):
        return None
    found.partial = True
    return found


def piece(token: Any, chunk: Any) -> tuple[str, bool]:
    """Return the text of one piece of a stream, and True if it has neither text nor part of a tool call."""
    text = token if isinstance(token, str) else content(token).text("")
    return text, not (text or fields(fields(chunk).get("message")).get("tool_call_chunks"))


def _source(generation: dict[str, Any], message: dict[str, Any]) -> tuple[SourceMessage, ...]:
    if not message:
        return (SourceMessage("assistant", string(generation.get("text")) or ""),)
    return answered(message)


def _finish(generation: dict[str, Any], reported: dict[str, Any]) -> str | None:
    information = fields(generation.get("generation_info"))
    for source in (information, reported):
        for name in FINISH_FIELDS:
            reason = string(source.get(name))
            if reason:
                return "stop" if reason.lower() in PLAIN_STOPS else reason
    return _incomplete(reported)


def _incomplete(reported: dict[str, Any]) -> str | None:
    """Why a response of OpenAI's Responses API is not whole."""
    if reported.get("status") != "incomplete":
        return None
    return string(fields(reported.get("incomplete_details")).get("reason")) or "incomplete"


def _response_id(message: dict[str, Any], reported: dict[str, Any]) -> str | None:
    """Return the provider's id of the answer, not the one that LangChain derives from the run's."""
    own = identifier(message.get("id"))
    made_up = own is None or own.startswith(("lc_", "run-"))
    return identifier(reported.get("id")) or (None if made_up else own)


def _alternative(index: int, generation: dict[str, Any]) -> dict[str, Any]:
    """Describe a second answer (n > 1), as `metadata.alternatives` lists it."""
    return dict(_alternative_fields(index, generation))


def _alternative_fields(index: int, generation: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    message = fields(generation.get("message"))
    source = _source(generation, message)[-1]
    yield "index", index
    yield "content", source.text
    if source.calls:
        yield "toolCalls", [msgspec.structs.asdict(call) for call in source.calls]
    reason = _finish(generation, fields(message.get("response_metadata")))
    if reason:
        yield "finishReason", reason


def _counted(message: dict[str, Any], reported: dict[str, Any]) -> tuple[Any, Any] | None:
    """Copy the counts of the message, and those in the result's `reported`: a worker reads them."""
    own = provider_usage.any_snapshot(message.get("usage_metadata"))
    counts = provider_usage.any_snapshot(fields(reported.get("token_usage")) or reported.get("usage"))
    return None if own is None and counts is None else (own, counts)


def _counts(counted: tuple[Any, Any]) -> Counts:
    """Read usage and details: those of the message, else those of the result."""
    own, counts = counted
    details = provider_usage.usage_details(counts) or {}
    if own:
        return provider_usage.usage(own), {**details, **dict(_token_details(own))} or None
    return provider_usage.usage(counts), details or None


def _from_cache(message: dict[str, Any]) -> bool:
    """Return True if LangChain's own cache gave the answer, whose tokens were counted before."""
    return fields(message.get("usage_metadata")).get("total_cost") == 0


def _token_details(own: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for side, name in _DETAIL_PREFIXES.items():
        for key, value in fields(own.get(f"{side}_token_details")).items():
            count = number(value)
            if count:
                yield _DETAIL_NAMES.get((side, key)) or name + _camel(key), count


def _camel(name: str) -> str:
    words = "".join(word.capitalize() for word in name.split("_"))
    return words if words.endswith("Tokens") else f"{words}Tokens"


def tool_results(output: Any, tool: ToolRun) -> list[SourceMessage]:
    """Return the answers to the call that a tool ran for, with its latency; none if no model asked for the run."""
    return [
        msgspec.structs.replace(source, latency_ms=tool.milliseconds(), name=source.name or tool.name)
        for message in tool_messages(output)
        for source in read(message)
        if source.call_id is not None and tool.call_id in (None, source.call_id)
    ]


def tool_messages(output: Any) -> Iterator[Any]:
    """Yield the tool messages in the output of a tool or node: a message, a state, a LangGraph Command, a list."""
    own = fields(output)
    if own.get("type") == "tool":
        yield output
        return
    for one in items(output) or items(own.get("messages")):
        yield from tool_messages(one)
    update = None if own else getattr(output, "update", None)  # of a Command, which has slots
    if isinstance(update, dict | list | tuple):
        yield from tool_messages(update)


def documents_metadata(documents: Any) -> list[dict[str, Any]]:
    """Retrieved documents as `metadata.documents` lists them: id, content, and the source's own metadata."""
    found = []
    for document in map(fields, items(documents)):
        record = {
            "id": string(document.get("id")),
            "content": string(document.get("page_content")),
            "metadata": copied(document.get("metadata")),
        }
        found.append({key: value for key, value in record.items() if value})
    return found
