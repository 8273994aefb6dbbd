"""Every setting does what the table of settings says, given by its variable to an app in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import converra
from converra import config
from converra.server.run import LocalServer, serve
from converra.server.store.records import fingerprint
from converra.testing.capture import Capture
from converra.testing.swap import in_memory, swapped
from tests import warm
from tests.fleet import redis_server as redis_server_module
from tests.markdown import page
from tests.patience import HANG, LONG, UNHURRIED, until

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = """
import converra

converra.instrument()
with converra.conversation("p") as conversation:
    conversation.add_message("user", "Hello?")
    conversation.add_message("assistant", "Hello!", model="m", usage={"prompt_tokens": 3, "completion_tokens": 2})
"""

CALL = """
import converra, openai, sys

converra.instrument()
message = {"role": "user", "content": "[[say:Hello!]]"}
openai.OpenAI().chat.completions.create(model="m", messages=[message])
"""

WAITS = """
import select
print('recorded', flush=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    pass  # in short steps: a signal comes too late for a wait that begins while other threads want to run
"""


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


def environment(server: LocalServer, **settings: str) -> dict[str, str]:
    """The variables of an app that sends to a server, with some settings changed."""
    usual = {"api_key": "key", "base_url": server.base_url}
    named = {f"CONVERRA_{name.upper()}": value for name, value in (usual | settings).items()}
    return os.environ | UNHURRIED | {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "none"} | named


def ran(server: LocalServer, program: str = BLOCK, **settings: str) -> subprocess.CompletedProcess[str]:
    """An app with some settings, run to its end."""
    command, modules = [sys.executable, "-c", program], warm.OPENAI if "openai" in program else warm.PLAIN
    return warm.run(command, modules=modules, env=environment(server, **settings), capture_output=True, text=True)


@contextmanager
def running(server: LocalServer, program: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """An app that has recorded, and goes on until its input ends."""
    environ = environment(server, **settings)
    command = [sys.executable, "-c", f"import sys\n{program}{WAITS}"]
    modules = warm.OPENAI if "openai" in program else warm.PLAIN
    with warm.Popen(
        command, modules=modules, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recorded\n"
        yield process
        process.communicate()


def held(server: LocalServer) -> list[tuple[str, str, list[str]]]:
    """Prompt, status and contents of what arrived, oldest first."""
    found, _ = server.store.conversations()
    return [(c.prompt_id, c.status, [m["content"] for m in server.store.messages(c)]) for c in reversed(found)]


ARRIVED = [("p", "completed", ["Hello?", "Hello!"])]


# -- one setting after the other ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["key", "  key\n"])
def test_api_key_is_sent_without_white_space_around_it(server: LocalServer, given: str) -> None:
    """As files and copied lines have it."""
    assert ran(server, api_key=given).stderr == ""
    assert held(server) == ARRIVED
    assert [row.account for row in server.store.conversations()[0]] == [fingerprint("key")]


@pytest.mark.parametrize("blank", ["", " \n"])
def test_api_key_that_is_blank_is_none(server: LocalServer, blank: str) -> None:
    """One warning names the variable and what to do; the app runs, and its exit waits for nothing."""
    ended = ran(server, f"{BLOCK}{BLOCK}print('ran')", api_key=blank)
    assert (ended.returncode, ended.stdout, held(server)) == (0, "ran\n", [])
    assert ended.stderr.count("CONVERRA_API_KEY") == 1, ended.stderr
    assert not [request for request in server.requests if request.path.startswith("/api")]


def test_api_key_may_come_late(server: LocalServer) -> None:
    """`load_dotenv()` after `instrument()`: what was recorded before arrives."""
    ended = ran(server, f"import os\n{BLOCK}\nos.environ['CONVERRA_API_KEY'] = 'late'\n", api_key="")
    assert ended.returncode == 0
    assert held(server) == ARRIVED
    assert [row.account for row in server.store.conversations()[0]] == [fingerprint("late")]


@pytest.mark.parametrize("change", ["{}/", "  {}  ", "{}///"])
def test_base_url_may_end_as_it_likes(server: LocalServer, change: str) -> None:
    """White space around it and slashes at its end make no difference."""
    assert ran(server, base_url=change.format(server.base_url)).stderr == ""
    assert held(server) == ARRIVED


def test_prompt_id_is_that_of_calls_outside_a_block(server: LocalServer) -> None:
    """Without it they are not recorded."""
    ran(server, CALL)
    assert held(server) == []
    ran(server, CALL, prompt_id=" prompt_env ")
    assert held(server) == [("prompt_env", "completed", ["[[say:Hello!]]", "Hello!"])]


@pytest.mark.parametrize("off", ["false", "OFF", " no ", "0"])
def test_enabled_can_be_switched_off(server: LocalServer, off: str) -> None:
    """Nothing is patched, no thread is started, nothing is said or sent; not even the missing key is."""
    shows = "import threading\nprint(hasattr(openai.OpenAI.request, '__wrapped__'), threading.active_count())"
    ended = ran(server, f"{CALL}{shows}", enabled=off, prompt_id="p", api_key="")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "False 1\n", "")
    assert held(server) == []


def test_outbox_keeps_what_could_not_be_sent(server: LocalServer, tmp_path: Path) -> None:
    """For the next process, which finds it in the file."""
    path = tmp_path / "outbox"
    server.faults.add("any", "status", status=503, times=None)
    ran(server, outbox=str(path), shutdown_timeout="0.2")
    assert (path.exists(), held(server)) == (True, [])
    server.faults.clear()
    assert ran(server, f"{BLOCK}converra.flush(120)", outbox=str(path)).stderr == ""
    assert held(server) == ARRIVED * 2


def test_flush_interval_is_how_long_a_turn_waits(server: LocalServer) -> None:
    """In seconds: a short one sends while the app runs, a long one leaves it to the end."""
    opened = "\nconversation = converra.conversation('open').__enter__()\nconversation.add_message('user', 'Wait.')"
    with running(server, f"import converra\nconverra.instrument(){opened}", flush_interval="0.1"):
        until(lambda: len(held(server)), 1)
    with running(server, f"import converra\nconverra.instrument(){opened}", flush_interval="3600"):
        threading.Event().wait(1.0)
        assert len(held(server)) == 1
    assert len(held(server)) == 2


def test_idle_timeout_ends_a_silent_conversation(server: LocalServer) -> None:
    """In seconds, and while the app goes on."""
    with running(server, CALL, prompt_id="p", flush_interval="0.1", idle_timeout="0.5"):
        until(lambda: [status for _, status, _ in held(server)], ["completed"])


def test_timeout_bounds_one_request(server: LocalServer) -> None:
    """In seconds, for capture and for the client."""
    server.faults.add("any", "hang", times=None)
    shows = "import time\nwhile not converra.stats().last_error: time.sleep(0.01)\nprint(converra.stats().last_error)\n"
    client = (
        "try: converra.Converra(max_retries=0).conversations.list()\nexcept converra.APITimeoutError as e: print(e)"
    )
    ended = ran(server, f"{BLOCK}{shows}{client}", timeout="0.25", shutdown_timeout="0")
    host = server.url.removeprefix("http://")
    captured, asked = ended.stdout.splitlines()
    assert f"no answer from {host} within 0.25 s" in captured
    assert asked == f"no answer from {host} within 0.25 s"


def test_shutdown_timeout_bounds_the_exit(server: LocalServer) -> None:
    """In seconds: a server that hangs holds the exit up no longer, and one that recovers within it gets everything."""
    server.faults.add("any", "hang", times=None)
    with running(server, BLOCK, shutdown_timeout="0.3") as process:
        began = time.monotonic()
        process.communicate()
    assert time.monotonic() - began < HANG
    server.faults.clear()
    server.faults.add("any", "status", status=503, headers={"Retry-After": "0.2"}, times=None)
    with running(server, BLOCK, shutdown_timeout=str(LONG)) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=config.Config().shutdown_timeout + 1)
        server.faults.clear()
    assert held(server) == ARRIVED


def test_max_pending_bytes_bounds_what_waits(server: LocalServer) -> None:
    """What is past the bound is dropped, and counted."""
    server.faults.add("any", "hang", times=None)
    many = "for _ in range(50): conversation = converra.conversation('p').__enter__().add_message('user', 'x' * 1000)\n"
    shows = "stats = converra.stats()\nprint(stats.captured, stats.dropped > 0)"
    for bound, dropped in (("10000", "True"), ("1000000", "False")):
        program = f"import converra\nconverra.instrument()\n{many}{shows}"
        ended = ran(server, program, max_pending_bytes=bound, shutdown_timeout="0")
        assert ended.stdout == f"50 {dropped}\n"


def test_redact_is_an_argument_alone(server: LocalServer) -> None:
    """A variable cannot hold a function; what the function returns is what is sent."""
    redacts = BLOCK.replace("instrument()", "instrument(redact=lambda m: m | {'content': m['content'].upper()})")
    ran(server, redacts, redact="anything")
    assert held(server) == [("p", "completed", ["HELLO?", "HELLO!"])]


def test_capture_content_can_be_declined(server: LocalServer) -> None:
    """Words go, roles, model and usage stay."""
    ran(server, capture_content="no")
    (found,), _ = server.store.conversations()
    question, answer = server.store.messages(found)
    assert not [m for m in (question, answer) if "Hello" in str(m)]
    assert (question["role"], answer["role"], answer["model"]) == ("user", "assistant", "m")
    assert answer["usage"] == {"promptTokens": 3, "completionTokens": 2}


def test_sample_rate_is_the_share_that_is_recorded(server: LocalServer) -> None:
    """From none to all; in between, conversations are whole."""
    many = BLOCK.replace("with ", "for _ in range(40):\n  with ").replace("\n    conv", "\n      conv")
    ran(server, many, sample_rate="0")
    assert held(server) == []
    ran(server, many, sample_rate="0.5")
    assert 2 < len(held(server)) < 38  # by chance it is once in a billion runs otherwise
    assert held(server) == ARRIVED * len(held(server))


def test_console_prints_turns(server: LocalServer) -> None:
    """Where there is no key, too."""
    for key in ("key", ""):
        lines = ran(server, console="1", api_key=key).stderr.splitlines()
        assert [line for line in lines if line.startswith("converra ")] == [
            "converra      user Hello?",
            "converra assistant Hello! (3+2 tokens)",
        ]


def test_integrations_are_those_named(server: LocalServer) -> None:
    """Only those named, or all but those with a `-`; a name that nothing has is said, and the rest is captured."""
    chats = {"langchain": 0, "-openai": 0, "openai": 1, "-langchain": 1, "openai,nonsense": 1}
    for names, count in chats.items():
        before = len(held(server))
        ended = ran(server, CALL, prompt_id="p", integrations=names)
        assert ended.returncode == 0, ended.stderr
        assert len(held(server)) - before == count, names


def test_handle_sigterm_delivers_first(server: LocalServer) -> None:
    """Then the process dies of the signal, as it would have."""
    with running(server, BLOCK, flush_interval="3600", handle_sigterm="yes") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == -signal.SIGTERM
    assert held(server) == ARRIVED


def test_otel_reads_the_spans_of_a_provider_that_is_set_later() -> None:
    """The provider stays the app's; the report says where the spans come from, and `uninstrument()` reads no more."""
    capture, provider = Capture(), TracerProvider()
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "Hi", "gen_ai.output.messages": "Hello"}

    def emit() -> None:
        provider.get_tracer("emitter").start_span("chat", attributes=attributes).end()

    with swapped(in_memory(capture, prompt_id="prompt_1")), pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", None)
        patch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", type(trace._TRACER_PROVIDER_SET_ONCE)())
        waiting = converra.instrument(otel=True)
        assert [row.why for row in waiting if row.target == "opentelemetry spans"] == [
            "until the app sets a tracer provider"
        ]
        trace.set_tracer_provider(provider)
        assert trace.get_tracer_provider() is provider
        rows = [row for row in converra.instrument(otel=True) if row.target == "opentelemetry spans"]
        assert [(row.state, row.why) for row in rows] == [
            ("patched", "by a span processor of opentelemetry.sdk.trace.TracerProvider")
        ]
        emit()
        converra.instrument(otel=False)
        emit()
        converra.instrument(otel=True)
        converra.uninstrument()
        emit()
    converra.uninstrument()  # what a test asks for holds from then on, also where the process-wide recorder is back
    assert [one.said for one in capture.conversations] == [[("user", "Hi"), ("assistant", "Hello")]]


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(redis_server_module.PROGRAM is None, reason="redis-server is not installed")
def test_relay_none_leaves_the_sending_to_others(server: LocalServer) -> None:
    """The app hands over and sends nothing; by default it sends, also what others have handed over before."""
    with redis_server_module.redis_server() as redis:
        ended = ran(server, f"{BLOCK}assert converra.flush({LONG})", outbox=redis.url, relay="none")
        assert ended.stderr == ""
        assert held(server) == []
        ended = ran(server, f"import converra\n{UNTIL_SENT}", outbox=redis.url)
        assert ended.stderr == ""
        assert held(server) == ARRIVED


