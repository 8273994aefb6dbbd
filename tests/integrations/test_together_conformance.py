"""Chats and legacy completions of the together client, which are OpenAI's, keep the promises of every integration."""

from __future__ import annotations

from typing import Any

import together

from converra.integrations.together import INTEGRATION
from tests.integrations import compatible_shapes, scripted
from tests.integrations.chat_scripts import SCRIPTS
from tests.integrations.conformance import Conformance, Subject


def _serve() -> Any:
    return scripted.serve(SCRIPTS)


class TestTogether(Conformance):
    """Over real HTTP, with the real client."""

    subject = Subject(
        INTEGRATION,
        lambda: [(together.Together, "request"), (together.AsyncTogether, "request")],
        tuple(compatible_shapes.shapes(together, "Together", completions=True)),
        _serve,
    )
