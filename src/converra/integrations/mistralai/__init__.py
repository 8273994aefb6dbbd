"""The mistralai integration: its patch points, and the operations whose requests are turns of a conversation.

All methods of the SDK (made by Speakeasy) send by `do_request`, which names the operation. Its clients for Azure and
Google Cloud are copies of it, each with a method of its own. Retries happen inside.

Chats and agents' completions are OpenAI's but for details; `responses` are OpenAI's. Conversations have entries.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.integrations import CapturedCall, catalogue
from converra.integrations.mistralai import chat, conversations
from converra.integrations.openai import ENDPOINTS
from converra.integrations.openai.chat import answer
from converra.integrations.openai.chat_chunks import ChatChunks
from converra.integrations.patch_groups import PatchGroups
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.payload.fields import fields, parsed
from converra.integrations.speakeasy import ObservedResponse, request_of
from converra.integrations.stainless.request import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Request
    from converra.integrations import Capture

MODULES = (catalogue.MISTRALAI.module, *catalogue.MISTRALAI.parts)
"""Modules that send: of the client, and of its copies for Azure and Google Cloud."""

POINTS = (PatchPoint("BaseSDK", "do_request"), PatchPoint("BaseSDK", "do_request_async", coroutine=True))

UNPROCESSABLE = 422
"""HTTP status of a request that fails validation."""


class Operation(NamedTuple):
    """One operation of the API: how its requests and answers are read."""

    request: Callable[[dict[str, Any], str], Request]
    """Reads a body and the path that it is sent to."""
    endpoint: Endpoint
    wrap: Callable[[CapturedCall, dict[str, Any]], CapturedCall] | None = None
    document: Callable[[bytes], dict[str, Any]] = lambda sent: fields(parsed(sent))
    """Parses a body."""


_endpoint = partial(Endpoint, "mistralai")
_CHAT = Operation(
    chat.request, _endpoint(chat.body, answer, ChatChunks, is_whole=chat.is_whole), chat.prefilled, chat.document
)
_AGENT = _CHAT._replace(request=chat.agent_request)
_RESPONSES = Operation(lambda body, _: ENDPOINTS["/responses"].request(body), ENDPOINTS["/responses"])
_CONVERSATION = Operation(
    conversations.request,
    _endpoint(
        conversations.started, conversations.answer, conversations.ConversationEvents, is_whole=conversations.is_whole
    ),
)

OPERATIONS = {
    "chat_completion_v1_chat_completions_post": _CHAT,
    "stream_chat": _CHAT,
    "agents_completion_v1_agents_completions_post": _AGENT,
    "stream_agents": _AGENT,
    "create_response_v1_responses_post": _RESPONSES,
    **{
        f"agents_api_v1_conversations_{verb}{stream}": _CONVERSATION
        for verb in ("start", "append", "restart")
        for stream in ("", "_stream")
    },
}


def error_type(status: int) -> str:
    """Name the exception that the SDK raises for an HTTP status."""
    return "HTTPValidationError" if status == UNPROCESSABLE else "SDKError"


def observe(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedResponse | None:
    """Begin a turn if this request is one."""
    context = args[0] if args else kwargs["hook_ctx"]
    operation = OPERATIONS.get(context.operation_id)
    if operation is None:
        return None
    sent = request_of(args, kwargs)
    body = operation.document(sent.content)
    call: CapturedCall | None = capture.begin(operation.request(body, sent.url.path))
    if call is None:
        return None
    watched = operation.wrap(call, body) if operation.wrap else call
    return ObservedResponse(watched, operation.endpoint, error_type)


_patches = Patches(POINTS, observe)
_everywhere = PatchGroups(*((module, _patches) for module in MODULES))

INTEGRATION = catalogue.MISTRALAI.integration(_everywhere.install, _everywhere.uninstall)
