"""The receiver of spans: what exporters send becomes conversations in the store."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from converra.server import journal
from converra.server.run import serve
from converra.server.store.conversations import Store
from converra.server.store.records import fingerprint
from converra.spans.bridge import Bridge
from tests.markdown import page
from tests.otel.recorded import NAMES, bodies
from tests.patience import LONG, until

if TYPE_CHECKING:
    from converra.server.run import LocalServer
    from converra.server.store.records import Conversation

JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}

CALL: dict[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 9,
    "gen_ai.usage.output_tokens": 2,
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hello?"}]}]),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "Hi."}]}]),
}


def _span(number: int, attributes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    pairs = [
        {"key": key, "value": {"intValue": value} if isinstance(value, int) else {"stringValue": value}}
        for key, value in attributes.items()
    ]
    times = {"startTimeUnixNano": str(number * 10**9), "endTimeUnixNano": str(number * 10**9 + 5 * 10**8)}
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat",
        "attributes": pairs,
        **times,
        **fields,
    }


def _body(*spans: dict[str, Any]) -> bytes:
    scope = {"scope": {"name": "emitter"}, "spans": spans}
    resource = {"attributes": [{"key": "telemetry.sdk.language", "value": {"stringValue": "go"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}).encode()


def _post(server: LocalServer, body: bytes, path: str = "/v1/traces", **headers: str) -> httpx.Response:
    sent = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{server.url}{path}", content=body, headers=sent, timeout=LONG)


def _stored(server: LocalServer) -> list[Conversation]:
    assert server.spans.flush()
    return server.store.conversations()[0][::-1]


def _said(server: LocalServer, conversation: Conversation) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in server.store.messages(conversation)]


@pytest.mark.parametrize("name", NAMES)
def test_the_spans_of_an_emitter_become_its_conversations(server: LocalServer, name: str) -> None:
    """Each chat is one conversation with each turn once, also if every batch is posted twice, in any language."""
    for body in bodies(name) * 2:
        assert _post(server, body.content, body.path).json() == {}
    stored = _stored(server)
    chat = _said(server, stored[0])
    roles = ["system", "user", "tool", "tool", "assistant", "user", "assistant"]
    assert [role for role, _ in chat][:7] == roles
    assert [text for _, text in chat][4:7] == [
        "It is on its way.",
        "Thanks! [[say You are welcome.]]",
        "You are welcome.",
    ]
    usages = [message["usage"] for message in server.store.messages(stored[0]) if "usage" in message]
    assert len(usages) == 3
    assert {"emitter", "language"} <= stored[0].metadata["otel"].keys()


def test_a_real_exporter(server: LocalServer) -> None:
    """The exporter of OpenTelemetry's SDK for Python delivers spans in protobuf, packed with gzip."""
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{server.otlp_url}/v1/traces", compression=Compression.Gzip)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("my.emitter")
    with tracer.start_as_current_span("POST /chat", attributes={"session.id": "s-1", "user.id": "u-1"}):
        tracer.start_span("chat gpt-4o", attributes=CALL).end()
    provider.shutdown()
    (conversation,) = _stored(server)
    assert _said(server, conversation) == [("user", "Hello?"), ("assistant", "Hi.")]
    assert (conversation.prompt_id, conversation.session_id) == ("shop", "s-1")
    otel = {"emitter": "my.emitter", "language": "python", "service": "shop"}
    assert (conversation.metadata["otel"], conversation.metadata["userId"]) == (otel, "u-1")
    assert server.requests[-1].body == b""
    assert server.requests[-1].body_bytes > 0
    assert "my.emitter (python)" in httpx.get(f"{server.url}/conversations/{conversation.id}").text
    assert "my.emitter (python)" in httpx.get(server.url).text


def test_the_body_of_the_docs(server: LocalServer) -> None:
    """The body that the docs show as that of any exporter becomes the conversation that they promise."""
    body = page("docs/how-to/record-any-language.md").code("json")
    assert _post(server, body.encode()).json() == {}
    (conversation,) = _stored(server)
    assert _said(server, conversation) == [("user", "Where is order 7?"), ("assistant", "On its way.")]
    assert (conversation.prompt_id, conversation.session_id) == ("shop", "chat-7")
    assert conversation.metadata["otel"] == {"emitter": "shop.chat", "language": "java", "service": "shop"}


@pytest.mark.parametrize("log_first", [True, False])
def test_words_that_come_as_log_records_join_their_span(server: LocalServer, log_first: bool) -> None:
    """Whichever of the two comes first, span and event are one turn with its words."""
    words = ("gen_ai.input.messages", "gen_ai.output.messages")
    span = _body(_span(1, {name: value for name, value in CALL.items() if name not in words}))
    record = _span(1, {name: CALL[name] for name in words}, eventName="gen_ai.client.inference.operation.details")
    log = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()
    requests = [(span, "/v1/traces"), (log, "/v1/logs")]
    for body, path in reversed(requests) if log_first else requests:
        assert _post(server, body, path).status_code == 200
    (conversation,) = _stored(server)
    assert _said(server, conversation) == [("user", "Hello?"), ("assistant", "Hi.")]


def test_turns_are_stored_without_a_flush(server: LocalServer) -> None:
    """A span shows up in the store soon after it came; other spans, and metrics, are taken and make nothing."""
    http = _span(3, {"http.request.method": "GET"})
    assert _post(server, _body(http)).json() == {}
    assert _post(server, b"{}", "/v1/metrics").json() == {}
    assert _post(server, _body(_span(1, CALL | {"gen_ai.conversation.id": "s-1"}))).status_code == 200
    until(lambda: server.store.conversations()[1] == 1)
    assert server.store.conversations()[0][0].session_id == "s-1"