UNTIL_SENT = """
from tests.patience import until
converra.instrument()
relay = converra._default.recorder().delivery._flusher.relay
until(lambda: relay.counters.delivered == 2)
"""


def test_every_setting_is_tested_here() -> None:
    """A new row of the table needs a promise of its own."""
    tests = [name for name in globals() if name.startswith("test_")]
    assert [row.name for row in config.SETTINGS if not any(n.startswith(f"test_{row.name}_") for n in tests)] == []


OTHERS: dict[str, tuple[Any, str, Any]] = {
    "api_key": ("mine", "theirs", "theirs"),
    "base_url": ("http://a/v1", "https://b:8/v1/", "https://b:8/v1"),
    "prompt_id": ("mine", "theirs", "theirs"),
    "enabled": (True, "off", False),
    "outbox": (Path("mine"), "theirs", "theirs"),
    "relay": ("inline", " None", "none"),
    "flush_interval": (1, "2.5", 2.5),
    "idle_timeout": (1, "2.5", 2.5),
    "timeout": (1, "2.5", 2.5),
    "shutdown_timeout": (1, "0", 0.0),
    "max_pending_bytes": (1, "65536", 65536),
    "capture_content": (True, "False", False),
    "sample_rate": (1, "0.25", 0.25),
    "console": (False, "YES", True),
    "handle_sigterm": (False, "1", True),
    "otel": (False, "true", True),
    "integrations": (("openai",), "-groq, openai", ("-groq", "openai")),
}
"""An argument, a variable, and how the variable is read."""


