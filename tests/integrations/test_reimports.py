"""Libraries that are imported again or reloaded while they are captured: tests and notebooks do that."""

from __future__ import annotations

import sys
import textwrap
import types
from typing import TYPE_CHECKING, Any

import pytest

from converra.integrations.importing import ImportWatcher
from tests import warm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRELUDE = """
import asyncio, importlib, inspect, sys
import converra
from converra.server.run import serve

def originals(openai):
    return [inspect.getattr_static(c, "request", None) for c in (openai.OpenAI, openai.AsyncOpenAI)]

def forget(*packages):
    for name in list(sys.modules):
        if name.partition(".")[0] in packages:
            del sys.modules[name]

def ask(OpenAI, words):
    with OpenAI(api_key="k", base_url=server.openai_url) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": words}])

async def aask(AsyncOpenAI, words):
    async with AsyncOpenAI(api_key="k", base_url=server.openai_url) as client:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": words}])

def recorded():
    assert converra.flush(20)
    found = server.store.conversations(limit=99)[0]
    return sorted(server.store.messages(c)[0]["content"] for c in found)

with serve() as server:
    meta_path = list(sys.meta_path)
"""


def _run(program: str) -> None:
    body = PRELUDE + textwrap.indent(textwrap.dedent(program), "    ")
    modules = warm.OPENAI if "import openai; report" in program else warm.COMMAND
    done = warm.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=60, modules=modules)
    assert done.returncode == 0, done.stderr
    assert "converra failed" not in done.stderr


@pytest.mark.parametrize(
    "again",
    [
        "forget('openai'); import openai",
        "del sys.modules['openai']; import openai",
        "importlib.reload(openai)",
        "importlib.reload(sys.modules['openai._client']); importlib.reload(openai)",
        "forget('openai'); from openai._client import OpenAI; import openai",
        "openai = importlib.reload(sys.modules['openai._client'])",
        "forget('openai'); import openai; forget('openai'); import openai",
    ],
)
@pytest.mark.parametrize("first", ["import openai; report = converra.instrument", "report = converra.instrument"])
def test_openai_again(again: str, first: str) -> None:
    """Calls are captured once by the old and the new classes, and uninstrument() puts all originals back."""
    _run(
        f"""
        {first}("p", api_key="k", base_url=server.base_url)
        import openai
        held = openai.OpenAI(api_key="k", base_url=server.openai_url)
        create, Old = held.chat.completions.create, openai.OpenAI
        {again}
        report = converra.instrument("p", api_key="k", base_url=server.base_url)
        assert not report.waiting or all("openai" not in row.target for row in report.waiting), report
        assert sum(row.target.startswith("openai.") for row in report.patched) == 2, report
        ask(openai.OpenAI, "new")
        asyncio.run(aask(openai.AsyncOpenAI, "awaited"))
        create(model="m", messages=[{{"role": "user", "content": "old client"}}])
        assert recorded() == ["awaited", "new", "old client"], recorded()
        converra.uninstrument()
        for cls in (openai.OpenAI, openai.AsyncOpenAI, Old):
            assert "request" not in vars(cls) or type(vars(cls)["request"]) is type(forget), cls
        assert sys.meta_path == meta_path
        ask(openai.OpenAI, "after")
        assert len(recorded()) == 3
        held.close()
        converra.shutdown(20)
        """
    )


def test_not_after_uninstrument() -> None:
    """What is imported again after uninstrument() is left alone, and its loader is its own."""
    _run(
        """
        converra.instrument("p", api_key="k", base_url=server.base_url)
        import openai
        assert type(openai.__spec__.loader).__name__ == type(openai.__loader__).__name__ == "SourceFileLoader"
        assert inspect.getsource(openai)
        converra.uninstrument()
        forget("openai")
        import openai
        ask(openai.OpenAI, "after")
        assert recorded() == []
        converra.shutdown(20)
        """
    )


def test_an_old_module_is_collected() -> None:
    """Nothing of ours keeps the classes of a module alive that was imported again."""
    _run(
        """
        import gc, weakref
        from converra.integrations import openai as integration
        converra.instrument("p", api_key="k", base_url=server.base_url)
        import openai
        from converra.integrations.patching import PatchPoint
        for _ in range(3):
            forget("openai")
            import openai
        everywhere = integration._patches._installed[PatchPoint("OpenAI", "request")]
        class Short:
            def request(self): ...
        module = type(sys)("short")
        module.OpenAI = module.AsyncOpenAI = Short
        integration._patches.install(module, integration._patches._capture)
        gone = weakref.ref(Short)
        del Short, module
        gc.collect()
        assert gone() is None
        converra.uninstrument()
        converra.shutdown(20)
        """
    )


