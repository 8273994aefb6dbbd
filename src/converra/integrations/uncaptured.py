"""Libraries that an app uses and that are not captured: each is named once in the log, with what to do.

==========================  ==========================================================================================
a library that              is noticed
==========================  ==========================================================================================
has no integration          when it is imported, if `LIBRARIES` has it
has none of the patch       when its integration is installed and finds no patch point: the version is too old or
points                      too new
the setting `integrations`  when it is imported
leaves out
==========================  ==========================================================================================

The watcher of imports looks each imported module up in one dict, so that this costs an app nothing. What is imported
when `instrument()` is called is named in one line.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

from converra.integrations import Patched
from converra.integrations.importing import WATCHER
from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from converra.integrations import Integration

logger: logging.Logger = logging.getLogger("converra")

NOT_CAPTURED = "converra: %s imported, and calls of %s are not recorded. %s."


class Library(NamedTuple):
    """A library that asks models and has no integration."""

    module: str
    """Module that is imported where it is used."""
    package: str
    """Its distribution, as the package index names it."""
    instead: str
    """The advice that the log and the report give."""
    through: tuple[str, ...] = ()
    """Modules of frameworks whose runs are captured, although they use it."""


BY_HAND = "record its turns with conversation.add_message()"
BY_OPENAI = "call its address with OpenAI's API by the openai client, or " + BY_HAND
BY_GOOGLE = "use the google-genai package, which has replaced it"

LIBRARIES = (
    Library("ai21", "ai21", BY_HAND, ("langchain_ai21",)),
    Library("aleph_alpha_client", "aleph-alpha-client", BY_HAND),
    Library("azure.ai.inference", "azure-ai-inference", BY_OPENAI, ("langchain_azure_ai",)),
    Library("cerebras.cloud.sdk", "cerebras-cloud-sdk", BY_OPENAI, ("langchain_cerebras",)),
    Library("cohere", "cohere", BY_OPENAI, ("langchain_cohere",)),
    Library("dashscope", "dashscope", BY_OPENAI),
    Library("fireworks", "fireworks-ai", BY_OPENAI, ("langchain_fireworks",)),
    Library("gigachat", "gigachat", BY_HAND, ("langchain_gigachat",)),
    Library("google.generativeai", "google-generativeai", BY_GOOGLE, ("langchain_google_genai",)),
    Library("ibm_watsonx_ai.foundation_models", "ibm-watsonx-ai", BY_HAND, ("langchain_ibm",)),
    Library("llama_cpp", "llama-cpp-python", "start its server and " + BY_OPENAI),
    Library("mistralai.models.chat_completion", "mistralai", "install mistralai 1 or newer"),
    Library("perplexity", "perplexityai", BY_OPENAI, ("langchain_perplexity",)),
    Library("portkey_ai", "portkey-ai", BY_OPENAI),
    Library("reka", "reka-api", BY_HAND),
    Library("replicate", "replicate", BY_HAND),
    Library("vertexai.generative_models", "google-cloud-aiplatform", BY_GOOGLE, ("langchain_google_vertexai",)),
    Library("volcenginesdkarkruntime", "volcengine-python-sdk", BY_OPENAI),
    Library("writerai", "writer-sdk", BY_OPENAI, ("langchain_writer",)),
    Library("xai_sdk", "xai-sdk", BY_OPENAI, ("langchain_xai",)),
    Library("zhipuai", "zhipuai", BY_OPENAI),
)
"""Libraries without an integration. One that gets an integration is no longer looked at, also if it stays here."""


def installed(package: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def supported(integration: Integration) -> str:
    """Say which versions of its library an integration supports."""
    return f"{integration.package} {integration.since} and newer"


def unsupported(integration: Integration) -> tuple[str, str]:
    """Return a library without any patch point, by name and version, and what to do about it."""
    package = integration.package or integration.module
    present = installed(package)
    if integration.since is None or present is None:
        return integration.module, "compare it with the versions in converra's documentation"
    if _numbers(present) < _numbers(integration.since):
        return f"{package} {present}", f"it is too old: install {supported(integration)}"
    return f"{package} {present}", "this version of converra does not know it: install a newer converra"


def is_too_old(integration: Integration) -> bool:
    """Return True if the installed version of an integration's library is older than the oldest supported."""
    present = installed(integration.package) if integration.package else None
    return present is not None and integration.since is not None and _numbers(present) < _numbers(integration.since)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".")[:2] if part.isdecimal())


