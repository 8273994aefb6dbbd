"""Items of the Responses API, in the input and in the output: messages, calls, results, hosted tools, reasoning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.arguments import is_blank
from converra.history.turn import Attachment, SourceMessage, SourceToolCall
from converra.integrations.openai.chat import ROLES
from converra.integrations.payload.extras import merged, screened, unread
from converra.integrations.payload.fields import as_json, fields, items, plain, string
from converra.integrations.payload.media import beside, embeds, encodings, inside, placeholder, taken_out
from converra.integrations.payload.parts import content, one_text, text_extras, unknown
from converra.integrations.payload.usage import logprobs
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from converra.integrations.payload.parts import Content


ITEM = frozenset({"id", "type", "role", "content", "status", "phase"})
"""Fields of an item that are read, or left out on purpose."""


def read(item: Any) -> tuple[SourceMessage, ...]:
    """Read one item of the input. An item without text, or of an unknown kind, gives no message."""
    own = fields(item)
    return said_by(own) if known(own) else ()


def known(own: dict[str, Any]) -> bool:
    """Return True if `said_by` reads this kind of item, and if a call names what it calls."""
    kind = own.get("type") or "message"
    if kind in NAMED and not own.get("name"):
        return _called(kind, own).calls[0].is_meant
    return kind == "message" or (isinstance(kind, str) and kind in _READERS)


def said_by(own: dict[str, Any]) -> tuple[SourceMessage, ...]:
    """Read an item of a known kind."""
    kind = own.get("type") or "message"
    return _message(own) if kind == "message" else (_READERS[kind](kind, own),)


def thoughts(own: dict[str, Any]) -> str:
    """Return the summary, or else the text, of a reasoning item; encrypted content stays unread."""
    texts = [string(fields(part).get("text")) for part in items(own.get("summary")) or items(own.get("content"))]
    return "\n".join(filter(None, texts))


def _message(own: dict[str, Any]) -> tuple[SourceMessage, ...]:
    role = string(own.get("role"))
    if role is None:
        return ()
    parts = own.get("content")
    text = one_text(parts)
    if text is not None and own.keys() <= ITEM and own.get("phase") != "commentary" and not embeds(text):
        return (SourceMessage(ROLES.get(role, role), text),)  # as nearly all are
    found = content(parts, "" if role == "assistant" else "\n")
    metadata = dict(_extras(own, items(parts))) if parts.__class__ is not str else {}
    if found.refusal:
        metadata["refusal"] = True
    if role == "assistant":
        return (_answered(own, found, metadata),)
    return (SourceMessage(ROLES.get(role, role), found.text, (), None, None, found.attachments, metadata or None),)


def _answered(own: dict[str, Any], found: Content, metadata: dict[str, Any]) -> SourceMessage:
    """Read an assistant message, with the unread fields in it and beside its content."""
    more = tuple(beside(own, ITEM))
    words, embedded = taken_out(found.text) if embeds(found.text) else (found.text, ())
    text = "\n".join(filter(None, (words, *map(placeholder, more))))
    extras = {**unread(own, ITEM, _data(more)), **text_extras(items(own.get("content")))}
    unread_parts = unknown(own.get("content"))
    if unread_parts:
        metadata["parts"] = unread_parts
    whole = merged(metadata, extras)
    return SourceMessage("assistant", text, (), None, None, (*found.attachments, *embedded, *more), whole or None)


def strange(own: dict[str, Any]) -> tuple[Any, SourceMessage | None]:
    """Return an item of an unknown kind as it is, and a message that shows its pictures and files, if any."""
    attached = tuple(inside(own))
    text = "\n".join(map(placeholder, attached))
    source = SourceMessage("assistant", text, (), None, None, attached) if attached else None
    return screened(own, _data(attached)), source


def _data(attached: Sequence[Attachment]) -> set[str]:
    return encodings(attached)


def _extras(own: dict[str, Any], parts: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    annotations: list[Any] = []
    tokens: list[Any] = []
    for part in parts:
        found = fields(part)
        if found.get("annotations"):
            annotations += map(screened, items(found["annotations"]))
        if found.get("logprobs"):
            tokens += items(found["logprobs"])
    if annotations:
        yield "annotations", annotations
    if own.get("phase") == "commentary":  # an interim message; the final answer needs no mark
        yield "phase", "commentary"
    confidence = logprobs(tokens)
    if confidence:
        yield "logprobs", confidence


def _called(kind: str, own: dict[str, Any]) -> SourceMessage:
    """Read a call for the app to carry out. Results refer to `call_id`, not to the item's own id."""
    return SourceMessage("assistant", "", (SourceToolCall(_call_id(own), _tool(kind, own), _arguments(own)),))


