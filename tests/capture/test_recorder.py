"""The recorder, end to end: a real `openai` client over HTTP, a real local API, and what that holds in the end."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import openai
import pytest

from converra.capture.recorder import Recorder
from converra.config import load
from converra.errors import InvalidArgumentError
from converra.process import guard
from converra.server.run import LocalServer, serve
from tests.patience import LONG, UNHURRIED, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SYSTEM: Any = {"role": "system", "content": "You help."}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A local API of this test's own."""
    with serve() as running:
        yield running


@pytest.fixture
def make(server: LocalServer) -> Iterator[Callable[..., Recorder]]:
    """Recorders as processes have them; switched off again at the end."""
    made: list[Recorder] = []

    def recorder(**settings: Any) -> Recorder:
        defaults = {"api_key": "key", "base_url": server.base_url, "flush_interval": 3600.0, "timeout": LONG}
        made.append(Recorder(load({**defaults, **settings}, {})))
        return made[-1]

    guard.reset_log_limits()
    yield recorder
    for each in made:
        each.uninstrument()
        each.shutdown(5)


@pytest.fixture
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    """A real client of the stand-in model."""
    with openai.OpenAI(api_key="none", base_url=server.openai_url, max_retries=0) as made:
        yield made


def held(server: LocalServer) -> list[tuple[str, list[tuple[str, str]]]]:
    """Status and messages of each conversation, oldest first; a message as its role and its content or tool names."""
    found, _ = server.store.conversations(limit=1000)
    return [(c.status, [_brief(m) for m in server.store.messages(c)]) for c in reversed(found)]


def _brief(message: dict[str, Any]) -> tuple[str, str]:
    names = " ".join(str(call.get("name")) for call in message.get("toolCalls") or ())
    return message["role"], message["content"] or f"[{names}]"


def messages(server: LocalServer) -> list[dict[str, Any]]:
    """The messages of the only conversation, whole."""
    (found,), _ = server.store.conversations(limit=1000)
    return server.store.messages(found)


def user(text: str) -> Any:
    """A user's message."""
    return {"role": "user", "content": text}


def record_tool_result(client: openai.OpenAI, history: list[Any], text: str) -> str:
    """One turn of a chat that resends its history, with the SDK's own objects in it."""
    history.append(user(text))
    message = client.chat.completions.create(model="m", messages=history).choices[0].message
    history.append(message)
    return message.content or ""


CHAT = [("system", "You help."), ("user", "[[say:1]]"), ("assistant", "1"), ("user", "[[say:2]]"), ("assistant", "2")]


