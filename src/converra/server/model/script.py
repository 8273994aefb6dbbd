"""Decides what the stand-in answers: from the messages, the tools and the directives to one neutral `Reply`."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from converra.server.model import support
from converra.server.model.directives import Directives, read, without
from converra.server.model.sample import sample

if TYPE_CHECKING:
    from collections.abc import Sequence

Finish = Literal["stop", "length", "content_filter"]

_TOKEN = re.compile(r"\w+|[^\w\s]")
_FILLER = ("lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit")
_WEAK_WORDS = frozenset(
    (
        *("an", "and", "by", "call", "do", "for", "from", "get", "in", "is", "it", "look", "of", "on", "or", "out"),
        *("set", "that", "the", "this", "to", "tool", "up", "use", "what", "when", "where", "with", "you", "your"),
    )
)


class Turn(NamedTuple):
    """A message of the request, in words: what each wire format is read into."""

    role: str
    text: str


class Tool(NamedTuple):
    """A tool that the request offers."""

    name: str
    description: str
    schema: dict[str, Any]


class Asked(NamedTuple):
    """A request, read."""

    turns: Sequence[Turn]
    tools: Sequence[Tool] = ()
    forced: str | None = None
    """`none`, `required`, or the name of the tool that must be called."""
    json_schema: dict[str, Any] | None = None
    """The answer must be JSON of this schema."""
    limit: int | None = None
    """Most tokens of the answer."""

    @property
    def said(self) -> str:
        """The last user message."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def results(self) -> list[str]:
        """The tool results at the end."""
        last = itertools.takewhile(lambda turn: turn.role == "tool", reversed(self.turns))
        return [turn.text for turn in last][::-1]

    @property
    def step(self) -> int:
        """Count the model's answers since the last user message."""
        last = max((at for at, turn in enumerate(self.turns) if turn.role == "user"), default=0)
        since = [turn.role == "assistant" for turn in self.turns[last:]]
        return sum(now and not before for before, now in itertools.pairwise(since))


class Use(NamedTuple):
    """A tool call. `arguments` is the raw string on the wire."""

    name: str
    arguments: str
    kind: Literal["function", "custom", "legacy"] = "function"


class Reply(msgspec.Struct, kw_only=True):
    """An answer, before it takes a wire format."""

    text: str = ""
    uses: list[Use] = []
    refusal: str | None = None
    reasoning: str | None = None
    finish: Finish = "stop"
    prompt_tokens: int = 0
    directives: Directives = msgspec.field(default_factory=lambda: Directives([]))

    @property
    def completion_tokens(self) -> int:
        """Count the answer's tokens as the stand-in counts them: words and punctuation marks."""
        said = (self.text, self.refusal or "", self.reasoning or "", *(use.name + use.arguments for use in self.uses))
        return sum(tokens(text) for text in said)


def tokens(text: str) -> int:
    """Words and punctuation marks."""
    return len(_TOKEN.findall(text))


def reply(asked: Asked) -> Reply:
    """The answer to a request: by its directives, else by its tools, else by its words."""
    directives = read(asked.said, asked.step)
    reasoning = directives.get("reasoning")
    answer = _directed(directives) or _called(asked) or Reply(text=_in_words(asked))
    answer.directives = directives
    answer.reasoning = (reasoning.argument or "Thinking about it.") if reasoning else None
    answer.prompt_tokens = sum(tokens(turn.text) + 3 for turn in asked.turns)
    return _cut_off(answer, asked.limit)


def _directed(directives: Directives) -> Reply | None:
    """Return the answer that the directives ask for; None if they only say how to answer."""
    said = directives.get("say")
    uses = [_use(each.name, *each.named()) for each in directives.all("tool", "custom", "function")]
    if refusal := directives.get("refuse"):
        return Reply(refusal=refusal.argument or "I cannot help with that.")
    if uses:
        return Reply(text=said.argument if said else "", uses=uses)
    if said:
        return Reply(text=said.argument)
    if words := directives.get("words"):
        count = words.number(1) or 0
        return Reply(text=" ".join(_FILLER[at % len(_FILLER)] for at in range(count)))
    return Reply() if directives.get("empty") else None


def _use(directive: str, name: str, rest: str) -> Use:
    if directive == "custom":
        return Use(name, rest, "custom")
    return Use(name, rest or "{}", "legacy" if directive == "function" else "function")


def _called(asked: Asked) -> Reply | None:
    """A tool call, where one is forced or the user's words ask for one that has not been made yet."""
    if asked.forced == "none" or asked.step > 0 or asked.results:
        return None
    tool = _chosen(asked)
    if tool is None:
        return None
    return Reply(uses=[Use(tool.name, json.dumps(sample(tool.schema or {"type": "object"}, without(asked.said))))])


def _chosen(asked: Asked) -> Tool | None:
    named = next((tool for tool in asked.tools if tool.name == asked.forced), None)
    said = _strong_words(without(asked.said))
    fitting = (tool for tool in asked.tools if said & _strong_words(f"{tool.name} {tool.description}"))
    chosen = named or next(fitting, None)
    return asked.tools[0] if chosen is None and asked.forced == "required" and asked.tools else chosen


def _strong_words(text: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return {word for word in re.findall(r"[a-z]+", spaced.lower()) if len(word) > 1} - _WEAK_WORDS


def _in_words(asked: Asked) -> str:
    if asked.json_schema is not None:
        return json.dumps(sample(asked.json_schema, without(asked.said)), ensure_ascii=False)
    return support.after_tools(asked.results) if asked.results else support.answer(without(asked.said))


def _cut_off(answer: Reply, limit: int | None) -> Reply:
    """Shorten an answer that a directive or the request's own token limit ends early."""
    pieces = list(_TOKEN.finditer(answer.text))
    if answer.directives.get("filter"):
        answer.finish = "content_filter"
        limit = len(pieces) // 2
    elif answer.directives.get("length"):
        answer.finish = "length"
        limit = len(pieces) // 2
    elif limit is not None and len(pieces) > limit:
        answer.finish = "length"
    if answer.finish != "stop" and limit is not None and limit < len(pieces):
        answer.text = answer.text[: pieces[limit].start()].rstrip()
    return answer
