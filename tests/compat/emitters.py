"""Real emitters of GenAI spans beside our own capture: from their spans alone, and together, in either order."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.otel.comparing import comparable, expected
from tests.otel.emitters import EMITTERS
from tests.patience import LONG

ROOT = Path(__file__).parents[2]


def outcome(emitter: str, order: str) -> Any:
    """Run the programs of an emitter in a process of their own: most emitters cannot be taken out again."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.otel.emitters", emitter, order]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=LONG)
    return json.loads(done.stdout)["programs"]


@pytest.mark.parametrize("emitter", EMITTERS)
def test_spans_tell_the_conversations_of_our_own_capture(emitter: str) -> None:
    """Field by field, but for the listed differences; together with capture, switched on before or after it, once."""
    alone, after = outcome(emitter, "alone"), outcome(emitter, "after")
    for program, found in alone.items():
        assert comparable(found["bridged"]) == expected(emitter, program, found["captured"]), program
        captured = comparable(found["captured"])
        assert comparable(found["emitter_first"]) == captured, program
        assert comparable(after[program]) == captured, program
