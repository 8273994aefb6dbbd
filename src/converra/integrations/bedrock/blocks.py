"""Content blocks of Converse, as blocks of the Messages API, whose readers then read them. Pure.

A block of Converse is an object with one field, which names its kind: `{"text": …}`, `{"toolUse": {…}}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.payload.fields import as_json, fields, items, string

if TYPE_CHECKING:
    from collections.abc import Callable

Block = dict[str, Any]

CACHE_POINT = "cachePoint"
MODEL = "assistant"


def blocks(content: Any, role: str = "user") -> list[Block]:
    """Return the blocks of a message; a cache point is none."""
    found = (block(fields(each), role) for each in items(content))
    return [each for each in found if each is not None]


def block(own: dict[str, Any], role: str = "user") -> Block | None:
    """Return one block; of an unknown kind, its fields as they are."""
    kind, value = next(iter(own.items()), ("part", None))
    if kind == CACHE_POINT:
        return None
    if kind == "toolResult" and role == MODEL:
        return hosted_result(fields(value))
    reader = _KINDS.get(kind)
    return {"type": kind, kind: value} if reader is None else reader(value)


def texts(system: Any) -> str | None:
    """Return the system text: a line for each block."""
    if system.__class__ is list and len(system) == 1 and (only := fields(system[0])).keys() == {"text"}:
        return string(only["text"]) or None
    lines = (string(each.get("text")) for each in blocks(system))
    return "\n".join(filter(None, lines)) or None


def hosted_result(own: dict[str, Any]) -> Block:
    """Return the result of a tool that the provider ran itself."""
    name = (string(own.get("type")) or "server").removesuffix("_result").removesuffix("_tool")
    return {**_tool_result(own), "type": f"{name}_tool_result"}


def cited(own: dict[str, Any]) -> dict[str, Any]:
    """Return a citation; the text that it quotes stays in it."""
    return {name: value for name, value in own.items() if value}


def _text(value: Any) -> Block:
    return {"type": "text", "text": string(value) or ""}


def _tool_use(value: Any) -> Block:
    own = fields(value)
    known = {"toolUseId", "name", "input", "type"}
    beside = {name: own[name] for name in own if name not in known}
    kind = string(own.get("type")) or "tool_use"
    return {"type": kind, "id": own.get("toolUseId"), "name": own.get("name"), "input": own.get("input"), **beside}


def _tool_result(value: Any) -> Block:
    own = fields(value)
    return {
        "type": "tool_result",
        "tool_use_id": own.get("toolUseId"),
        "content": blocks(own.get("content")),
        "is_error": own.get("status") == "error",
    }


def _json(value: Any) -> Block:
    return _text(as_json(value))


def _reasoning(value: Any) -> Block:
    own = fields(value)
    if "redactedContent" in own:
        return {"type": "redacted_thinking"}
    return {"type": "thinking", "thinking": fields(own.get("reasoningText")).get("text")}


def _citations(value: Any) -> Block:
    own = fields(value)
    said = "".join(string(fields(each).get("text")) or "" for each in items(own.get("content")))
    return {**_text(said), "citations": [cited(fields(each)) for each in items(own.get("citations"))]}


def _guarded(value: Any) -> Block:
    own = fields(value)
    return {"type": "image", "image": own["image"]} if "image" in own else _text(fields(own.get("text")).get("text"))


def _document(value: Any) -> Block:
    own = fields(value)
    source = fields(own.get("source"))
    if "text" in source:
        source = {"type": "text", "data": source["text"]}
    elif "content" in source:
        source = {"type": "content", "content": blocks(source["content"])}
    return {"type": "document", "title": own.get("name"), "format": own.get("format"), "source": source}


def _search_result(value: Any) -> Block:
    own = fields(value)
    return {
        "type": "search_result",
        **own,
        "content": [_text(fields(each).get("text")) for each in items(own.get("content"))],
    }


_KINDS: dict[str, Callable[[Any], Block]] = {
    "text": _text,
    "toolUse": _tool_use,
    "toolResult": _tool_result,
    "json": _json,
    "reasoningContent": _reasoning,
    "citationsContent": _citations,
    "guardContent": _guarded,
    "document": _document,
    "searchResult": _search_result,
}
