"""The pytest plugin, as it is used: test files of an app, run by pytest in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import converra.testing
from tests import warm

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

APP = """
import converra
from openai import OpenAI

converra.instrument("prompt_app", api_key="real", base_url="http://127.0.0.1:9", redact=lambda m: m)


def ask(client, *questions):
    history = [{"role": "system", "content": "Be kind."}]
    for question in questions:
        history.append({"role": "user", "content": question})
        answer = client.chat.completions.create(model="gpt-4o", messages=history)
        history.append({"role": "assistant", "content": answer.choices[0].message.content})
    return history[-1]["content"]
"""

HEAD = """
import pytest
import converra
from openai import OpenAI
from app import ask

@pytest.fixture
def client(converra_local_api):
    return OpenAI(base_url=converra_local_api.openai_url, api_key="none")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """A test file of an app, run with this plugin alone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(app=APP)

    def ran(source: str, *arguments: str, cold: bool = False) -> pytest.RunResult:
        pytester.makepyfile(source)
        command = [sys.executable, "-m", "pytest", "-p", "converra.testing", "-p", "no:cacheprovider", *arguments]
        if cold:
            return pytester.run(*command)
        began = time.monotonic()
        ended = warm.run(command, cwd=pytester.path, capture_output=True, text=True, modules=warm.OPENAI)
        lines = (ended.stdout.splitlines(), ended.stderr.splitlines())
        return pytest.RunResult(ended.returncode, *lines, time.monotonic() - began)

    return ran


def test_loading_the_plugin_is_light() -> None:
    """A test run that captures nothing pays for nothing."""
    program = (
        "import sys; before = set(sys.modules); import converra.testing;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )  # the difference, as whatever watches the process (coverage does) has modules of its own
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert loaded & {"msgspec", "httpx", "wrapt", "openai", "opentelemetry", "starlette", "sqlite3", "click"} == set()


def test_pytest_finds_the_plugin() -> None:
    """Installing the package is enough."""
    (point,) = (point for point in entry_points(group="pytest11") if point.name == "converra")
    assert point.load() is converra.testing


def test_the_plugin_explains_itself(run: Callable[..., pytest.RunResult]) -> None:
    """The marker, the option and the fixtures are listed with a line each."""
    run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.converra(prompt_id): *"])
    run("", "--help").stdout.fnmatch_lines(["*--converra-send*", "*converra_send (bool)*"])
    shown = run("", "--fixtures").stdout.str()
    assert "converra_capture -- " in shown
    assert "converra_local_api -- " in shown


def test_conversations_are_captured_whole(run: Callable[..., pytest.RunResult]) -> None:
    """Typed objects with the same ids and times in every run; what is resent is there once; nothing is sent."""
    run(
        HEAD
        + """
from datetime import datetime, timezone
from converra.wire.models import Message, Usage

def test_one(client, converra_capture, converra_local_api):
    with converra.conversation("prompt_1", session_id="s1", metadata={"channel": "web"}) as conversation:
        ask(client, "[[say:Hello.]]", "[[say:Bye.]]")
        assert conversation.id == "conv_1"
        assert converra_capture.only().status == "active"
        conversation.update_metadata(mood="good")
    one = converra_capture.only()
    assert (one.prompt_id, one.session_id, one.status) == ("prompt_1", "s1", "completed")
    assert one.metadata == {"channel": "web", "mood": "good"}
    assert one.said == [
        ("system", "Be kind."), ("user", "[[say:Hello.]]"), ("assistant", "Hello."),
        ("user", "[[say:Bye.]]"), ("assistant", "Bye."),
    ]
    assert one.messages == converra_capture.messages
    assert one.messages[2] == Message(
        role="assistant", content="Hello.", timestamp=datetime(2025, 1, 1, 0, 0, 2, tzinfo=timezone.utc),
        model="gpt-4o-stand-in", tokens=one.messages[2].usage.completion_tokens, usage=one.messages[2].usage,
        latency_ms=0.0, metadata={"messageId": "message-1-3"},
    )
    assert isinstance(one.messages[2].usage, Usage)
    assert converra_local_api.store.conversations()[1] == 0
    assert converra.flush() and converra.stats().delivered == 5
