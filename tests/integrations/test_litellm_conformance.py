"""The litellm integration keeps the promises of every integration."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from converra.integrations.litellm import INTEGRATION, PATCHES
from tests.integrations.conformance import Conformance, Subject
from tests.integrations.litellm_shapes import SHAPES, serve

pytestmark = pytest.mark.filterwarnings("ignore")  # of litellm, which makes errors of them


def functions() -> list[tuple[Any, str]]:
    found = []
    for name, patches in PATCHES.groups:
        try:
            module = importlib.import_module(name)
        except ImportError:  # of what only litellm's proxy needs
            continue
        for point in patches._points:
            owner = getattr(module, point.owner, None) if point.owner else module
            if hasattr(owner, point.attribute):
                found.append((owner, point.attribute))
    return found


class TestLitellm(Conformance):
    """Over real HTTP, with the real package."""

    subject = Subject(INTEGRATION, functions, SHAPES, serve)
