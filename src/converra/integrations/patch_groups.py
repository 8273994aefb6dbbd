"""The patch points of a library that stand in several modules, or are observed in different ways."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from converra.integrations import Capture, Patched
    from converra.integrations.patching import Patches


class PatchGroups:
    """The patches of an integration, by the module that each is installed in.

    Args:
        groups: Name of a module, and patches. Whichever of the modules is imported, all that are present are patched.

    """

    def __init__(self, *groups: tuple[str, Patches]) -> None:
        self.groups = groups

    def install(self, module: ModuleType, capture: Capture) -> list[Patched]:
        """Patch `module`, which has just been imported, and the modules that were there before."""
        present = {name: sys.modules.get(name) for name, _ in self.groups} | {module.__name__: module}
        return [
            row
            for name, patches in self.groups
            if (found := present[name]) is not None
            for row in patches.install(found, capture)
        ]

    def uninstall(self) -> None:
        """Put all originals back."""
        for _, patches in self.groups:
            patches.uninstall()