def test_langchain_again() -> None:
    """Runs of a LangChain that was imported again are captured once, in their sessions, and by a new handler."""
    _run(
        """
        converra.instrument("p", api_key="k", base_url=server.base_url)
        def go(words):
            from langchain_openai import ChatOpenAI
            from langchain_core.runnables import RunnableLambda
            from converra.langchain import ConverraCallbackHandler
            import openai
            http = openai.DefaultHttpxClient()
            with http:
                settings = {"model": "m", "api_key": "k", "base_url": server.openai_url, "http_client": http}
                thread = {"configurable": {"thread_id": words}}
                chain = RunnableLambda(lambda question: ChatOpenAI(**settings).invoke([("user", question)]))
                chain.invoke(words, config=thread)
                handler = ConverraCallbackHandler(prompt_id="q", session_id=f"{words} by hand")
                ChatOpenAI(**settings, callbacks=[handler]).invoke([("user", f"{words} by hand")])
        go("once")
        forget("langchain_core", "langchain_openai", "openai")
        go("twice")
        from langchain_core.tracers import context
        importlib.reload(context)
        go("reloaded")
        converra.shutdown(20)
        ours = lambda: [row for row in context._configure_hooks if "converra" in row[0].name]
        assert len(ours()) == 1
        converra.uninstrument()
        assert ours() == []
        found = server.store.conversations(limit=99)[0]
        def spoken(c):
            return sum(message["role"] != "system" for message in server.store.messages(c))
        sessions = sorted((c.metadata["sessionId"], spoken(c)) for c in found)
        words = ("once", "twice", "reloaded")
        assert sessions == sorted((w + by, 2) for w in words for by in ("", " by hand")), sessions
        """
    )


def test_the_handler_may_be_the_first_to_import_langchain() -> None:
    """After `instrument()`, and nothing fails: the handler's module is half imported while LangChain is."""
    _run(
        """
        converra.instrument("p", api_key="k", base_url=server.base_url)
        from converra.langchain import ConverraCallbackHandler
        from langchain_core.language_models.fake_chat_models import FakeListChatModel
        FakeListChatModel(responses=["Hello"]).invoke("Hi")
        FakeListChatModel(responses=["Hello"], callbacks=[ConverraCallbackHandler("q")]).invoke("Hi")
        assert converra.shutdown(20)
        assert converra.stats().failures == 0
        assert sorted(c.prompt_id for c in server.store.conversations()[0]) == ["p", "q"]
        """
    )


# -- the watcher -------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ImportWatcher, list[Any]]]:
    (tmp_path / "converra_watched.py").write_text("value = 1\n")
    (tmp_path / "converra_replacing.py").write_text(
        "import sys, types\nsys.modules[__name__] = types.SimpleNamespace()\n"
    )
    (tmp_path / "converra_failing.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    watcher = ImportWatcher()
    seen: list[Any] = []
    for name in ("watched", "replacing", "failing", "nowhere"):
        watcher.watch(f"converra_{name}", seen.append)
    yield watcher, seen
    for name in ("watched", "replacing", "failing", "nowhere"):
        watcher.unwatch(f"converra_{name}")
        sys.modules.pop(f"converra_{name}", None)
    assert watcher not in sys.meta_path


def test_what_is_imported_is_told(watched: tuple[ImportWatcher, list[Any]]) -> None:
    """A module is told each time it is executed, as it is found in sys.modules; one that fails or is missing is not."""
    _, seen = watched
    module = __import__("converra_watched")
    replaced = __import__("converra_replacing")
    for name in ("failing", "nowhere"):
        with pytest.raises(ImportError):
            __import__(f"converra_{name}")
    assert seen == [module, replaced]
    assert isinstance(replaced, types.SimpleNamespace)
    spec = module.__spec__
    assert spec is not None
    assert module.__loader__ is spec.loader


def test_looking_for_a_module_is_no_import(watched: tuple[ImportWatcher, list[Any]]) -> None:
    """Who asks for a spec gets one whose loader passes for the real one."""
    import importlib.machinery
    import importlib.util

    spec = importlib.util.find_spec("converra_watched")
    assert spec
    assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
    assert spec.loader.get_source("converra_watched") == "value = 1\n"
    assert not watched[1]
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.value == 1
    assert watched[1] == [module]


def test_beside_another_watcher(watched: tuple[ImportWatcher, list[Any]]) -> None:
    """The post-import hooks of wrapt see the same import, whichever finder comes first."""
    import wrapt

    others: list[Any] = []
    wrapt.register_post_import_hook(others.append, "converra_watched")
    module = __import__("converra_watched")
    assert watched[1] == others == [module]
    assert type(module.__loader__).__name__ == "SourceFileLoader"
