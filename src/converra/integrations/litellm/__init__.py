"""The litellm integration: its patch points, and what is recorded at each of them.

litellm calls OpenAI and Azure through the openai client, and all other providers by an HTTP client of its own. In both
cases, each call has a `Logging` object of litellm's, and passes these methods with it:

===============================  =====================================================================================
method                           what happens there
===============================  =====================================================================================
`Logging.__init__`               a call enters litellm: a framework around it may record it
`Logging.pre_call`               a turn begins: the request is about to be sent, in the context of the app
`post_call_processing`, and      a whole answer has arrived, and the turn ends; in versions before 1.80 only the second
`LLMCachingHandler.*_set_cache`  one is there
`Logging.failure_handler`        the call has failed, and so has the turn
`completion_with_retries`, …     litellm tries again, and the outcome ends the turn; with async calls, a second turn
`CustomStreamWrapper`            a stream: its methods are observed, and its instances noticed when they are dropped;
                                 likewise the iterators of the Responses API
`get_async_streaming_response_   a stream in Anthropic's format, as bytes: a generator around it watches it
iterator`, `async_sse_wrapper`
`Logging.*success_handler`       the turn ends here if nothing has ended it before, such as streams of rarer endpoints
`LLMCachingHandler.*_get_cache`  an answer comes from litellm's cache: a turn without usage, marked `cacheHit`
===============================  =====================================================================================

Why not a callback of litellm's? It is an entry in lists that apps read, compare and replace. Its events come late, from
other threads, and for a stream that is left in the middle never.

The clients below are kept from recording the same call by `layer.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converra.integrations import Patched, catalogue
from converra.integrations.litellm import calls, layer, streams
from converra.integrations.litellm.layer import LAYER
from converra.integrations.patch_groups import PatchGroups
from converra.integrations.patching import Patches, PatchPoint
from converra.process import context

if TYPE_CHECKING:
    from types import ModuleType

    from converra.integrations import Capture

LOGGING = catalogue.LITELLM.module
UTILS, PACKAGE, CACHE, STREAMS, RESPONSES, MESSAGES = catalogue.LITELLM.parts

_ASYNC, _SYNC = "ResponsesAPIStreamingIterator", "SyncResponsesAPIStreamingIterator"
_MADE = ("MockResponsesAPIStreamingIterator", "CachedResponsesAPIStreamingIterator")
"""Streams of the Responses API: from the provider, or made of a whole answer."""

_RENAMED = ("LLMCachingHandler._sync_get_cache", "LLMCachingHandler._async_get_cache")
"""Names of methods in older versions: not reported where they are absent."""


def _points(owner: str, *names: str, coroutines: tuple[str, ...] = ()) -> tuple[PatchPoint, ...]:
    plain = tuple(PatchPoint(owner, name, bound=True) for name in names)
    return (*plain, *(PatchPoint(owner, name, coroutine=True, bound=True) for name in coroutines))


_STREAM = "CustomStreamWrapper"
_BASE = "BaseResponsesAPIStreamingIterator"
_RELAY = "BaseAnthropicMessagesStreamingIterator"

PATCHES = PatchGroups(
    (LOGGING, Patches(_points("Logging", "__init__"), layer.made)),
    (LOGGING, Patches(_points("Logging", "pre_call"), calls.begun)),
    (LOGGING, Patches(_points("Logging", "failure_handler"), calls.failed)),
    (LOGGING, Patches(_points("Logging", "success_handler", coroutines=("async_success_handler",)), calls.succeeded)),
    (UTILS, Patches((PatchPoint("", "post_call_processing"),), calls.answered)),
    (
        PACKAGE,
        Patches(
            (
                PatchPoint("", "completion_with_retries"),
                PatchPoint("", "responses_with_retries"),
                PatchPoint("", "acompletion_with_retries", coroutine=True),
                PatchPoint("", "aresponses_with_retries", coroutine=True),
            ),
            calls.retried,
        ),
    ),
    (
        CACHE,
        Patches(_points("LLMCachingHandler", "sync_set_cache", coroutines=("async_set_cache",)), calls.kept),
    ),
    (
        CACHE,
        Patches(
            _points(
                "LLMCachingHandler",
                *("sync_get_cache", "_sync_get_cache"),
                coroutines=("async_get_cache", "_async_get_cache"),
            ),
            calls.looked_up,
        ),
    ),
    (STREAMS, Patches(_points(_STREAM, "__init__"), streams.made)),
    (STREAMS, Patches(_points(_STREAM, "__next__", coroutines=("__anext__",)), streams.read)),
    (STREAMS, Patches(_points(_STREAM, "close", coroutines=("aclose",)), streams.closed)),
    (RESPONSES, Patches(_points(_BASE, "__init__"), streams.made)),
    (RESPONSES, Patches(_points(_ASYNC, coroutines=("__anext__",)), streams.read)),
    (RESPONSES, Patches(_points(_ASYNC, coroutines=("aclose",)), streams.closed)),
    (RESPONSES, Patches(_points(_SYNC, "__next__"), streams.read)),
    (RESPONSES, Patches(_points(_SYNC, "close"), streams.closed)),
    (MESSAGES, Patches(_points(_RELAY, "get_async_streaming_response_iterator", "async_sse_wrapper"), streams.relayed)),
    *((RESPONSES, Patches(_points(name, "__next__", coroutines=("__anext__",)), streams.read)) for name in _MADE),
)


def install(module: ModuleType, capture: Capture) -> list[Patched]:
    """Patch the modules that have been imported: `module`, and those that were there before."""
    context.join(LAYER)
    rows = PATCHES.install(module, capture)
    return [row for row in rows if row.state == "patched" or not row.target.endswith(_RENAMED)]


def uninstall() -> None:
    """Put all originals back, and record what was asked by calls under way: their ends are not observed any more."""
    PATCHES.uninstall()
    calls.ATTEMPTS.give_up()


INTEGRATION = catalogue.LITELLM.integration(install, uninstall)
