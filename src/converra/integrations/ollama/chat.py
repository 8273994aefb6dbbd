"""Ollama's chats, read: requests as JSON, answers as SDK objects. Pure, and nothing of the SDK is kept.

Calls and their results have no ids: they belong together by name and order. Many apps do not name the tool of a result:
then by order alone. Thoughts stand beside the text, pictures beside both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, Attachment, Dialect, Request, SourceMessage, SourceToolCall
from converra.integrations.payload.extras import unread
from converra.integrations.payload.fields import BARE, copied, digest, fields, items, number, plain, string
from converra.integrations.payload.media import placeholder
from converra.integrations.payload.usage import logprobs_summary
from converra.wire.json_safe import joined
from converra.wire.models import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.history.turn import Counts

PICTURES = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}
"""First characters of pictures in base64, and their types."""

DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
NAME = "name"
"""Field of a result with the name of its tool, which its call has. Old clients drop it if an app gives it."""

COUNTED = frozenset({"prompt_eval_count", "eval_count", *DURATIONS})
FACTS = frozenset({"model", "created_at", "done", "done_reason", "message", "logprobs", *COUNTED})
"""Fields of an answer that are read, or left out on purpose. All others are kept in metadata."""


def request(body: dict[str, Any]) -> Request:
    """Read the body of a chat."""
    messages = named(items(body.get("messages")))
    return Request(CHAT, messages, model=string(body.get("model")), tools=items(body.get("tools")))


def named(messages: Sequence[Any]) -> Sequence[Any]:
    """Name the tools of results that do not name them, by the order of the calls before.

    The name stands in a field that fingerprints leave out: the calls may be missing when a history is resent.
    """
    if all(own.get("role") != "tool" or own.get("tool_name") for own in map(fields, messages)):
        return messages
    found: list[Any] = []
    called: list[str | None] = []
    for message in messages:
        own = fields(message)
        if own.get("role") != "tool":
            called = [call.name for call in calls(own.get("tool_calls"))]
            found.append(message)
            continue
        name = called.pop(0) if called else None
        found.append({**own, NAME: name} if name and not own.get("tool_name") else message)
    return found


def read(message: Any) -> tuple[SourceMessage, ...]:
    """Read one message of a request; most have a role and a text, and nothing else."""
    own = fields(message)
    role, text = string(own.get("role")), string(own.get("content")) or ""
    if role is None:
        return ()
    if len(own) == BARE and "content" in own:
        return (SourceMessage(role, text),)
    if role == "assistant":
        return (spoken(own),)
    attached = pictures(own.get("images"))
    text = "\n".join(filter(None, (text, *map(placeholder, attached))))
    return (SourceMessage(role, text, (), None, string(own.get("tool_name")) or own.get(NAME), attached),)


def spoken(own: dict[str, Any]) -> SourceMessage:
    """Read a message of the model, of an answer or resent."""
    attached = pictures(own.get("images"))
    text = "\n".join(filter(None, (string(own.get("content")), *map(placeholder, attached))))
    thought = string(own.get("thinking"))
    metadata = {"reasoning": thought} if thought else None
    return SourceMessage("assistant", text, calls(own.get("tool_calls")), None, None, attached, metadata)


def calls(made: Any) -> tuple[SourceToolCall, ...]:
    """Read the calls of a message, for the app to carry out."""
    functions = (fields(fields(one).get("function")) for one in items(made))
    return tuple(SourceToolCall(None, string(f.get("name")), plain(f.get("arguments")) or {}) for f in functions)


def pictures(images: Any) -> tuple[Attachment, ...]:
    """Read pictures: strings of base64, or objects that hold one."""
    return tuple(picture(string(one) or string(fields(one).get("value"))) for one in items(images))


def picture(data: str | None) -> Attachment:
    """Read one picture in base64, whose first characters tell its type."""
    kind = next((kind for start, kind in PICTURES.items() if data and data.startswith(start)), None)
    return Attachment("image", f"image/{kind}" if kind else None, data)


def fingerprint(messages: Sequence[Any]) -> list[int]:
    """Digests of all messages, in order. Thoughts have no part in them: some apps resend them."""
    try:
        return [hash((m["role"], m["content"])) if len(m) == BARE and "content" in m else _digest(m) for m in messages]
    except (TypeError, KeyError):  # an odd message
        return [_digest(fields(m)) for m in messages]


def _digest(own: dict[str, Any]) -> int:
    made = [fields(fields(one).get("function")) for one in items(own.get("tool_calls"))]
    others = [hash((f.get("name"), digest(f.get("arguments") or {}))) for f in made]
    others += [digest(own[name]) for name in ("images", "tool_name") if own.get(name)]
    key = (string(own.get("role")), string(own.get("content")) or "")
    return hash((*key, *others))


def echo(source: SourceMessage) -> dict[str, Any]:
    """Build an answer as most apps resend it, as far as fingerprints read it."""
    made = [{"function": {"name": call.name, "arguments": call.arguments}} for call in source.calls]
    return {"role": "assistant", "content": source.text, **({"tool_calls": made} if made else {})}


CHAT = Dialect("ollama.chat", fingerprint, read, echo)


def answer(response: Any) -> Answer:
    """Read a whole answer."""
    own = fields(response)
    return answer_of(own, spoken(fields(own.get("message"))), FACTS)


def answer_of(own: dict[str, Any], source: SourceMessage, known: frozenset[str]) -> Answer:
    """Build the answer from its facts, and from what the model said."""
    found = (fields(token).get("logprob") for token in items(own.get("logprobs")))
    confidence = logprobs_summary([one for one in found if isinstance(one, int | float)])
    metadata = {**unread(own, known), **({"logprobs": confidence} if confidence else {})}
    return Answer(
        (source,),
        string(own.get("model")) or None,
        finish_reason=string(own.get("done_reason")) or None,
        metadata=metadata or None,
        unread={name: own[name] for name in COUNTED if own.get(name) is not None},
        read=counts,
    )


def counts(reported: dict[str, Any]) -> Counts:
    """Return the usage, and the durations in nanoseconds under their own names."""
    prompt, completion = number(reported.get("prompt_eval_count")), number(reported.get("eval_count"))
    usage = None if prompt is None and completion is None else Usage(prompt, completion)
    return usage, {name: reported[name] for name in DURATIONS if number(reported.get(name))} or None


class Chunks:
    """The chunks of one stream so far; the last one has the facts."""

    def __init__(self) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The model has stopped."""
        self._facts: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {"content": [], "thinking": []}
        self._others: dict[str, list[Any]] = {"tool_calls": [], "images": [], "logprobs": []}

    def take(self, own: dict[str, Any], text: Any, message: dict[str, Any]) -> None:
        """Add one chunk: its text, what its message has beside it, and its facts."""
        for name, piece in (("content", text), ("thinking", message.get("thinking"))):
            if piece.__class__ is str and piece:
                self._texts[name].append(piece)
                self.started = True
        for name in ("tool_calls", "images"):
            if message.get(name):
                self._others[name] += map(copied, items(message[name]))
                self.started = True
        if own.get("logprobs"):
            self._others["logprobs"] += map(copied, items(own["logprobs"]))
        if own.get("done") or not self._facts:
            self._facts.update(
                {
                    name: copied(own[name])
                    for name in own
                    if name not in ("message", "logprobs") and own[name] is not None
                }
            )
            self.finished = own.get("done") is True

    def facts(self) -> dict[str, Any]:
        """Return the fields of the answer besides its message."""
        return {**self._facts, "logprobs": self._others["logprobs"]}

    def message(self) -> dict[str, Any]:
        """Build the message that the answer would have had without streaming."""
        return {**{name: joined(pieces) for name, pieces in self._texts.items()}, **self._others}


class ChatChunks(Chunks):
    """The chunks of a streamed chat."""

    def feed(self, chunk: Any) -> None:
        """Read one chunk."""
        own = fields(chunk)
        message = fields(own.get("message"))
        self.take(own, message.get("content"), message)

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        return answer_of(self.facts(), spoken(self.message()), FACTS)
