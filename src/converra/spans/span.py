"""The record of one span: what any emitter in any language can tell. Pure; nothing of the SDK is imported or kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

EMPTY: Mapping[str, Any] = {}


class SpanEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a span, or a log record that names the span."""

    name: str
    at: int = 0
    """Nanoseconds since the epoch."""
    attributes: Mapping[str, Any] = EMPTY


class Span(msgspec.Struct, frozen=True, gc=False):
    """A span that has ended.

    Values of attributes are plain: strings, numbers, booleans, lists or tuples of values, mappings of values.
    """

    trace_id: str
    """32 lower-case hexadecimal digits."""
    span_id: str
    """16 lower-case hexadecimal digits."""
    parent_id: str | None = None
    """The id of the span around it; None for the root of a trace."""
    name: str = ""
    kind: str = "internal"
    """internal | client | server | producer | consumer"""
    started: int = 0
    """Nanoseconds since the epoch."""
    ended: int = 0
    attributes: Mapping[str, Any] = EMPTY
    events: tuple[SpanEvent, ...] = ()
    failed: bool = False
    """Its status is ERROR. The status's text is not kept: it may quote a prompt."""
    scope: str = ""
    """Name of the instrumentation scope: the emitter."""
    scope_version: str = ""
    resource: Mapping[str, Any] = EMPTY
    """Attributes of the process that made it."""
    remote_parent: bool = False
    """The span around it is in another process."""

    @property
    def is_root(self) -> bool:
        """True if no span of its process is around it."""
        return self.parent_id is None or self.remote_parent

    @property
    def seconds(self) -> float:
        """Its duration, in seconds; never negative."""
        return max(0, self.ended - self.started) / 1e9

    def with_events(self, events: Iterable[SpanEvent]) -> Span:
        """Return it with further events, such as log records that came separately."""
        return msgspec.structs.replace(self, events=(*self.events, *events))


def from_sdk(span: Any) -> Span:
    """Make the record of an ended span of the SDK for Python (a `ReadableSpan`).

    Attributes of an ended span never change, so they are kept by reference.
    """
    context, parent, scope = span.context, span.parent, span.instrumentation_scope
    resource = span.resource
    return Span(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=f"{parent.span_id:016x}" if parent is not None else None,
        name=span.name,
        kind=span.kind.name.lower(),
        started=span.start_time or 0,
        ended=span.end_time or 0,
        attributes=span.attributes or EMPTY,
        events=tuple([SpanEvent(e.name, e.timestamp or 0, e.attributes or EMPTY) for e in span.events]),
        failed=span.status.status_code.name == "ERROR",
        scope=scope.name if scope is not None else "",
        scope_version=(scope.version or "") if scope is not None else "",
        resource=resource.attributes if resource is not None else EMPTY,
        remote_parent=bool(parent is not None and parent.is_remote),
    )