""",
    ).assert_outcomes(passed=1)


def test_what_the_app_said_at_import_holds_in_every_test(run: Callable[..., pytest.RunResult]) -> None:
    """The app calls `instrument()` once, outside of any test or inside of one; its prompt and redaction hold in all."""
    source = """
import pytest, converra
from openai import OpenAI

@pytest.fixture
def client(converra_local_api):
    return OpenAI(base_url=converra_local_api.openai_url, api_key="none")

@pytest.mark.parametrize("n", [1, 2])
def test_implicit(client, converra_capture, n):
    from app import ask
    ask(client, "[[say:Hello.]]")
    assert converra_capture.only().prompt_id == "prompt_app"
    assert converra_capture.only().status == "active"
    converra.shutdown()
    assert converra_capture.only().status == "completed"

@pytest.mark.converra(prompt_id="prompt_marked")
def test_marked(client, converra_capture):
    from app import ask
    ask(client, "Hello?")
    ask(client, "Good day?")
    assert [c.prompt_id for c in converra_capture.conversations] == ["prompt_marked"] * 2

def test_nothing_without_the_fixture(client):
    from app import ask
    ask(client, "Hello?")
"""
    run(source, "-p", "no:randomly").assert_outcomes(passed=4)


def test_by_hand(run: Callable[..., pytest.RunResult]) -> None:
    """Messages by hand keep their own times; sessions go on; who only asks is abandoned; tools are found."""
    run(
        """
import converra
import pytest
from datetime import datetime, timezone
from converra.testing import Capture, CapturedConversation

THEN = datetime(2024, 5, 5, tzinfo=timezone.utc)

def test_written(converra_capture: Capture):
    for text in ("One?", "Two?"):
        with converra.conversation("p", session_id="s", keep_open=True, company_name="ACME") as conversation:
            conversation.add_message("user", text, timestamp=THEN, metadata={"mine": 1})
    call = {"id": "c1", "name": "look_up", "arguments": {"order": 7}}
    with converra.conversation("p", session_id="s") as conversation:
        conversation.add_message("tool", "", tool_calls=[call])
        conversation.add_message("tool", "sent", tool_calls=[{"id": "c1", "name": "look_up"}])
        conversation.add_message("assistant", "It is sent.", latency_ms=12)
    one: CapturedConversation = converra_capture.only(session_id="s")
    assert one.said[:2] == [("user", "One?"), ("user", "Two?")]
    assert one.messages[0].timestamp == THEN
    assert one.messages[0].metadata == {"messageId": "message-1-1", "mine": 1}
    assert one.messages[4].latency_ms == 12
    assert (one.status, one.company_name, one.answers) == ("completed", "ACME", ["It is sent."])
    assert [(c.name, c.arguments) for c in one.tool_calls] == [("look_up", {"order": 7})]
    assert one.messages[0].timestamp == THEN
    assert one.messages[3].timestamp == datetime(2025, 1, 1, 0, 0, 3, tzinfo=timezone.utc)
    assert "       tool: look_up(order=7)\\n       tool: look_up -> sent" in str(one)
    assert repr(one) == str(one)
    assert repr(converra_capture) == "<Capture of 1 conversations, 5 messages>"

def test_others(converra_capture):
    with converra.conversation("p1") as conversation:
        conversation.add_message("user", "Anybody?")
    with converra.conversation("p2"):
        pass
    with converra.conversation("p3") as conversation:
        conversation.update_metadata(early=True)
        conversation.add_message("user", "Hello?")
        assert conversation.id == "conv_2"
    converra.complete("p4", "never")
    assert [c.status for c in converra_capture.conversations] == ["abandoned", "abandoned"]
    assert converra_capture.only(prompt_id="p3").metadata == {"early": True}
    with pytest.raises(AssertionError, match="expected one conversation, found 2; captured:\\nconversation of p1"):
        converra_capture.only()
    with pytest.raises(AssertionError, match="expected one conversation of session_id 'x', found 0"):
        converra_capture.only(session_id="x")

