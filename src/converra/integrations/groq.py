"""The groq integration: a Stainless client with OpenAI's Chat Completions."""

from __future__ import annotations

from converra.integrations import catalogue
from converra.integrations.openai import ENDPOINTS
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.stainless.request import Seam

POINTS = (
    PatchPoint("Groq", "request"),
    PatchPoint("AsyncGroq", "request", coroutine=True),
)

CHAT = "/chat/completions"

_patches = Patches(POINTS, Seam({CHAT: ENDPOINTS[CHAT]._replace(library="groq")}).observe)

INTEGRATION = catalogue.GROQ.integration(_patches.install, _patches.uninstall)
