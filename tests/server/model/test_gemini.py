"""Gemini's API of the stand-in, over HTTP and by the real `google-genai` client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from tests.patience import LONG

if TYPE_CHECKING:
    from converra.server.run import LocalServer

LOOK_UP: Any = {
    "functionDeclarations": [
        {
            "name": "look_up_order",
            "description": "Where an order is.",
            "parameters": {"type": "OBJECT", "properties": {"order_id": {"type": "STRING"}}, "required": ["order_id"]},
        }
    ]
}


def ask(server: LocalServer, text: str, method: str = "generateContent", **body: Any) -> httpx.Response:
    """Post one user message to a model without ids of calls."""
    contents = [{"role": "user", "parts": [{"text": text}]}]
    url = f"{server.google_url}/v1beta/models/gemini-2.5-flash:{method}"
    headers = {"x-goog-api-key": "any"}
    return httpx.post(url, json={"contents": contents, **body}, headers=headers, timeout=LONG)


def answered(server: LocalServer, text: str, **body: Any) -> Any:
    return ask(server, text, **body).json()


@pytest.fixture
def client(server: LocalServer) -> genai.Client:
    return genai.Client(api_key="any", http_options=types.HttpOptions(base_url=server.google_url))


def test_an_answer_has_googles_shape(server: LocalServer) -> None:
    """Whole, with counts but those that are zero, and honest about who answers."""
    assert answered(server, "Hello") == {
        "candidates": [
            {
                "content": {"parts": [{"text": "Hello! How can I help you today?"}], "role": "model"},
                "index": 0,
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 4,
            "candidatesTokenCount": 9,
            "totalTokenCount": 13,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 4}],
        },
        "modelVersion": "gemini-2.5-flash-stand-in",
        "responseId": "genai-000001",
    }


def test_a_stream_counts_up(server: LocalServer) -> None:
    """Each event has the counts so far; thoughts come first, and the last event ends it."""
    body = ask(server, "[[reasoning:Let me see.]] [[say:One two three]]", "streamGenerateContent?alt=sse").text
    events = [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line]
    parts = [event["candidates"][0]["content"]["parts"][0] for event in events]
    assert [part["text"] for part in parts] == ["Let", " me", " see.", "One", " two", " three"]
    assert [part.get("thought", False) for part in parts] == [True] * 3 + [False] * 3
    assert [event["usageMetadata"].get("candidatesTokenCount") for event in events] == [1, 2, 3, 3, 3, 3]
    assert [event["candidates"][0].get("finishReason") for event in events] == [None] * 5 + ["STOP"]


@pytest.mark.parametrize(
    ("mode", "called"),
    [({}, True), ({"mode": "NONE"}, False), ({"mode": "ANY", "allowedFunctionNames": ["look_up_order"]}, True)],
)
def test_functions(server: LocalServer, mode: dict[str, Any], *, called: bool) -> None:
    """A function is called by the words of the message, unless the request forbids it."""
    config = {"functionCallingConfig": mode}
    (part,) = answered(server, "Where is order 4711?", tools=[LOOK_UP], toolConfig=config)["candidates"][0]["content"][
        "parts"
    ]
    if called:
        assert part == {"functionCall": {"name": "look_up_order", "args": {"order_id": "4711"}}}
    else:
        assert "text" in part


def test_newer_models_give_calls_an_id(server: LocalServer, client: genai.Client) -> None:
    """As Gemini's do, from the third generation on."""
    answer = client.models.generate_content(model="gemini-3-flash", contents="[[tool:f {}]]")
    assert [call.id for call in answer.function_calls or ()] == ["fc_000001"]


def test_a_refusal_is_a_blocked_prompt(server: LocalServer) -> None:
    """There is no candidate then."""
    blocked = answered(server, "[[refuse:Not that.]]")
    assert blocked["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "Not that."}
    assert "candidates" not in blocked


def test_candidates_limits_and_filters(server: LocalServer) -> None:
    """Several candidates, an answer that is cut off by its limit, and one by a filter."""
    two = answered(server, "[[say:Heads]]", generationConfig={"candidateCount": 2})["candidates"]
    assert [candidate["content"]["parts"][0]["text"] for candidate in two] == ["Heads", "Heads (candidate 2)"]
    short = answered(server, "[[words:9]]", generationConfig={"maxOutputTokens": 2})["candidates"][0]
    assert (short["content"]["parts"][0]["text"], short["finishReason"]) == ("lorem ipsum", "MAX_TOKENS")
    assert answered(server, "[[filter]]")["candidates"][0]["finishReason"] == "SAFETY"


def test_structured_answers(client: genai.Client) -> None:
    """JSON of the schema that was asked for."""

    class Order(BaseModel):
        order_id: int
        shipped: bool

    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Order)
    answer = client.models.generate_content(model="gemini-2.5-flash", contents="Order 4711", config=config)
    assert answer.parsed == Order(order_id=4711, shipped=True)


def test_vertex(server: LocalServer) -> None:
    """Its paths name a publisher, and perhaps a project."""
    for path in ("publishers/google/models", "projects/p/locations/l/publishers/google/models"):
        url = f"{server.google_url}/v1beta1/{path}/gemini-2.5-flash:generateContent"
        body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
        answer = httpx.post(url, json=body, headers={"Authorization": "Bearer t"}).json()
        assert answer["modelVersion"] == "gemini-2.5-flash-stand-in"


def test_errors_have_googles_shape(server: LocalServer, client: genai.Client) -> None:
    """Asked for, for a bad request, without a key, and of an unknown address."""
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="gemini-2.5-flash", contents="[[error:429]]")
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    bodies: list[Any] = [{}, {"contents": []}, {"contents": [{"role": "assistant", "parts": []}]}, {"contents": [{}]}]
    for body in bodies:
        refused = httpx.post(
            f"{server.google_url}/v1beta/models/g:generateContent", json=body, headers={"x-goog-api-key": "k"}
        )
        assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    keyless = httpx.post(f"{server.google_url}/v1beta/models/g:generateContent", json={})
    assert (keyless.status_code, keyless.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    unknown = httpx.get(f"{server.google_url}/v1beta/models")
    assert (unknown.status_code, unknown.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_a_stream_can_break(server: LocalServer, client: genai.Client) -> None:
    """Half-way, or with an error event."""
    with pytest.raises(httpx.RemoteProtocolError):
        ask(server, "[[cut:2]] Hello", "streamGenerateContent?alt=sse")
    seen = []
    with pytest.raises(errors.ServerError):
        seen += [
            chunk.text
            for chunk in client.models.generate_content_stream(model="gemini-2.5-flash", contents="[[fail:2]] Hello")
        ]
