"""Two conversations side by side, turn by turn."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.routing import BaseRoute, Route

from converra.server.store.catalogue import Filters
from converra.server.store.totals import calls as calls_of
from converra.server.viewer import chat_view, costs, figures, texts
from converra.server.viewer.brief import brief
from converra.server.viewer.pages import missing, page, render, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation
    from converra.server.viewer.brief import Brief

MESSAGES = 200
"""Of each side; the rest is left out."""

_CHOICES = 50


class Turn(NamedTuple):
    """A message of the user and the messages up to the next one, on both sides."""

    same: bool
    left: Sequence[chat_view.Bubble]
    right: Sequence[chat_view.Bubble]


def routes() -> list[BaseRoute]:
    """The page."""
    return [Route("/compare", page(compare))]


def compare(request: Request) -> Response:
    """Compare the conversations `a` and `b`; without `b`, offer those of the same prompt."""
    store, query = store_of(request), request.query_params
    left = store.find(None, query.get("a", ""))
    right = store.find(None, query["b"]) if query.get("b") else None
    if left is None or (query.get("b") and right is None):
        return missing(request, "conversation")
    if right is None:
        return render(request, "compare_with.html", left=brief(left), choices=_choices(store, left))
    said = [store.messages(each)[:MESSAGES] for each in (left, right)]
    return render(
        request,
        "compare.html",
        left=brief(left),
        right=brief(right),
        facts=list(_facts(left, right, said)),
        turns=turns(*said),
        cut=max(left.totals.messages, right.totals.messages) > MESSAGES,
        shown=MESSAGES,
    )


def turns(left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Pair the turns of two conversations in their order; what precedes the first question is one, too."""
    page_of_texts = texts.Texts()
    made = []
    for one, other in zip_longest(_turns(left), _turns(right), fillvalue=range(0)):
        same = [_spoken(left[at]) for at in one] == [_spoken(right[at]) for at in other]
        shown = [
            chat_view.bubbles(messages, only=places, texts=page_of_texts)
            for messages, places in ((left, one), (right, other))
        ]
        made.append(Turn(same, *shown))
    return made


def _turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[range]:
    begins = [at for at, message in enumerate(messages) if message["role"] == "user"]
    if not begins or begins[0] > 0:
        begins.insert(0, 0)
    for begin, end in zip_longest(begins, begins[1:], fillvalue=len(messages)):
        yield range(begin, end)


def _spoken(message: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the part of a message that two equal ones share; ids and times are never the same."""
    made = [(call.get("name"), call.get("arguments")) for call in calls_of(message)]
    return (message["role"], message["content"], made)


def _choices(store: Store, left: Conversation) -> list[Brief]:
    found = store.catalogue.page(Filters(prompt=left.prompt_id), limit=_CHOICES + 1).conversations
    return [brief(each) for each in found if each.number != left.number]


def _facts(left: Conversation, right: Conversation, said: Sequence[Any]) -> Iterator[tuple[str, str, str]]:
    facts: dict[str, Callable[[Conversation], str]] = {
        "Prompt": lambda found: found.prompt_id,
        "Models": lambda found: ", ".join(found.totals.models) or found.llm_model or "–",
        "Status": lambda found: found.status.replace("_", " "),
        "Turns": lambda found: f"{found.totals.messages:,}",
        "Tokens": lambda found: f"{found.totals.tokens_in:,} → {found.totals.tokens_out:,}",
        "Latency in total": lambda found: figures.duration(found.totals.latency_ms) or "–",
        "Tool calls": lambda found: f"{found.totals.calls:,}",
        "Errors": lambda found: f"{found.totals.errors:,}",
    }
    for name, fact in facts.items():
        yield name, fact(left), fact(right)
    if costs.source():
        one, other = (str(costs.total(messages) or "–") for messages in said)
        yield "Cost", one, other
