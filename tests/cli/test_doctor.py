"""`converra doctor`: says what is wrong, in words and in its exit status."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from converra import redaction
from converra._version import __version__
from converra.cli import checks, diagnosis, trial
from converra.cli.checks import Check
from converra.cli.shapes import SHAPES, Shape
from converra.config import SETTINGS
from converra.integrations import uncaptured
from converra.server.run import serve
from converra.server.store.records import fingerprint
from tests import warm
from tests.cli.recorded import ran, record
from tests.patience import LONG
from tests.terminal import in_a_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "secret-key"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the trial, which has tests of its own."""
    monkeypatch.setattr(diagnosis, "trial", lambda: iter(()))


def reported(*arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit status, and the checks by name."""
    result = ran("doctor", "--json", *arguments)
    report = json.loads(result.stdout)
    assert report["ok"] == (result.exit_code == 0)
    return result.exit_code, {check["name"]: (check["state"], check["said"]) for check in report["checks"]}


def test_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is accepted, and a call of every shape that is recorded once; nowhere the key."""
    with serve() as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", KEY)
        monkeypatch.setenv("CONVERRA_PROMPT_ID", "prompt_1")
        result = ran("doctor", "--verbose")
        short = ran("doctor")
    assert result.exit_code == 0, result.output
    assert "recorded" not in short.stdout.replace("calls outside a conversation() are not recorded", "")
    assert "(default" not in short.stdout
    assert "    ok  key: is accepted\n" in short.stdout
    assert "\nAs expected: " in short.stdout
    assert short.stdout.endswith(" (-v lists them)\n\nall well\n")
    for shape in SHAPES:
        assert f"    ok  {shape.name}: recorded\n" in result.stdout
    assert "    ok  openai.OpenAI.request: patched\n" in result.stdout
    assert f"    ok  api_key: fingerprint {fingerprint(KEY)} (from CONVERRA_API_KEY)\n" in result.stdout
    assert f"    ok  base_url: {server.base_url} (from CONVERRA_BASE_URL)\n" in result.stdout
    assert "    ok  key: is accepted\n" in result.stdout
    assert result.stdout.endswith("\nall well\n")
    assert KEY not in result.output


@pytest.mark.usefixtures("quick")
def test_every_setting_says_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment or by default; one that cannot work is bad, and so is a key that is missing."""
    monkeypatch.setenv("CONVERRA_TIMEOUT", "soon")
    monkeypatch.setenv("CONVERRA_CONSOLE", "yes")
    monkeypatch.setenv("CONVERRA_SILENCED", "pytest")
    status, found = reported("--offline")
    assert status == 1
    assert found["api_key"] == ("bad", "is not set: set CONVERRA_API_KEY")
    assert found["timeout"] == ("bad", "CONVERRA_TIMEOUT is 'soon', expected seconds")
    assert found["console"] == ("ok", "true (from CONVERRA_CONSOLE)")
    assert found["outbox"] == ("ok", "none (default)")
    assert found["redact"] == ("ok", "none (default; can only be an argument)")
    assert found["CONVERRA_SILENCED"][0] == "bad"
    assert {row.name for row in SETTINGS} <= found.keys()
    assert found["python"][1].endswith(sys.executable)
    assert list(checks.api({"CONVERRA_TIMEOUT": "soon"})) == []
    assert list(checks.api({})) == []


@pytest.mark.usefixtures("quick")
def test_variables_that_are_no_settings_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A misspelt setting is bad and says what was meant; so is an outbox for which there is no folder."""
    for word in ("APIKEY", "HOST", "URL", "FLUSH", "COMPANY", "PYTEST_SEND"):
        monkeypatch.setenv(f"CONVERRA_{word}", "x")
    monkeypatch.setenv("CONVERRA_OUTBOX", str(tmp_path / "missing" / "outbox"))
    _, found = reported("--offline")
    assert found["CONVERRA_APIKEY"] == ("bad", "is no setting; did you mean CONVERRA_API_KEY?")
    assert found["CONVERRA_HOST"] == ("bad", "is no setting; did you mean CONVERRA_BASE_URL?")
    assert found["CONVERRA_URL"] == ("bad", "is no setting; did you mean CONVERRA_BASE_URL?")
    assert found["CONVERRA_FLUSH"] == ("bad", "is no setting; did you mean CONVERRA_FLUSH_INTERVAL?")
    assert found["CONVERRA_COMPANY"] == ("note", "is no setting")
    assert "CONVERRA_PYTEST_SEND" not in found
    folder = tmp_path / "missing"
    assert found["outbox"] == ("bad", f"{folder / 'outbox'}: there is no folder {folder} that can be written to")
    monkeypatch.setenv("CONVERRA_OUTBOX", str(tmp_path / "outbox"))
    assert reported("--offline")[1]["outbox"] == ("ok", f"{tmp_path / 'outbox'} (from CONVERRA_OUTBOX)")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "status", "status": 401}, {"host": "ok", "key": "bad"}),
        ({"kind": "status", "status": 500}, {"host": "bad"}),
        ({"kind": "reset"}, {"host": "bad"}),
        ({"kind": "status", "status": 404}, {"host": "bad"}),
        ({"kind": "unreadable"}, {"host": "bad"}),
    ],
)
def test_what_the_api_says_is_told(fault: dict[str, Any], expected: dict[str, str], monkeypatch: Any) -> None:
    """A key that is refused, a server that fails, nobody there, or something that is no Conversations API."""
    with serve() as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", KEY)
        server.faults.add("read", times=None, **fault)
        status, found = reported()
    assert status == 1
    assert {name: found[name][0] for name in ("host", "key") if name in found} == expected
    if fault.get("status") != 500:
        assert found.get("key", found["host"])[1].endswith("?")  # says what to look at


