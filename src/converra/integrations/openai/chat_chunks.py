"""The chunks of a streamed chat completion, put together. Each is read at once: only strings are kept.

The SDK's own accumulator is not used: it repeats roles, and fails on tool calls without an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, SourceMessage
from converra.integrations.openai.chat import (
    CHOICE,
    COMPLETION,
    MESSAGE,
    REASONING_FIELDS,
    alternative,
    as_chat,
    assistant,
    detailed,
    groq_usage,
    metadata,
)
from converra.integrations.payload.extras import Unread
from converra.integrations.payload.fields import copied, fields, items, string
from converra.integrations.payload.media import embeds
from converra.integrations.payload.parts import content
from converra.integrations.payload.tool_calls import CallPieces, StreamedCalls
from converra.integrations.payload.usage import snapshot, token_logprobs, usage, usage_details
from converra.wire.json_safe import identifier, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = frozenset({"role", "content"})
"""Fields of a delta that brings a piece of the text and nothing else."""


class ChatChunks:
    """The chunks of one stream so far: SDK objects or plain dicts."""

    def __init__(self) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The model has stopped; only usage may follow."""
        self._first = _Choice()
        self._choices = {0: self._first}
        self._add_text = self._first.text.append
        self._id: str | None = None
        self._model: str | None = None
        self._usage: dict[str, Any] | None = None
        self._error: Any = None
        self._unread = Unread(COMPLETION)

    @property
    def response_id(self) -> str | None:
        """The provider's id of the answer, once known."""
        return self._id

    def feed(self, chunk: Any) -> None:
        """Read one chunk. Nearly all bring a piece of text and nothing else, so those go first.

        An attribute of a pydantic object costs three times a key of its `__dict__`.
        """
        try:
            whole = chunk.__dict__
            (choice,) = whole["choices"]
            chosen = choice.__dict__
            delta = chosen["delta"]
            own = delta.__dict__
            if (
                (text := own["content"]).__class__ is str
                and self.started
                and chosen["finish_reason"] is None
                and own["tool_calls"] is None
                and whole["usage"] is None
                and own["refusal"] is None
                and own["function_call"] is None
                and chosen["logprobs"] is None
                and not delta.__pydantic_extra__
                and not choice.__pydantic_extra__
                and not chunk.__pydantic_extra__
                and chosen["index"] == 0
            ):
                self._add_text(text)
                return
        except (AttributeError, KeyError, TypeError, ValueError):  # a dict, an odd chunk, none or several choices
            pass
        self._merge(fields(chunk))

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        met = [choice for choice in list(self._choices.values()) if choice.met]
        first, *others = sorted(met, key=_by_index) or [self._first]
        kept = () if self._error and not first.seen else (first.source(),)
        return Answer(
            messages=kept,
            model=self._model,
            usage=usage(self._usage),
            usage_details=usage_details(self._usage),
            finish_reason=first.finish_reason,
            alternatives=tuple(alternative(c.facts(), assistant(c.message())) for c in others),
            response_id=self._id,
            metadata=metadata({**self._unread.fields, "error": self._error}, first.unread.fields, first.logprobs),
        )

    def _merge(self, own: dict[str, Any]) -> None:
        self._id = self._id or identifier(own.get("id")) or None
        self._model = self._model or string(own.get("model")) or None
        counted = own.get("usage") or (groq_usage(own) if own.get("x_groq") else None)
        if counted:
            self._count(snapshot(counted) or {})
        if not own.keys() <= COMPLETION:
            self._unread.note(own)
        if own.get("error"):
            self._error = {key: string(fields(own["error"]).get(key)) for key in ("type", "code")}
        for item in items(own.get("choices")):
            self._merge_choice(fields(item))

    def _merge_choice(self, own: dict[str, Any]) -> None:
        index = own.get("index")
        index = index if isinstance(index, int) else 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
        choice.merge(fields(own.get("delta")), string(own.get("finish_reason")))
        if not own.keys() <= CHOICE:
            choice.unread.note(own)
        if own.get("logprobs"):
            choice.logprobs += token_logprobs(own["logprobs"])
        self.started = self.started or choice.seen
        self.finished = self.finished or bool(choice.finish_reason)

    def _count(self, counts: dict[str, Any]) -> None:
        """Take over counts; where they come in every chunk, the last are right, and zero says nothing new."""
        before = self._usage
        self._usage = {**before, **{key: value for key, value in counts.items() if value}} if before else counts


class CompletionChunks(ChatChunks):
    """The chunks of one stream of a legacy completion so far."""

    def feed(self, chunk: Any) -> None:
        """Read one chunk."""
        super().feed(as_chat(chunk, "delta"))


def _by_index(choice: _Choice) -> int:
    return choice.index