def _result(_kind: str, own: dict[str, Any]) -> SourceMessage:
    found = content(_output(own.get("output", own.get("result", own.get("tools")))))
    return SourceMessage("tool", found.text, (), _call_id(own), string(own.get("name")), found.attachments)


def _approval(_kind: str, own: dict[str, Any]) -> SourceMessage:
    """Read the user's decision about a call that had asked for approval."""
    verdict, reason = "approved" if own.get("approve") is True else "denied", string(own.get("reason"))
    text = f"{verdict}: {reason}" if reason else verdict
    return SourceMessage("tool", text, (), identifier(own.get("approval_request_id")), string(own.get("name")))


def _hosted(kind: str, own: dict[str, Any]) -> SourceMessage:
    """Read a call that the provider carried out itself: call and result in one item, which is kept as it is."""
    call = SourceToolCall(_call_id(own), _tool(kind, own), _arguments(own))
    attachments = _pictures(own)
    lines = filter(None, (_hosted_output(own), *map(placeholder, attachments)))
    item = screened(own, _data(attachments))
    return SourceMessage("tool", "\n".join(lines), (call,), call.id, call.name, attachments, {"item": item})


_READERS: dict[str, Callable[[str, dict[str, Any]], SourceMessage]] = {
    "function_call": _called,
    "custom_tool_call": _called,
    "computer_call": _called,
    "local_shell_call": _called,
    "shell_call": _called,
    "apply_patch_call": _called,
    "mcp_approval_request": _called,
    "function_call_output": _result,
    "custom_tool_call_output": _result,
    "computer_call_output": _result,
    "local_shell_call_output": _result,
    "shell_call_output": _result,
    "apply_patch_call_output": _result,
    "tool_search_output": _result,
    "program_output": _result,
    "mcp_approval_response": _approval,
    "web_search_call": _hosted,
    "file_search_call": _hosted,
    "code_interpreter_call": _hosted,
    "image_generation_call": _hosted,
    "mcp_call": _hosted,
    "mcp_list_tools": _hosted,
    "tool_search_call": _hosted,
    "program": _hosted,
    "tool.execution": _hosted,  # of Mistral's conversations, as the one below
    "agent.handoff": _hosted,
}

_ARGUMENT_FIELDS = ("arguments", "input", "action", "operation", "code", "queries", "revised_prompt")


NAMED = ("function_call", "custom_tool_call")
"""Kinds of calls that mean nothing without a name."""


def is_empty_call(own: dict[str, Any]) -> bool:
    """Return True for a call of nothing, which some gateways put beside a text."""
    return own.get("type") in NAMED and not own.get("name") and is_blank(_arguments(own))


def _call_id(own: dict[str, Any]) -> str | None:
    return identifier(own.get("call_id")) or identifier(own.get("id"))


def _tool(kind: str, own: dict[str, Any]) -> str | None:
    return string(own.get("name")) or (None if kind in NAMED else kind.removesuffix("_call"))


def _arguments(own: dict[str, Any]) -> Any:
    """Arguments as the model wrote them; a kind with a field of its own for them gets an object with that name."""
    name = next((name for name in _ARGUMENT_FIELDS if own.get(name) is not None), None)
    if name is None:
        return None
    value = own[name]
    if name in ("arguments", "input"):
        return value if isinstance(value, str) else plain(value)
    return {name: plain(value)}


def _output(value: Any) -> Any:
    """Return a tool's output as the content of a message: text, parts of it, or any object as JSON."""
    if isinstance(value, str) or value is None:
        return value
    parts = items(value) or (value,)
    if all(isinstance(part, str) or "text" in fields(part) or _is_file(fields(part)) for part in parts):
        return parts
    return as_json(value)


def _is_file(part: dict[str, Any]) -> bool:
    return part.get("type") in ("input_image", "input_file", "computer_screenshot")


def _hosted_output(own: dict[str, Any]) -> str:
    """Return the textual output of a hosted tool: MCP's output or error, a code interpreter's logs."""
    output = own.get("output") if own.get("output") is not None else own.get("error")
    if output is not None:
        return content(_output(output)).text
    logs = [string(fields(entry).get("logs")) for entry in items(own.get("outputs"))]
    return "\n".join(filter(None, logs))


def _pictures(own: dict[str, Any]) -> tuple[Attachment, ...]:
    """Return the picture of an image generation call, whose `result` is base64; all media in other calls."""
    result = string(own.get("result")) if own.get("type") == "image_generation_call" else None
    if not result:
        return tuple(inside(own))
    return (Attachment("image", f"image/{string(own.get('output_format')) or 'png'}", result),)
