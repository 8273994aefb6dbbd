"""ASGI servers that are told to stop: uvicorn, hypercorn, gunicorn."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.deployments.running import Program, talk, wait_for

if TYPE_CHECKING:
    from tests.deployments.running import Deployment, Talk

WEB = """
import asyncio, sys
from contextlib import asynccontextmanager
from fastapi import FastAPI
from converra.asgi import lifespan
from talk import speak, speak_in_a_block

def end_points(app):
    @app.get("/implicit/{n}")
    def implicit(n: int):
        speak(n, n + 1)
        return {}

    @app.get("/block/{n}")
    def block(n: int):
        speak_in_a_block(n)
        return {}

    return app

@lifespan
@asynccontextmanager
async def own(app):
    yield {"own": 1}
    speak(5)  # while it ends: this is delivered, too
    print("own lifespan over", flush=True)

plain = end_points(FastAPI())
helped = end_points(FastAPI(lifespan=lifespan))
wrapped = end_points(FastAPI(lifespan=own))

if __name__ == "__main__":
    speak(1)
    import uvicorn
    uvicorn.run(plain, port=0)
"""

UVICORN = ("uvicorn", "--port", "0")
HYPERCORN = ("hypercorn", "--bind", "127.0.0.1:0")
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:0", "--worker-class")
SERVERS = {
    "uvicorn": (UVICORN, -signal.SIGTERM),
    "uvicorn --workers 2": ((*UVICORN, "--workers", "2"), 0),
    "uvicorn --reload": ((*UVICORN, "--reload"), 0),
    "gunicorn, uvicorn's worker": ((*GUNICORN, "uvicorn_worker.UvicornWorker", "--workers", "2"), 0),
    "gunicorn --preload, uvicorn's worker": ((*GUNICORN, "uvicorn_worker.UvicornWorker", "--preload"), 0),
    "gunicorn, its own worker": ((*GUNICORN, "asgi", "--workers", "2"), 0),
    "hypercorn": (HYPERCORN, 0),
    "hypercorn --workers 2": ((*HYPERCORN, "--workers", "2"), 0),
    "hypercorn, trio": ((*HYPERCORN, "--worker-class", "trio"), 0),
}
"""The command, and the exit status after SIGTERM, which is as without us."""


def _url(program: Program) -> str:
    """The address that a server has printed, once it answers."""
    pattern = r"(?:running on|Listening at:?) (http://127\.0\.0\.1:\d+)"
    url: str = wait_for(lambda: re.search(pattern, program.log, re.IGNORECASE), lambda: program.log)[1]
    wait_for(lambda: _answers(url), lambda: program.log)
    return url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/openapi.json", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _browse(url: str, *numbers: int) -> None:
    """Each request comes over a connection of its own, so to whichever worker takes it."""
    for n in numbers:
        for path in ("implicit", "block"):
            httpx.get(f"{url}/{path}/{n}", trust_env=False, timeout=30).raise_for_status()


def _expected(*numbers: int) -> list[Talk]:
    return sorted(each for n in numbers for each in (talk(n, n + 1), talk(n)))


QUICK = ("uvicorn --workers 2", "gunicorn, uvicorn's worker", "hypercorn --workers 2")


def _param(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.quick) if name in QUICK else name


@pytest.mark.parametrize("name", [*map(_param, SERVERS)])
def test_a_server_delivers_before_it_stops(deployment: Deployment, name: str) -> None:
    """Without any setting, everything arrives once after SIGTERM, and the exit status is the server's own."""
    command, status = SERVERS[name]
    deployment.write("web.py", WEB)
    program = deployment.start(*command, "web:plain")
    _browse(_url(program), *range(0, 40, 10))
    assert program.stop() == status
    assert sorted(deployment.arrived()) == _expected(*range(0, 40, 10))
    assert "converra" not in program.log


@pytest.mark.parametrize("name", ["uvicorn --workers 2", "hypercorn --workers 2", "gunicorn, uvicorn's worker"])
@pytest.mark.parametrize("app", ["plain", "helped"])
def test_the_setting_for_sigterm_changes_nothing(deployment: Deployment, name: str, app: str) -> None:
    """handle_sigterm=True neither doubles nor loses anything where the server delivers, and nothing is warned of."""
    command, status = SERVERS[name]
    deployment.write("web.py", WEB)
    program = deployment.start(*command, f"web:{app}", HANDLE_SIGTERM="true")
    _browse(_url(program), 0, 10)
    assert program.stop() == status
    assert sorted(deployment.arrived()) == _expected(0, 10)
    assert "converra" not in program.log


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "hypercorn, trio", "gunicorn, its own worker"])
def test_the_lifespan_delivers(deployment: Deployment, name: str) -> None:
    """`FastAPI(lifespan=lifespan(own))`: what the app's own lifespan says at its end arrives, too."""
    command, status = SERVERS[name]
    deployment.write("web.py", WEB)
    program = deployment.start(*command, "web:wrapped")
    _browse(_url(program), 0, 10)
    assert program.stop() == status
    workers = program.log.count("own lifespan over")
    assert sorted(deployment.arrived()) == sorted([*_expected(0, 10), *[talk(5)] * workers])
    assert workers == (2 if "gunicorn" in name else 1)
    assert "converra" not in program.log


def test_a_server_that_is_imported_after_the_first_call(deployment: Deployment) -> None:
    """A script that has called the model before it imports uvicorn loses nothing either."""
    deployment.write("web.py", WEB)
    program = deployment.start("python", "web.py")
    _browse(_url(program), 10)
    assert program.stop() == -signal.SIGTERM
    assert sorted(deployment.arrived()) == sorted([talk(1), *_expected(10)])


def test_a_worker_that_is_terminated_while_it_delivers(deployment: Deployment) -> None:
    """Hypercorn terminates the workers that are still stopping when the first one has stopped."""
    deployment.server.faults.add("any", "delay", seconds=0.5, times=None)
    deployment.write("web.py", WEB)
    program = deployment.start(*SERVERS["hypercorn --workers 2"][0], "web:plain")
    _browse(_url(program), 0)
    program.stop()
    assert sorted(deployment.arrived()) == _expected(0)


def test_a_dead_api_does_not_keep_a_server_from_stopping(deployment: Deployment) -> None:
    """The lifespan, the server's hook and the end of the process share one budget; what is lost is said once."""
    deployment.server.faults.add("any", "hang", times=None)
    deployment.write("web.py", WEB)
    program = deployment.start(*UVICORN, "web:helped", SHUTDOWN_TIMEOUT="2", HANDLE_SIGTERM="true")
    _browse(_url(program), 0)
    began = time.monotonic()
    assert program.stop() == -signal.SIGTERM
    assert time.monotonic() - began < 2 + 4
    assert program.log.count("converra: not delivered at exit: 6 messages were still waiting") == 1
