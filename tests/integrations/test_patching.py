"""Patch points: installed once, removed without a trace, whatever others do to the same function."""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import subprocess
import sys
import textwrap
import types
from typing import TYPE_CHECKING, Any

import pytest
import wrapt

from converra.integrations import Integration, Patched, patching
from converra.integrations.patching import Patches, PatchPoint
from converra.process import guard
from tests.integrations.recording import RecordingCapture

if TYPE_CHECKING:
    from collections.abc import Iterator

POINTS = (PatchPoint("Client", "request"), PatchPoint("Client.Inner", "fetch", coroutine=True), PatchPoint("No", "way"))


class Watcher:
    """Observes every call, and keeps how it ended."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, capture: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Watcher:
        self.seen.append((args, kwargs))
        return self

    def returned(self, result: Any) -> None:
        self.seen.append(result)

    def raised(self, error: BaseException) -> None:
        self.seen.append(error)


@pytest.fixture
def library() -> types.ModuleType:
    """A library of our own: a method, one that is inherited, a coroutine function."""

    class Base:
        def request(self, word: str, *, loud: bool = False) -> str:
            """Answer."""
            if word == "fail":
                raise KeyError(word)
            return word.upper() if loud else word

    class Client(Base):
        class Inner:
            async def fetch(self) -> int:
                """Fetch."""
                return 7

    module = types.ModuleType("library")
    module.Client = Client  # type: ignore[attr-defined]  # a made-up module
    return module


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def patches(watcher: Watcher) -> Patches:
    return Patches(POINTS, watcher)


def test_each_point_on_its_own(library: Any, patches: Patches, caplog: pytest.LogCaptureFixture) -> None:
    """A point that a version of the library lacks is skipped with a reason and one debug line; others are patched."""
    with caplog.at_level(logging.DEBUG, "converra"):
        report = patches.install(library, RecordingCapture())
    assert report == [
        Patched("library.Client.request", "patched"),
        Patched("library.Client.Inner.fetch", "patched"),
        Patched("library.No.way", "skipped", "the module has none"),
    ]
    assert len(caplog.records) == 1


def test_a_call(library: Any, patches: Patches, watcher: Watcher) -> None:
    """Arguments go through as the same objects, results and exceptions come back as the same objects."""
    patches.install(library, RecordingCapture())
    assert library.Client().request("a", loud=True) == "A"
    with pytest.raises(KeyError) as caught:
        library.Client().request("fail")
    assert watcher.seen == [(("a",), {"loud": True}), "A", (("fail",), {}), caught.value]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_undoing_deletes_what_was_inherited(library: Any, patches: Patches) -> None:
    """A class that had no method of its own has none afterwards."""
    before = dict(vars(library.Client))
    fetch = vars(library.Client.Inner)["fetch"]
    patches.install(library, RecordingCapture())
    assert "request" in vars(library.Client)
    patches.uninstall()
    patches.uninstall()
    assert dict(vars(library.Client)) == before
    assert vars(library.Client.Inner)["fetch"] is fetch


def test_undoing_below_another_wrapper(library: Any, patches: Patches, watcher: Watcher) -> None:
    """Below somebody else's wrapper, ours is taken out and theirs stays."""
    original = inspect.getattr_static(library.Client, "request")
    theirs: list[str] = []

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        theirs.append("called")
        return wrapped(*args, **kwargs)

    patches.install(library, RecordingCapture())
    outer = wrapt.wrap_function_wrapper(library.Client, "request", wrapper)
    patches.uninstall()
    assert inspect.getattr_static(library.Client, "request") is outer
    assert outer.__wrapped__ is original
    assert library.Client().request("a") == "a"
    assert (theirs, watcher.seen) == (["called"], [])


