"""The groq integration: a Stainless client with OpenAI's Chat Completions."""

from __future__ import annotations

from converra.integrations import Integration
from converra.integrations.openai import ENDPOINTS
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.stainless.request import Seam

POINTS = (
    PatchPoint("Groq", "request"),
    PatchPoint("AsyncGroq", "request", coroutine=True),
)

CHAT = "/chat/completions"

_patches = Patches(POINTS, Seam({CHAT: ENDPOINTS[CHAT]._replace(library="groq")}).observe)

INTEGRATION = Integration(
    "groq", "groq", _patches.install, _patches.uninstall, ("groq._client",), package="groq", since="0.13"
)
