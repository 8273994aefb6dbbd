"""Child processes that start warm: forks of an interpreter that has imported what they would import first.

`Popen` and `run` are those of `subprocess`, for a command that begins with `sys.executable`. A cold child costs half a
second of a processor, or one and a half where it imports openai; a warm one costs hundredths. Signals, `atexit`, exit
statuses and forks are those of any process. What it lacks is a start of its own: a test of what is imported, or of an
option of the interpreter, needs a cold one.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLAIN = (
    *("tests.process.child", "converra._default", "converra.capture.recorder", "converra.delivery.worker.flusher"),
    *("converra.api.client", "converra.api.direct", "converra.integrations.catalogue"),
    *("converra.integrations.sessions", "converra.integrations.uncaptured"),
    *("httpx", "sqlite3", "wrapt", "opentelemetry.trace", "encodings.idna"),
)
"""What an app imports that records by hand, with what is imported by the first message and the first request."""
COMMAND = (
    *(*PLAIN, "httpcore", "uvicorn.lifespan.off", "importlib.readers", "click.shell_completion"),
    *("converra.server.run", "converra.cli.group", "converra.cli.commands.dev", "converra.cli.commands.conversations"),
    *("pytest", "_pytest.unittest", "_pytest.skipping", "_pytest.junitxml", "_pytest.faulthandler"),
)
"""What the command line imports, and the tests of an app."""
_OPENAI = (  # without httpcore2: imported before the fork, its modules outlive the sockets that it would close at exit
    *("openai", "openai.resources.chat.completions", "openai.resources.responses"),
    *("openai.lib.streaming.chat", "converra.integrations.openai"),
)
OPENAI = (*COMMAND, *_OPENAI)
"""What an app imports that calls a model."""
LIBRARIES = (
    *(*PLAIN, *_OPENAI, "langchain_openai", "langchain.agents", "langgraph.checkpoint.memory", "converra.langchain"),
    *("anthropic", "google.genai", "groq", "together", "mistralai.client"),
)
"""What an app of LangChain imports, and the trial of `converra doctor`."""

_NUMBER = struct.Struct("i")


# -- of the parent -----------------------------------------------------------------------------------------------------


class _Nursery:
    """A warm interpreter. It ends with the process that has started it."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._owner = os.getpid()
        self._folder = tempfile.mkdtemp(prefix="converra-warm-")  # not removed at the exit of any fork
        self._address = str(Path(self._folder) / "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._address)
        listener.listen(64)
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        with listener:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno()), *modules],
                env=os.environ | {"PYTHONPATH": path},
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
            )

    def order(self, order: dict[str, Any], streams: list[int]) -> socket.socket:
        """Have a child started. The socket brings its number, and its status once it has ended."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        socket.send_fds(connection, [b" "], streams)
        connection.sendall(json.dumps(order).encode())
        connection.shutdown(socket.SHUT_WR)
        return connection

    def close(self) -> None:
        if self._owner == os.getpid():
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            shutil.rmtree(self._folder)


_nurseries: dict[tuple[str, ...], _Nursery] = {}


def prepare(*kinds: tuple[str, ...]) -> None:
    """Start warm interpreters ahead, for this process and its forks."""
    for modules in kinds:
        if modules not in _nurseries:
            _nurseries[modules] = _Nursery(modules)


@atexit.register
def close() -> None:
    """End the warm interpreters of this process."""
    while _nurseries:
        _nurseries.popitem()[1].close()


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen` of an interpreter that has imported `modules`. It knows `cwd`, `env` and the streams."""

    def __init__(self, args: Any, *, modules: tuple[str, ...] = PLAIN, **options: Any) -> None:
        assert args[0] == sys.executable, "only Python starts warm"
        self._modules = modules
        super().__init__(args, **options)

    def _execute_child(self, args: Any, *given: Any) -> None:
        cwd, env = given[4:6]
        reads, reading, writing, writes, complaining, complains = given[9:15]
        order = {
            "args": [os.fspath(argument) for argument in args[1:]],
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        streams = [own if end == -1 else end for own, end in enumerate((reads, writes, complains))]
        prepare(self._modules)
        self._reports = _nurseries[self._modules].order(order, streams)
        self.pid = _number(self._reports)
        self._child_created = True
        self._close_pipe_fds(reads, reading, writing, writes, complaining, complains)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if not select.select([self._reports], [], [], 0 if flags & os.WNOHANG else None)[0]:
            return 0, 0
        with self._reports:
            return self.pid, _number(self._reports)

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


def _number(connection: socket.socket) -> int:
    received = connection.recv(_NUMBER.size)
    assert len(received) == _NUMBER.size, "the warm interpreter has died"
    (number,) = _NUMBER.unpack(received)
    assert isinstance(number, int)
    return number


def run(
    args: Any,
    *,
    input: str | None = None,  # noqa: A002 - as in `subprocess`
    timeout: float | None = None,
    check: bool = False,
    capture_output: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` of a warm interpreter."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(args, **options) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


# -- of the warm interpreter -------------------------------------------------------------------------------------------


def _serve(listener: socket.socket) -> dict[str, Any]:
    """Fork for each order. Return in the fork, with its order; its streams are 0, 1 and 2."""
    wakes, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    signal.set_wakeup_fd(woken)
    running: dict[int, socket.socket] = {}
    sources: list[Any] = [listener, wakes, 0]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if 0 in ready:
            os._exit(0)
        if wakes in ready:
            os.read(wakes, 4096)
            _report_ends(running)
        if listener not in ready:
            continue
        connection, _ = listener.accept()
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        order = b"".join(iter(lambda: connection.recv(1 << 16), b""))  # noqa: B023 - used at once
        pid = os.fork()
        if pid == 0:
            _detach(streams, [listener, connection, *running.values()], [wakes, woken])
            ordered: dict[str, Any] = json.loads(order)
            return ordered
        connection.sendall(_NUMBER.pack(pid))
        running[pid] = connection
        for descriptor in streams:
            os.close(descriptor)


def _detach(streams: list[int], sockets: list[socket.socket], descriptors: list[int]) -> None:
    """Keep nothing of the warm interpreter but its modules."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    for opened in sockets:
        opened.close()
    for descriptor in (*streams, *descriptors):
        os.close(descriptor)


def _report_ends(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with contextlib.suppress(OSError), running.pop(pid) as connection:  # a test that has timed out does not wait
            connection.sendall(_NUMBER.pack(status))


def _become(order: dict[str, Any]) -> None:
    """Take over the environment and the directory that are ordered, and open the standard streams anew."""
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open as long as the process
    coded = os.environ.get("PYTHONIOENCODING")
    sys.stdout = open(1, "w", closefd=False, encoding=coded)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace", encoding=coded)  # noqa: SIM115
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    warnings._processoptions(filter(None, os.environ.get("PYTHONWARNINGS", "").split(",")))  # type: ignore[attr-defined]
    sys.path[:] = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *_own_path]
    coverage = sys.modules.get("coverage")
    measured = None if coverage is None else coverage.Coverage.current()
    if measured is not None and not any(name.startswith("COVERAGE_") for name in os.environ):
        measured.stop()


def _run(args: list[str]) -> None:
    """Do what `python ARGS` does."""
    kind, *rest = args
    while kind.startswith("-W"):
        warnings._processoptions([rest[0]])  # type: ignore[attr-defined]
        kind, *rest = args = rest[1:]
    if kind == "-c":
        code, *more = rest
        sys.argv = ["-c", *more]
        sys.path.insert(0, "")
        program = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), program.__dict__)  # noqa: S102 - it is the test's own
    elif kind == "-m":
        sys.argv = rest
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = args
        sys.path.insert(0, str(Path(kind).resolve().parent))
        runpy.run_path(kind, run_name="__main__")


def _main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    gc.disable()  # modules stay: to look through them takes a quarter of the time
    for name in sys.argv[2:]:
        with contextlib.suppress(ImportError):  # not every environment has all libraries
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.enable()
    order = _serve(listener)
    _become(order)
    _run(order["args"])


if __name__ == "__main__":
    _own_path = sys.path[len([path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path]) + 1 :]
    _main()
