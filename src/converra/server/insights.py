"""Simulated insights: made up from the words of a conversation, always the same for the same words.

They have the shape of the API's and none of its knowledge, and say so in an extra field, `simulated`.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_GLAD = frozenset(("awesome", "excellent", "glad", "good", "great", "happy", "love", "perfect", "thank", "thanks"))
_UPSET = frozenset(("angry", "bad", "broken", "error", "failed", "hate", "late", "terrible", "useless", "wrong"))
_COMMON = frozenset(
    (
        *("about", "also", "been", "could", "does", "from", "have", "here", "just", "like", "need", "please", "some"),
        *("thank", "thanks", "that", "them", "then", "there", "this", "want", "what", "when", "where", "which", "will"),
        *("with", "would", "you", "your"),
    )
)
_TOPICS = 3
_TOPIC_LETTERS = 4
_READ = 20_000
"""Characters of a message that are read."""


def simulate(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sentiment, topics, summary and issues of a conversation, in the API's fields."""
    score = _score(messages)
    answered = bool(messages) and messages[-1]["role"] != "user"
    return {
        "sentiment": "positive" if score > 0 else "negative" if score < 0 else "neutral",
        "sentimentScore": score,
        "taskCompleted": answered and score >= 0,
        "topics": _topics(messages),
        "summary": _summary(messages),
        "issues": [] if answered else ["The last message of the user has no answer."],
        "simulated": True,
    }


def _score(messages: Sequence[Mapping[str, Any]]) -> float:
    """From -1 to 1: glad words against upset ones, of the user only."""
    words = list(_words(message for message in messages if message["role"] == "user"))
    glad, upset = sum(word in _GLAD for word in words), sum(word in _UPSET for word in words)
    return round((glad - upset) / (glad + upset), 2) if glad + upset else 0.0


def _topics(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The longest-lived words of user and assistant; ties go to the one said first."""
    said = _words(message for message in messages if message["role"] in ("user", "assistant"))
    counted = Counter(word for word in said if len(word) >= _TOPIC_LETTERS and word not in _COMMON)
    return [word for word, _ in counted.most_common(_TOPICS)]


def _summary(messages: Sequence[Mapping[str, Any]]) -> str:
    turns = Counter(message["role"] for message in messages)
    first = next((message["content"] for message in messages if message["role"] == "user"), "")
    opening = f'The user opened with "{first[:80]}". ' if first else ""
    return f"{opening}{turns['user']} user and {turns['assistant']} assistant messages. (Simulated.)"


def _words(messages: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    for message in messages:
        yield from re.findall(r"[^\W\d_]+", message["content"][:_READ].lower())
