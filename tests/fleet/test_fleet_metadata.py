"""Metadata that an app of a fleet sets after its last message reaches the API, through whichever relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.delivery.header import Header
from tests.delivery.harness import held, turn, words
from tests.fleet.test_fleet import producer, relay
from tests.patience import LONG, until

if TYPE_CHECKING:
    from pathlib import Path

    from converra.delivery.conversation_queue import ConversationQueue
    from converra.server.run import LocalServer
    from tests.fleet.test_fleet import Closing

CARRIER = "Metadata updated."


def words_of(api: LocalServer) -> list[str]:
    (one,) = held(api)
    return one.words


def set_by_app(api: LocalServer) -> dict[str, Any]:
    (one,) = held(api)
    return {name: value for name, value in (one.metadata or {}).items() if not name.startswith("sdk")}


def test_metadata_without_a_message_is_delivered_when_asked_for(
    api: LocalServer, outbox: str, closing: Closing
) -> None:
    """By a flush, and at the end of a block; a message that comes at once takes it along."""
    sender = producer(api, outbox, closing)
    relay(api, outbox, closing)
    queue: ConversationQueue = sender.open(Header(key="a", prompt_id="prompt", shared=True))
    queue.append(turn(1))
    assert sender.flush(LONG, delivered=True)
    queue.annotate({"a": {1}}, alone=True)
    assert sender.flush(LONG, delivered=True)
    assert set_by_app(api) == {"a": [1]}
    queue.annotate({"b": 2}, alone=True)
    queue.send_now()
    until(lambda: set_by_app(api), {"a": [1], "b": 2})
    queue.annotate({"c": 3}, alone=True)
    queue.append(turn(2))
    queue.send_now()
    assert sender.flush(LONG, delivered=True)
    assert words_of(api) == [*words(1), CARRIER, CARRIER, *words(2)]
    assert set_by_app(api) == {"a": [1], "b": 2, "c": 3}


def test_metadata_of_another_process_is_delivered_without_a_message(
    api: LocalServer, outbox: str, closing: Closing
) -> None:
    """Also by a relay that takes over from one that was stopped before it could send."""
    first, second = producer(api, outbox, closing), producer(api, outbox, closing)
    stopped = relay(api, outbox, closing)
    opener = first.open(Header(key="a", prompt_id="prompt", shared=True))
    opener.append(turn(1))
    assert first.flush(LONG, delivered=True)
    api.faults.add("append", "status", status=503, times=None)
    joiner = second.open(Header(key="a", prompt_id="prompt", shared=True))
    joiner.annotate({"ticket": 1}, alone=True)
    joiner.send_now()
    assert second.flush(LONG)
    assert not second.flush(0.5, delivered=True)
    stopped.stop(LONG)
    api.faults.clear()
    relay(api, outbox, closing, timeout=1.0)  # it waits so long for the other one's last request
    assert second.flush(LONG, delivered=True)
    assert words_of(api) == [*words(1), CARRIER]
    assert set_by_app(api)["ticket"] == 1


def test_metadata_goes_to_the_spill_file_and_from_there_to_the_api(
    api: LocalServer, outbox: str, closing: Closing, tmp_path: Path
) -> None:
    """A process that ends while Redis is away keeps it as it keeps messages."""
    away = producer(api, f"redis://127.0.0.1:1?spill={tmp_path / 'spill'}", closing)
    queue = away.open(Header(key="a", prompt_id="prompt", shared=True))
    queue.append(turn(1))
    queue.annotate({"a": 1}, alone=True)
    queue.send_now()
    away.shutdown(0.5)
    back = producer(api, f"{outbox}{'&' if '?' in outbox else '?'}spill={tmp_path / 'spill'}", closing)
    relay(api, outbox, closing)
    back.start()
    until(lambda: bool(held(api)) and words_of(api)[:2] == words(1) and set_by_app(api).get("a") == 1)
