"""OTLP in JSON, as exporters of JavaScript send it: ids in hexadecimal, 64-bit integers as strings or numbers.

Unknown fields are ignored, as the OTLP specification asks ("JSON Protobuf Encoding").
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from converra.otlp import records
from converra.otlp.body import BodyError
from converra.otlp.records import KINDS, NO_SPAN, NO_TRACE, Logs, Origin, SpanLog, Spans
from converra.spans.span import EMPTY, Span, SpanEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_T = TypeVar("_T")
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")
_MOST = 2**63 - 1
_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_ESCAPES = re.compile(
    rb"""\\(?:u[dD][89abAB]..\\u[dD][c-fC-F].. # both halves of a character (UTF-16)
    |(?P<half>u[dD][89a-fA-F]..)
    |.)""",
    re.VERBOSE | re.DOTALL,
)
REPLACEMENT = rb"\ufffd"
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


class _AnyValue(msgspec.Struct, rename="camel", gc=False):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: _ArrayValue | None = None
    kvlist_value: _KeyValueList | None = None
    bytes_value: str | None = None


class _ArrayValue(msgspec.Struct, gc=False):
    values: list[_AnyValue | None] | None = None


class _KeyValue(msgspec.Struct, gc=False):
    key: str = ""
    value: _AnyValue | None = None


class _KeyValueList(msgspec.Struct, gc=False):
    values: list[_KeyValue] | None = None


class _Resource(msgspec.Struct, gc=False):
    attributes: list[_KeyValue] | None = None


class _Scope(msgspec.Struct, gc=False):
    name: str | None = None
    version: str | None = None


class _Event(msgspec.Struct, rename="camel", gc=False):
    name: str | None = None
    time_unix_nano: int | str | None = None
    attributes: list[_KeyValue] | None = None


class _Status(msgspec.Struct, gc=False):
    code: int | str | None = None
    message: str | None = None


class _Span(msgspec.Struct, rename="camel", gc=False):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    flags: int | None = None
    name: str | None = None
    kind: int | str | None = None
    start_time_unix_nano: int | str | None = None
    end_time_unix_nano: int | str | None = None
    attributes: list[_KeyValue] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _LogRecord(msgspec.Struct, rename="camel", gc=False):
    trace_id: str | None = None
    span_id: str | None = None
    time_unix_nano: int | str | None = None
    observed_time_unix_nano: int | str | None = None
    event_name: str | None = None
    body: _AnyValue | None = None
    attributes: list[_KeyValue] | None = None


class _ScopeSpans(msgspec.Struct, gc=False):
    scope: _Scope | None = None
    spans: list[_Span] | None = None


class _ResourceSpans(msgspec.Struct, rename="camel", gc=False):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _Traces(msgspec.Struct, rename="camel", gc=False):
    resource_spans: list[_ResourceSpans] | None = None


class _ScopeLogs(msgspec.Struct, rename="camel", gc=False):
    scope: _Scope | None = None
    log_records: list[_LogRecord] | None = None


class _ResourceLogs(msgspec.Struct, rename="camel", gc=False):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _Logs(msgspec.Struct, rename="camel", gc=False):
    resource_logs: list[_ResourceLogs] | None = None


def traces(body: bytes) -> Spans:
    """Read an `ExportTraceServiceRequest`.

    Raises:
        BodyError: 400: it is no JSON, or no spans can be found in it.

    """
    decoded, unread = _decoded(body, _Traces, ("resourceSpans", "scopeSpans", "spans"), _Span)
    spans = []
    for group in decoded.resource_spans or ():
        resource = _attributes(group.resource.attributes if group.resource else None)
        for scoped in group.scope_spans or ():
            scope = scoped.scope or _Scope()
            origin = Origin(resource, scope.name or "", scope.version or "")
            read = [_span(each, origin) for each in scoped.spans or ()]
            spans += [span for span in read if span is not None]
            unread += read.count(None)
    return Spans(spans, unread)


def logs(body: bytes) -> Logs:
    """Read the GenAI events of an `ExportLogsServiceRequest`.

    Raises:
        BodyError: 400: it is no JSON, or no log records can be found in it.

    """
    decoded, unread = _decoded(body, _Logs, ("resourceLogs", "scopeLogs", "logRecords"), _LogRecord)
    scoped = (each for group in decoded.resource_logs or () for each in group.scope_logs or ())
    read = (_log(record) for each in scoped for record in each.log_records or ())
    return Logs([log for log in read if log is not None], unread)


def _decoded(body: bytes, form: type[_T], path: tuple[str, str, str], item: Any) -> tuple[_T, int]:
    """Decode a body; return with it the number of items that had to be left out, since a field has another type."""
    try:
        try:
            return _json(body, form), 0
        except msgspec.ValidationError:
            plain = _json(body, dict[str, Any])
            left_out = _leave_out(plain, path, item)
            return msgspec.convert(plain, type=form), left_out
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, msgspec.ValidationError) as error:
        raise BodyError(400, f"The body is no OTLP JSON: {error}") from error


def _json(body: bytes, form: type[_T]) -> _T:
    """Decode JSON. Half a character, as an exporter leaves it where it cuts a text, is replaced."""
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        whole = _ESCAPES.sub(_whole, body)
        if whole == body:
            raise
        return msgspec.json.decode(whole, type=form)


def _leave_out(plain: dict[str, Any], path: tuple[str, str, str], item: Any) -> int:
    """Take out of a decoded body the items that are none, and the attributes of resources; count the items."""
    groups, scopes, items = path
    left_out = 0
    for group in _listed(plain, groups):
        resource = group.get("resource") if isinstance(group, dict) else None
        pairs = _listed(resource, "attributes")
        pairs[:] = [pair for pair in pairs if _is(pair, _KeyValue)]
        for scoped in _listed(group, scopes):
            found = _listed(scoped, items)
            valid = [each for each in found if _is(each, item)]
            left_out += len(found) - len(valid)
            found[:] = valid
    return left_out


def _listed(holder: Any, name: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else []


def _is(value: Any, form: Any) -> bool:
    try:
        msgspec.convert(value, type=form)
    except msgspec.ValidationError:
        return False
    return True


def _whole(escape: re.Match[bytes]) -> bytes:
    return REPLACEMENT if escape["half"] else escape[0]


def _span(span: _Span, origin: Origin) -> Span | None:
    trace_id, span_id = _ids(span)
    if trace_id is None or span_id is None:
        return None
    status = span.status or _Status()
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_id(span.parent_span_id, NO_SPAN),
        name=span.name or "",
        kind=KINDS[_numbered(span.kind, _KINDS, "SPAN_KIND_")],
        started=_time(span.start_time_unix_nano),
        ended=_time(span.end_time_unix_nano),
        attributes=_attributes(span.attributes),
        events=tuple([_event(event) for event in span.events or ()]),
        failed=_numbered(status.code, _STATUSES, "STATUS_CODE_") == records.ERROR,
        scope=origin.scope,
        scope_version=origin.version,
        resource=origin.resource,
        remote_parent=records.is_remote(span.flags or 0),
    )


def _log(record: _LogRecord) -> SpanLog | None:
    trace_id, span_id = _ids(record)
    if trace_id is None or span_id is None:
        return None
    attributes = _attributes(record.attributes)
    name = record.event_name or attributes.get(records.EVENT_NAME)
    if not isinstance(name, str) or not records.is_genai_event(name):
        return None
    said = records.event_attributes(attributes, _value(record.body))
    return SpanLog(trace_id, span_id, SpanEvent(name, _time(record.time_unix_nano), said))


def _ids(message: _Span | _LogRecord) -> tuple[str | None, str | None]:
    """Return the ids of the trace and of the span; None for one that is missing or invalid."""
    return _id(message.trace_id, NO_TRACE), _id(message.span_id, NO_SPAN)


def _id(text: str | None, none: str) -> str | None:
    """Return an id in lower-case hexadecimal; None unless it is as long as `none`, and another one."""
    if text is None or len(text) != len(none) or text == none or not _HEXADECIMAL.issuperset(text):
        return None
    return text.lower()


def _event(event: _Event) -> SpanEvent:
    return SpanEvent(event.name or "", _time(event.time_unix_nano), _attributes(event.attributes))


def _integer(value: int | str | None) -> int:
    """Return a 64-bit integer, which JSON has as a string or a number; 0 for anything else."""
    if isinstance(value, str):
        value = int(value) if _INTEGER.fullmatch(value) else 0
    return value if value and -_MOST <= value <= _MOST else 0


def _time(value: int | str | None) -> int:
    return max(0, _integer(value))


def _numbered(value: int | str | None, names: Sequence[str], prefix: str) -> int:
    """Return the number of an enum's value, which some exporters send by its name; 0 for an unknown one."""
    if isinstance(value, str):
        name = value.removeprefix(prefix)
        return names.index(name) if name in names else 0
    return value if value is not None and 0 <= value < len(names) else 0


def _attributes(pairs: Iterable[_KeyValue] | None) -> Mapping[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs or ()} or EMPTY


def _value(value: _AnyValue | None) -> Any:
    """Return an `AnyValue` as plain data."""
    if value is None:
        return None
    for plain in (value.string_value, value.bool_value):
        if plain is not None:
            return plain
    return _number(value) if value.int_value is not None or value.double_value is not None else _held(value)


def _number(value: _AnyValue) -> Any:
    """Return a number; JSON has those that are not finite as text."""
    if value.int_value is not None:
        return _integer(value.int_value)
    try:
        return float(value.double_value or 0)
    except ValueError:
        return value.double_value


def _held(value: _AnyValue) -> Any:
    """Return a value that holds others, or bytes."""
    if value.array_value is not None:
        return [_value(each) for each in value.array_value.values or ()]
    if value.kvlist_value is not None:
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values or ()}
    return None if value.bytes_value is None else _bytes(value.bytes_value)


def _bytes(text: str) -> bytes | str:
    """Return bytes that were sent in base64; the text where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text
