"""The pytest plugin: what a test's conversations were, and nothing sent for real.

It is loaded with every pytest that finds the package installed, so it imports nothing heavy until a test asks.

=========================================  =========================================================================
fixture `converra_capture`                 the conversations that the test produced, in memory
fixture `converra_local_api`               a local Conversations API that they are really sent to (extra `server`)
a section of the report                    the conversations of a failed test that uses `converra_capture`
marker `converra(prompt_id="...")`         the prompt of calls outside a `conversation()` block, for either fixture
option `--converra-send`, ini              tests without a fixture send as the app's settings say; by default nothing
`converra_send`, CONVERRA_PYTEST_SEND=1    is captured outside of the fixtures, also in child processes
=========================================  =========================================================================
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

    from converra.server.run import LocalServer
    from converra.testing.capture import Capture, CapturedConversation
    from converra.testing.recorded_model import RecordedModel

__all__ = ["Capture", "CapturedConversation", "RecordedModel", "converra_capture", "converra_local_api"]

_HOMES = {"Capture": "capture", "CapturedConversation": "capture", "RecordedModel": "recorded_model"}

_FIXTURES = {"converra_capture", "converra_local_api"}
_CAPTURED = pytest.StashKey["Capture"]()
"""The conversations of a test, for its report."""

SILENCED = "CONVERRA_SILENCED"  # `converra.config` knows it as well; to import that would be heavy
SEND = "CONVERRA_PYTEST_SEND"
MARKER = (
    "converra(prompt_id): the prompt of model calls outside a converra.conversation() block, "
    "for the fixtures converra_capture and converra_local_api"
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"converra.testing.{_HOMES[name]}"), name)  # only for those who name it


# -- nothing is sent for real ------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let users ask for real sending."""
    meaning = "send conversations for real, as the settings of the app say (default: tests send nothing)"
    parser.getgroup("converra").addoption("--converra-send", action="store_true", help=meaning)
    parser.addini("converra_send", meaning, type="bool", default=False)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Silence capture before the first conftest.py imports the app, which may switch it on."""
    _silence(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Silence capture also where a conftest.py has loaded this plugin; name the marker."""
    _silence(config)
    config.addinivalue_line("markers", MARKER)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say when conversations leave the tests."""
    return "converra: conversations are sent for real" if _sends(config) else None


def _sends(config: pytest.Config) -> bool:
    asked = os.environ.get(SEND, "").strip().lower() in ("1", "true", "yes", "on")
    return bool(asked or config.getoption("converra_send", default=False) or config.getini("converra_send"))


def _silence(config: pytest.Config) -> None:
    options = getattr(config, "known_args_namespace", None)  # those of the command line, before they are all parsed
    if SILENCED in os.environ or getattr(options, "converra_send", False) or _sends(config):
        return
    os.environ[SILENCED] = "pytest"
    config.add_cleanup(lambda: _forget(SILENCED))


def _forget(name: str) -> None:
    os.environ.pop(name, None)


# -- fixtures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def converra_capture(request: pytest.FixtureRequest) -> Iterator[Capture]:
    """Capture the conversations that the test produces, in memory: no network, the same ids and times in every run."""
    from converra.testing.capture import Capture  # noqa: PLC0415 - a test run that captures nothing stays light
    from converra.testing.swap import in_memory, swapped  # noqa: PLC0415 - as above

    capture = Capture()
    request.node.stash[_CAPTURED] = capture
    with swapped(in_memory(capture, prompt_id=_marked_prompt(request.node))):
        yield capture


@pytest.fixture
def converra_local_api(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """Serve a local Conversations API in this process, to which the test's conversations are really sent.

    Beside `converra_capture` nothing is sent to it; its stand-in model can still be asked.
    """
    try:
        from converra.server.run import serve  # noqa: PLC0415 - of an extra, and heavy
    except ModuleNotFoundError as missing:
        pytest.fail(f'converra_local_api needs {missing.name}: pip install "converra[server]"', pytrace=False)
    from converra.testing.swap import swapped, to_server  # noqa: PLC0415 - as above

    prompt_id = _marked_prompt(request.node)
    with serve() as server, ExitStack() as sending:
        if "converra_capture" not in request.fixturenames:
            environment = sending.enter_context(pytest.MonkeyPatch.context())
            environment.delenv(SILENCED, raising=False)
            environment.setenv("CONVERRA_BASE_URL", server.base_url)
            environment.setenv("CONVERRA_API_KEY", "test")
            sending.enter_context(swapped(to_server(server.base_url, prompt_id=prompt_id)))
        yield server


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the conversations to the report of a failed test, and leave the frames of this package out of it."""
    uses_fixture = not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
    if uses_fixture and call.excinfo is not None:
        _hide_own_frames(call.excinfo.tb)
    report = yield
    if report.failed and _CAPTURED in item.stash:
        report.sections.append(("converra conversations", str(item.stash[_CAPTURED])))
    return report


def _hide_own_frames(traceback: TracebackType | None) -> None:
    """Mark the modules of this package as hidden, which pytest then leaves out except with `--full-trace`."""
    while traceback is not None:
        names = traceback.tb_frame.f_globals
        if str(names.get("__name__")).startswith("converra."):
            names.setdefault("__tracebackhide__", True)
        traceback = traceback.tb_next


def _marked_prompt(node: pytest.Item) -> str | None:
    """The prompt id of the nearest marker; a marker that says anything else is an error of the test."""
    marker = node.get_closest_marker("converra")
    if marker is None:
        return None
    prompt_id = marker.kwargs.get("prompt_id")
    if marker.args or marker.kwargs.keys() != {"prompt_id"} or not isinstance(prompt_id, str) or not prompt_id.strip():
        pytest.fail('the marker is to be written @pytest.mark.converra(prompt_id="...")', pytrace=False)
    return prompt_id.strip()
