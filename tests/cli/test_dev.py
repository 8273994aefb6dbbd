"""`converra dev` as a user runs it: a real process, on a real port."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from click.testing import CliRunner

from converra.cli.commands import dev as dev_module
from converra.cli.group import commands
from converra.server.run import listen
from converra.server.store.conversations import Store
from converra.server.store.records import NewConversation
from tests import warm
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextlib.contextmanager
def running(*arguments: str, cold: bool = False) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process, and all that it says at the start."""
    command = [sys.executable, "-m", "converra", "dev", "--port", "0", *arguments]
    start = subprocess.Popen if cold else functools.partial(warm.Popen, modules=warm.COMMAND)
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            greeting = "".join(iter(process.stdout.readline, "Ctrl-C ends it.\n"))
            yield process, greeting
        finally:
            process.kill()


def test_it_serves_what_it_says(tmp_path: Path) -> None:
    """The addresses it prints answer at once, it stays small, and Ctrl-C ends it cleanly with everything kept."""
    path = tmp_path / "local.sqlite3"
    with running("--db", str(path), cold=True) as (process, greeting):  # what it takes is measured
        found = re.search(r"CONVERRA_BASE_URL=(\S+) CONVERRA_API_KEY=(\S+)", greeting)
        assert found is not None
        base_url, key = found.groups()
        answer = httpx.post(
            f"{base_url}/conversations",
            json={"promptId": "p", "content": "User: Hello"},
            headers={"Authorization": f"Bearer {key}"},
        )
        viewer = httpx.get(base_url.removesuffix("/api/v1"))
        first = process.stdout.readline() if process.stdout else ""
        resident = int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[0])
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=LONG)
    assert (answer.status_code, viewer.status_code) == (200, 200)
    assert "Hello" in viewer.text
    assert resident < 60 * 1024
    assert process.returncode == 0
    assert re.fullmatch(r"\d\d:\d\d:\d\d p \w{4,}       user  Hello\n", first)
    assert output == ""
    assert base_url in greeting
    endpoint = base_url.removesuffix("/api/v1")
    assert f"export OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}\n" in greeting
    assert "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\n" in greeting
    assert str(path) in greeting
    with contextlib.closing(Store(path)) as store:
        assert [each.title for each in store.conversations()[0]] == ["Hello"]


def test_programs_can_read_the_addresses() -> None:
    """As one JSON object, so that a script needs no fixed port."""
    command = [sys.executable, "-m", "converra", "dev", "--port", "0", "--db", ":memory:", "--json"]
    with warm.Popen(command, modules=warm.COMMAND, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        answer = httpx.get(f"{where['api']}/conversations", headers={"Authorization": f"Bearer {where['key']}"})
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 0
    url = where["viewer"]
    assert answer.json()["data"] == []
    assert where == {
        "viewer": url,
        "api": f"{url}/api/v1",
        "model": f"{url}/openai/v1",
        "otlp": url,
        "key": "dev",
        "db": ":memory:",
    }


def test_it_says_what_comes(tmp_path: Path) -> None:
    """A line for each message, from whatever process, and for each rejected request; none of them with --quiet."""
    post: dict[str, Any] = {"json": {"promptId": "p", "content": "User: Hello\nAssistant: Hi!"}}
    headers = {"Authorization": "Bearer dev"}
    with running("--db", str(tmp_path / "db")) as (process, greeting):
        api = re.findall(r"CONVERRA_BASE_URL=(\S+)", greeting)[0]
        assert process.stdout is not None
        httpx.post(f"{api}/conversations", **post, headers=headers)
        lines = [process.stdout.readline()[9:] for _ in range(2)]
        httpx.post(f"{api}/conversations", json={"content": "x"}, headers=headers)
        lines.append(process.stdout.readline()[9:])
        with contextlib.closing(Store(tmp_path / "db")) as elsewhere:
            found, _ = elsewhere.conversations()
            elsewhere.append(found[0], [{"role": "user", "content": "From elsewhere"}], metadata={}, end=True)
            lines += [process.stdout.readline()[9:] for _ in range(2)]
    label = lines[0].split()[1]
    assert lines[0] == f"p {label}       user  Hello\n"
    assert lines[1] == f"p {label}  assistant  Hi!\n"
    assert lines[2].startswith("rejected  POST /api/v1/conversations: 400  ")
    assert lines[3:] == [f"p {label}       user  From elsewhere\n", f"p {label}  completed\n"]
    with running("--db", str(tmp_path / "db"), "--quiet") as (process, greeting):
        api = re.findall(r"CONVERRA_BASE_URL=(\S+)", greeting)[0]
        httpx.post(f"{api}/conversations", **post, headers=headers)
        httpx.post(f"{api}/conversations", json={"content": "x"}, headers=headers)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=LONG)[0] == ""


def test_a_server_that_runs_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one of the same file prints the address of the first; after a SIGKILL the next one starts."""
    path = str(tmp_path / "db")
    with running("--db", path) as (process, greeting):
        url = re.findall(r"Viewer      (\S+)", greeting)[0]
        again = CliRunner().invoke(commands, ["dev", "--db", path])
        as_json = json.loads(CliRunner().invoke(commands, ["dev", "--db", path, "--json"]).stdout)
        asked = CliRunner().invoke(commands, ["dev", "--db", path, "--port", url.rpartition(":")[2]])
        process.kill()
        process.wait()
    assert again.exit_code == 0
    assert f"Viewer      {url}\n" in again.stdout
    assert again.stdout.endswith("This server was running already: another `converra dev` serves the same file.\n")
    assert as_json == {
        "viewer": url,
        "api": f"{url}/api/v1",
        "model": f"{url}/openai/v1",
        "otlp": url,
        "key": "dev",
        "db": path,
    }
    assert "cannot be used: Address already in use" in asked.output
    assert Path(f"{path}-server.json").stat().st_mode & 0o777 == 0o600
    assert "Ctrl-C ends it." in invoke_without_serving(monkeypatch, "--db", path)
    assert not Path(f"{path}-server.json").exists()


def test_an_announcement_that_is_no_use_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was cut short, and a folder in its place: a server starts as without."""
    (tmp_path / "db-server.json").write_text("{")
    assert "Ctrl-C ends it." in invoke_without_serving(monkeypatch, "--db", str(tmp_path / "db"))
    (tmp_path / "db-server.json").mkdir()
    assert "Ctrl-C ends it." in invoke_without_serving(monkeypatch, "--db", str(tmp_path / "db"))


