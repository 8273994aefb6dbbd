"""Texts of the stand-in: canned answers of a support desk, else a statement that it is a stand-in."""

from __future__ import annotations

import json
import re
from typing import Any

_ORDER = re.compile(r"\b(?:order|parcel|package)\b\D{0,20}(\d+)", re.IGNORECASE)

_ANSWERS: tuple[tuple[str, str], ...] = (
    (r"who are you|what are you|are you (?:real|human|a bot)|which model", "{itself}"),
    (r"\bneighbou?r\b", "Yes, a neighbour can take it in. I have added a note for the driver."),
    (
        r"\b(?:refund|return|money back)\b",
        "You can return it within 30 days. I have sent you a label, and the refund follows within five days.",
    ),
    (r"\b(?:cancel)\b", "I have cancelled it. You will get a confirmation by e-mail."),
    (
        r"\b(?:when|deliver\w*|arriv\w*)\b.*\b(?:order|parcel|package|it)\b|\bdelivery date\b",
        "It is due on Thursday, between 9:00 and 13:00.",
    ),
    (
        r"\b(?:where|status|track\w*)\b.*\b(?:order|parcel|package|it)\b",
        "{order} is on its way and arrives on Thursday.",
    ),
    (r"\b(?:thanks?|thank you|cheers)\b", "You are welcome. Is there anything else that I can do for you?"),
    (r"\b(?:bye|goodbye)\b", "Goodbye, and thank you for writing to us."),
    (r"^\W*(?:hi|hello|hey|good (?:morning|afternoon|evening))\b", "Hello! How can I help you today?"),
)

ITSELF = "I am a stand-in model: there is no intelligence here, only a few canned answers."


def answer(text: str) -> str:
    """A canned answer where the words call for one; else a statement of what the stand-in is and received."""
    for pattern, words in _ANSWERS:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return words.format(itself=ITSELF, order=_order(text))
    return f'{ITSELF} You said: "{_shortened(text)}"'


def after_tools(results: list[str]) -> str:
    """Sum up each tool result in a sentence."""
    return " ".join(_retold(result) for result in results)


def _order(text: str) -> str:
    found = _ORDER.search(text)
    return f"Order {found[1]}" if found else "Your order"


def _retold(result: str) -> str:
    try:
        found = json.loads(result)
    except ValueError:
        return f"The tool says: {_shortened(result)}"
    if isinstance(found, dict) and "status" in found:
        return _order_status(found)
    if isinstance(found, dict) and found:
        return f"Here is what I found: {', '.join(f'{_spaced(name)} {value}' for name, value in found.items())}."
    return f"The tool says: {_shortened(result)}"


def _order_status(found: dict[str, Any]) -> str:
    number = next((value for name, value in found.items() if re.search(r"(^|_)(id|number)$", name)), None)
    arrives = next((value for name, value in found.items() if re.search(r"arriv|deliver|eta|date", name)), None)
    subject = f"Order {number}" if number is not None else "Your order"
    return f"{subject} is {found['status']}{f' and arrives on {arrives}' if arrives else ''}."


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower()


def _shortened(text: str, length: int = 200) -> str:
    words = " ".join(text.split())
    return words if len(words) <= length else words[: length - 1] + "…"
