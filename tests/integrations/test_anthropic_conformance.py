"""The anthropic integration keeps the promises of every integration."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from converra.integrations import patching
from converra.integrations.anthropic import CLIENTS, INTEGRATION
from tests.integrations import scripted
from tests.integrations.anthropic_shapes import SCRIPTS, SHAPES
from tests.integrations.conformance import Conformance, Subject
from tests.integrations.recording import RecordingCapture


def functions() -> list[tuple[Any, str]]:
    names = [name for client in CLIENTS for name in (client, f"Async{client}")]
    return [(getattr(anthropic, name), "request") for name in names if hasattr(anthropic, name)]


class TestAnthropic(Conformance):
    """Over real HTTP, with the real client."""

    subject = Subject(INTEGRATION, functions, SHAPES, lambda: scripted.serve(SCRIPTS))


READ_IN_FULL = (
    "create",
    "stream",
    "helper-final",
    "helper-texts",
    "beta-stream",
    "raw",
    "raw-stream",
    "streaming-stream",
)


@pytest.mark.parametrize("name", READ_IN_FULL)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_whole_answer_is_read(name: str, asynchronous: bool) -> None:
    """A call is not only counted: words, model and tokens are those of the provider, in each version's own way."""
    known = {shape.name: shape for shape in SHAPES}
    shape = known.get(f"async-{name}" if asynchronous else name)
    if shape is None:
        pytest.skip("this version has no such method")
    capture = RecordingCapture()
    patching.switch_on(INTEGRATION, capture)
    try:
        with scripted.serve(SCRIPTS) as model:
            shape.run(model)
            capture.settle()
    finally:
        patching.switch_off(INTEGRATION)
    (facts,) = capture.facts()
    assert facts["answer"] == {
        "messages": [{"role": "assistant", "text": "Good day."}],
        "model": "claude-sonnet-4-5-20250929",
        "usage": {"prompt_tokens": 10, "completion_tokens": 9},
        "finish_reason": "end_turn",
        "response_id": "msg_1",
    }
