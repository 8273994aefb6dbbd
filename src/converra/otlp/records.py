"""Results of reading a body: its spans, and the log records that belong to spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.spans.span import Span, SpanEvent

NO_TRACE, NO_SPAN = "0" * 32, "0" * 16
"""Ids of no trace and no span (W3C Trace Context)."""

KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
"""Kinds of spans as `Span.kind` names them, by their number in OTLP; unspecified counts as internal."""

ERROR = 2
"""Number of the status ERROR in OTLP."""

HAS_REMOTE, IS_REMOTE = 0x100, 0x200
"""Flags of a span: it is known whether its parent is in another process; it is."""

EVENT_NAME = "event.name"
"""Attribute with the name of an event that a log record carries, of exporters before OTLP 1.6."""


class Spans(NamedTuple):
    """The spans of a body."""

    spans: Sequence[Span]
    unread: int
    """Number of spans that were left out: without a valid id, or with a field of another type."""


class SpanLog(NamedTuple):
    """A log record that was written inside of a span."""

    trace_id: str
    span_id: str
    event: SpanEvent


class Logs(NamedTuple):
    """The log records of a body that name a GenAI event and a span; any others are ignored."""

    records: Sequence[SpanLog]
    unread: int = 0
    """Number of log records that were left out, with a field of another type."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """The process and the instrumentation scope that a group of spans comes from."""

    resource: Mapping[str, Any]
    scope: str
    version: str


def is_remote(flags: int) -> bool:
    """Report whether a span's flags say that its parent is in another process."""
    return flags & (HAS_REMOTE | IS_REMOTE) == HAS_REMOTE | IS_REMOTE


def is_genai_event(name: str) -> bool:
    """Report whether a log record's event may hold words of a call of a model."""
    return name.startswith("gen_ai.")


def event_attributes(attributes: Mapping[str, Any], body: Any) -> Mapping[str, Any]:
    """Return what an event says: its attributes, and a structured body, in which older emitters put the message."""
    return {**body, **attributes} if isinstance(body, dict) else attributes
