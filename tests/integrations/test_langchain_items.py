"""Output items of the Responses API are recorded alike, whether LangChain or the app itself made the call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

import converra
from tests.integrations.langchain_app import App, brief, running

if TYPE_CHECKING:
    from collections.abc import Iterator

ITEMS: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "xx"},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": [{"name": "t", "input_schema": {}}]},
    {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "t", "arguments": '{"a":1}', "output": "done"},
    {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "t", "arguments": '{"a":1}'},
    {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "container_id": "c", "status": "completed"},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBORw0KGgo="},
    {"type": "tool_search_call", "id": "ts_1", "arguments": {"q": 1}, "execution": "server", "status": "completed"},
    {"type": "tool_search_output", "id": "tso_1", "tools": [], "execution": "server", "status": "completed"},
    {
        "type": "computer_call",
        "id": "cu_1",
        "call_id": "call_7",
        "action": {"type": "screenshot"},
        "pending_safety_checks": [],
        "status": "completed",
    },
    {
        "type": "apply_patch_call",
        "id": "ap_1",
        "call_id": "call_9",
        "operation": {"type": "delete_file", "path": "x"},
        "status": "completed",
    },
]
STREAMING = {"index", "timeToFirstTokenMs"}
"""What a stream adds: LangChain's number of the block, and when the first of it came."""


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    """An app in which LangChain and the client are captured."""
    with running() as running_app:
        yield running_app


@pytest.fixture(scope="module")
def client(app: App) -> Iterator[openai.OpenAI]:
    """The app's own client."""
    with openai.OpenAI(base_url=app.server.openai_url, api_key="none") as own:
        yield own


def _recorded(app: App, session_id: str) -> list[Any]:
    (stored,) = [stored for stored in app.stored() if stored.metadata["sessionId"] == session_id]
    return [_without_streaming(message) for message in brief(app.server.store.messages(stored))]


def _without_streaming(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: plain for key, item in value.items() if key not in STREAMING and (plain := _without_streaming(item))
        }
    return [_without_streaming(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # openai's own, of items that are made up
@pytest.mark.parametrize("item", ITEMS, ids=lambda item: str(item["type"]))
def test_an_item(item: dict[str, Any], app: App, client: openai.OpenAI) -> None:
    """An item is recorded as it is where the app calls the client itself, streamed or not; nothing of it is lost."""
    asked, kind = f"[[item:{json.dumps(item)}]] [[say:Hi]]", item["type"]
    with converra.conversation("prompt", session_id=f"{kind}, client"):
        client.responses.create(model="gpt-4o", input=asked)
    model = app.model(use_responses_api=True)
    with converra.conversation("prompt", session_id=f"{kind}, invoke"):
        model.invoke(asked)
    with converra.conversation("prompt", session_id=f"{kind}, stream"):
        list(model.stream(asked))
    direct = _recorded(app, f"{kind}, client")
    assert item["id"] in str(direct) or item.get("call_id", "Hm.") in str(direct)
    assert _recorded(app, f"{kind}, invoke") == direct
    assert _recorded(app, f"{kind}, stream") == direct
