from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

from converra.server.run import serve
from tests.deployments.running import APP, Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A Conversations API, a stand-in model, and a folder with the module `talk`."""
    with serve() as server:
        made = Deployment(server, tmp_path)
        made.write("talk.py", APP)
        yield made
        made.kill()


@pytest.fixture
def redis(deployment: Deployment) -> Iterator[str]:
    """The path of a real Redis server's socket."""
    program = shutil.which("redis-server")
    assert program, "these tests need redis-server: as root, apt-get install redis-server"
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:  # a socket's path must be short
        path = f"{folder}/s"
        command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        deployment.start(*command).says("eady to accept connections")
        yield path
