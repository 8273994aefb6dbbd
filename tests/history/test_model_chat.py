"""Chats at random, through the real recorder, a real client and a real API: that holds what was said, in order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from converra.capture.recorder import Recorder
from converra.config import load
from converra.process import guard
from tests.effort import examples
from tests.history.model_chat import Free, ModelChat
from tests.history.recorded_talk import RecordedTalk, World, running
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.history.model_chat import Words


ENDPOINTS = st.sampled_from(["append", "create", "complete", "read"])
FAULTS = st.sampled_from(["reset", "close", "cut", "unreadable", "status"])
MOMENTS = st.sampled_from(["before", "after"])
MOST_FAULTS = 2


class Chats(Free):
    """Chats by turns: in a block, in a session, and two found by their histories. The API fails now and then."""

    world: World

    @initialize(endpoint=ENDPOINTS, fault=FAULTS, when=MOMENTS)
    def begin(self, endpoint: Any, fault: Any, when: Any) -> None:
        guard.reset_log_limits()
        self.prompt = next(self.world.prompts)
        made = {"api_key": "k", "base_url": self.world.server.base_url, "prompt_id": self.prompt}
        self.recorder = Recorder(load({**made, "flush_interval": 0.02, "timeout": LONG}, {}))
        self.recorder.instrument()
        numbers = itertools.count()
        block = self.recorder.conversation(self.prompt)
        session = self.recorder.conversation(self.prompt, session_id=self.prompt, keep_open=True)
        self.talks = [
            RecordedTalk(self.world, block=block),
            RecordedTalk(self.world, session=session),
            RecordedTalk(self.world),
            RecordedTalk(self.world),
        ]
        self.chats = [ModelChat(talk, numbers, found=n > 1) for n, talk in enumerate(self.talks)]
        self.faults = 0
        self.failures = guard.caught()  # counted for the whole process
        self.fail_at_the_api(endpoint, fault, when)

    @rule(turn=st.integers(0, 1), share=st.booleans())
    def side_call(self, turn: int, *, share: bool) -> None:
        self.chats[turn].side_call(share=share)

    @precondition(lambda self: self.faults < MOST_FAULTS)
    @rule(endpoint=ENDPOINTS, fault=FAULTS, when=MOMENTS)
    def fail_at_the_api(self, endpoint: Any, fault: Any, when: Any) -> None:
        self.faults += 1
        self.world.server.faults.add(endpoint, fault, when=when)

    @rule()
    def flush(self) -> None:
        assert self.recorder.flush(LONG)

    def teardown(self) -> None:
        """Everything ends, and the API is asked what it holds."""
        if not hasattr(self, "chats"):
            return
        self.recorder.uninstrument()
        for talk in self.talks:
            talk.end()
        self.recorder.complete(self.prompt, self.prompt)
        assert self.recorder.shutdown(LONG)
        self.world.server.faults.clear()
        assert sorted(self.held()) == sorted(("completed", chat.expected_words()) for chat in self.chats)
        stats = self.recorder.stats()
        assert (stats.pending, stats.rejected, stats.dropped, stats.failures - self.failures) == (0, 0, 0, 0)

    def held(self) -> list[tuple[str, list[Words]]]:
        """Status and messages of each conversation, without the word that carried the end."""
        store = self.world.server.store
        found, _ = store.conversations(prompt_id=self.prompt, limit=100)
        talks = []
        for conversation in found:
            source = [_stored_words(message) for message in store.messages(conversation)]
            talks.append((conversation.status, source[:-1] if source[-1] == ENDED else source))
        return talks


ENDED: Words = ("system", "Conversation ended.", ())


def _stored_words(message: dict[str, Any]) -> Words:
    ids = [call["id"] for call in message.get("toolCalls") or ()]
    return message["role"], message["content"].strip(), tuple(ids)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running() as made:
        yield made


@pytest.mark.timeout(900)
def test_the_api_holds_what_was_said_once_and_in_order(world: World) -> None:
    """Whatever apps do with their histories, through threads, tasks and streams, with an API that fails."""
    Chats.world = world
    effort = settings(
        max_examples=examples(40), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Chats, settings=effort)
