"""A notebook: its cells run in a real kernel, which is shut down at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deployments.running import talk

if TYPE_CHECKING:
    from tests.deployments.running import Deployment

NOTEBOOK = """
import nbformat
from nbclient import NotebookClient

cells = [
    "from talk import converra, speak, speak_in_a_block",
    "speak_in_a_block(1)",
    "speak(10, 11)",
    "converra.instrument('prompt'); speak_in_a_block(2)",
    "assert converra.flush(20)",
    "await __import__('asyncio').to_thread(speak_in_a_block, 3)",
]
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
"""


@pytest.mark.quick
def test_an_executed_notebook(deployment: Deployment) -> None:
    """Each cell's conversation arrives once, and the one outside of any block is completed when the kernel ends."""
    deployment.run(NOTEBOOK)
    implicit = talk(10, 11)
    flushed = implicit._replace(words=(*implicit.words, "Conversation ended."))
    assert sorted(deployment.arrived()) == sorted([talk(1), flushed, talk(2), talk(3)])
