"""The openai integration: its patch points, and the endpoints whose requests are conversation turns.

Azure's clients and subclasses have the same `request`; see `stainless/request.py` for what passes there.
"""

from __future__ import annotations

from functools import partial

from converra.integrations import catalogue
from converra.integrations.openai import chat, responses
from converra.integrations.openai.chat_chunks import ChatChunks, CompletionChunks
from converra.integrations.openai.events import ResponseEvents
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.stainless.request import Endpoint, Retrieval, Seam

POINTS = (
    PatchPoint("OpenAI", "request"),
    PatchPoint("AsyncOpenAI", "request", coroutine=True),
)

_endpoint = partial(Endpoint, "openai")

ENDPOINTS = {
    "/chat/completions": _endpoint(chat.request, chat.answer, ChatChunks),
    "/responses": _endpoint(responses.request, responses.answer, ResponseEvents),
    "/completions": _endpoint(chat.completions_request, chat.completions_answer, CompletionChunks),
}

SEAM = Seam(ENDPOINTS, Retrieval(responses.retrieved_id, responses.RESPONSES, ENDPOINTS["/responses"]))

_patches = Patches(POINTS, SEAM.observe)

INTEGRATION = catalogue.OPENAI.integration(_patches.install, _patches.uninstall)
