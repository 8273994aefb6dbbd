"""What the child processes of these tests share. Their settings come from the environment, as a user's would."""

from __future__ import annotations

from typing import Any

from converra.config import load
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header
from converra.delivery.outbox import schema
from converra.process import lifecycle
from tests.delivery.harness import turn
from tests.patience import LONG


def started(**settings: Any) -> Delivery:
    """A delivery as a program would have it."""
    return Delivery(load(settings))


def unhurried() -> None:
    """Let callers and forks wait for the outbox file as long as a busy machine needs.

    By default they give up after two seconds, and record into memory instead.
    """
    lifecycle.PAUSE_SECONDS = schema.CALLER_SECONDS = LONG


def record(sender: Delivery, key: str, *numbers: int | str, end: bool = True) -> None:
    """Record turns in a conversation."""
    queue = sender.open(Header(key=key, prompt_id="prompt"))
    for number in numbers:
        queue.append(turn(number))
    if end:
        queue.end()


def work(number: int) -> None:
    """What a child of multiprocessing does: it has a delivery of its own, or the one that it inherited."""
    record(started(), f"child {number}", number)
