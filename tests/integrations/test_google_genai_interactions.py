"""Interactions of google-genai: their steps and events, read; and a chain of them, recorded."""

from __future__ import annotations

from typing import Any

import pytest

from converra.history.turn import SourceMessage, SourceToolCall
from converra.integrations.google_genai.contents import GENERATE
from converra.integrations.google_genai.interactions import InteractionEvents, answer, request
from converra.server.run import serve
from converra.wire.models import Usage
from tests.integrations import scripted
from tests.integrations.gemini_scripts import CALLING, EVENTS, STEPS, interaction
from tests.integrations.google_genai_shapes import HAS_INTERACTIONS, client_for, interact
from tests.integrations.stored import recorder_for, stored
from tests.patience import LONG


def asked(given: Any, **more: Any) -> list[SourceMessage]:
    """The messages of a request with this input."""
    return [m for content in request({"input": given, **more}).messages for m in GENERATE.read(content)]


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("Hi", [SourceMessage("user", "Hi")]),
        ({"type": "text", "text": "Hi"}, [SourceMessage("user", "Hi")]),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], [SourceMessage("user", "a\nb")]),
        ([{"type": "user_input", "content": [{"type": "text", "text": "Hi"}]}], [SourceMessage("user", "Hi")]),
        (
            [{"type": "function_result", "call_id": "c1", "name": "f", "result": [{"type": "text", "text": "sunny"}]}],
            [SourceMessage("tool", "sunny", (), "c1", "f")],
        ),
        (
            [
                {"type": "user_input", "content": [{"type": "text", "text": "Hi"}]},
                *STEPS,
                CALLING,
                {"type": "function_result", "call_id": "c1", "result": {"t": 1}},
            ],
            [
                SourceMessage("user", "Hi"),
                SourceMessage(
                    "assistant",
                    "Hello there!",
                    (SourceToolCall("c1", "get_weather", {"city": "Paris"}),),
                    metadata={"reasoning": "Hm."},
                ),
                SourceMessage("tool", '{"t":1}', (), "c1"),
            ],
        ),
        (None, []),
    ],
)
def test_input(given: Any, messages: list[SourceMessage]) -> None:
    """A text, parts, or steps, also those that an app keeps itself and resends."""
    assert asked(given) == messages


def test_a_request_names_what_it_continues() -> None:
    """All of its input is new then."""
    found = request(
        {"input": "Hi", "model": "g", "previous_interaction_id": "int-0", "system_instruction": "Be brief."}
    )
    assert (found.previous, found.model, found.instructions) == ("int-0", "g", "Be brief.")


def test_an_answer() -> None:
    """Thoughts, text and counts; thoughts are part of the completion, whichever way they are counted."""
    found = answer(interaction(*STEPS))
    assert found.messages == (SourceMessage("assistant", "Hello there!", metadata={"reasoning": "Hm."}),)
    assert (found.model, found.response_id, found.finish_reason) == ("gemini-3-flash", "int-1", "stop")
    assert (found.usage, found.usage_details) == (Usage(7, 6), {"reasoningTokens": 2})
    among = {"total_input_tokens": 7, "total_output_tokens": 6, "total_thought_tokens": 2, "total_tokens": 13}
    assert answer({**interaction(*STEPS), "usage": among}).usage == Usage(7, 6)


def test_hosted_tools() -> None:
    """A tool of the provider is one message with call and result, between the texts."""
    steps: list[dict[str, Any]] = [
        {"type": "google_search_call", "id": "s1", "arguments": {"queries": ["tents"]}},
        {"type": "google_search_result", "call_id": "s1", "result": [{"search_suggestions": "x"}]},
        STEPS[1],
    ]
    ran, said = answer(interaction(*steps)).messages
    assert (ran.role, ran.text, ran.calls[0].name) == ("tool", '[{"search_suggestions":"x"}]', "google_search")
    assert said.text == "Hello there!"


@pytest.mark.parametrize("status", ["failed", "incomplete", "in_progress"])
def test_an_interaction_that_did_not_end_well(status: str) -> None:
    """Its state is the finish reason."""
    assert answer({**interaction(status=status), "errors": [{"code": "x"}]}).finish_reason == status


def test_events() -> None:
    """The pieces of texts, thoughts and arguments are put together; the last event has the counts."""
    pieces = InteractionEvents()
    for event in EVENTS:
        pieces.feed(event)
    found = pieces.answer()
    assert (found.messages[0].text, found.messages[0].metadata) == ("Hello there!", {"reasoning": "Hm."})
    assert found.messages[0].calls == (SourceToolCall("c1", "get_weather", '{"city": "Paris"}'),)
    assert (found.usage, found.finish_reason, pieces.finished) == (Usage(7, 6), "stop", True)
    partial = InteractionEvents()
    for event in [*EVENTS[:7], {"event_type": "error", "error": {"code": "overloaded", "message": "secret"}}]:
        partial.feed(event)
    cut = partial.answer()
    assert (cut.messages[0].text, cut.finish_reason, partial.finished) == ("Hello", None, False)
    assert cut.metadata == {"error": {"type": "overloaded"}}


@pytest.mark.parametrize(
    "odd", [None, [], "x", {}, {"error": {"code": 7}}, {"status": 1}, {"status": "completed", "steps": 3}]
)
def test_nonsense(odd: Any) -> None:
    """Whatever a gateway sends, reading it does not raise."""
    pieces = InteractionEvents()
    pieces.feed(odd)
    assert answer(odd) is not None
    assert pieces.answer() is not None
    assert request({"input": odd}) is not None


@pytest.mark.skipif(not HAS_INTERACTIONS, reason="this version has no interactions")
def test_an_interaction_of_the_background() -> None:
    """It is recorded once, in the turn of its question, however often it is retrieved; what others began is not."""
    states = iter(["in_progress", "in_progress", "missing", "completed", "completed", "completed"])

    def script(_request: scripted.Received) -> scripted.Reply:
        state = next(states)
        if state == "missing":
            return scripted.document({"error": {"code": "unavailable", "message": "no"}}, 400)
        steps = STEPS if state == "completed" else []
        return scripted.document({**interaction(*steps, status=state), "id": "int-back"})

    row = interact("back", "background", background=True)
    with serve() as server, scripted.serve({"background": script}) as model, recorder_for(server) as recorder:
        with client_for(model, row) as client:

            def talk() -> None:
                begun = client.interactions.create(**row.arguments)
                client.interactions.get(begun.id)
                with pytest.raises(Exception, match="no"):
                    client.interactions.get(begun.id)
                for _ in range(2):
                    assert client.interactions.get(begun.id).status == "completed"

            *asked, said = stored(server, recorder, talk)
            with recorder.conversation("prompt_other"):
                client.interactions.get("int-elsewhere")
            assert recorder.flush(LONG)
        assert asked == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        assert (said["content"], said["usage"]) == ("Hello there!", {"promptTokens": 7, "completionTokens": 6})
        assert server.store.conversations(prompt_id="prompt_other")[1] == 0
