"""Libraries that the app uses and that are not captured: named once, in one line, with what to do."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING

import openai
import pytest

from converra.capture.recorder import Recorder
from converra.config import load
from converra.errors import InvalidArgumentError
from converra.integrations import Integration, Patched, patching
from converra.integrations.discovery import chosen
from converra.integrations.importing import WATCHER
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.uncaptured import LIBRARIES, NOTICES
from converra.process import guard
from tests.integrations.recording import RecordingCapture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FAKES = ("cohere", "replicate", "xai_sdk", "ai21", "langchain_cohere", "fakelib", "azure")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes packages that can be imported, with a distribution of that version."""

    def make(name: str, source: str = "", version: str = "1.0") -> None:
        folder = tmp_path / name.replace(".", "/")
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(source)
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    NOTICES.reset()
    yield make
    NOTICES.reset()
    for name in list(sys.modules):
        if name.partition(".")[0] in FAKES:
            del sys.modules[name]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder(load({"api_key": "k", "base_url": "http://127.0.0.1:9"}, {}))
    yield made
    made.uninstrument()
    made.shutdown(0)


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that name libraries, which are warnings."""
    found = [record for record in caplog.records if "not recorded" in record.getMessage()]
    assert all(record.levelno == logging.WARNING for record in found)
    return [record.getMessage() for record in found]


def test_imported_libraries_are_named_once(
    package: Callable[..., None], recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """All that are imported when capture is switched on in one line, later ones when they are imported."""
    for name in ("cohere", "replicate", "xai_sdk", "ai21", "azure.ai.inference"):
        package(name)
    importlib.import_module("cohere")
    importlib.import_module("replicate")
    report = recorder.instrument()
    recorder.instrument()
    by_hand = "record its turns with conversation.add_message()"
    by_openai = f"call its address with OpenAI's API by the openai client, or {by_hand}"
    (line,) = named(caplog)
    assert line.startswith("converra: cohere and replicate are imported, and calls of them are not recorded. ")
    assert line.endswith(f" cohere: {by_openai}; replicate: {by_hand}.")
    assert Patched("cohere", "skipped", f"not captured: {by_openai}") in report.skipped
    assert f"skipped  replicate (not captured: {by_hand})" in repr(report)
    caplog.clear()
    importlib.reload(importlib.import_module("cohere"))
    importlib.import_module("azure.ai.inference")
    advice = f"C{by_openai[1:]}"
    assert named(caplog) == [f"converra: azure-ai-inference is imported, and calls of it are not recorded. {advice}."]
    recorder.uninstrument()
    importlib.import_module("ai21")
    assert len(named(caplog)) == 1


def test_below_a_framework_that_is_captured(
    package: Callable[..., None], recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """LangChain's runs are recorded, whatever its models are made with."""
    package("cohere")
    package("langchain_cohere", "import cohere")
    recorder.instrument()
    importlib.import_module("langchain_cohere")
    assert recorder.instrument().skipped == []
    assert named(caplog) == []


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("1.4", "It is too old: install fakelib 2.1 and newer"),
        ("9.0.1", "This version of converra does not know it: install a newer converra"),
    ],
)
def test_a_version_without_a_patch_point(
    package: Callable[..., None], caplog: pytest.LogCaptureFixture, version: str, advice: str
) -> None:
    """A version that has nothing to patch is named when it is imported, with the versions that can be captured."""
    package("fakelib", version=version)
    patches = Patches((PatchPoint("Client", "request"),), lambda *_: None)
    fake = Integration("fake", "fakelib", patches.install, patches.uninstall, package="fakelib", since="2.1")
    try:
        assert patching.switch_on(fake, RecordingCapture())[0].state == "waiting"
        importlib.import_module("fakelib")
        importlib.reload(sys.modules["fakelib"])
    finally:
        patching.switch_off(fake)
    assert named(caplog) == [f"converra: fakelib {version} is imported, and calls of it are not recorded. {advice}."]


def test_the_setting_integrations(caplog: pytest.LogCaptureFixture) -> None:
    """Names choose, names with a minus leave out; what is imported and left out is named; a typo is told."""
    assert [one.name for one in chosen(["openai", "groq"]).wanted if one.captures] == ["openai", "groq"]
    assert "openai" not in [one.name for one in chosen(["-openai"]).wanted]
    assert [row.target for row in chosen(["opnai"]).unknown] == ["opnai"]
    assert load({"integrations": ["openai", " -groq"]}, {}).integrations == ("openai", "-groq")
    assert load({}, {"CONVERRA_INTEGRATIONS": "openai, -groq,"}).integrations == ("openai", "-groq")
    with pytest.raises(InvalidArgumentError, match="integrations is 7, expected names of integrations"):
        load({"integrations": 7}, {})
    NOTICES.reset()
    recorder = Recorder(load({"api_key": "k", "integrations": "-openai,-opnai"}, {}))
    guard.reset_log_limits()
    before = openai.OpenAI.request
    try:
        report = recorder.instrument()
        assert openai.OpenAI.request is before
    finally:
        recorder.uninstrument()
        recorder.shutdown(0)
        NOTICES.reset()
    assert Patched("openai", "skipped", "left out by the setting `integrations`") in report.skipped
    (left_out,) = named(caplog)
    assert left_out.endswith("of it are not recorded. The setting `integrations` leaves it out: change that.")
    assert "(CONVERRA_INTEGRATIONS) names 'opnai': there is no such integration; there are: anthropic, " in caplog.text
    assert WATCHER not in sys.meta_path


def test_the_table_of_libraries() -> None:
    """Each library stands there once, and none of them is one that is captured."""
    modules = [library.module for library in LIBRARIES]
    assert len(set(modules)) == len(modules)
    captured = {one.module for one in chosen(()).wanted}
    assert captured.isdisjoint(modules)