def test_sigterm_ends_it_too(tmp_path: Path) -> None:
    """As a supervisor stops it."""
    with running("--db", str(tmp_path / "db")) as (process, _):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG)
    assert process.returncode == -signal.SIGTERM


def test_by_default_conversations_are_kept_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where programs keep a user's data, in a folder that only the user can enter."""
    seen = invoke_without_serving(monkeypatch)
    folder = Path(os.environ["XDG_DATA_HOME"]) / "converra"
    assert f"Kept in     {folder / 'local.sqlite3'}" in seen
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_the_variable_the_data_folder_is_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The usual place on Linux."""
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert str(tmp_path / ".local" / "share" / "converra") in invoke_without_serving(monkeypatch)


def test_a_taken_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by number: an error. Not asked for: a free one instead."""
    with contextlib.closing(listen(0)) as taken:
        port = taken.getsockname()[1]
        ran = CliRunner().invoke(commands, ["dev", "--port", str(port), "--db", ":memory:"])
        monkeypatch.setattr(dev_module, "PORT", port)
        seen = invoke_without_serving(monkeypatch, "--db", ":memory:")
    expected = f"Error: port {port} cannot be used: Address already in use; --port 0 takes a free one\n"
    assert (ran.exit_code, ran.output) == (1, expected)
    assert f"http://127.0.0.1:{port}/" not in seen
    assert "Viewer      http://127.0.0.1:" in seen
    assert f"(port {port} is taken)\n" in seen


def test_a_database_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """With the path and the reason, before anything is served."""
    ran = CliRunner().invoke(commands, ["dev", "--port", "0", "--db", str(tmp_path)])
    assert (ran.exit_code, ran.output) == (
        1,
        f"Error: cannot use {tmp_path}: Is a directory: '{tmp_path}'\n",
    )


def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    """Neither read, nor written, nor taken from others: a mistyped --db does no harm."""
    notes, music = tmp_path / "notes.txt", tmp_path / "music.db"
    notes.write_text("not a database, but long enough to be taken for one")
    with contextlib.closing(sqlite3.connect(music)) as db:
        db.executescript("CREATE TABLE songs (name); CREATE TABLE bands (name); CREATE INDEX by_name ON songs (name);")
    for path in (notes, music):
        path.chmod(0o644)
        before = path.read_bytes()
        for command in (["dev", "--port", "0"], ["tail", "--no-follow"], ["conversations", "list"], ["search", "long"]):
            ran = CliRunner().invoke(commands, [*command, "--db", str(path)])
            said = f"Error: cannot use {path}: it is no file of `converra dev`, and was left as it is\n"
            assert (ran.exit_code, ran.output) == (1, said)
        assert (path.stat().st_mode & 0o777, path.read_bytes()) == (0o644, before)


def invoke_without_serving(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What the command says, with Ctrl-C at once."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dev_module, "run", interrupt)
    ran = CliRunner().invoke(commands, ["dev", *arguments])
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_other_machines_bring_the_token_that_it_prints() -> None:
    """In the viewer's address and as the key of apps; without it there is no answer."""
    with running("--db", ":memory:", "--allow-remote", "--token", "open-sesame") as (_, greeting):
        port = re.findall(r"Viewer      http://\S+:(\d+)/\?token=open-sesame\n", greeting)[0]
        assert "CONVERRA_API_KEY=open-sesame" in greeting
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(url).status_code == 401
        assert httpx.get(f"{url}/?token=open-sesame").status_code == 303
        keyed = {"Authorization": "Bearer open-sesame"}
        assert httpx.get(f"{url}/api/v1/conversations", headers=keyed).status_code == 200


def test_each_start_has_a_token_of_its_own() -> None:
    """Unless one is given."""
    with running("--db", ":memory:", "--allow-remote") as (_, greeting):
        assert len(re.findall(r"\?token=(\S+)", greeting)[0]) > 40


def test_a_token_alone_opens_nothing() -> None:
    """It has to be asked for in full; and a command is not served to others."""
    for arguments, said in ((["--token", "x"], "--token is for"), (["--allow-remote", "--", "true"], "of its own")):
        ran = CliRunner().invoke(commands, ["dev", *arguments])
        assert (ran.exit_code, said in ran.output) == (2, True)


def test_only_the_newest_conversations_are_kept(tmp_path: Path) -> None:
    """As many as were asked for, soon after the start."""
    path = tmp_path / "local.sqlite3"
    with contextlib.closing(Store(path)) as store:
        for number in range(3):
            store.create(NewConversation(f"conv_{number}", "a", "p", "active", "", [{"role": "user", "content": "x"}]))
    with running("--db", str(path), "--keep", "2"), contextlib.closing(Store(path)) as store:
        until(lambda: store.conversations()[1], 2)
        assert [each.id for each in store.conversations()[0]] == ["conv_2", "conv_1"]
