"""Whoever records HTTP in tests can record ours: an exchange with the local API, replayed without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from vcr.errors import CannotOverwriteExistingCassetteException  # type: ignore[import-untyped] # it has no types

from tests.api.callers import Caller, both

if TYPE_CHECKING:
    from vcr.cassette import Cassette  # type: ignore[import-untyped] # it has no types

CASSETTE = "conversation.yaml"


@pytest.fixture(scope="module")
def vcr_config() -> dict[str, Any]:
    return {
        "record_mode": "none",
        "match_on": ["method", "scheme", "host", "path", "query", "body"],
        "filter_headers": ["authorization", "user-agent"],
    }


def create(client: Any) -> Any:
    return client.conversations.create(
        prompt_id="prompt_123",
        content=[{"role": "user", "content": "Hello"}],
        status="active",
        idempotency_key="session_abc123",
    )


def complete(client: Any) -> Any:
    answer = {"role": "assistant", "content": "Hi! How can I help you today?", "model": "gpt-4o", "latency_ms": 412}
    return client.conversations.append_messages("conv_456", messages=[answer], status="completed")


@both
@pytest.mark.vcr
@pytest.mark.default_cassette(CASSETTE)
def test_a_recorded_exchange_is_replayed(caller: Caller, vcr: Cassette) -> None:
    """A cassette stands in for the API at its real address, for both clients."""
    url = "https://converra.ai/api/v1"
    assert caller(url, create).id == "conv_456"
    conversation = caller(url, complete)
    assert [message.content for message in conversation.messages] == ["Hello", "Hi! How can I help you today?"]
    assert conversation.status == "completed"
    assert vcr.play_count == 2


@both
@pytest.mark.vcr
@pytest.mark.default_cassette(CASSETTE)
def test_a_request_that_was_not_recorded_is_not_sent(caller: Caller) -> None:
    """A cassette that lacks the request says so itself; its error is not taken for one of the network."""
    with pytest.raises(CannotOverwriteExistingCassetteException):
        caller("https://converra.ai/api/v1", lambda client: client.conversations.get("conv_456"))


def test_the_cassette_holds_no_key() -> None:
    """What is committed was filtered."""
    recorded = (Path(__file__).parent / "cassettes" / "test_recorded" / CASSETTE).read_text()
    assert "uthorization" not in recorded
    assert "Bearer" not in recorded
