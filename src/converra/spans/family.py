"""The spans that have come, as trees: who is inside of whom, as far as that is known by now.

Spans come in the order in which they end, children before their parents, or in any order over the network. A span that
has not ended yet is known while it is `live`: the processor sees it start.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from converra.history.turn import Trace
from converra.spans.names import NAMELESS, names, of_attributes
from converra.spans.reading import ModelCall, ToolRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.capture.handle import Conversation
    from converra.spans.held import Expected
    from converra.spans.names import Names
    from converra.spans.reading import Reading
    from converra.spans.span import Span

    Key = tuple[str, str]

MAX_SPANS = 20_000
"""Spans that are remembered after they have ended, and live ones; and traces."""

MAX_DEPTH = 64
"""Spans around a span that are looked at."""

MAX_INSIDE = 256
"""Spans inside of a span that are looked at."""


def number(hexadecimal: str) -> int:
    """Return an id of OpenTelemetry as a number; 0, which no id is, for any other text."""
    try:
        return int(hexadecimal, 16)
    except ValueError:
        return 0


class Live:
    """A span of this process that has started."""

    __slots__ = ("block", "expected", "span")

    def __init__(self, span: Any, block: Conversation | None, expected: Expected | None = None) -> None:
        self.span: Any = span
        """The SDK's object."""
        self.block: Conversation | None = block
        """The `conversation()` that was active when it started."""
        self.expected: Expected | None = expected
        """Keeps that conversation open until its turn is recorded."""


class Member:
    """A span that has come."""

    __slots__ = ("has_content", "inside", "is_recorded", "is_root", "names", "parent", "reading", "span_id")

    def __init__(self, span: Span, reading: Reading | None) -> None:
        self.span_id: str = span.span_id
        self.parent: Key | None = None if span.parent_id is None else (span.trace_id, span.parent_id)
        self.is_root: bool = span.is_root
        self.names: Names = names(span)
        self.note(reading)
        self.inside: list[Key] = []
        """The spans directly inside of it that have come."""
        self.is_recorded: bool = False
        """It has made a turn."""

    def note(self, reading: Reading | None) -> None:
        """Note what was read from it, now that more of it may have come."""
        self.reading: type | None = None if reading is None else type(reading)
        self.has_content: bool = isinstance(reading, ModelCall) and reading.has_content


class Family:
    """The spans of one bridge. Used by one thread at a time."""

    def __init__(self) -> None:
        self.live: dict[int, Live] = {}
        """Span id → span that has started. Any thread adds to it."""
        self._members: OrderedDict[Key, Member] = OrderedDict()
        self._early: OrderedDict[Key, list[Key]] = OrderedDict()
        """Spans whose parent has not come yet, by that parent."""
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def add(self, span: Span, reading: Reading | None) -> Member | None:
        """Add a span that has come; None if it came before."""
        key = span.trace_id, span.span_id
        if key in self._members:
            return None
        member = self._members[key] = Member(span, reading)
        member.inside = self._early.pop(key, [])
        if member.parent is not None:
            parent = self._members.get(member.parent)
            siblings = self._early.setdefault(member.parent, []) if parent is None else parent.inside
            if len(siblings) < MAX_INSIDE:
                siblings.append(key)
        for known in (self._members, self._early):
            if len(known) > MAX_SPANS:
                known.popitem(last=False)
        return member

    def start(self, span_id: int, live: Live) -> None:
        """Note a span that starts. Any thread may call it."""
        self.live[span_id] = live
        if len(self.live) > MAX_SPANS:  # some never end
            with suppress(StopIteration, KeyError, RuntimeError):  # another thread may take the oldest out
                oldest = self.live.pop(next(iter(self.live)))
                if oldest.expected is not None:
                    oldest.expected.settle()

    def around(self, member: Member) -> Iterator[Member | Live]:
        """Yield the spans around a span, the innermost first, as far as they are known."""
        key = member.parent
        for _ in range(MAX_DEPTH):
            if key is None:
                return
            outer = self._members.get(key)
            if outer is not None:
                yield outer
                key = outer.parent
                continue
            live = self.live.get(number(key[1]))
            if live is None:
                return
            yield live
            parent = live.span.parent
            key = None if parent is None else (key[0], f"{parent.span_id:016x}")

    def inside(self, member: Member) -> Iterator[Member]:
        """Yield the spans inside of a span, at any depth; not those inside of a tool's run, which is another matter."""
        waiting = list(member.inside)
        for _ in range(MAX_INSIDE):
            if not waiting:
                return
            inner = self._members.get(waiting.pop())
            if inner is None:
                continue
            yield inner
            if inner.reading is not ToolRun:
                waiting += inner.inside

    def is_complete(self, member: Member) -> bool:
        """Report whether all spans around a span are known, up to the root of its process."""
        outer: Member | Live = member
        for outer in self.around(member):  # noqa: B007 - the last one counts
            pass
        if isinstance(outer, Live):
            return outer.span.parent is None or bool(outer.span.parent.is_remote)
        return outer.is_root

    def names(self, member: Member) -> Names:
        """Return the names of a span, completed by those of the spans around it."""
        found = member.names
        for outer in self.around(member):
            given = outer.names if isinstance(outer, Member) else of_attributes(outer.span.attributes or {})
            if given is not NAMELESS:
                found = found.within(given)
        return found

    def trace(self, trace_id: str) -> Trace:
        """Return the run that all spans of a trace belong to."""
        trace = self._traces.get(trace_id)
        if trace is None:
            trace = self._traces[trace_id] = Trace()
            if len(self._traces) > MAX_SPANS:
                self._traces.popitem(last=False)
        return trace