def test_what_cannot_be_read_costs_no_batch(server: LocalServer) -> None:
    """The others are taken, and the answer says how many spans or log records were not, in the form of the request."""
    odd: list[Any] = [_span(4, CALL) | {"attributes": [{"key": 5}]}, _span(5, CALL, name=["n"]), "no span"]
    body = json.loads(_body(_span(1, CALL), _span(2, CALL, traceId=""), _span(3, CALL, spanId="0" * 16), *odd))
    body["resourceSpans"][0].setdefault("resource", {}).setdefault("attributes", []).append({"key": None})
    reason = "left out: no valid trace id and span id, or a field of another type"
    partial = {"rejectedSpans": "5", "errorMessage": f"5 spans were {reason}"}
    assert _post(server, json.dumps(body).encode()).json() == {"partialSuccess": partial}
    assert len(_stored(server)) == 1
    logs = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": 1}, {}]}]}]}).encode()
    partial = {"rejectedLogRecords": "1", "errorMessage": f"1 log record was {reason}"}
    assert _post(server, logs, "/v1/logs").json() == {"partialSuccess": partial}
    assert _post(server, b'{"resourceSpans": 5}').status_code == 400


def test_refusals(server: LocalServer) -> None:
    """A body that cannot be read is a 400, another type a 415, a large one a 413: with a status of OTLP, and logged."""
    unreadable = httpx.post(f"{server.url}/v1/traces", content=b"\xff\xff", headers=PROTOBUF)
    assert (unreadable.status_code, unreadable.headers["Content-Type"]) == (400, "application/x-protobuf")
    assert b"The body is no ExportTraceServiceRequest" in unreadable.content
    answers = {
        _post(server, b"{"): (400, 3),
        _post(server, b"", Content_Type="text/plain"): (415, 3),
        _post(server, b"{}", Content_Encoding="br"): (415, 3),
        _post(server, gzip.compress(bytes(100_000_000)), Content_Encoding="gzip"): (413, 8),
        _post(server, b"", Host="evil.example"): (403, 7),
        _post(server, b"", Origin="https://evil.example"): (403, 7),
    }
    assert {answer: (answer.status_code, answer.json()["code"]) for answer in answers} == answers
    assert httpx.get(f"{server.url}/v1/traces").status_code == 405
    assert [line.reason for line in server.store.log.lines(100, refused=True) if line.status == 415][-1] == (
        "Content-Type is text/plain; send application/x-protobuf or application/json"
    )
    assert _post(server, b"{}").json() == {}
    empty = httpx.post(f"{server.url}/v1/traces", content=b"", headers=PROTOBUF)
    assert MessageToDict(ExportTraceServiceResponse.FromString(empty.content)) == {}


def test_limits(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body over the limit is a 413 before it is read to its end; a server that is behind asks to try again."""
    monkeypatch.setitem(journal.API_BY_PATH, "/v1/", journal.API_BY_PATH["/v1/"]._replace(max_body_bytes=10))
    large = _post(server, _body(_span(1, CALL)))
    assert (large.status_code, large.json()["code"], large.headers["Connection"]) == (413, 8, "close")
    monkeypatch.undo()
    monkeypatch.setattr(Bridge, "is_full", True)
    behind = _post(server, _body(_span(1, CALL)))
    assert (behind.status_code, behind.json()["code"], behind.headers["Retry-After"]) == (503, 14, "1")
    monkeypatch.undo()
    assert _post(server, _body(_span(1, CALL))).status_code == 200
    assert len(_stored(server)) == 1


def test_each_key_is_an_account(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversations of different keys stay apart; of too many keys, those of the longest silent one are completed."""
    monkeypatch.setattr("converra.server.spans.MAX_ACCOUNTS", 1)
    session = CALL | {"gen_ai.conversation.id": "s-1"}
    for number, key in enumerate(("one", "two"), 1):
        _post(server, _body(_span(number, session)), Authorization=f"Bearer {key}")
    first, second = _stored(server)
    assert (first.account, first.status) == (fingerprint("one"), "completed")
    assert (second.account, second.status) == (fingerprint("two"), "active")


def test_a_token_is_asked_for() -> None:
    """A server with a token takes spans only from exporters that bring it, and keeps them in its account."""
    with serve(token="secret-token") as server:
        assert _post(server, _body(_span(1, CALL))).status_code == 401
        assert _post(server, _body(_span(2, CALL)), Authorization="Bearer secret-token").status_code == 200
        assert len(_stored(server)) == 1
        listed = httpx.get(f"{server.base_url}/conversations", headers={"Authorization": "Bearer secret-token"})
        assert listed.json()["pagination"]["total"] == 1


def test_faults_leave_spans_alone(server: LocalServer) -> None:
    """Faults of the Conversations API neither spoil a request of an exporter nor the storing of its turns."""
    server.faults.add("any", "status", status=503, times=None)
    server.faults.refused_statuses = frozenset({"active"})
    assert _post(server, _body(_span(1, CALL))).status_code == 200
    assert len(_stored(server)) == 1
    assert sum(server.faults.fired.values()) == 0


def test_what_is_open_is_completed_when_the_server_stops() -> None:
    """Nothing that was taken is lost by a stop, and the conversations of spans end with it."""
    store = Store()
    with serve(store=store) as server:
        _post(server, _body(_span(1, CALL)))
    ((conversation,), _) = store.conversations()
    assert (conversation.status, conversation.totals.messages) == ("completed", 2)
    store.close()
