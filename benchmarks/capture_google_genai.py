"""Shapes of talking to a model with the google-genai client, of which only the frame is left.

The request methods of its API client, through which all calls go, answer with a fresh copy of a ready object. What the
client does around them (pydantic models, hundreds of microseconds) is left out, as in `capture_openai`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google import genai
from google.genai._api_client import BaseApiClient
from google.genai.types import HttpResponse

from benchmarks.capture_openai import CHUNKS
from benchmarks.interleaved import Scope, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "models/gemini-2.5-flash"
INSTRUCTION = {"parts": [{"text": "You are the support assistant of a shop for tents."}], "role": "user"}
TOOLS = [{"functionDeclarations": [{"name": f"tool_{n}", "description": "A tool."} for n in range(20)]}]
HEADERS = {"content-type": "application/json"}


def _body(text: str, finish: str | None = None) -> str:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    counts = {"promptTokenCount": 20, "candidatesTokenCount": 7, "totalTokenCount": 27}
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}]}
    head = {"modelVersion": "gemini-2.5-flash", "responseId": "response-1"}
    last = {"finishReason": finish} if finish else {}
    return json.dumps({"candidates": [candidate | last], "usageMetadata": counts | details, **head})


ANSWER = _body("It arrives on Thursday.", "STOP")
PIECES = [*[_body("word ")] * (CHUNKS - 1), _body("", "STOP")]


def _request(_client: Any, _method: str, _path: str, _body: Any, _options: Any = None) -> HttpResponse:
    return HttpResponse(headers=HEADERS, body=ANSWER)


def _request_streamed(
    _client: Any, _method: str, _path: str, _body: Any, _options: Any = None
) -> Iterator[HttpResponse]:
    for piece in PIECES:
        yield HttpResponse(headers=HEADERS, body=piece)


stubbed: Any = BaseApiClient
stubbed.request, stubbed.request_streamed = _request, _request_streamed

api: Any = genai.Client(api_key="benchmark")._api_client  # noqa: SLF001 - what is patched


def _said(role: str, text: str) -> dict[str, Any]:
    return {"parts": [{"text": text}], "role": role}


def short(scope: Scope) -> None:
    """Ask the same question 20 times, each without a history."""
    with scope():
        for _ in range(20):
            body = {"contents": [_said("user", "Where is my order?")], "systemInstruction": INSTRUCTION}
            api.request("post", f"{PATH}:generateContent", body)


def small(scope: Scope) -> None:
    """Run a chat of 20 short turns; the history grows from one content to 39."""
    history: list[Any] = []
    with scope():
        for turn in range(20):
            history.append(_said("user", f"Question {turn}?"))
            api.request(
                "post", f"{PATH}:generateContent", {"contents": list(history), "systemInstruction": INSTRUCTION}
            )
            history.append(_said("model", "It arrives on Thursday."))


def large(scope: Scope) -> None:
    """Run ten turns after a history of 60 contents of 500 characters, with 20 declared tools."""
    roles = ("user", "model")
    history: list[Any] = [_said(roles[n % 2], f"{n:03} " + "x" * 496) for n in range(60)]
    with scope():
        for turn in range(10):
            history.append(_said("user", f"Question {turn}?"))
            api.request("post", f"{PATH}:generateContent", {"contents": list(history), "tools": TOOLS})
            history.append(_said("model", "It arrives on Thursday."))


def streamed(scope: Scope) -> None:
    """Stream five answers in 300 chunks each."""
    history: list[Any] = []
    with scope():
        for turn in range(5):
            history.append(_said("user", f"Question {turn}?"))
            text = ""
            for chunk in api.request_streamed("post", f"{PATH}:streamGenerateContent", {"contents": list(history)}):
                text += chunk.body[-1]
            history.append(_said("model", text))


SHAPES = (
    Shape("google-genai call", short, 20),
    Shape("google-genai chat, growing", small, 20),
    Shape("google-genai, 60 contents, 20 tools", large, 10),
    Shape("google-genai stream of 300 chunks", streamed, 5),
)
