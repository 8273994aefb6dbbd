"""litellm: calls that do not pass the openai client are not captured yet; one warning per process says so.

litellm asks OpenAI and Azure through the openai client, where they are captured. All other providers, and its
`responses`, go through an HTTP handler of its own. A request there that one of litellm's functions for chats has made
is such a call: the stack says so, whatever litellm hands its handler.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from converra.integrations import Integration, Patched
from converra.integrations.patching import Patches, PatchPoint
from converra.process import context

if TYPE_CHECKING:
    from types import FrameType, ModuleType

    from converra.integrations import Capture

logger: logging.Logger = logging.getLogger("converra")

MODULE = "litellm.llms.custom_httpx.http_handler"

POINTS = (PatchPoint("HTTPHandler", "post"), PatchPoint("AsyncHTTPHandler", "post", coroutine=True))

CHATS = frozenset(
    {
        *("completion", "acompletion", "text_completion", "atext_completion", "responses", "aresponses"),
        *("anthropic_messages", "anthropic_messages_handler", "generate_content", "agenerate_content"),
        *("generate_content_stream", "agenerate_content_stream", "fetch_stream", "fetch_sync_stream"),
    }
)
"""Functions of litellm that ask a model for text."""

OTHERS = frozenset(
    {
        *("embedding", "aembedding", "image_generation", "aimage_generation", "moderation", "amoderation", "speech"),
        *("aspeech", "transcription", "atranscription", "rerank", "arerank", "image_edit", "aimage_edit", "search"),
        *("asearch", "create_file", "acreate_file", "create_batch", "acreate_batch", "ocr", "aocr"),
    }
)
"""Its functions that are no turns of a conversation, also where one of them serves a chat (a semantic cache)."""

WHY = "only calls through the openai client are captured: openai/ and azure/ chats"

UNCAPTURED = (
    "converra: a litellm call to %s is not recorded, and neither are later ones like it: litellm sends it by an HTTP "
    "client of its own. Calls of litellm that pass the openai client (chats of openai/ and azure/ models) are. Record "
    "the others with conversation.add_message(), or use the provider's OpenAI-compatible address as api_base of an "
    "openai/ model."
)


class Notice:
    """Warns once per process that some calls of litellm are not captured."""

    def __init__(self) -> None:
        self.given: bool = False

    def __call__(self, capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - as `Patches` calls it
        """Check one request of litellm's own HTTP handler; the request is not observed."""
        if self.given or not asked_for_text(sys._getframe(1)):  # noqa: SLF001 - as `inspect.currentframe`, without importing it
            return
        if context.layers and context.claimed(None):  # LangChain's run of it is recorded
            return
        self.given = True
        logger.warning(UNCAPTURED, _host(args[0] if args else kwargs.get("url")))


def asked_for_text(frame: FrameType | None) -> bool:
    """Return True if the nearest public function of litellm on the stack is one for chats."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == "litellm":
            name = frame.f_code.co_name
            if name in CHATS or name in OTHERS:
                return name in CHATS
        frame = frame.f_back
    return False


def _host(url: Any) -> str:
    return url.partition("://")[2].partition("/")[0] if isinstance(url, str) else "a provider"


_notice = Notice()
_patches = Patches(POINTS, _notice)


def install(module: ModuleType, capture: Capture) -> list[Patched]:
    """Look at the requests of litellm's own handler; the report must not call them captured."""
    _patches.install(module, capture)
    return [Patched("litellm", "skipped", WHY)]


INTEGRATION = Integration("litellm", MODULE, install, _patches.uninstall, captures=False)
