"""Calls of litellm that are not captured: said once, and never of calls that are."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

HANDLER = """
class HTTPHandler:
    def post(self, url, data=None, **more):
        return url

class AsyncHTTPHandler:
    async def post(self, url, data=None, **more):
        return url
"""

MAIN = """
import asyncio
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler

URL = "https://api.groq.com/openai/v1/chat/completions"

def completion(model, messages):
    return HTTPHandler().post(url=URL)

async def acompletion(model, messages):
    return await AsyncHTTPHandler().post(URL)

def responses(model, input):
    return asyncio.run(aresponses(model, input))

async def aresponses(model, input):
    return await AsyncHTTPHandler().post(URL, data=b"{}")

def embedding(model, input):
    return HTTPHandler().post(URL)

def completion_with_semantic_cache(model, messages):
    def completion():
        return embedding(model, messages)
    return completion()

def completion_by_openai(model, messages, **settings):
    from openai import OpenAI
    def completion():
        with OpenAI(**settings) as client:
            return client.chat.completions.create(model=model, messages=messages)
    return completion()
"""
"""The shape of the real package, as far as it is looked at: where its requests leave, and what asks for them."""

PROGRAM = """
import asyncio, logging, sys, threading
import converra
from converra.server.run import serve

logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
MESSAGES = [{"role": "user", "content": "Hi"}]
with serve() as server:
    {before}
    converra.instrument("p", api_key="k", base_url=server.base_url)
    from litellm import main
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler
    {program}
    assert converra.flush(9)
    print("stored", sum(len(server.store.messages(c)) for c in server.store.conversations()[0]))
    converra.uninstrument()
    assert type(vars(HTTPHandler)["post"]) is type(vars(AsyncHTTPHandler)["post"]) is type(serve.__wrapped__)
    converra.shutdown(9)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A package of that name."""
    folder = tmp_path / "litellm"
    inner = folder / "llms" / "custom_httpx"
    inner.mkdir(parents=True)
    for package in (folder, folder / "llms", inner):
        (package / "__init__.py").write_text("")
    (inner / "http_handler.py").write_text(HANDLER)
    (folder / "main.py").write_text(MAIN)
    return tmp_path


def _source(folder: Path, program: str, before: str = "pass") -> list[str]:
    body = PROGRAM.replace("{program}", textwrap.indent(textwrap.dedent(program), "    ").strip())
    done = subprocess.run(
        [sys.executable, "-c", body.replace("{before}", before)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": ""},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "converra failed" not in done.stdout + done.stderr
    return done.stdout.splitlines()


WARNING = "WARNING converra: a litellm call to api.groq.com is not recorded"


@pytest.mark.parametrize(
    "program",
    [
        "assert main.completion('groq/m', MESSAGES) == main.URL",
        "assert asyncio.run(main.acompletion('groq/m', MESSAGES)) == main.URL",
        "main.responses('openai/m', 'Hi')",
        "asyncio.run(main.aresponses('openai/m', 'Hi'))",
        "worker = threading.Thread(target=main.completion, args=('groq/m', MESSAGES)); worker.start(); worker.join()",
        "with converra.conversation('q'): main.completion('groq/m', MESSAGES)",
        "main.completion('groq/m', MESSAGES); asyncio.run(main.acompletion('groq/m', MESSAGES))",
    ],
)
@pytest.mark.parametrize("before", ["pass", "import litellm.main"])
def test_a_call_that_is_not_captured(program: str, before: str, stand_in: Path) -> None:
    """One warning for the whole process names litellm, the host, and what is not recorded."""
    source = _source(stand_in, program, before)
    assert [line[: len(WARNING)] for line in source] == [WARNING, "stored 0"]


@pytest.mark.parametrize(
    ("program", "stored"),
    [
        ("main.embedding('groq/m', 'Hi')", 0),
        ("main.completion_with_semantic_cache('groq/m', MESSAGES)", 0),
        ("HTTPHandler().post('https://example.com')", 0),
        ("asyncio.run(AsyncHTTPHandler().post('https://example.com'))", 0),
        ("main.completion_by_openai('openai/m', MESSAGES, api_key='k', base_url=server.openai_url)", 2),
        ("converra.uninstrument(); main.completion('groq/m', MESSAGES)", 0),
    ],
)
def test_nothing_to_say(program: str, stored: int, stand_in: Path) -> None:
    """A call that passes the openai client is recorded in silence; what is no chat is not mentioned."""
    assert _source(stand_in, program) == [f"stored {stored}"]


def test_the_report_does_not_promise_it(stand_in: Path) -> None:
    """Nothing is said of litellm before it is imported; then that it is captured in part."""
    instrument = "converra.instrument('p', api_key='k', base_url=server.base_url)"
    program = f"""
        report = {instrument}
        print(report.skipped)
        assert not any("litellm" in row.target for row in report.patched)
    """
    before = f"assert not any('litellm' in row.target for row in {instrument})"
    (line, _) = _source(stand_in, program, before)
    assert "target='litellm', state='skipped', why='only calls through the openai client are captured" in line


def test_a_run_of_langchains_is_recorded(stand_in: Path) -> None:
    """Where LangChain records the run, there is nothing to say."""
    program = """
        from langchain_core.language_models import SimpleChatModel
        class Model(SimpleChatModel):
            _llm_type = "litellm"
            def _call(self, messages, stop=None, run_manager=None, **more):
                return main.completion("groq/m", MESSAGES)
        Model().invoke("Hi")
    """
    assert _source(stand_in, program) == ["stored 2"]