@pytest.mark.usefixtures("quick")
def test_words_for_people() -> None:
    """In groups, short, and what is bad with its remedy once more at the end."""
    result = ran("doctor", "--offline")
    bad = "api_key: is not set: set CONVERRA_API_KEY"
    assert (result.exit_code, result.stdout.splitlines()[-2:]) == (1, ["1 bad:", f"  {bad}"])
    assert "\nsettings\n" in result.stdout
    assert f"   bad  {bad}\n" in result.stdout
    assert "  note  prompt_id: none: calls outside a conversation() need one; set CONVERRA_PROMPT_ID\n" in result.stdout
    assert len(result.stdout.splitlines()) < 15
    assert "\nversions\n" in ran("doctor", "--offline", "-v").stdout


def test_a_terminal_that_wants_colours_gets_them() -> None:
    """What is bad stands out; NO_COLOR is heeded."""
    command = [sys.executable, "-m", "converra", "doctor", "--offline"]
    assert "  \x1b[31m bad\x1b[0m  api_key: is not set" in in_a_terminal(command, modules=warm.LIBRARIES).screen
    assert "\x1b" not in in_a_terminal(command, wishes={"NO_COLOR": "1"}, modules=warm.LIBRARIES).screen


def test_other_instrumentations_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are installed, and those that have wrapped the openai package in this process."""

    def traced() -> None:
        """Another's wrapper."""

    traced.__module__ = "nosy.tracing"
    traced.__wrapped__ = lambda: None  # type: ignore[attr-defined]
    fake = types.ModuleType("openai")
    fake.OpenAI = types.SimpleNamespace(request=traced)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openai", fake)
    monkeypatch.setattr(checks, "OTHERS", ("pytest", "no-such-package"))
    found = list(checks.others())
    assert [(check.name, check.state) for check in found] == [("pytest", "note"), ("openai.OpenAI.request", "note")]
    assert found[1].said == "is wrapped by nosy.tracing"
    monkeypatch.delitem(sys.modules, "openai")
    assert len(list(checks.others())) == 1


def _silent(_openai: Any, _where: Any) -> None:
    """A call that nobody sees."""


def _twice(openai: Any, where: Any) -> None:
    for word in ("one", "two"):
        SHAPES[0].call(openai, where)
        with openai.OpenAI(**where) as client:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": word}])


