"""The fault matrix: whatever the network or the API does to a request, every turn arrives once, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.harness import Held, delivery, lane, turn, words

if TYPE_CHECKING:
    from converra.server.run import LocalServer

RETRY_AFTER = {"Retry-After": "0.1"}

FAULTS: dict[str, dict[str, Any]] = {
    "reset before": {"kind": "reset"},
    "reset after": {"kind": "reset", "when": "after"},
    "closed before": {"kind": "close"},
    "closed after": {"kind": "close", "when": "after"},
    "answer cut": {"kind": "cut"},
    "408": {"kind": "status", "status": 408},
    "425": {"kind": "status", "status": 425},
    "429": {"kind": "status", "status": 429},
    "429 with Retry-After": {"kind": "status", "status": 429, "headers": RETRY_AFTER},
    "500 before": {"kind": "status", "status": 500},
    "500 after": {"kind": "status", "status": 500, "when": "after"},
    "502 before": {"kind": "status", "status": 502},
    "502 after": {"kind": "status", "status": 502, "when": "after"},
    "503 with Retry-After": {"kind": "status", "status": 503, "headers": RETRY_AFTER},
    "unreadable": {"kind": "unreadable"},
    "drip": {"kind": "drip", "seconds": 0.1},
    "hang before": {"kind": "hang"},
    "hang after": {"kind": "hang", "when": "after"},
}

KINDS = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


def _converse(server: LocalServer, **settings: Any) -> Any:
    """Three turns, each flushed; the first request is a create, the last completes."""
    sender = delivery(server, timeout=0.4, **settings)
    conversation = lane(sender)
    for number in (1, 2):
        conversation.append(turn(number))
        assert sender.flush(15)
    conversation.append(turn(3))
    conversation.end()
    assert sender.shutdown(15)
    return sender.stats()


def _check(server: LocalServer) -> None:
    conversation = Held(server)
    assert (conversation.count, conversation.words, conversation.status) == (1, words(1, 2, 3), "completed")


@KINDS
@pytest.mark.parametrize("endpoint", ["create", "append", "complete"])
def test_a_request_that_fails_twice_loses_and_doubles_nothing(
    server: LocalServer, endpoint: Any, fault: dict[str, Any]
) -> None:
    """Create, append and completing append survive every fault."""
    server.faults.add(endpoint, times=2, **fault)
    stats = _converse(server)
    _check(server)
    assert (stats.delivered, stats.pending, stats.rejected, stats.duplicated_risk) == (6, 0, 0, 0)
    assert server.faults.fired[endpoint, fault["kind"]] >= 1


@KINDS
@pytest.mark.parametrize("endpoint", ["append", "complete"])
def test_reading_back_survives_faults_too(server: LocalServer, endpoint: Any, fault: dict[str, Any]) -> None:
    """An append in question is settled although the read-back fails at first."""
    server.faults.add(endpoint, "reset", when="after")
    server.faults.add("read", times=2, **fault)
    stats = _converse(server)
    _check(server)
    assert (stats.delivered, stats.duplicated_risk) == (6, 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("endpoint", ["append", "complete"])
def test_a_server_that_hides_messages_is_asked_for_the_counter(server: LocalServer, endpoint: Any, when: Any) -> None:
    """Where the conversation is shown without its messages, our counter in its metadata tells."""
    server.faults.hide_messages = True
    server.faults.add(endpoint, "reset", when=when)
    stats = _converse(server)
    _check(server)
    assert stats.duplicated_risk == 0
