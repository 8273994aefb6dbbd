"""The langchain integration: a handler that LangChain attaches to every run, through its configure hook.

The hook's module is imported by langchain-core itself when the first run is configured, just before it is asked for
hooks: so nothing of LangChain's is imported for this, and the first run is captured already.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from converra.integrations import Patched, catalogue, patching
from converra.integrations.langchain.pauses import PAUSES

if TYPE_CHECKING:
    from types import ModuleType

    from converra.integrations import Capture

(BASE,) = catalogue.LANGCHAIN.parts
"""Where the class of all handlers is: it is imported before a handler can be given to anything."""

DERIVED = ("converra.integrations.langchain.handler", "converra.integrations.langchain.session", "converra.langchain")
"""Modules of `converra` that import LangChain's."""


class Hook:
    """Our entry among LangChain's hooks, and the capture that it serves while it is there.

    LangChain may be imported again: then there are as many lists of hooks, each with an entry.
    """

    def __init__(self) -> None:
        self._capture: Capture | None = None
        self._entries: list[tuple[list[Any], list[Any]]] = []
        """Each list of hooks, and our rows in it."""

    def install(self, module: ModuleType, capture: Capture) -> list[Patched]:
        """Have a handler attached to every run from now on. May be called again."""
        self._capture = capture
        _forget_stale()
        if module.__name__ == BASE:
            return []
        hooks = module._configure_hooks  # noqa: SLF001 - there is no way to take one back but this
        known = next((rows for there, rows in self._entries if there is hooks), [])
        if not any(row in hooks for row in known):
            self._entries = [(there, rows) for there, rows in self._entries if there is not hooks]
            self._entries.append((hooks, self._register(module, hooks)))
        return [Patched("langchain_core runs", "patched"), *patching.switch_on(PAUSES, capture)]

    def uninstall(self) -> None:
        """Remove the handler. Runs under way still call it, and it does nothing."""
        self._capture = None
        patching.switch_off(PAUSES)
        for hooks, rows in self._entries:
            for row in rows:
                if row in hooks:
                    hooks.remove(row)
        self._entries = []

    def _register(self, module: ModuleType, hooks: list[Any]) -> list[Any]:
        from converra.integrations.langchain.handler import RunHandler  # noqa: PLC0415 - it imports langchain_core

        before = list(hooks)
        default = RunHandler(self.capture)  # the default is seen in every thread and task
        handler: ContextVar[Any] = ContextVar("converra_langchain_handler", default=default)
        module.register_configure_hook(handler, inheritable=True, handle_class=RunHandler)
        return [row for row in hooks if row not in before]

    def capture(self) -> Capture | None:
        """Return the capture while there is one and it is active."""
        capture = self._capture
        return capture if capture is not None and capture.active else None


def _forget_stale() -> None:
    """Have our modules that derive from LangChain's classes imported anew where LangChain was: it takes no others."""
    handler, base = sys.modules.get(DERIVED[0]), sys.modules.get(BASE)
    derived = getattr(handler, "BaseCallbackHandler", None)  # None, too, while it is imported, and imports LangChain
    if derived is not None and (base is None or derived is not base.BaseCallbackHandler):
        for name in DERIVED:
            sys.modules.pop(name, None)


_hook = Hook()

INTEGRATION = catalogue.LANGCHAIN.integration(_hook.install, _hook.uninstall)
