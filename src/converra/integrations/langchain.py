"""The langchain integration: a handler that LangChain attaches to every run, through the hook that it has for that.

The hook's module is imported by langchain-core itself when the first run is configured, just before it is asked for
hooks: so nothing of LangChain's is imported for this, and the first run is captured already.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from converra.integrations import Integration, Patched

if TYPE_CHECKING:
    from types import ModuleType

    from converra.integrations import Capture

MODULE = "langchain_core.tracers.context"


class Hook:
    """Our entry among LangChain's hooks, and the capture that it serves while it is there."""

    def __init__(self) -> None:
        self._capture: Capture | None = None
        self._rows: list[Any] = []
        self._hooks: list[Any] = []

    def install(self, module: ModuleType, capture: Capture) -> list[Patched]:
        """Have a handler attached to every run from now on. May be called again."""
        self._capture = capture
        if not any(row in module._configure_hooks for row in self._rows):  # noqa: SLF001 - there is no way to take one back but this
            self._register(module)
        return [Patched("langchain_core runs", "patched")]

    def uninstall(self) -> None:
        """Take the handler away. Runs under way are still told to it, and it does nothing."""
        self._capture = None
        for row in self._rows:
            if row in self._hooks:
                self._hooks.remove(row)
        self._rows = []

    def _register(self, module: ModuleType) -> None:
        from converra.integrations.langchain_handler import RunHandler  # noqa: PLC0415 - it imports langchain_core

        self._hooks = module._configure_hooks  # noqa: SLF001 - as above
        before = list(self._hooks)
        default = RunHandler(self.capture)  # the default is seen in every thread and task
        handler: ContextVar[Any] = ContextVar("converra_langchain_handler", default=default)
        module.register_configure_hook(handler, inheritable=True, handle_class=RunHandler)
        self._rows = [row for row in self._hooks if row not in before]

    def capture(self) -> Capture | None:
        """The capture, while there is one and it is switched on."""
        capture = self._capture
        return capture if capture is not None and capture.active else None


_hook = Hook()

INTEGRATION = Integration("langchain", MODULE, _hook.install, _hook.uninstall)