def _raising(_openai: Any, _where: Any) -> None:
    raise TypeError("not callable")


def test_providers_that_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed and not captured, too old or left out, each with what to do; elsewhere nothing."""
    versions = {"cohere": "7.3.1", "openai": "1.50.0", "groq": "1.7.0", "anthropic": "2.14.0"}
    monkeypatch.setattr(uncaptured, "installed", versions.get)
    found = list(checks.providers({"CONVERRA_INTEGRATIONS": "-groq,-grok"}))
    assert [(check.name, check.state, check.said.partition(":")[0]) for check in found] == [
        ("grok", "bad", "there is no such integration; there are"),
        ("openai", "bad", "1.50.0 is installed; it is too old"),
        ("groq", "note", "1.7.0 is installed; its calls are not recorded"),
        ("cohere", "note", "7.3.1 is installed; calls of cohere are not recorded"),
    ]
    monkeypatch.setattr(uncaptured, "installed", {}.get)
    assert list(checks.providers({})) == []


def test_calls_that_are_not_recorded_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken or doubled, with what there should have been."""
    shapes = (Shape("silent", _silent), Shape("twice", _twice), Shape("raising", _raising))
    monkeypatch.setattr(trial, "SHAPES", (*shapes, Shape("other", SHAPES[0].call, ("user", "tool"))))
    found = {check.name: (check.state, check.said) for check in trial.trial()}
    assert found["silent"] == ("bad", "broken: nothing was recorded")
    assert found["twice"][1].startswith("doubled: expected user, assistant, recorded user, assistant, user, ")
    assert found["raising"] == ("bad", "broken: the call raised TypeError: not callable")
    assert found["other"] == ("bad", "broken: expected user, tool, recorded user, assistant")


def test_what_is_not_installed_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions say that it is missing, once; what there is is tried."""
    importlib.import_module("langchain_core.language_models.fake_chat_models")  # langsmith below it looks for openai
    for name in ("openai", "langchain_openai"):
        monkeypatch.setitem(sys.modules, name, None)
    found = {check.name: (check.state, check.said) for check in trial.trial()}
    assert found["openai"] == ("ok", "waiting (not installed)")
    assert "langchain_openai" not in found
    assert found["langchain"] == found["langchain, streamed"] == found["langchain, async"] == ("ok", "recorded")
    assert "chat" not in found


@pytest.mark.usefixtures("quick")
def test_what_redaction_withheld_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By kind, in all that was recorded on this machine: texts, arguments and metadata, labels and pseudonyms."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert "recorded messages" not in reported("--offline")[1]
    path = tmp_path / "converra" / "local.sqlite3"
    path.parent.mkdir()
    said: Any = [
        {"role": "user", "content": "I am ann@example.org, my card is 4111 1111 1111 1111"},
        {
            "role": "tool",
            "content": "",
            "toolCalls": [{"id": "1", "name": "mail", "arguments": {"to": "bo@example.org"}}],
        },
        {"role": "assistant", "content": "Done.", "metadata": {"reasoning": "ann@example.org, not [mail]"}},
    ]
    record(path, said)
    assert reported("--offline")[1]["recorded messages"] == ("ok", f"nothing in {path} (default: no redact)")
    put = (redaction.standard(), redaction.pseudonyms("a key of this test"))
    for redact in put:
        record(path, [redact(message) for message in said])
    assert reported("--offline")[1]["recorded messages"] == ("ok", f"6 email, 2 card by converra.redaction, in {path}")
    assert "withheld\n    ok  recorded messages: 6 email" in ran("doctor", "--offline").stdout
    path.write_bytes(b"no database at all" * 100)
    assert reported("--offline")[1]["recorded messages"] == ("note", f"cannot use {path}: file is not a database")


@pytest.mark.usefixtures("quick")
def test_a_user_without_a_home_folder_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a container may have: by the doctor, and by a command that needs the folder."""
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user that the system does not know
    said = "this user has no home folder: set XDG_DATA_HOME or HOME, or give --db"
    assert reported("--offline")[1]["recorded messages"] == ("note", said)
    result = ran("search", "word")
    assert (result.exit_code, result.stderr) == (2, f"Error: {said}\n")
    result = ran("search", "word", "--db", str(tmp_path / "db"))
    assert "nothing is recorded in " in result.stderr
    record(tmp_path / "db")
    assert ran("search", "order", "--db", str(tmp_path / "db")).exit_code == 0


