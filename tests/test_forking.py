"""The forks in which `make test` runs, and the warm interpreters of its child processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import warm
from tests.patience import LONG

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = """
import os, pytest
from tests import forking

@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    if "FORKED" in os.environ:
        return forking.run(session, 2, lambda home: None)
"""

OUTCOMES = """
import os, pytest

@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield tmp_path_factory.mktemp("shared")
    raise OSError("at last")

def test_passes(shared): assert shared.is_dir()
def test_fails(capfd):
    os.write(1, b"captured")
    print("and printed")
    assert capfd.readouterr().out == "captured"
def test_shows():
    print("shown below")
    assert {1: 2} == {1: 3}
def test_is_skipped(): pytest.skip("for a reason")
@pytest.mark.xfail
def test_is_expected_to_fail(): assert False
@pytest.mark.parametrize("number", [1, 2])
def test_numbers(number, shared): assert number == 1
@pytest.fixture
def broken(): raise KeyError("in a fixture")
def test_is_an_error(broken): pass
"""

CRASHES = """
import os, signal
def test_before(): pass
def test_crashes(): os.kill(os.getpid(), signal.SIGKILL)
def test_after(): pass
"""


def _run(folder: Path, **environ: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-rA", "-q", "--tb=short"]
    given = os.environ | {"PYTHONPATH": str(warm.ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environ}
    ended = warm.run(command, cwd=folder, env=given, stdout=subprocess.PIPE, text=True, modules=warm.COMMAND)
    return [re.sub(r" in [\d.]+s|^[.FEsx]+ +\[.*|0x\w+", "", line) for line in ended.stdout.splitlines()]


def test_forks_report_as_one_process_does(tmp_path: Path) -> None:
    """Every outcome, traceback and captured output is there once, and a test that kills its process fails."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_outcomes.py").write_text(OUTCOMES)
    alone = _run(tmp_path)
    assert alone[-1] == "3 failed, 2 passed, 1 skipped, 1 xfailed, 2 errors", alone
    assert _run(tmp_path, FORKED="1") == alone
    (tmp_path / "test_crashes.py").write_text(CRASHES)
    crashed = _run(tmp_path, FORKED="1")
    assert crashed[-1] == "4 failed, 4 passed, 1 skipped, 1 xfailed, 2 errors", crashed
    assert "the process that ran this test ended with -9" in crashed
    assert "FAILED test_crashes.py::test_crashes" in "\n".join(crashed)


PROGRAM = """
import atexit, os, sys
sys.stdout.write(f"{sys.argv} {os.getcwd()} {os.environ['WORD']} {sys.stdin.read()} {'converra' in sys.modules}")
sys.stderr.write("spoken ")
atexit.register(lambda: sys.stderr.write("at exit"))
import warnings; warnings.warn("late")
"""


def test_a_warm_child_is_a_process_like_any_other(tmp_path: Path) -> None:
    """It has its own arguments, directory, environment, streams, warnings, signals and exit status."""
    environ = os.environ | {"WORD": "given", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", PROGRAM, "one"]
    ended = warm.run(command, cwd=tmp_path, env=environ, input="read", capture_output=True, text=True)
    assert ended.stdout == f"['-c', 'one'] {tmp_path} given read True"
    assert (ended.returncode, ended.stderr) == (0, "spoken at exit")
    strict = warm.run([sys.executable, "-W", "error", *command[1:]], env=environ, input="", capture_output=True)
    assert (strict.returncode, b"UserWarning: late" in strict.stderr) == (1, True)
    (tmp_path / "program.py").write_text("import sys; sys.exit(__file__.endswith('program.py') and 7)")
    assert warm.run([sys.executable, "program.py"], cwd=tmp_path).returncode == 7
    program = "print('ready', flush=True); import time; time.sleep(120)"
    with warm.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert (process.stdout.readline(), process.poll()) == ("ready\n", None)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == -signal.SIGTERM
