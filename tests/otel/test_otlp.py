"""Bodies of OTLP, in both forms, read as spans."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from converra.otlp import json_form, protobuf_form
from converra.otlp.body import BodyError, form_of, unpacked
from converra.spans.span import Span, SpanEvent
from tests.otel.recorded import NAMES, bodies

TRACE, SPAN, PARENT = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "eee19b7ec3c1b173"
IDS = ("traceId", "spanId", "parentSpanId")

ATTRIBUTES = [
    {"key": "text", "value": {"stringValue": "words"}},
    {"key": "empty", "value": {"stringValue": ""}},
    {"key": "flag", "value": {"boolValue": False}},
    {"key": "count", "value": {"intValue": "7"}},
    {"key": "share", "value": {"doubleValue": 0.5}},
    {"key": "bytes", "value": {"bytesValue": "AQI="}},
    {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "two"}, {}]}}},
    {"key": "map", "value": {"kvlistValue": {"values": [{"key": "deep", "value": {"kvlistValue": {"values": []}}}]}}},
    {"key": "none"},
]
PLAIN = {
    "text": "words",
    "empty": "",
    "flag": False,
    "count": 7,
    "share": 0.5,
    "bytes": b"\x01\x02",
    "list": [1, "two", None],
    "map": {"deep": {}},
    "none": None,
}


def _traces(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    scope = {"name": "emitter", "version": "1.2"}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}


def _protobuf(body: dict[str, Any], message: Any) -> bytes:
    """Encode a body of OTLP's JSON as protobuf, whose general JSON has ids in base64."""

    def general(value: Any) -> Any:
        if isinstance(value, list):
            return [general(each) for each in value]
        if not isinstance(value, dict):
            return value
        in_base64 = {name: base64.b64encode(bytes.fromhex(value[name])).decode() for name in IDS if name in value}
        return {name: general(each) for name, each in value.items()} | in_base64

    return bytes(ParseDict(general(body), message, ignore_unknown_fields=True).SerializeToString())


def test_both_forms_say_the_same() -> None:
    """Every kind of value, and everything that a span tells, comes out equal."""
    span = {
        "traceId": TRACE,
        "spanId": SPAN,
        "parentSpanId": PARENT,
        "flags": 0x301,
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": "1544712661000000000",
        "attributes": ATTRIBUTES,
        "events": [{"name": "said", "timeUnixNano": "1544712660500000000", "attributes": ATTRIBUTES[:1]}],
        "status": {"code": 2, "message": "words that are not kept"},
    }
    body = _traces(span, span | {"traceId": TRACE[2:]})
    expected = Span(
        TRACE,
        SPAN,
        PARENT,
        "chat gpt-4o",
        "client",
        1544712660000000000,
        1544712661000000000,
        PLAIN,
        (SpanEvent("said", 1544712660500000000, {"text": "words"}),),
        failed=True,
        scope="emitter",
        scope_version="1.2",
        resource={"service.name": "shop"},
        remote_parent=True,
    )
    encoded = _protobuf(body, ExportTraceServiceRequest())
    for read in (json_form.traces(json.dumps(body).encode()), protobuf_form.traces(encoded)):
        assert list(read.spans) == [expected]
        assert read.unread == 1


@pytest.mark.parametrize("name", NAMES)
def test_what_emitters_sent_is_the_same_in_both_forms(name: str) -> None:
    """Recorded bodies come out equal, whichever form they are sent in."""
    for body in bodies(name):
        given_json = json.loads(body.content)
        if body.path == "/v1/logs":
            encoded = _protobuf(given_json, ExportLogsServiceRequest())
            assert protobuf_form.logs(encoded) == json_form.logs(body.content)
        else:
            encoded = _protobuf(given_json, ExportTraceServiceRequest())
            assert protobuf_form.traces(encoded) == json_form.traces(body.content)


