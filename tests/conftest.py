"""What every test stands on: no network but loopback, and no setting that leaks in from the machine."""

from __future__ import annotations

import functools
import gc
import os
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import httpx
import pytest

from tests import forking, warm
from tests.effort import register_profiles
from tests.offline import sitecustomize as offline
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

register_profiles()  # before the plugin of Hypothesis loads the one that is asked for

LEAKY_PREFIXES = ("CONVERRA_", "OPENAI_", "AZURE_OPENAI_", "LANGCHAIN_", "LANGSMITH_", "OTEL_")
LEAKY_NAMES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "AWS_LAMBDA_FUNCTION_NAME"})


def _is_leaky(name: str) -> bool:
    return name.startswith(LEAKY_PREFIXES) or name.upper() in LEAKY_NAMES


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make test`."""
    parser.addoption("--forks", type=int, default=0, help="run the tests in this many forks; 0: in this process")


def pytest_configure(config: pytest.Config) -> None:
    """Before anything else is imported: no settings, no home of the user's, and children that stay offline too."""
    for name in filter(_is_leaky, list(os.environ)):
        del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="converra-tests-")
    config.add_cleanup(home.cleanup)
    _settle_in(Path(home.name))
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        os.environ["PYTHONPATH"] = str(Path(offline.__file__).parent)  # workers of pytest-xdist load it themselves
    if config.getoption("forks") and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        warm.prepare(warm.PLAIN, warm.COMMAND, warm.OPENAI, warm.LIBRARIES)  # on another core, while this one collects
    for phase in ("connect", "read", "write", "pool"):  # five seconds by default
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, phase, LONG)


def _settle_in(home: Path) -> None:
    """Use a directory as the user's home, and a short list of authorities in it."""
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ[name] = str(home / name.lower())
    os.environ["SSL_CERT_FILE"] = _one_authority(home)


def _one_authority(folder: Path) -> str:
    """Write the certificate of one authority: to load those of all is most of what any HTTP client costs."""
    path = folder / "one.pem"
    path.write_text("".join(certifi.contents().partition("-----END CERTIFICATE-----")[:2]) + "\n")
    return str(path)


class _Collections:
    """Leaves out of the garbage collections of a test what was there before it, once they take long.

    Many tests collect by hand, and with all libraries loaded, each time would take a third of a second.
    """

    LONG_SECONDS = 0.02

    def __init__(self) -> None:
        self._began = 0.0
        self._are_long = True

    def watch(self, phase: str, info: dict[str, int]) -> None:
        """Take the time of a full collection; one of `gc.callbacks`."""
        if info["generation"] == 2 and phase == "start":
            self._began = time.thread_time()
        elif info["generation"] == 2:
            self._are_long |= time.thread_time() - self._began > self.LONG_SECONDS

    def shorten(self) -> None:
        if self._are_long:
            gc.collect()
            gc.freeze()
            self._are_long = False


_collections = _Collections()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import without garbage collections: modules stay, and looking through them takes a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Begin with short garbage collections."""
    gc.callbacks.append(_collections.watch)
    _collections.shorten()


def pytest_runtest_setup() -> None:
    """Keep garbage collections short while tests make libraries load more."""
    _collections.shorten()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in forks, where that is asked for and all could be collected."""
    forks: int = session.config.getoption("forks")
    if not forks or session.config.option.collectonly or session.testsfailed:
        return None  # as always: what could not be collected is an error
    return forking.run(session, forks, _settle_in)


@pytest.fixture(autouse=True, scope="session")
def known_packages() -> Iterator[None]:
    """Look once for installed integrations: among the packages of a test environment it takes a recorder 10 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("converra.integrations.discovery.entry_points", functools.cache(entry_points))
        yield


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Whatever a test sets in the environment, the next one starts from the same."""
    before = _environment()
    yield
    for name in _environment().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _switched_on() -> dict[str, Any]:
    """Return the integrations that are on; that of LangGraph stays, for handlers that an app has made by hand."""
    patching = sys.modules.get("converra.integrations.patching")
    return {} if patching is None else {name: on for name, on in patching._on.items() if name != "langgraph"}


@pytest.fixture(autouse=True)
def nothing_is_left_on() -> Iterator[None]:
    """A test that leaves capture switched on fails: calls of later tests would be recorded there, or warned of."""
    before = _switched_on()
    yield
    left_on = {name: on for name, on in _switched_on().items() if before.get(name) != on}
    assert not left_on


@pytest.fixture(autouse=True)
def only_loopback() -> Iterator[None]:
    """A test during which anything reached for the outside fails, whoever swallowed the exception."""
    offline.attempts.clear()
    yield
    assert not offline.attempts, "reached for the outside"
