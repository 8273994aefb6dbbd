"""The setting `otel`: a span watcher on the app's tracer provider, now or when the app sets one.

The global provider is the app's. It is never set here, and never replaced.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from converra.integrations import Integration, Patched
from converra.integrations.patching import Patches, PatchPoint, switch_off, switch_on
from converra.spans.watcher import SpanWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from converra.integrations import Capture
    from converra.spans.bridge import Bridge

TRACES = "opentelemetry.trace"
TARGET = "opentelemetry spans"
"""The row of the report."""

NO_SDK = 'the SDK of OpenTelemetry is not installed: pip install "converra[otel]"'
NO_PROVIDER = "until the app sets a tracer provider"
ODD_PROVIDER = "the tracer provider %s takes no span processor; use converra.otel.ConverraSpanExporter"


class _On:
    """A capture that is on, whichever integrations are: providers are watched for their spans."""

    active = True


_ON: Any = _On()


class _SetProvider:
    """A call that sets the global tracer provider."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching

    def returned(self, result: object) -> None:  # noqa: ARG002 - what it returns does not matter
        """Watch the provider that is set now."""
        self._watching.attach()

    def raised(self, error: BaseException) -> None:
        """Nothing was set."""


class Watching:
    """The span watchers on the providers of this process."""

    def __init__(self) -> None:
        self._bridge: Callable[[], Bridge | None] | None = None
        self._watched: list[tuple[Any, SpanWatcher]] = []
        """Providers, which live as long as the process, and their watchers."""
        # The public function, of which apps hold copies, calls this one by its name.
        self._patches = Patches((PatchPoint("", "_set_tracer_provider"),), self._observe)
        self._integration = Integration("opentelemetry-spans", TRACES, self._install, self._uninstall, captures=False)

    def start(self, bridge: Callable[[], Bridge | None], capture: Capture) -> list[Patched]:
        """Watch the provider of the app, or the one that it will set; return the rows of the report."""
        self._bridge = bridge
        return switch_on(self._integration, capture) or [self.attach()]

    def stop(self) -> None:
        """Read no span any more: a provider keeps its processors."""
        switch_off(self._integration)

    def attach(self) -> Patched:
        """Add a watcher to the app's provider, once; return the row of the report."""
        trace, bridge = sys.modules.get(TRACES), self._bridge
        provider = None if trace is None else getattr(trace, "_TRACER_PROVIDER", None)
        if find_spec("opentelemetry.sdk") is None:
            return Patched(TARGET, "skipped", NO_SDK)
        if provider is None or bridge is None:
            return Patched(TARGET, "waiting", NO_PROVIDER)
        kind = type(provider)
        named = f"{kind.__module__}.{kind.__qualname__}"
        if not hasattr(provider, "add_span_processor"):
            return Patched(TARGET, "skipped", ODD_PROVIDER % named)
        watcher = next((watcher for watched, watcher in self._watched if watched is provider), None)
        if watcher is None:
            watcher = SpanWatcher(bridge)
            provider.add_span_processor(watcher)
            self._watched.append((provider, watcher))
        watcher.is_on = True
        return Patched(TARGET, "patched", f"by a span processor of {named}")

    def _install(self, module: ModuleType, _capture: Capture) -> list[Patched]:
        self._patches.install(module, _ON)
        return [self.attach()]

    def _uninstall(self) -> None:
        self._patches.uninstall()
        for _, watcher in self._watched:
            watcher.is_on = False

    def _observe(self, _capture: Capture, _args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> _SetProvider:
        return _SetProvider(self)


WATCHING = Watching()
