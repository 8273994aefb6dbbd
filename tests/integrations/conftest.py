"""What tests of integrations share: a capture that keeps everything, and the openai integration switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from converra.integrations import patching
from converra.integrations.openai import INTEGRATION
from converra.process import guard
from tests.integrations.recording import RecordingCapture

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def capture() -> Iterator[RecordingCapture]:
    """The openai integration, on, with nothing of ours failing inside the guard."""
    recording = RecordingCapture()
    before = guard.caught()
    patching.switch_on(INTEGRATION, recording)
    yield recording
    patching.switch_off(INTEGRATION)
    assert guard.caught() == before, "converra failed inside its guard"
    assert all(call.ends <= 1 for call in recording.calls), "a call ended twice"