@pytest.mark.parametrize("row", [row for row in config.SETTINGS if row.environment], ids=lambda row: row.name)
def test_an_argument_wins_over_the_variable_and_that_over_the_default(row: config.Setting) -> None:
    """For each setting; a blank variable counts as not set."""
    argument, variable, read = OTHERS[row.name]
    environ = {str(row.environment): variable}

    def loaded(arguments: dict[str, Any], environ: dict[str, str]) -> Any:
        return getattr(config.load(arguments, environ), row.name)

    assert loaded({}, {}) == row.default == loaded({}, {str(row.environment): " "})
    assert loaded({}, environ) == read
    won = loaded({row.name: argument}, environ)
    assert won == (str(argument) if isinstance(argument, Path) else argument)
    assert won != read


WRONG: dict[str, tuple[Any, ...]] = {
    "base_url": ("", "ftp://x", "http://", "http://a b/", "http://x:port", "nonsense", 3),
    "prompt_id": (3,),
    "enabled": ("maybe", 2),
    "outbox": (3, "postgres://host", "redis:/+x://host"),
    "relay": ("both", 3),
    "flush_interval": (-1, "inf", "nan", "soon", True),
    "idle_timeout": (-1, "1 s"),
    "timeout": (-1, "1e999"),
    "shutdown_timeout": (-0.1, []),
    "max_pending_bytes": (0, -1, "64 MiB"),
    "redact": ("words",),
    "capture_content": ("perhaps",),
    "sample_rate": (1.01, -1, "half"),
    "console": ("loud",),
    "handle_sigterm": ("never",),
    "otel": ("spans",),
    "api_key": (3,),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_cannot_work_is_refused_at_once(name: str, value: Any) -> None:
    """By name, with what it got and what it expects, as an argument and as a variable; a key is not repeated."""
    row = next(row for row in config.SETTINGS if row.name == name)
    got = "a value that it cannot use" if name == "api_key" else re.escape(repr(value))
    with pytest.raises(converra.InvalidArgumentError, match=rf"^{name} is {got}, expected {re.escape(row.expected)}$"):
        converra.instrument(**{name: value})
    if isinstance(value, str) and value and row.environment:
        with pytest.raises(converra.InvalidArgumentError, match=f"^{row.environment} is {got}, expected "):
            config.load({}, {row.environment: value})


def test_an_unknown_setting_is_refused() -> None:
    """As Python refuses an unknown argument."""
    with pytest.raises(TypeError, match="unknown setting flush_intervall; known are: api_key, base_url, "):
        config.load({"flush_intervall": 1}, {})


def test_the_page_of_settings_names_their_units() -> None:
    """Each number says in what it is counted."""
    meanings = {cells[0].strip("`"): cells[3] for cells in page("docs/reference/settings.md").rows()}
    units = {"flush_interval": "Seconds", "idle_timeout": "Seconds", "timeout": "Seconds"}
    units |= {"shutdown_timeout": "Seconds", "max_pending_bytes": "Bytes", "sample_rate": "share"}
    assert {name: unit for name, unit in units.items() if unit not in meanings[name]} == {}
