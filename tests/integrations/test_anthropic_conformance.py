"""The anthropic integration keeps the promises of every integration."""

from __future__ import annotations

from typing import Any

import anthropic

from converra.integrations.anthropic import CLIENTS, INTEGRATION
from tests.integrations import scripted
from tests.integrations.anthropic_shapes import SCRIPTS, SHAPES
from tests.integrations.conformance import Conformance, Subject


def functions() -> list[tuple[Any, str]]:
    names = [name for client in CLIENTS for name in (client, f"Async{client}")]
    return [(getattr(anthropic, name), "request") for name in names if hasattr(anthropic, name)]


class TestAnthropic(Conformance):
    """Over real HTTP, with the real client."""

    subject = Subject(INTEGRATION, functions, SHAPES, lambda: scripted.serve(SCRIPTS))