def test_none(converra_capture):
    with pytest.raises(AssertionError, match="nothing was captured"):
        converra_capture.only()
    with pytest.raises(AttributeError, match="no attribute 'Captured'"):
        import converra.testing
        converra.testing.Captured

def test_redacted():
    "Redaction is that of the app."

def test_redacted_away(converra_capture):
    converra.instrument(redact=lambda m: None if m["content"] == "secret" else m, console=False)
    with converra.conversation("p") as conversation:
        conversation.add_message("user", "secret")
        conversation.add_message("assistant", "ok")
    assert converra_capture.only().said == [("assistant", "ok")]
"""
    ).assert_outcomes(passed=5)


def test_the_local_api_is_sent_to(run: Callable[..., pytest.RunResult]) -> None:
    """Whatever address the app names, its conversations arrive in the test's own API, as the client reads them back."""
    run(
        HEAD
        + """
import os

def test_sent(client, converra_local_api):
    assert os.environ["CONVERRA_API_KEY"] == "test"
    converra.instrument(api_key="real", base_url="http://127.0.0.1:9")
    with converra.conversation("prompt_1"):
        ask(client, "[[say:Hello.]]")
    assert converra.flush(120)
    with converra.Converra() as api:
        (listed,) = api.conversations.list()
        assert [m.content for m in api.conversations.get(listed.id).messages] == [
            "Be kind.", "[[say:Hello.]]", "Hello."
        ]

@pytest.mark.converra(prompt_id="marked")
def test_marked(client, converra_local_api):
    ask(client, "Hello?")
    assert converra.shutdown(120)
    assert [c.prompt_id for c in converra_local_api.store.conversations()[0]] == ["marked"]
""",
    ).assert_outcomes(passed=2)


REAL = """
import converra, os, subprocess, sys
from converra.server.run import serve

CHILD = (
    "import converra\\n"
    "converra.instrument(api_key='k', enabled=True)\\n"
    "with converra.conversation('p') as c: c.add_message('user', 'Hello?')"
)

def test_real(monkeypatch):
    with serve() as server:
        converra.instrument(api_key="k", base_url=server.base_url, enabled=True)
        with converra.conversation("p") as conversation:
            conversation.add_message("user", "Hello?")
        assert converra.shutdown(120)
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        subprocess.run([sys.executable, "-c", CHILD], check=True)
        assert server.store.conversations()[1] == SENT
"""


def test_nothing_is_sent_for_real(run: Callable[..., pytest.RunResult]) -> None:
    """Not even where the app asks for it in its code, and not by its child processes either."""
    run(REAL.replace("SENT", "0")).assert_outcomes(passed=1)


