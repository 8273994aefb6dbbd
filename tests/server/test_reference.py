"""The page on the local server lists what there is."""

from __future__ import annotations

import re
from typing import get_args

from converra.server import model
from converra.server.faults.switches import Endpoint, Kind
from converra.server.model.directives import _OPENING
from tests.markdown import page

PAGE = page("docs/reference/local-server.md")
DIRECTIVES = set(re.findall(r"[a-z-]+", _OPENING.pattern.partition("(?:")[0]))


def test_every_directive_is_documented() -> None:
    """On the page and in the source, and none that does not exist."""
    shown = [cells[0] for cells in PAGE.rows() if cells[0].startswith("`[[")]
    assert {re.findall(r"\[\[([a-z-]+)", cell)[0] for cell in shown} == DIRECTIVES
    assert set(re.findall(r"\[\[([a-z-]+)", model.__doc__ or "")) == DIRECTIVES


def test_every_fault_is_documented() -> None:
    """Each kind has a row, each endpoint is named."""
    rows = {cells[0].strip("`") for cells in PAGE.rows()}
    assert set(get_args(Kind)) <= rows
    text = PAGE.path.read_text()
    assert [endpoint for endpoint in get_args(Endpoint) if f"`{endpoint}`" not in text] == []