def test_the_json_of_exporters_varies() -> None:
    """Numbers as numbers or strings, enums by number or name, ids in capitals, nulls, and unknown fields are read."""
    span = {
        "traceId": TRACE.upper(),
        "spanId": SPAN,
        "parentSpanId": "",
        "kind": "SPAN_KIND_CLIENT",
        "startTimeUnixNano": 1544712660000000000,
        "endTimeUnixNano": None,
        "status": {"code": "STATUS_CODE_ERROR"},
        "droppedAttributesCount": 0,
        "links": [],
        "attributes": [
            {"key": "count", "value": {"intValue": 7}},
            {"key": "share", "value": {"doubleValue": "NaN"}},
            {"key": "odd", "value": {"bytesValue": "no base64"}},
        ],
        "events": None,
    }
    odd = {"spanId": SPAN, "traceId": TRACE, "kind": "SOME_KIND", "startTimeUnixNano": "soon", "status": None}
    first, second = json_form.traces(json.dumps(_traces(span, odd)).encode()).spans
    assert (first.trace_id, first.parent_id, first.kind, first.started, first.ended) == (
        *(TRACE, None, "client", 1544712660000000000, 0),
    )
    assert first.failed
    assert first.is_root
    assert (first.attributes["count"], str(first.attributes["share"]), first.attributes["odd"]) == (
        7,
        "nan",
        "no base64",
    )
    assert (second.kind, second.started, second.failed, second.attributes) == ("internal", 0, False, {})


def test_half_a_character_costs_no_batch() -> None:
    """A text that was cut within a character, as JavaScript can, has a replacement there."""
    body = json.dumps(_traces({"traceId": TRACE, "spanId": SPAN, "name": "@"}))
    cut = body.replace('"@"', r'"\\ud83d \ud83d\ude00 \ude00 \n \ud83d"').encode()
    assert [span.name for span in json_form.traces(cut).spans] == ["\\ud83d \U0001f600 \ufffd \n \ufffd"]


def test_only_events_of_genai_inside_of_a_span_are_kept() -> None:
    """A log record with a GenAI event becomes an event of its span, from attributes and body; others are ignored."""
    body = {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": "Hello"}}]}}
    attribute = {"key": "gen_ai.system", "value": {"stringValue": "openai"}}
    old_name = {"key": "event.name", "value": {"stringValue": "gen_ai.choice"}}
    within = {"traceId": TRACE, "spanId": SPAN, "timeUnixNano": "5", "body": body}
    records = [
        within | {"eventName": "gen_ai.user.message", "attributes": [attribute]},
        within | {"attributes": [old_name]},
        within | {"eventName": "exception"},
        within | {"spanId": "", "eventName": "gen_ai.user.message"},
        {"body": {"stringValue": "a line of a log"}},
    ]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    expected = [
        (TRACE, SPAN, SpanEvent("gen_ai.user.message", 5, {"content": "Hello", "gen_ai.system": "openai"})),
        (TRACE, SPAN, SpanEvent("gen_ai.choice", 5, {"content": "Hello", "event.name": "gen_ai.choice"})),
    ]
    assert list(json_form.logs(json.dumps(logs).encode()).records) == expected
    assert list(protobuf_form.logs(_protobuf(logs, ExportLogsServiceRequest())).records) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """A body that cannot be read is refused, and never by another exception."""
    for read in (json_form.traces, json_form.logs, protobuf_form.traces, protobuf_form.logs):
        with contextlib.suppress(BodyError):
            read(body)


def test_nesting_without_end_is_refused() -> None:
    """Values nested thousands of levels deep are a 400, not a crash."""
    value = '{"arrayValue":{"values":[' * 5000 + "{}" + "]}}" * 5000
    span = f'{{"traceId":"{TRACE}","spanId":"{SPAN}","attributes":[{{"key":"deep","value":{value}}}]}}'
    with pytest.raises(BodyError, match="JSON"):
        json_form.traces(f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}'.encode())


def test_compression_is_bounded() -> None:
    """Of a bomb no more than the limit is unpacked; broken and unknown compressions are refused."""
    packed = gzip.compress(b"a" * 1000) + gzip.compress(b"b" * 24)
    assert unpacked(packed, "gzip") == b"a" * 1000 + b"b" * 24
    assert unpacked(b"plain", "identity") == b"plain"
    for body, encoding, status in (
        (gzip.compress(bytes(10_000_000)), "gzip", 413),
        (bytes(1025), "", 413),
        (packed[:-9], "gzip", 400),
        (b"no gzip", "gzip", 400),
        (packed, "zstd", 415),
    ):
        with pytest.raises(BodyError) as refused:
            unpacked(body, encoding, limit=1024)
        assert refused.value.status == status


def test_media_types() -> None:
    """Protobuf and JSON are read, with parameters and in any case; anything else is a 415."""
    assert form_of("Application/JSON; charset=utf-8") == "json"
    assert form_of("application/x-protobuf") == form_of("application/protobuf") == "protobuf"
    for other in ("", "text/plain", "application/grpc"):
        with pytest.raises(BodyError) as refused:
            form_of(other)
        assert refused.value.status == 415