class TestBlocks:
    """`with converra.conversation(...)`."""

    def test_a_chat_arrives_once_and_in_order(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """A history that is resent with every call is recorded once, and completed when the block is left."""
        recorder = make()
        recorder.instrument()
        history: list[Any] = [SYSTEM]
        with recorder.conversation("prompt") as conversation:
            before = conversation.id
            record_tool_result(client, history, "[[say:1]]")
            record_tool_result(client, history, "[[say:2]]")
        assert recorder.flush(LONG)
        assert held(server) == [("completed", CHAT)]
        assert (before, conversation.id) == (None, server.store.conversations()[0][0].id)
        assert [r.path for r in server.requests if r.path.startswith("/api")] == [
            "/api/v1/conversations",
            f"/api/v1/conversations/{conversation.id}/messages",
        ]

    def test_an_answer_carries_its_facts(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """Model, usage and latency of a call stand on the assistant's message."""
        recorder = make()
        recorder.instrument()
        with recorder.conversation("prompt"):
            record_tool_result(client, [], "[[say:x]]")
        assert recorder.flush(LONG)
        _, answer = messages(server)
        assert answer["model"] == "m-stand-in"
        assert answer["usage"].keys() == {"promptTokens", "completionTokens"}
        assert answer["tokens"] == answer["usage"]["completionTokens"]
        assert answer["latencyMs"] > 0

    def test_sync_async_plain_and_streamed_record_the_same(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """The same exchange gives the same messages, however it is called."""
        recorder = make()
        recorder.instrument()
        call: dict[str, Any] = {"model": "m", "messages": [SYSTEM, user('Go. [[tool:f {"a": 1}]]')]}
        call["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]

        async def asynchronous() -> None:
            async with openai.AsyncOpenAI(api_key="none", base_url=server.openai_url) as other:
                async with recorder.conversation("prompt"):
                    await other.chat.completions.create(**call)
                async with recorder.conversation("prompt"):
                    async for _ in await other.chat.completions.create(**call, stream=True):
                        pass

        with recorder.conversation("prompt"):
            client.chat.completions.create(**call)
        with recorder.conversation("prompt"):
            list(client.chat.completions.create(**call, stream=True))
        asyncio.run(asynchronous())
        assert recorder.flush(LONG)
        first, *others = held(server)
        assert first[1] == [("system", "You help."), ("user", 'Go. [[tool:f {"a": 1}]]'), ("tool", "[f]")]
        assert others == [first] * 3

    def test_an_exception_passes_and_is_noted(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """Leaving by an exception completes the conversation, notes the type, and hands the very exception on."""
        recorder = make()
        recorder.instrument()
        error = RuntimeError("secret")

        def leave() -> None:
            with recorder.conversation("prompt"):
                record_tool_result(client, [], "[[say:x]]")
                raise error

        with pytest.raises(RuntimeError) as caught:
            leave()
        assert caught.value is error
        assert recorder.flush(LONG)
        (found,), _ = server.store.conversations()
        assert (found.status, found.metadata["error"]) == ("completed", {"type": "RuntimeError"})

    def test_a_failed_call_keeps_the_question_and_its_retry_adds_the_answer(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """The user's turn of a call that failed is recorded once, with the error."""
        recorder = make()
        recorder.instrument()
        with recorder.conversation("prompt"):
            with pytest.raises(openai.RateLimitError):
                record_tool_result(client, [], "[[error:429 x1]] [[say:x]]")
            record_tool_result(client, [], "[[error:429 x1]] [[say:x]]")
        assert recorder.flush(LONG)
        question, answer = messages(server)
        assert question["metadata"]["error"] == {"type": "RateLimitError", "status": 429}
        assert (answer["role"], answer["content"]) == ("assistant", "x")

    def test_nothing_recorded_is_nothing_sent(self, server: LocalServer, make: Callable[..., Recorder]) -> None:
        """A block in which nothing happens costs no request, and a nested block is a conversation of its own."""
        recorder = make()
        with recorder.conversation("prompt") as outer, recorder.conversation("prompt") as inner:
            assert recorder.current_conversation() is inner
        assert recorder.current_conversation() is None
        assert outer.id is None
        assert recorder.flush(LONG)
        assert server.requests == []

    def test_a_question_without_an_answer_is_abandoned(
        self, server: LocalServer, make: Callable[..., Recorder]
    ) -> None:
        """A conversation that ends before anybody answered is stored as abandoned."""
        recorder = make()
        with recorder.conversation("prompt") as conversation:
            conversation.add_message("user", "Anybody?")
        assert recorder.flush(LONG)
        assert held(server) == [("abandoned", [("user", "Anybody?")])]

    def test_messages_by_hand_stand_where_they_were_added(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """Captured and hand-written messages keep their order, and a resent hand-written one is not recorded again."""
        recorder = make()
        recorder.instrument()
        with recorder.conversation("prompt") as conversation:
            conversation.add_message("system", "You help.")
            conversation.add_message("tool", "42", tool_calls=[{"id": "c", "name": "f"}])
            record_tool_result(client, [SYSTEM], "[[say:x]]")
            conversation.add_message("assistant", "Bye.", model="mine", usage={"prompt_tokens": 1})
        assert recorder.flush(LONG)
        ((status, found),) = held(server)
        assert status == "completed"
        assert found == [
            ("system", "You help."),
            ("tool", "42"),
            ("user", "[[say:x]]"),
            ("assistant", "x"),
            ("assistant", "Bye."),
        ]

    @pytest.mark.parametrize("shape", [dict, MappingProxyType])
    def test_tool_calls_by_hand_may_have_the_providers_shape(
        self,
        server: LocalServer,
        make: Callable[..., Recorder],
        client: openai.OpenAI,
        capsys: pytest.CaptureFixture[str],
        shape: Callable[[Any], Any],
    ) -> None:
        """They are stored as they were given, shown by name, and known again when a request resends them."""
        call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
        history: list[Any] = [
            user("Find it."),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ]
        recorder = make(console=True)
        recorder.instrument()
        with recorder.conversation("prompt") as conversation:
            conversation.add_message("user", "Find it.")
            conversation.add_message("tool", "", tool_calls=[shape(call)])
            conversation.add_message("tool", "42", tool_calls=[{"id": "c1"}])
            record_tool_result(client, history, "[[say:x]]")
        assert recorder.flush(LONG)
        assert [(m["role"], m["content"], m.get("toolCalls")) for m in messages(server)] == [
            ("user", "Find it.", None),
            ("tool", "", [call]),
            ("tool", "42", [{"id": "c1"}]),
            ("user", "[[say:x]]", None),
            ("assistant", "x", None),
        ]
        assert capsys.readouterr().err.splitlines()[1].split() == ["converra", "tool", "[find]"]

    def test_a_stream_belongs_to_the_block_it_was_started_in(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """A stream that is read after its block was left is recorded there, and completes the conversation."""
        recorder = make()
        recorder.instrument()
        with recorder.conversation("first"):
            stream: Any = client.chat.completions.create(model="m", messages=[user("[[words:3]]")], stream=True)
        with recorder.conversation("second"):
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert recorder.flush(LONG)
        assert held(server) == [("completed", [("user", "[[words:3]]"), ("assistant", text)])]
        assert server.store.conversations()[0][0].prompt_id == "first"

    def test_early_complete_is_idempotent(
        self, server: LocalServer, make: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
    ) -> None:
        """`complete()` ends a conversation once; what comes later is told, not recorded."""
        recorder = make()
        with recorder.conversation("prompt") as conversation:
            conversation.add_message("assistant", "a")
            conversation.complete()
            conversation.complete()
            conversation.add_message("user", "late")
        assert recorder.flush(LONG)
        assert held(server) == [("completed", [("assistant", "a")])]
        assert "completed already" in caplog.text or "was completed" in caplog.text

    def test_a_decorated_function_is_a_conversation_per_call(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """Functions, coroutines and generators of either kind keep their results; each call is one conversation."""
        recorder = make()
        recorder.instrument()

        @recorder.conversation("prompt")
        def plain(word: str) -> str:
            return record_tool_result(client, [], f"[[say:{word}]]")

        @recorder.conversation("prompt")
        async def coroutine(word: str) -> str:
            return await asyncio.to_thread(record_tool_result, client, [], f"[[say:{word}]]")

        @recorder.conversation("prompt")
        def generator() -> Iterator[str]:
            yield record_tool_result(client, [], "[[say:c]]")
            yield record_tool_result(client, [], "[[say:d]]")

        @recorder.conversation("prompt")
        async def stream() -> AsyncIterator[str]:
            yield await asyncio.to_thread(record_tool_result, client, [], "[[say:e]]")

        async def read() -> list[str]:
            return [word async for word in stream()]

        assert plain("a") == "a"
        assert asyncio.run(coroutine("b")) == "b"
        assert list(generator()) == ["c", "d"]
        assert asyncio.run(read()) == ["e"]
        assert recorder.current_conversation() is None
        assert recorder.flush(LONG)
        answers = [[text for role, text in found if role == "assistant"] for _, found in held(server)]
        assert sorted(answers) == [["a"], ["b"], ["c", "d"], ["e"]]

    @pytest.mark.parametrize(
        "arguments",
        [("",), ("  ",), (None,), (7,), ("p" * 600,), ("a\nb",)],
        ids=["empty", "blank", "none", "number", "long", "control"],
    )
    def test_a_wrong_prompt_id_is_an_error_at_once(
        self, make: Callable[..., Recorder], arguments: tuple[Any, ...]
    ) -> None:
        """What can never work is said where it is written."""
        with pytest.raises(InvalidArgumentError, match="prompt_id"):
            make().conversation(*arguments)

    def test_a_message_is_stamped_when_it_is_added(self, make: Callable[..., Recorder], server: LocalServer) -> None:
        """Not when it is sent; a time that is given stays."""
        recorder = make()
        before = datetime.now(UTC)
        with recorder.conversation("prompt") as conversation:
            conversation.add_message("user", "One", timestamp="2024-05-05T00:00:00Z")
            conversation.add_message("assistant", "Two")
            after = datetime.now(UTC)
        assert recorder.flush(LONG)
        given, stamped = (datetime.fromisoformat(message["timestamp"]) for message in messages(server))
        assert given == datetime(2024, 5, 5, tzinfo=UTC)
        assert before <= stamped <= after

    def test_wrong_messages_are_errors_at_once(self, make: Callable[..., Recorder]) -> None:
        """Unknown roles and empty content name themselves."""
        with make().conversation("prompt") as conversation:
            with pytest.raises(InvalidArgumentError, match="role is 'boss'"):
                conversation.add_message("boss", "x")  # type: ignore[arg-type] # what this is about
            with pytest.raises(InvalidArgumentError, match="content of a user message is empty"):
                conversation.add_message("user", "")


class TestImplicit:
    """Calls outside any block, with a prompt id for the process."""

    def test_interleaved_chats_are_told_apart(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """Two chats that open with the same words stay two, each whole, and the end of the process completes both."""
        recorder = make(prompt_id="prompt")
        recorder.instrument()
        one: list[Any] = [SYSTEM]
        two: list[Any] = [SYSTEM]
        for word in ("[[say:hello]]", "[[say:a]]", "[[say:b]]"):
            record_tool_result(client, one, word)
            record_tool_result(client, two, word if word == "[[say:hello]]" else word.upper().replace("SAY", "say"))
        assert recorder.shutdown(LONG)
        texts = [[text for role, text in found if role == "assistant"] for _, found in held(server)]
        assert sorted(texts) == [["hello", "A", "B"], ["hello", "a", "b"]]
        assert [status for status, _ in held(server)] == ["completed", "completed"]

    def test_a_prompt_function_decides_by_the_request(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """`prompt_id` may be a function of the request; None leaves a call alone."""
        recorder = make(prompt_id=lambda request: None if request.model == "other" else f"prompt_{request.model}")
        recorder.instrument()
        client.chat.completions.create(model="m", messages=[user("[[say:x]]")])
        client.chat.completions.create(model="other", messages=[user("[[say:y]]")])
        assert recorder.shutdown(LONG)
        assert [c.prompt_id for c in server.store.conversations()[0]] == ["prompt_m"]

    def test_silence_ends_a_conversation(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """After `idle_timeout` without a call the next request opens a conversation of its own."""
        recorder = make(prompt_id="prompt", idle_timeout=0.3, flush_interval=0.05)
        recorder.instrument()
        history: list[Any] = []
        record_tool_result(client, history, "[[say:x]]")
        until(lambda: [status for status, _ in held(server)], ["completed"])
        record_tool_result(client, history, "[[say:y]]")
        assert recorder.shutdown(LONG)
        assert len(held(server)) == 2

    def test_a_call_that_belongs_nowhere_is_said_once(
        self,
        server: LocalServer,
        make: Callable[..., Recorder],
        client: openai.OpenAI,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Without block and prompt id a call is not recorded, and the log says what to do."""
        recorder = make()
        recorder.instrument()
        record_tool_result(client, [], "[[say:x]]")
        record_tool_result(client, [], "[[say:y]]")
        assert recorder.flush(LONG)
        assert held(server) == []
        assert caplog.text.count("outside any conversation") == 1


class TestSessions:
    """`session_id` and `keep_open`."""

    def test_two_processes_write_one_conversation(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """Whoever comes second joins, adds only what is new to it, and anybody may end the session."""
        history: list[Any] = [SYSTEM]
        first, second, third = make(), make(), make()
        for recorder, word in ((first, "[[say:1]]"), (second, "[[say:2]]"), (first, "[[say:3]]")):
            recorder.instrument()
            with recorder.conversation("prompt", session_id="s", keep_open=True):
                record_tool_result(client, history, word)
            assert recorder.flush(LONG)
            recorder.uninstrument()
        third.complete("prompt", "s")
        assert third.flush(LONG)
        ((status, found),) = held(server)
        assert status == "completed"
        assert found == [*CHAT, ("user", "[[say:3]]"), ("assistant", "3"), ("system", "Conversation ended.")]

    def test_a_session_goes_on_in_one_process(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """Blocks with the same ids are one conversation until one of them does not keep it open."""
        recorder = make()
        recorder.instrument()
        history: list[Any] = [SYSTEM]
        with recorder.conversation("prompt", session_id="s", keep_open=True):
            record_tool_result(client, history, "[[say:1]]")
        with recorder.conversation("prompt", session_id="s"):
            record_tool_result(client, history, "[[say:2]]")
        assert recorder.flush(LONG)
        assert held(server) == [("completed", CHAT)]

    def test_the_last_block_of_a_session_ends_it_from_any_process(
        self, server: LocalServer, make: Callable[..., Recorder]
    ) -> None:
        """A block that does not keep the session open completes what another process has opened."""
        for recorder, keep_open, word in ((make(), True, "1"), (make(), False, "2")):
            with recorder.conversation("prompt", session_id="s", keep_open=keep_open) as conversation:
                conversation.add_message("user", f"question {word}")
                conversation.add_message("assistant", f"answer {word}")
            assert recorder.flush(LONG)
        turns = [pair for n in "12" for pair in (("user", f"question {n}"), ("assistant", f"answer {n}"))]
        assert held(server) == [("completed", turns)]

    def test_keep_open_needs_a_session(self, make: Callable[..., Recorder]) -> None:
        """A conversation that stays open under no name could never be found again."""
        with pytest.raises(InvalidArgumentError, match="session_id"):
            make().conversation("prompt", keep_open=True)


class TestSwitches:
    """Settings that switch things on and off."""

    def test_disabled_is_silent(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """`enabled=False` patches nothing, starts no thread and sends nothing."""
        threads = set(threading.enumerate())
        recorder = make(enabled=False)
        assert len(recorder.instrument()) == 0
        with recorder.conversation("prompt") as conversation:
            conversation.add_message("user", "x")
            record_tool_result(client, [], "[[say:x]]")
        assert recorder.flush(LONG)
        assert set(threading.enumerate()) <= threads
        assert held(server) == []

    def test_a_key_may_come_late(
        self,
        server: LocalServer,
        make: Callable[..., Recorder],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Without a key one warning names CONVERRA_API_KEY, nothing is thrown away, and a later key is found."""
        recorder = make(api_key="  ")
        with recorder.conversation("prompt") as conversation:
            conversation.add_message("assistant", "kept")
        assert not recorder.flush(0.5)
        assert not recorder.flush(0.5)
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert ["CONVERRA_API_KEY" in record.getMessage() for record in warnings] == [True]
        monkeypatch.setenv("CONVERRA_API_KEY", "late")
        assert recorder.flush(LONG)
        assert held(server) == [("completed", [("assistant", "kept")])]

    def test_without_content_the_structure_stays(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """`capture_content=False` sends roles, model and usage, and no word."""
        recorder = make(capture_content=False)
        recorder.instrument()
        with recorder.conversation("prompt"):
            record_tool_result(client, [SYSTEM], "[[say:secret]]")
        assert recorder.flush(LONG)
        bodies = b"".join(r.body for r in server.requests if r.path.startswith("/api"))
        assert b"secret" not in bodies
        assert b"You help" not in bodies
        assert [m["role"] for m in messages(server)] == ["system", "user", "assistant"]
        assert messages(server)[2]["usage"]

    def test_redaction_comes_last(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """`redact` sees each message as it would be sent, may change or drop it, and fails closed."""

        def redact(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["role"] == "system":
                return None
            if message["role"] == "user":
                raise ValueError
            return {**message, "content": message["content"].replace("secret", "***")}

        recorder = make(redact=redact)
        recorder.instrument()
        with recorder.conversation("prompt"):
            record_tool_result(client, [SYSTEM], "[[say:a secret]]")
        assert recorder.flush(LONG)
        assert held(server) == [
            ("completed", [("user", "(content not captured)"), ("assistant", "a ***")]),
        ]

    @pytest.mark.parametrize("rate", [0.0, 1.0])
    def test_a_conversation_is_wholly_in_or_wholly_out(
        self, server: LocalServer, make: Callable[..., Recorder], rate: float
    ) -> None:
        """`sample_rate` decides once for a conversation."""
        recorder = make(sample_rate=rate)
        for n in range(3):
            with recorder.conversation("prompt") as conversation:
                conversation.add_message("user", f"{n}")
                conversation.add_message("assistant", "x")
        assert recorder.flush(LONG)
        assert [len(found) for _, found in held(server)] == [2] * (3 if rate else 0)

    def test_the_apps_random_numbers_are_its_own(self, server: LocalServer, make: Callable[..., Recorder]) -> None:
        """Sampling and retries take nothing from the global generator, which an app may have seeded."""
        server.faults.add("create", "status", times=2)
        recorder = make(sample_rate=0.5)
        before = random.getstate()
        for n in range(20):
            with recorder.conversation("prompt") as conversation:
                conversation.add_message("assistant", f"{n}")
        assert recorder.flush(LONG)
        assert recorder.stats().retries == 2
        assert random.getstate() == before

    def test_sampled_sessions_agree_between_processes(self, make: Callable[..., Recorder]) -> None:
        """Every process takes the same decision for a session."""

        def taken(recorder: Recorder) -> list[bool]:
            sessions = (recorder.conversation("p", session_id=f"s{n}", keep_open=True) for n in range(200))
            return [session.recording() is not None for session in sessions]

        decisions = taken(make(sample_rate=0.5))
        assert decisions == taken(make(sample_rate=0.5))
        assert 60 < sum(decisions) < 140

    def test_uninstrument_puts_the_originals_back(self, make: Callable[..., Recorder]) -> None:
        """After `uninstrument()` the client's methods are the very ones that they were, installed twice or not."""
        before = openai.OpenAI.request, openai.AsyncOpenAI.request
        recorder = make()
        recorder.instrument()
        assert [row.state for row in recorder.instrument().rows if row.target.startswith("openai.")] == ["patched"] * 2
        assert openai.OpenAI.request is not before[0]
        recorder.uninstrument()
        assert (openai.OpenAI.request, openai.AsyncOpenAI.request) == before
        assert "request" not in vars(openai.OpenAI)

    def test_a_recorder_is_usable_after_shutdown(
        self, server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
    ) -> None:
        """`shutdown()` ends nothing for good."""
        recorder = make()
        recorder.instrument()
        for word in ("a", "b"):
            with recorder.conversation("prompt"):
                record_tool_result(client, [], f"[[say:{word}]]")
            assert recorder.shutdown(LONG)
        assert [found[-1][1] for _, found in held(server)] == ["a", "b"]
        stats = recorder.stats()
        assert (stats.captured, stats.delivered, stats.pending, stats.failures) == (4, 4, 0, stats.failures)

    def test_what_may_be_there_twice_is_counted(self, server: LocalServer, make: Callable[..., Recorder]) -> None:
        """A server that drops an answer and then refuses to be asked: sent again, and `stats()` says so."""
        recorder = make()
        with recorder.conversation("prompt") as conversation:
            conversation.add_message("user", "Hello?")
            conversation.add_message("assistant", "Hello!", latency_ms=1.5)
            server.faults.add("append", "reset", when="after")
            server.faults.add("read", "status", status=400)
            assert recorder.flush(LONG)
        assert recorder.shutdown(LONG)
        stats = recorder.stats()
        assert (stats.captured, stats.delivered, stats.pending, stats.duplicated_risk) == (2, 2, 0, 1)

    def test_turns_are_shown_on_the_console(
        self, make: Callable[..., Recorder], client: openai.OpenAI, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """`console=True` prints a line per message while it is captured."""
        recorder = make(console=True)
        recorder.instrument()
        with recorder.conversation("prompt"):
            record_tool_result(client, [], "[[say:hello there]]")
        lines = capsys.readouterr().err.splitlines()
        assert [line.split()[:3] for line in lines] == [
            ["converra", "user", "[[say:hello"],
            ["converra", "assistant", "hello"],
        ]


def test_parallel_calls_of_one_conversation_are_all_recorded(
    server: LocalServer, make: Callable[..., Recorder], client: openai.OpenAI
) -> None:
    """Threads that carry the context record into one conversation, each turn once."""
    import contextvars

    recorder = make()
    recorder.instrument()
    with recorder.conversation("prompt"), ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(contextvars.copy_context().run, record_tool_result, client, [SYSTEM], f"[[say:{n}]]")
            for n in range(20)
        ]
        assert sorted(int(call.result()) for call in calls) == list(range(20))
    assert recorder.flush(LONG)
    ((status, found),) = held(server)
    assert status == "completed"
    pairs = [pair for n in range(20) for pair in (("user", f"[[say:{n}]]"), ("assistant", f"{n}"))]
    assert sorted(found) == sorted([("system", "You help."), *pairs])


BESIDE_OPENAI = """
import sys
import openai
import converra

converra.instrument()
with converra.conversation("prompt") as conversation:
    conversation.add_message("assistant", "x")
assert converra.flush(120), converra.stats()
print("httpx" in sys.modules)
"""


def test_the_flusher_imports_no_http_library_beside_openai(server: LocalServer) -> None:
    """Openai 3 fails a call while another thread is importing httpx, so ours sends with the library that is there."""
    environment = {**os.environ, **UNHURRIED, "CONVERRA_API_KEY": "key", "CONVERRA_BASE_URL": server.base_url}
    child = subprocess.run(
        [sys.executable, "-c", BESIDE_OPENAI], env=environment, capture_output=True, text=True, check=True, timeout=LONG
    )
    assert child.stdout == "False\n"
    assert held(server) == [("completed", [("assistant", "x")])]
