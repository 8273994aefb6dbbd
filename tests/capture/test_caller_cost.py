"""The work that capture adds on the calling thread, in bytecode instructions: a number that no load changes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.instructions import MEASURED_ON
from tests.markdown import ROOT
from tests.patience import LONG


@pytest.mark.skipif(sys.version_info[:2] != MEASURED_ON, reason="each version of Python has instructions of its own")
def test_no_call_got_dearer() -> None:
    """Each shape of call stays within its bound. Raise a bound only with the reason in the same commit."""
    command = [sys.executable, "-m", "benchmarks.instructions", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LONG)
    assert done.returncode == 0, done.stdout + done.stderr
