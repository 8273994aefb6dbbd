"""The Responses API: a request read, and a reply written whole or as its sequence of events."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from converra.server.model.script import Asked, Tool, Turn, tokens
from converra.server.model.wire import ModelError, fragments, model_name, pieces, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.server.model.script import Reply, Use
    from converra.server.model.wire import Stamps

_REMEMBERED = 1000

_STREAMED_CALLS = {
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
}


class Memory:
    """The responses of one server, so that a later request can name one. The oldest are forgotten."""

    def __init__(self) -> None:
        self._stored: OrderedDict[str, tuple[list[Turn], dict[str, Any]]] = OrderedDict()
        self._queued: dict[str, dict[str, Any]] = {}

    def keep(self, turns: list[Turn], response: dict[str, Any], *, queued: bool = False) -> None:
        """Remember a response with all that was said up to it."""
        said = [Turn("assistant", text_of(item.get("content"))) for item in response["output"]]
        self._stored[response["id"]] = ([*turns, *said], response)
        if response.get("conversation"):
            self._stored[response["conversation"]["id"]] = self._stored[response["id"]]
        if queued:
            self._queued[response["id"]] = {**response, "status": "in_progress", "output": [], "usage": None}
        while len(self._stored) > _REMEMBERED:
            self._queued.pop(self._stored.popitem(last=False)[0], None)

    def turns(self, response_id: str) -> list[Turn] | None:
        """Return the messages up to a response or in a conversation; None if it is unknown."""
        return self._stored[response_id][0] if response_id in self._stored else None

    def retrieve(self, response_id: str) -> dict[str, Any] | None:
        """A response; one of the background is in progress at the first look, and done at the second."""
        if response_id in self._queued:
            return self._queued.pop(response_id)
        return self._stored[response_id][1] if response_id in self._stored else None


def read(body: Mapping[str, Any], memory: Memory) -> Asked:
    """The request in neutral terms; ModelError for what OpenAI would refuse."""
    if not isinstance(body.get("model"), str):
        raise ModelError(400, "Missing required parameter: 'model'.", code="missing_required_parameter", param="model")
    return Asked(
        turns=[*_instructions(body), *_history(body, memory), *_input(body.get("input"))],
        tools=[_tool(each) for each in body.get("tools") or () if each.get("type") == "function"],
        forced=_forced(body.get("tool_choice")),
        json_schema=_json_schema(body.get("text")),
        limit=body.get("max_output_tokens"),
    )


def _instructions(body: Mapping[str, Any]) -> list[Turn]:
    return [Turn("system", text_of(body["instructions"]))] if body.get("instructions") else []


def _history(body: Mapping[str, Any], memory: Memory) -> list[Turn]:
    previous = body.get("previous_response_id")
    if previous is not None:
        turns = memory.turns(previous)
        if turns is None:
            message = f"Previous response with id '{previous}' not found."
            raise ModelError(400, message, code="previous_response_not_found", param="previous_response_id")
        return turns
    conversation = conversation_id(body)
    return (memory.turns(conversation) or []) if conversation else []


def conversation_id(body: Mapping[str, Any]) -> str | None:
    """The id of the conversation that a request names, as a string or as an object."""
    conversation = body.get("conversation")
    return conversation.get("id") if isinstance(conversation, dict) else conversation


def _input(given: Any) -> list[Turn]:
    if isinstance(given, str):
        return [Turn("user", given)]
    return [_turn(item) for item in given or () if isinstance(item, dict)]


def _turn(item: Mapping[str, Any]) -> Turn:
    kind = item.get("type", "message")
    if kind.endswith("_output"):
        output = item.get("output")
        return Turn("tool", output if isinstance(output, str) else text_of(output))
    if kind == "message":
        role = item.get("role", "user")
        return Turn("system" if role == "developer" else role, text_of(item.get("content")))
    return Turn("assistant", "")


def _tool(given: Mapping[str, Any]) -> Tool:
    return Tool(given["name"], given.get("description") or "", given.get("parameters") or {})


def _forced(choice: Any) -> str | None:
    if isinstance(choice, dict):
        return choice.get("name")
    return choice if choice in ("none", "required") else None


def _json_schema(text: Any) -> dict[str, Any] | None:
    wanted = (text or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        return dict(wanted.get("schema") or {"type": "object"})
    return {"properties": {"answer": {"type": "string"}}} if wanted.get("type") == "json_object" else None


class ResponseOf:
    """One reply in the format of the Responses API."""

    def __init__(self, body: Mapping[str, Any], answer: Reply, stamps: Stamps) -> None:
        self._answer = answer
        self._items = list(_items(answer, stamps))
        self._head = _head(body, answer, stamps)
        self._sequence = 0

    def whole(self) -> dict[str, Any]:
        """The response, finished."""
        cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(self._answer.finish)
        state = {"status": "incomplete", "incomplete_details": {"reason": cut}} if cut else {"status": "completed"}
        return {**self._head, **state, "output": self._items, "usage": self._usage()}

    def unfinished(self, status: str) -> dict[str, Any]:
        """The response before it has any output: `in_progress` or `queued`."""
        return {**self._head, "status": status}

    def failed(self) -> dict[str, Any]:
        """The last event of a response that broke off."""
        error = {"code": "server_error", "message": "The stand-in was asked to fail."}
        return self._event("response.failed", response={**self._head, "status": "failed", "error": error})

    def events(self) -> Iterator[dict[str, Any]]:
        """The events of a stream, numbered."""
        yield self._event("response.created", response=self.unfinished("in_progress"))
        yield self._event("response.in_progress", response=self.unfinished("in_progress"))
        for index, item in enumerate(self._items):
            yield from self._item(index, item)
        whole = self.whole()
        yield self._event(f"response.{whole['status']}", response=whole)

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event

    def _item(self, index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        opened = item | _blank(item)
        yield self._event("response.output_item.added", output_index=index, item=opened)
        where = {"item_id": item.get("id"), "output_index": index}
        parts = {"message": self._message, "reasoning": self._reasoning}.get(item["type"], self._call)
        yield from parts(where, item)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _message(self, where: dict[str, Any], item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for index, part in enumerate(item["content"]):
            at = where | {"content_index": index}
            kind, field = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
            extra: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
            yield self._event("response.content_part.added", **at, part={**part, field: ""})
            for piece in pieces(part[field]):
                yield self._event(f"response.{kind}.delta", **at, delta=piece, **extra)
            yield self._event(f"response.{kind}.done", **at, **{field: part[field]}, **extra)
            yield self._event("response.content_part.done", **at, part=part)

    def _reasoning(self, where: dict[str, Any], item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for index, part in enumerate(item["summary"]):
            at = where | {"summary_index": index}
            yield self._event("response.reasoning_summary_part.added", **at, part={**part, "text": ""})
            for piece in pieces(part["text"]):
                yield self._event("response.reasoning_summary_text.delta", **at, delta=piece)
            yield self._event("response.reasoning_summary_text.done", **at, text=part["text"])
            yield self._event("response.reasoning_summary_part.done", **at, part=part)

    def _call(self, where: dict[str, Any], item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if item["type"] not in _STREAMED_CALLS:
            return
        kind, field = _STREAMED_CALLS[item["type"]]
        for piece in fragments(item[field]):
            yield self._event(f"response.{kind}.delta", **where, delta=piece)
        name = {"name": item["name"]} if kind == "function_call_arguments" else {}
        yield self._event(f"response.{kind}.done", **where, **name, **{field: item[field]})

    def _usage(self) -> dict[str, Any] | None:
        asked = self._answer.directives.get("usage")
        if asked and asked.argument == "none":
            return None
        prompt, completion = self._answer.prompt_tokens, self._answer.completion_tokens
        counted = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": tokens(self._answer.reasoning or "")},
            "total_tokens": prompt + completion,
        }
        return counted | (asked.json() if asked else {})


def _head(body: Mapping[str, Any], answer: Reply, stamps: Stamps) -> dict[str, Any]:
    echoed = ("instructions", "max_output_tokens", "previous_response_id", "temperature", "top_p", "user")
    conversation = conversation_id(body)
    return {
        "id": stamps.id("resp_"),
        "object": "response",
        "created_at": stamps.now(),
        "error": None,
        "incomplete_details": None,
        "model": model_name(body, answer),
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "text": body.get("text") or {"format": {"type": "text"}},
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "metadata": body.get("metadata") or {},
        "background": bool(body.get("background")),
        "conversation": {"id": conversation} if conversation else None,
        "store": body.get("store", True),
        "truncation": "disabled",
        "service_tier": "default",
        "usage": None,
        **{name: body.get(name) for name in echoed},
    }


def _items(answer: Reply, stamps: Stamps) -> Iterator[dict[str, Any]]:
    if answer.reasoning is not None:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        yield {"id": stamps.id("rs_"), "type": "reasoning", "summary": summary}
    yield from (directive.json() for directive in answer.directives.all("item") if "type" in directive.json())
    status = "completed" if answer.finish == "stop" else "incomplete"
    if answer.text or answer.refusal is not None or not answer.uses:
        content = [_part(answer)] if answer.text or answer.refusal is not None else []
        yield {"id": stamps.id("msg_"), "type": "message", "role": "assistant", "status": status, "content": content}
    yield from (_tool_call(use, stamps) for use in answer.uses)


def _part(answer: Reply) -> dict[str, Any]:
    if answer.refusal is not None:
        return {"type": "refusal", "refusal": answer.refusal}
    cited = {"type": "url_citation", "url": "https://example.com/", "title": "Example"}
    span = {"start_index": 0, "end_index": len(answer.text)}
    annotations = [cited | span] if answer.directives.get("citation") else []
    return {"type": "output_text", "text": answer.text, "annotations": annotations, "logprobs": []}


def _tool_call(use: Use, stamps: Stamps) -> dict[str, Any]:
    ids = {"id": stamps.id("ctc_" if use.kind == "custom" else "fc_"), "call_id": stamps.id("call_")}
    if use.kind == "custom":
        return {**ids, "type": "custom_tool_call", "name": use.name, "input": use.arguments}
    return {**ids, "type": "function_call", "status": "completed", "name": use.name, "arguments": use.arguments}


def _blank(item: dict[str, Any]) -> dict[str, Any]:
    """Fields of an item that are still empty when it is announced."""
    blanks = {"status": "in_progress", "content": [], "summary": [], "arguments": "", "input": ""}
    return {name: blank for name, blank in blanks.items() if name in item}
