"""Chats of the groq client, which are OpenAI's, keep the promises of every integration."""

from __future__ import annotations

from typing import Any

import groq

from converra.integrations.groq import INTEGRATION
from tests.integrations import compatible_shapes, scripted
from tests.integrations.chat_scripts import SCRIPTS
from tests.integrations.conformance import Conformance, Subject


def _serve() -> Any:
    return scripted.serve(SCRIPTS)


class TestGroq(Conformance):
    """Over real HTTP, with the real client."""

    subject = Subject(
        INTEGRATION,
        lambda: [(groq.Groq, "request"), (groq.AsyncGroq, "request")],
        tuple(compatible_shapes.shapes(groq, "Groq", completions=False)),
        _serve,
    )
