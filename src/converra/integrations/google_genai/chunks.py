"""The chunks of a streamed answer of Gemini, put together: each is an answer of its own, with the next parts.

Chunks are kept as the strings of JSON that they arrive in, and parsed when the answer is needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, SourceMessage
from converra.integrations.google_genai.generate import answer, document, index_of, plain_chunks
from converra.integrations.payload.deferred import deferred
from converra.integrations.payload.fields import copied, fields, items, string

if TYPE_CHECKING:
    from collections.abc import Iterable

FINISH = '"finishReason": "'
"""Part of the JSON that the SDK makes of a last chunk."""

VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")
"""Fields of a partial argument, one of which has its value."""

MAX_INDEX = 1_000
"""Largest index of a list in a partial argument's path."""

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[['\"](.*?)['\"]\]")


class Chunks:
    """The chunks of one stream so far."""

    def __init__(self) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The model has stopped, as far as the last reading says."""
        self._bodies: list[Any] = []

    def feed(self, chunk: Any) -> None:
        """Keep one chunk: the string of JSON that it holds. Old versions of the SDK have parsed it already."""
        body = chunk if chunk.__class__ is dict else chunk.__dict__["body"]
        self._bodies.append(copied(body) if body.__class__ is dict else body)
        if not self.started:
            first = fields(next(iter(items(document(body).get("candidates"))), None))
            self.started = bool(fields(first.get("content")).get("parts"))

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        bodies = self._bodies.copy()
        if not bodies:
            return Answer(messages=(SourceMessage("assistant"),))
        if bodies[-1].__class__ is str and FINISH in bodies[-1]:
            self.finished = True
            return deferred(bodies, read_chunks)
        found = read_chunks(bodies)
        self.finished = found.finish_reason is not None
        return found


def read_chunks(bodies: list[Any]) -> Answer:
    """Read the answer in the chunks of a stream."""
    return plain_chunks(bodies) or answer(merged_chunks(map(document, bodies)))


def merged_chunks(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Build the answer that a stream would have been in one piece.

    Counts are those of the whole answer so far: the last ones are right, and a count that is left out stays.
    """
    found: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        found.update(chunk)
        counts.update(fields(chunk.get("usageMetadata")))
        for candidate in map(fields, items(chunk.get("candidates"))):
            _merge(candidates.setdefault(index_of(candidate), {"content": {"parts": []}}), candidate)
    for candidate in candidates.values():
        candidate["content"]["parts"] = list(_whole_calls(candidate["content"]["parts"]))
    found["candidates"] = list(candidates.values())
    found["usageMetadata"] = counts
    return found


def _merge(before: dict[str, Any], candidate: dict[str, Any]) -> None:
    """Add what one chunk brings to a candidate: the next parts, and facts in place of earlier ones."""
    content = before["content"]
    content["parts"] += items(fields(candidate.get("content")).get("parts"))
    before.update({key: value for key, value in candidate.items() if value is not None})
    before["content"] = content


def _whole_calls(parts: Iterable[Any]) -> Iterable[Any]:
    """Put the arguments of a call together that come in pieces (`stream_function_call_arguments`)."""
    open_call: dict[str, Any] | None = None
    for part in parts:
        called = fields(part).get("functionCall")
        if called is None or not ("partialArgs" in called or called.get("willContinue") or open_call is not None):
            open_call = None
            yield part
            continue
        own = fields(called)
        if open_call is None or own.get("name"):
            open_call = {"name": own.get("name"), "id": own.get("id"), "args": dict(fields(own.get("args")))}
            yield {"functionCall": open_call}
        for argument in map(fields, items(own.get("partialArgs"))):
            _put(open_call["args"], argument)
        if own.get("willContinue") is not True:
            open_call = None


def _put(arguments: dict[str, Any], argument: dict[str, Any]) -> None:
    """Set the value that a path such as `$.stops[0].city` names; a text is continued."""
    steps: list[Any] = [
        int(index) if index else name or quoted
        for name, index, quoted in _STEP.findall(string(argument.get("jsonPath")) or "")
    ]
    value = next((argument[name] for name in VALUES if name in argument), None)
    holder: Any = arguments
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        before = _get(holder, step)
        if following is not None:
            before = before if isinstance(before, dict | list) else ([] if isinstance(following, int) else {})
            _set(holder, step, before)
            holder = before
        elif isinstance(before, str) and isinstance(value, str):
            _set(holder, step, before + value)
        else:
            _set(holder, step, None if argument.get("nullValue") else value)


def _get(holder: Any, step: Any) -> Any:
    if isinstance(holder, list):
        return holder[step] if isinstance(step, int) and step < len(holder) else None
    return holder.get(step)


def _set(holder: Any, step: Any, value: Any) -> None:
    if isinstance(holder, dict):
        holder[step] = value
    elif isinstance(step, int) and step <= MAX_INDEX:
        holder += [None] * (step + 1 - len(holder))
        holder[step] = value
