"""Fixtures of the integrations' tests: a capture that keeps everything, or a recorder that delivers to a local API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from converra.integrations import patching
from converra.integrations.openai import INTEGRATION
from converra.process import guard
from converra.server.run import LocalServer, serve
from tests.integrations.recording import RecordingCapture
from tests.integrations.stored import recorder_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.capture.recorder import Recorder


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


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """The local API; its conversations are those of all tests of a file."""
    with serve() as running:
        yield running


@pytest.fixture
def recorder(server: LocalServer) -> Iterator[Recorder]:
    """A recorder of the test's own, instrumented."""
    with recorder_for(server) as made:
        yield made