def test_undoing_below_a_closure(
    library: Any, patches: Patches, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    """Below a wrapper that cannot be opened, ours stays and does nothing; switched on again, it is used again."""
    patches.install(library, RecordingCapture())
    below = library.Client.request

    @functools.wraps(below)
    def closure(*args: Any, **kwargs: Any) -> Any:
        return below(*args, **kwargs)

    library.Client.request = closure
    with caplog.at_level(logging.DEBUG, "converra"):
        patches.uninstall()
    assert "leaves its wrapper" in caplog.text
    library.Client().request("a")
    assert watcher.seen == []


def test_a_neighbour_that_drops_our_wrapper(library: Any, patches: Patches, watcher: Watcher) -> None:
    """One that puts back the original it had saved takes ours away; the next `instrument()` sees it."""
    saved = library.Client.request
    patches.install(library, RecordingCapture())
    library.Client.request = saved
    library.Client().request("a")
    assert watcher.seen == []
    patches.install(library, RecordingCapture())
    patches.install(library, RecordingCapture())
    library.Client().request("a")
    assert len(watcher.seen) == 2
    patches.uninstall()
    assert vars(library.Client)["request"] is saved


def test_a_neighbour_that_puts_our_wrapper_back(library: Any, patches: Patches, watcher: Watcher) -> None:
    """What a neighbour read from the class is our wrapper in another guise: found again, used once, and removed."""
    before = dict(vars(library.Client))
    patches.install(library, RecordingCapture())
    saved = library.Client.request
    library.Client.request = lambda self, word: word
    library.Client.request = saved
    patches.install(library, RecordingCapture())
    library.Client().request("a")
    assert len(watcher.seen) == 2
    patches.uninstall()
    assert dict(vars(library.Client)) == before


@pytest.mark.parametrize("closed", [False, True], ids=["wrapt", "closure"])
def test_a_neighbour_that_puts_our_wrapper_back_after_we_left(
    library: Any, patches: Patches, watcher: Watcher, *, closed: bool
) -> None:
    """It brings back a wrapper that we had taken out; switched on again, that one serves, and a call counts once."""
    before = dict(vars(library.Client))
    for _ in range(2):
        patches.install(library, RecordingCapture())
        saved = inspect.getattr_static(library.Client, "request")
        if closed:
            library.Client.request = functools.partialmethod(saved)
        else:
            wrapt.wrap_function_wrapper(library.Client, "request", lambda call, i, args, kwargs: call(*args, **kwargs))
        patches.uninstall()
        library.Client.request = saved
        library.Client().request("a")
        assert watcher.seen == []
    patches.install(library, RecordingCapture())
    assert library.Client().request("a") == "a"
    assert len(watcher.seen) == 2
    patches.uninstall()
    assert dict(vars(library.Client)) == before


def test_below_a_neighbour_ours_is_found(library: Any, patches: Patches, watcher: Watcher) -> None:
    """A wrapper that somebody has put around ours does not make us patch twice."""
    patches.install(library, RecordingCapture())
    wrapt.wrap_function_wrapper(library.Client, "request", lambda wrapped, i, args, kwargs: wrapped(*args, **kwargs))
    patches.install(library, RecordingCapture())
    library.Client().request("a")
    assert len(watcher.seen) == 2


@pytest.mark.parametrize("method", ["__call__", "returned", "raised"])
def test_a_bug_of_the_integration(library: Any, method: str) -> None:
    """What fails in an integration is told and counted, and the call goes on."""

    class Buggy(Watcher):
        pass

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    setattr(Buggy, method, fail)
    before = guard.caught()
    Patches(POINTS, Buggy()).install(library, RecordingCapture())
    assert library.Client().request("a") == "a"
    with pytest.raises(KeyError):
        library.Client().request("fail")
    assert guard.caught() > before
    guard.reset_log_limits()


# -- imports -----------------------------------------------------------------------------------------------------------


def _integration(install: Any, module: str) -> Integration:
    return Integration("made-up", module, install, lambda: None)


@pytest.fixture
def made_up(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that was never imported before."""
    name = f"converra_made_up_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


_numbers = itertools.count()


def test_a_module_that_is_not_installed() -> None:
    """The report says so; should it appear, it would be patched."""
    integration = _integration(lambda module, capture: [], "converra_never")
    assert patching.switch_on(integration, RecordingCapture()) == [
        Patched("converra_never", "waiting", "not installed"),
    ]
    patching.switch_off(integration)
    assert patching.switch_on(_integration(None, "converra_never.b.c"), RecordingCapture())[0].why == "not installed"
    patching.switch_off(_integration(None, "converra_never.b.c"))


def test_a_module_that_is_imported_later(made_up: str) -> None:
    """It is patched as soon as its import is done, once, however often it was asked for."""
    installed: list[Any] = []

    def install(module: Any, capture: Any) -> list[Patched]:
        installed.append((module.value, capture))
        return []

    integration, capture = _integration(install, made_up), RecordingCapture()
    assert patching.switch_on(integration, capture)[0].why == "not imported yet"
    patching.switch_on(integration, capture)
    __import__(made_up)
    assert installed == [(1, capture)]
    patching.switch_off(integration)


def test_switched_off_before_the_import(made_up: str) -> None:
    """Undone before the module is imported, nothing is patched."""
    installed: list[Any] = []

    def install(module: Any, capture: Any) -> list[Patched]:
        installed.append(module)
        return []

    integration = _integration(install, made_up)
    patching.switch_on(integration, RecordingCapture())
    patching.switch_off(integration)
    __import__(made_up)
    assert installed == []


def test_a_bug_cannot_break_an_import(made_up: str) -> None:
    """An integration that raises does not make the app's own import fail, and the report tells of it."""

    def install(module: Any, capture: Any) -> list[Patched]:
        raise ZeroDivisionError

    integration = _integration(install, made_up)
    patching.switch_on(integration, RecordingCapture())
    assert __import__(made_up).value == 1
    assert patching.switch_on(integration, RecordingCapture()) == [
        Patched(made_up, "skipped", "its integration failed, see the log")
    ]

    def uninstall() -> None:
        raise ZeroDivisionError

    patching.switch_off(integration._replace(uninstall=uninstall))
    guard.reset_log_limits()


def _run(program: str, directory: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, cwd=directory
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SWITCH_ON = """
    from converra.integrations import patching
    from converra.integrations.openai import INTEGRATION

    class Capture:
        active = True
        def begin(self, request):
            return None

    report = patching.switch_on(INTEGRATION, Capture())
    """


def test_before_the_import_of_openai(tmp_path: Any) -> None:
    """Switching on imports nothing of openai; importing it later finds it patched."""
    program = (
        SWITCH_ON
        + """
    import sys
    assert "openai" not in sys.modules
    from openai import OpenAI
    print(report[0].state, type(vars(OpenAI)["request"]).__name__)
    """
    )
    assert _run(program, tmp_path) == "waiting FunctionWrapper"


def test_a_module_of_that_name_that_is_another(tmp_path: Any) -> None:
    """A file of the app's own that is called openai.py is left alone, and the report names it."""
    (tmp_path / "openai.py").write_text("answer = 42\n")
    program = "\n    import openai" + SWITCH_ON + "\n    print(report)\n"
    report = _run(program, tmp_path)
    assert report.count("skipped") == 2
    assert str(tmp_path / "openai.py") in report
