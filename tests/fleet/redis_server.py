"""A real Redis server on a free port, in a folder of its own, that can be killed, paused and started again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """One server; `options` are those of its command line. A node of a cluster takes `port + 10000` as well."""

    def __init__(self, folder: Path, *options: str, below: int = 2**16) -> None:
        self._folder = folder
        self.port = free_port(below)
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "")
        self._command = [str(PROGRAM), *place, *options]
        self.start()

    @property
    def url(self) -> str:
        """As the setting `outbox` wants it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with what it has kept on disk, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until(lambda: self.answers() or self.process.poll() is not None)
        assert self.process.poll() is None, (self._folder / "log").read_text()[-500:]

    def answers(self) -> bool:
        """Report whether it answers, and has loaded its data."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as asked:
            asked.sendall(b"PING\r\n")
            return asked.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Have it answer nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it answer again."""
        self.process.send_signal(signal.SIGCONT)


def free_port(below: int = 2**16) -> int:
    """Return a port that is free now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port < below:
                return port


@contextlib.contextmanager
def redis_server(*options: str, below: int = 2**16) -> Iterator[RedisServer]:
    """Run a server until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), *options, below=below)
        try:
            yield server
        finally:
            server.resume()
            server.kill()


class Sentinel(RedisServer):
    """A sentinel, by its file of settings, which names the port."""

    def __init__(self, settings: Path, port: int) -> None:
        self._folder = settings.parent
        self.port = port
        self._command = [str(PROGRAM), str(settings), "--sentinel"]
        self.start()


@contextlib.contextmanager
def sentinel_server(settings: Path, port: int) -> Iterator[Sentinel]:
    """Run a sentinel until the end of the block."""
    sentinel = Sentinel(settings, port)
    try:
        yield sentinel
    finally:
        sentinel.kill()
