"""OTLP in protobuf, the default of most exporters. `opentelemetry-proto` is imported with this module only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from converra.otlp import records
from converra.otlp.body import BodyError
from converra.otlp.records import KINDS, Logs, Origin, SpanLog, Spans
from converra.spans.span import EMPTY, Span, SpanEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_TRACE_BYTES, _SPAN_BYTES = 16, 8


def traces(body: bytes) -> Spans:
    """Read an `ExportTraceServiceRequest`.

    Raises:
        BodyError: 400: it is none.

    """
    spans, unread = [], 0
    for group in _parsed(ExportTraceServiceRequest(), body).resource_spans:
        resource = _attributes(group.resource.attributes)
        for scoped in group.scope_spans:
            origin = Origin(resource, scoped.scope.name, scoped.scope.version)
            read = [_span(each, origin) for each in scoped.spans]
            spans += [span for span in read if span is not None]
            unread += read.count(None)
    return Spans(spans, unread)


def logs(body: bytes) -> Logs:
    """Read the GenAI events of an `ExportLogsServiceRequest`.

    Raises:
        BodyError: 400: it is none.

    """
    groups = _parsed(ExportLogsServiceRequest(), body).resource_logs
    scoped = (each for group in groups for each in group.scope_logs)
    read = (_log(record) for each in scoped for record in each.log_records)
    return Logs([log for log in read if log is not None])


def _parsed(message: Any, body: bytes) -> Any:
    try:
        message.ParseFromString(body)
    except (DecodeError, RecursionError) as error:
        raise BodyError(400, f"The body is no {type(message).__name__}") from error
    return message


def _span(span: Any, origin: Origin) -> Span | None:
    trace_id, span_id = _ids(span)
    if trace_id is None or span_id is None:
        return None
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=KINDS[span.kind] if span.kind < len(KINDS) else KINDS[0],
        started=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events=tuple([_event(event) for event in span.events]),
        failed=span.status.code == records.ERROR,
        scope=origin.scope,
        scope_version=origin.version,
        resource=origin.resource,
        remote_parent=records.is_remote(span.flags),
    )


def _log(record: Any) -> SpanLog | None:
    trace_id, span_id = _ids(record)
    if trace_id is None or span_id is None:
        return None
    name = record.event_name or _value(next((a.value for a in record.attributes if a.key == records.EVENT_NAME), None))
    if not isinstance(name, str) or not records.is_genai_event(name):
        return None
    attributes = records.event_attributes(_attributes(record.attributes), _value(record.body))
    return SpanLog(trace_id, span_id, SpanEvent(name, record.time_unix_nano, attributes))


def _ids(message: Any) -> tuple[str | None, str | None]:
    """Return the ids of the trace and of the span in hexadecimal; None for one that is missing or invalid."""
    trace_id, span_id = message.trace_id, message.span_id
    return (
        trace_id.hex() if len(trace_id) == _TRACE_BYTES and trace_id != _NO_TRACE else None,
        span_id.hex() if len(span_id) == _SPAN_BYTES and span_id != _NO_SPAN else None,
    )


def _event(event: Any) -> SpanEvent:
    return SpanEvent(event.name, event.time_unix_nano, _attributes(event.attributes))


def _attributes(pairs: Iterable[Any]) -> Mapping[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs} or EMPTY


def _value(value: Any) -> Any:
    """Return an `AnyValue` as plain data. Most are strings, which are asked for first: that is quickest."""
    if value is None:
        return None
    if text := value.string_value:
        return text
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return _values(value.array_value.values)
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


def _values(values: Sequence[Any]) -> list[Any]:
    return [_value(each) for each in values]
