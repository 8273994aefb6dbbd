"""Chats and legacy completions of the together client, which are OpenAI's, keep the promises of every integration."""

from __future__ import annotations

import together

from converra.integrations.together import INTEGRATION
from tests.integrations.compatible_shapes import subject
from tests.integrations.conformance import Conformance


class TestTogether(Conformance):
    """Over real HTTP, with the real client."""

    subject = subject(INTEGRATION, together, "Together", completions=True)