class _Choice:
    """One choice, its pieces in order."""

    def __init__(self, index: int = 0) -> None:
        self.index: int = index
        self.met: bool = False
        self.text: list[str] = []
        self.finish_reason: str | None = None
        self.logprobs: list[float] = []
        self.unread: Unread = Unread(CHOICE)
        self._beside = Unread(MESSAGE)
        """Fields of the message that are not pieces of text."""
        self._annotations: list[Any] = []
        self._parts: list[tuple[int, Any]] = []
        """Parts of the content that are no text, and after how many pieces of text they came."""
        self._pieces: dict[str, list[str]] = {}
        """Refusal, reasoning and transcript."""
        self._calls = StreamedCalls()
        self._function: CallPieces | None = None
        self._audio: dict[str, Any] = {}
        self._is_text = True
        """Nothing but text has come."""

    @property
    def seen(self) -> bool:
        """True once a token has arrived."""
        words = self.text or self._parts or self._pieces or self._calls or self._function or self._audio
        return bool(words or self._beside.fields)

    def merge(self, delta: dict[str, Any], finish_reason: str | None) -> None:
        self.met = True
        self.finish_reason = finish_reason or self.finish_reason
        source = delta.get("content")
        if isinstance(source, str) and source:
            self.text.append(source)
        elif isinstance(source, list):
            self._is_text = False
            self._merge_parts(source)
        if [name for name, value in delta.items() if value is not None and name not in TEXT]:
            self._merge_beside(delta)

    def facts(self) -> dict[str, Any]:
        """Return the fields of the choice besides its message."""
        return {**self.unread.fields, "index": self.index, "finish_reason": self.finish_reason}

    def source(self) -> SourceMessage:
        """Read the message; most are one text and nothing else."""
        if self._is_text:
            text = joined(self.text)
            if not embeds(text):
                return SourceMessage("assistant", text)
        return assistant(self.message())

    def message(self) -> dict[str, Any]:
        """Build the message that the choice would have been without streaming."""
        pieces = {name: joined(pieces) for name, pieces in self._pieces.items() if not name.startswith("audio.")}
        whole: dict[str, Any] = {**self._beside.fields, **pieces, "annotations": self._annotations}
        whole["content"] = list(self._content()) if self._parts else joined(self.text)
        whole["tool_calls"] = self._calls.tool_calls()
        if self._function:
            whole["function_call"] = self._function.function()
        if self._audio:
            audio = {name: joined(self._pieces.get(f"audio.{name}", ())) for name in ("data", "transcript")}
            whole["audio"] = {**self._audio, **audio}
        return whole

    def _merge_beside(self, delta: dict[str, Any]) -> None:
        self._is_text = False
        for name in ("refusal", *REASONING_FIELDS):
            self._piece(name, delta.get(name))
        for tool_call in items(delta.get("tool_calls")):
            self._calls.feed(fields(tool_call))
        if fields(delta.get("function_call")):
            self._merge_function(fields(delta["function_call"]))
        if fields(delta.get("audio")):
            self._merge_audio(fields(delta["audio"]))
        if not delta.get("reasoning"):
            self._piece("reasoning", detailed(delta) if delta.get("reasoning_details") else None)
        self._annotations += map(copied, items(delta.get("annotations")))
        self._beside.add(delta)

    def _content(self) -> Iterator[Any]:
        """Yield the parts in the order in which they came, and the text between them."""
        start = 0
        for at, part in [*self._parts, (len(self.text), None)]:
            if start < at:
                yield {"type": "text", "text": joined(self.text[start:at])}
            if part is not None:
                yield part
            start = at

    def _merge_parts(self, parts: list[Any]) -> None:
        for part in parts:
            own = fields(part)
            if string(own.get("text")) and own.get("type") in ("text", None):
                self.text.append(own["text"])
            elif thoughts := content([own]).reasoning:  # a piece of them, like a piece of text
                self._piece(REASONING_FIELDS[0], "".join(thoughts))
            elif own:
                self._parts.append((len(self.text), copied(own)))

    def _piece(self, name: str, value: Any) -> None:
        if isinstance(value, str) and value:
            self._pieces.setdefault(name, []).append(value)

    def _merge_function(self, own: dict[str, Any]) -> None:
        self._function = self._function or CallPieces()
        self._function.merge(None, string(own.get("name")), own.get("arguments"))

    def _merge_audio(self, audio: dict[str, Any]) -> None:
        self._audio.setdefault("id", None)
        self._audio.update({key: audio[key] for key in ("id", "expires_at") if audio.get(key) is not None})
        self._piece("audio.data", audio.get("data"))
        self._piece("audio.transcript", audio.get("transcript"))
