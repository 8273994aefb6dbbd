"""The ends of a process, for every delivery in it."""

from __future__ import annotations

import atexit
import weakref
from typing import TYPE_CHECKING

from converra.guard import guard

if TYPE_CHECKING:
    from converra.delivery.delivery import Delivery

_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()


def watch(delivery: Delivery) -> None:
    """See to it that a delivery is asked before the process ends."""
    if not _deliveries:
        atexit.unregister(_at_exit)
        atexit.register(_at_exit)
    _deliveries.add(delivery)


def _at_exit() -> None:
    for delivery in tuple(_deliveries):
        with guard("delivering at exit"):
            delivery.before_exit()
