"""The openai integration keeps the promises of every integration."""

from __future__ import annotations

from typing import Any

import openai

from converra.integrations.openai import INTEGRATION
from tests.integrations import scripted
from tests.integrations.conformance import Conformance, Subject
from tests.integrations.openai_shapes import SCRIPTS, SHAPES


def functions() -> list[tuple[Any, str]]:
    return [(openai.OpenAI, "request"), (openai.AsyncOpenAI, "request")]


class TestOpenAI(Conformance):
    """Over real HTTP, with the real client."""

    subject = Subject(INTEGRATION, functions, SHAPES, lambda: scripted.serve(SCRIPTS))