def test_a_file_that_shadows_openai_is_named(tmp_path: Path) -> None:
    """A file of the user's own called openai.py is why nothing is recorded."""
    shadow = tmp_path / "openai.py"
    shadow.write_text("")
    others = ("anthropic", "google.genai", "groq", "together", "mistralai", "mistralai.client", "langchain_openai")
    program = WITHOUT.format(modules=others, arguments=["converra", "doctor", "--offline", "--json"])
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {check["name"]: (check["state"], check["said"]) for check in json.loads(ended.stdout)["checks"]}
    assert found["openai"] == ("note", f"cannot be tried: {shadow} is in the place of the openai package")
    assert found["openai.OpenAI.request"] == ("bad", f"skipped ({shadow} has none)")
    assert ended.returncode == 1


WITHOUT = """
import sys
for module in {modules!r}:
    sys.modules[module] = None
sys.argv = {arguments!r}
from converra.cli import main
main()
"""


def without(modules: tuple[str, ...], *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in an environment in which some packages are not installed."""
    program = WITHOUT.format(modules=modules, arguments=["converra", *arguments])
    environ = {**os.environ, **variables}
    return warm.run(
        [sys.executable, "-c", program],
        modules=warm.LIBRARIES,
        env=environ,
        capture_output=True,
        text=True,
        timeout=LONG,
    )


SERVER = ("starlette", "uvicorn", "jinja2", "sse_starlette", "multipart", "python_multipart")


@pytest.mark.parametrize("missing", [SERVER, (*SERVER, "click", "rich")])
def test_no_extra_is_needed(missing: tuple[str, ...]) -> None:
    """Where an app only records, settings, versions and patches are checked, and the trial calls are skipped."""
    ended = without(missing, "doctor", "--offline", "--json", CONVERRA_API_KEY=KEY)
    found = {check["name"]: (check["state"], check["said"]) for check in json.loads(ended.stdout)["checks"]}
    assert (ended.returncode, ended.stderr) == (0, "")
    assert found["trial calls"] == ("note", 'skipped: they need pip install "converra[server]"')
    assert found["openai.OpenAI.request"] == ("ok", "patched")
    assert found["api_key"][0] == "ok"
    assert "chat" not in found


def test_a_server_that_only_records_can_run_commands() -> None:
    """Without click, `converra run` and --version work; other commands name the extra."""
    missing = (*SERVER, "click", "rich")
    given = {"CONVERRA_API_KEY": KEY, "CONVERRA_PROMPT_ID": "p"}
    assert without(missing, "--version").stdout == f"converra, version {__version__}\n"
    ended = without(missing, "run", "--prompt-id", "q", "--", "sh", "-c", "echo $CONVERRA_PROMPT_ID; exit 7", **given)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "q\n", "")
    none = without(missing, "run", "--", "echo", "1")
    assert (none.returncode, none.stdout, none.stderr.startswith("Error: no API key: ")) == (4, "", True)
    absent = without(missing, "run", "--", "no-such-command-anywhere", **given)
    said = "converra run: cannot run no-such-command-anywhere: No such file or directory\n"
    assert (absent.returncode, absent.stderr) == (127, said)
    assert without(missing, "run", **given).returncode == 2
    assert 'pip install "converra[cli]"' in without(missing, "tail").stderr


def test_the_trial_leaves_the_process_as_it_was() -> None:
    """The originals are back."""
    import openai

    before = (openai.OpenAI.request, openai.AsyncOpenAI.request)
    assert all(isinstance(check, Check) for check in _run())
    assert (openai.OpenAI.request, openai.AsyncOpenAI.request) == before


def _run() -> Iterator[Check]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "SHAPES", SHAPES[:1])
        yield from trial.trial()
