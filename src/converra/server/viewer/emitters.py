"""The emitter of a turn that came as an OpenTelemetry span: its instrumentation scope, and its language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from converra.server.store.totals import mapping

if TYPE_CHECKING:
    from collections.abc import Mapping


class Emitter(NamedTuple):
    """An emitter as pages name it."""

    scope: str
    language: str | None = None

    @property
    def label(self) -> str:
        """The scope, and the language where it is known."""
        return f"{self.scope} ({self.language})" if self.language else self.scope


def of_conversation(metadata: Mapping[str, Any]) -> Emitter | None:
    """Return the emitter that a conversation's metadata names, in `otel`."""
    return _emitter(mapping(metadata.get("otel")))


def of_message(metadata: Mapping[str, Any]) -> Emitter | None:
    """Return the emitter that a message's metadata names."""
    return _emitter(metadata)


def _emitter(named: Mapping[str, Any]) -> Emitter | None:
    scope, language = named.get("emitter"), named.get("language")
    if not isinstance(scope, str) or not scope:
        return None
    return Emitter(scope, language if isinstance(language, str) else None)
