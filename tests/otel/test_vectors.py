"""The spans of real emitters, written down by scripts/otel_vectors.py, give the conversations of our own capture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from converra.spans.span import Span
from tests.markdown import page
from tests.otel.comparing import DIFFERENCES, comparable, expected
from tests.otel.recorders import Vault

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))
PAGE = page("docs/how-to/opentelemetry.md")


def recorded(path: Path) -> Any:
    return json.loads(path.read_text())


def bridged(spans: list[Any]) -> list[Any]:
    vault = Vault()
    vault.bridge.feed([msgspec.convert(span, Span) for span in spans])
    return comparable(vault.conversations())


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_spans_give_the_conversations_of_our_own_capture(path: Path) -> None:
    """Field by field, whether they come in their order, backwards, or twice; differences are those that are listed."""
    for name, program in recorded(path)["programs"].items():
        wanted = expected(path.stem, name, program["captured"])
        spans = program["spans"]
        assert bridged(spans) == wanted, name
        assert bridged(spans[::-1]) == wanted, f"{name}, backwards"
        assert bridged([*spans, *spans]) == wanted, f"{name}, twice"


def test_the_page_lists_the_emitters() -> None:
    """With the versions that the vectors were made with, and with each difference."""
    rows = {cells[0].split("`")[1]: cells for cells in PAGE.rows() if len(cells) == 3 and "`" in cells[0]}
    for found in map(recorded, VECTORS):
        _, version, differs = rows[found["package"]]
        assert version == found["version"]
        assert (differs == "nothing else") == all(found["emitter"] != emitter for emitter, _ in DIFFERENCES)
