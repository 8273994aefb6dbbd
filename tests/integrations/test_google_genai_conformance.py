"""The google-genai integration keeps the promises of every integration."""

from __future__ import annotations

import importlib
from typing import Any

from google.genai import _api_client

from converra.integrations.google_genai import INTEGRATION
from tests.integrations import scripted
from tests.integrations.conformance import Conformance, Subject
from tests.integrations.google_genai_shapes import HAS_INTERACTIONS, SCRIPTS, SHAPES


def functions() -> list[tuple[Any, str]]:
    names = ("request", "request_streamed", "async_request", "async_request_streamed")
    found = [(_api_client.BaseApiClient, name) for name in names]
    if HAS_INTERACTIONS:
        sending = importlib.import_module("google.genai._gaos.basesdk")
        found += [(sending.BaseSDK, "do_request"), (sending.AsyncBaseSDK, "do_request_async")]
    return found


class TestGoogleGenAI(Conformance):
    """Over real HTTP, with the real client."""

    subject = Subject(INTEGRATION, functions, SHAPES, lambda: scripted.serve(SCRIPTS))
