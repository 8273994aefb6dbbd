"""Chats of the groq client, which are OpenAI's, keep the promises of every integration."""

from __future__ import annotations

import groq

from converra.integrations.groq import INTEGRATION
from tests.integrations.compatible_shapes import subject
from tests.integrations.conformance import Conformance


class TestGroq(Conformance):
    """Over real HTTP, with the real client."""

    subject = subject(INTEGRATION, groq, "Groq", completions=False)
