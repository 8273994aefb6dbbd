"""The together integration (the client from version 2 on, made by Stainless): chats, and legacy completions."""

from __future__ import annotations

from converra.integrations import catalogue
from converra.integrations.openai import ENDPOINTS
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.stainless.request import Seam

POINTS = (
    PatchPoint("Together", "request"),
    PatchPoint("AsyncTogether", "request", coroutine=True),
)

ADDRESSES = ("/chat/completions", "/completions")

_patches = Patches(POINTS, Seam({end: ENDPOINTS[end]._replace(library="together") for end in ADDRESSES}).observe)

INTEGRATION = catalogue.TOGETHER.integration(_patches.install, _patches.uninstall)