def excluded(integration: Integration) -> tuple[str, str]:
    """Return a library that the setting `integrations` leaves out, and what to do about it."""
    return integration.package or integration.module, "the setting `integrations` leaves it out: change that"


class Notices:
    """The libraries that were named in this process, each once, and those that are watched."""

    def __init__(self) -> None:
        self._named: dict[str, object] = {}
        self._collected: dict[str, str] | None = None
        self._watched: set[str] = set()

    def note(self, name: str, instead: str) -> None:
        """Name a library, unless it was named before."""
        mine = object()
        if self._named.setdefault(name, mine) is not mine:  # atomic: a lock could be held during a fork
            return
        collected = self._collected
        if collected is None:
            _log({name: instead})
        else:
            collected[name] = instead

    @contextmanager
    def in_one_line(self) -> Iterator[None]:
        """Name all libraries that are noted in the block in one line."""
        self._collected = {}
        try:
            yield
        finally:
            found, self._collected = self._collected, None
            if found:
                _log(found)

    def watch(self, module: str, seen: Callable[[], None]) -> bool:
        """Call `seen` when a module is imported, and at once if it is; return True if it is imported already."""

        def imported(_module: ModuleType) -> None:
            with guard("naming a library that is not captured"):
                seen()

        self._watched.add(module)
        WATCHER.watch(module, imported)
        if module not in sys.modules:
            return False
        seen()
        return True

    def forget(self) -> None:
        """Watch nothing anymore."""
        for module in self._watched:
            WATCHER.unwatch(module)
        self._watched.clear()

    def reset(self) -> None:
        """Name each library again; for tests."""
        self._named.clear()


def _log(found: dict[str, str]) -> None:
    names, several = list(found), len(found) > 1
    listed = f"{', '.join(names[:-1])} and {names[-1]} are" if several else f"{names[0]} is"
    advice = "; ".join(f"{name}: {instead}" for name, instead in found.items()) if several else found[names[0]]
    logger.warning(NOT_CAPTURED, listed, "them" if several else "it", advice if several else _sentence(advice))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


NOTICES = Notices()


def watch(captured: list[Integration], left_out: list[Integration]) -> list[Patched]:
    """Notice imports of all libraries that are not captured.

    Args:
        captured: Integrations that are on: their libraries are not looked at.
        left_out: Integrations that the setting `integrations` leaves out.

    Returns:
        The rows of the report: libraries that are imported already, and all that are left out.

    """
    rows = [
        Patched(library.module, "skipped", f"not captured: {library.instead}")
        for library in without_integration(captured)
        if NOTICES.watch(library.module, _noter(library)) and not _is_below(library)
    ]
    for integration in left_out:
        if integration.captures:
            NOTICES.watch(integration.module, partial(NOTICES.note, *excluded(integration)))
            rows.append(Patched(integration.module, "skipped", "left out by the setting `integrations`"))
    return rows


def without_integration(captured: Iterable[Integration]) -> list[Library]:
    """Return the libraries of the table that no integration is about."""
    modules = [f"{name}." for one in captured for name in (one.module, *one.parts)]
    return [one for one in LIBRARIES if not any(module.startswith(f"{one.module}.") for module in modules)]


def _noter(library: Library) -> Callable[[], None]:
    return lambda: None if _is_below(library) else NOTICES.note(library.package, library.instead)


def _is_below(library: Library) -> bool:
    """Return True if a framework whose runs are captured has imported it."""
    return any(name in sys.modules for name in library.through)