def test_sending_can_be_asked_for(run: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    """By the option, and by the ini file; the head of the report says so."""
    asked = run(REAL.replace("SENT", "2"), "--converra-send")
    asked.assert_outcomes(passed=1)
    asked.stdout.fnmatch_lines(["converra: conversations are sent for real"])
    pytester.makeini("[pytest]\nconverra_send = true")
    run(REAL.replace("SENT", "2")).assert_outcomes(passed=1)


def test_sending_can_be_asked_for_in_the_environment(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a job of a build; what was switched on before a captured test is on again after it."""
    monkeypatch.setenv("CONVERRA_PYTEST_SEND", "1")
    run(
        HEAD
        + """
def test_both(client, request, converra_local_api):
    "The app's own settings are those of the test outside of fixtures."

def test_before_and_after():
    from converra import _default
    assert _default._recorder.config.base_url == "http://127.0.0.1:9" and _default._recorder.active

def test_inside(converra_capture):
    converra.instrument("another", base_url="http://127.0.0.1:8", api_key="x")

def test_kept():
    from converra import _default
    assert _default._recorder.config.base_url == "http://127.0.0.1:8" and _default._recorder.active
    _default._recorder.shutdown(0)
"""
    ).assert_outcomes(passed=4)


FAILING = (
    HEAD
    + """
import openai

def test_plain(client, converra_capture):
    with converra.conversation("prompt_1"):
        ask(client, "[[say:Hello.]]")
    assert converra_capture.only().answers == ["Bye."]

def test_only(converra_capture):
    with converra.conversation("prompt_2") as conversation:
        call = {"id": "c1", "name": "look_up", "arguments": {"order": 7, "exact": True}}
        conversation.add_message("tool", "", tool_calls=[call])
        conversation.add_message("tool", "sent\\x1b[2J", tool_calls=[{"id": "c1", "name": "look_up"}])
    converra_capture.only(prompt_id="another")

def test_raised(client, converra_capture):
    with converra.conversation("prompt_3"):
        client.with_options(max_retries=0).chat.completions.create(model="gpt-4o", messages="none", timeout=30)

def test_nothing(converra_capture):
    assert not converra_capture.conversations == []

def test_passes(client, converra_capture):
    with converra.conversation("prompt_5"):
        ask(client, "Hello?")

def test_no_fixture():
    assert False
"""
)


def test_a_failed_test_shows_its_conversations(run: Callable[..., pytest.RunResult]) -> None:
    """Calls with their arguments, results by name, escapes made visible; other tests have no such section."""
    ran = run(FAILING, "-p", "no:randomly")
    ran.assert_outcomes(failed=5, passed=1)
    ran.stdout.fnmatch_lines(
        [
            "*- converra conversations -*",
            "captured:",
            "conversation of prompt_1: completed",
            "     system: Be kind.",
            "       user: [[][[]say:Hello.[]][]]",
            "  assistant: Hello.",
            "*- converra conversations -*",
            "conversation of prompt_2: completed",
            "       tool: look_up(order=7, exact=true)",
            "       tool: look_up -> sent␛[[]2J",
        ]
    )
    shown = ran.stdout.str()
    assert shown.count("- converra conversations -") == 4
    assert "nothing was captured" in shown
    assert "prompt_5" not in shown


def test_a_failed_test_shows_no_frame_of_this_package(run: Callable[..., pytest.RunResult]) -> None:
    """The failure stands where the test or its app stands; `--full-trace` shows the rest."""
    package = str(Path(converra.testing.__file__).parents[1])
    shown = run(FAILING, "-p", "no:randomly").stdout.str()
    assert "__tracebackhide__" not in shown
    assert not re.findall(rf"^(?:{re.escape(package)}|\S*src/converra/)\S*:\d+: ", shown, re.MULTILINE)
    assert "test_a_failed_test_shows_no_frame_of_this_package.py:" in shown
    full = run(FAILING, "-p", "no:randomly", "--full-trace").stdout.str()
    assert "integrations" in full


def test_a_conftest_may_load_the_plugin(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a project does that has switched plugins off; then tests send nothing either."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest("pytest_plugins = ['converra.testing']")
    pytester.makepyfile(
        "import os\ndef test_one(converra_capture):\n    assert os.environ['CONVERRA_SILENCED'] == 'pytest'"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert "CONVERRA_SILENCED" not in os.environ


def test_a_wrong_marker_is_said(run: Callable[..., pytest.RunResult]) -> None:
    """With how it is to be written."""
    ran = run(
        """
import pytest

@pytest.mark.converra("p")
def test_one(converra_capture): pass

@pytest.mark.converra(prompt_id=" ")
def test_two(converra_local_api): pass
"""
    )
    ran.assert_outcomes(errors=2)
    ran.stdout.fnmatch_lines(['the marker is to be written @pytest.mark.converra(prompt_id="...")'])


def test_a_missing_extra_is_said(run: Callable[..., pytest.RunResult]) -> None:
    """With what to install."""
    ran = run(
        """
import sys
sys.modules["uvicorn"] = None

def test_one(converra_local_api): pass
""",
        cold=True,
    )
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(['converra_local_api needs uvicorn: pip install "converra[[]server]"'])
