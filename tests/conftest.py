"""What every test stands on: no network but loopback, and no setting that leaks in from the machine."""

from __future__ import annotations

import functools
import gc
import os
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import httpx
import pytest

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


def pytest_configure(config: pytest.Config) -> None:
    """Before anything else is imported: no settings, no home of the user's, and children that stay offline too."""
    for name in filter(_is_leaky, list(os.environ)):
        del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="converra-tests-")
    config.add_cleanup(home.cleanup)
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ[name] = str(Path(home.name) / name.lower())
    os.environ["SSL_CERT_FILE"] = _one_authority(Path(home.name))
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        os.environ["PYTHONPATH"] = str(Path(offline.__file__).parent)  # not that of workers: they load it themselves
    for phase in ("connect", "read", "write", "pool"):  # five seconds by default
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, phase, LONG)


def _one_authority(folder: Path) -> str:
    """Write the certificate of one authority: to load those of all is most of what any HTTP client costs."""
    path = folder / "one.pem"
    path.write_text("".join(certifi.contents().partition("-----END CERTIFICATE-----")[:2]) + "\n")
    return str(path)


def pytest_collection_finish() -> None:
    """Leave out of all further garbage collections what is loaded by now: each would take a third of a second."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Save what a worker of pytest-xdist has measured: it is killed where its exit takes long."""
    coverage = sys.modules.get("coverage")  # not installed in every environment that runs tests
    measured = None if coverage is None else coverage.Coverage.current()
    if measured is not None and hasattr(session.config, "workerinput"):
        measured.stop()
        measured.save()


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


@pytest.fixture(autouse=True)
def only_loopback() -> Iterator[None]:
    """A test during which anything reached for the outside fails, whoever swallowed the exception."""
    offline.attempts.clear()
    yield
    assert not offline.attempts, "reached for the outside"
