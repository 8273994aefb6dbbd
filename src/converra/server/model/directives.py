"""Directives in a user message, such as `[[tool:get_order {"id": 7}]]`; the package's docstring lists them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPENING = re.compile(
    r"\[\[(say|words|tool|custom|function|then|refuse|reasoning|length|filter|audio|citation|usage|extra|item|model"
    r"|error|slow|cut|fail|hang|empty|azure|running-usage)(?:[: ]|(?=\]\]))"
)

_WITH_JSON = frozenset(("tool", "function", "usage", "extra", "item"))


class Directive(NamedTuple):
    """One directive: its name and the text after the colon."""

    name: str
    argument: str

    def number(self, default: int | None = None) -> int | None:
        """The argument as a whole number."""
        return int(self.argument) if self.argument.isdecimal() else default

    def seconds(self) -> float:
        """The argument as seconds; 0 for what is no number."""
        try:
            return float(self.argument)
        except ValueError:
            return 0.0

    def json(self) -> dict[str, Any]:
        """The argument as a JSON object; empty for anything else."""
        found = _parsed(self.argument)
        return found if isinstance(found, dict) else {}

    def named(self) -> tuple[str, str]:
        """A name and what stands after it."""
        name, _, rest = self.argument.partition(" ")
        return name, rest.strip()


class Directives:
    """The directives of one step of a user turn."""

    def __init__(self, found: list[Directive]) -> None:
        self._found = found

    def get(self, name: str) -> Directive | None:
        """The first of this name."""
        return next(self.all(name), None)

    def all(self, *names: str) -> Iterator[Directive]:
        """All of these names, in their order."""
        return (directive for directive in self._found if directive.name in names)


def read(text: str, step: int) -> Directives:
    """The directives for one step; those before the first `[[then]]` are step 0. Past the last step there are none."""
    steps: list[list[Directive]] = [[]]
    for _, _, directive in _scan(text):
        if directive.name == "then":
            steps.append([])
        else:
            steps[-1].append(directive)
    return Directives(steps[step] if step < len(steps) else [])


def without(text: str) -> str:
    """The text without its directives."""
    for start, end, _ in reversed(list(_scan(text))):
        text = text[:start] + text[end:]
    return " ".join(text.split())


def _scan(text: str) -> Iterator[tuple[int, int, Directive]]:
    """Start, end and content of each directive."""
    position = 0
    while opening := _OPENING.search(text, position):
        end = _end(text, opening.end(), json_ahead=opening[1] in _WITH_JSON)
        if end is None:
            return
        position = end + 2
        yield opening.start(), position, Directive(opening[1], text[opening.end() : end].strip())


def _end(text: str, start: int, *, json_ahead: bool) -> int | None:
    """Where the closing brackets are: JSON may hold such brackets itself, so the first place where it parses wins."""
    closings = [start + match.start() for match in re.finditer(r"(?=\]\])", text[start:])]
    brace = text.find("{", start)
    if not closings or not json_ahead or not 0 <= brace < closings[0]:
        return closings[0] if closings else None
    whole = (at for at in closings if _parsed(text[brace:at]) is not None)
    return next(whole, closings[0])


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
