"""AWS Lambda: its real runtime, frozen after each invocation and then killed."""

from __future__ import annotations

import http.server
import json
import os
import queue
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.deployments.running import Talk, talk, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deployments.running import Deployment, Program

HANDLER = """
import converra
from talk import speak, speak_in_a_block

def block(event, context):
    speak_in_a_block(event["n"])
    return event["n"]

def implicit(event, context):
    speak(event["n"])
    return event["n"]

def session(event, context):
    with converra.conversation("prompt", session_id="s", keep_open=True):
        speak(event["n"])
    return event["n"]
"""


HEADERS = {
    "Content-Type": "application/json",
    "Lambda-Runtime-Aws-Request-Id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
    "Lambda-Runtime-Deadline-Ms": "1942409778541",
    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-2:123456789012:function:f",
    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
    "Lambda-Runtime-Client-Context": "{}",
    "Lambda-Runtime-Cognito-Identity": "{}",
}


class RuntimeAPI:
    """What Lambda's runtime asks: the next event, and where to put the answer.

    It asks for the next event when all is done for the one before; that is when Lambda freezes it.
    """

    def __init__(self) -> None:
        self.asked: queue.Queue[None] = queue.Queue()
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.answers: queue.Queue[Any] = queue.Queue()

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api.asked.put(None)
                event = api.events.get()
                if event is None:
                    return
                body = json.dumps(event).encode()
                self.send_response(200)
                for name, value in HEADERS.items():
                    self.send_header(name, value)
                self._end(body)

            def do_POST(self) -> None:
                api.answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(202)
                self._end(b"")

            def _end(self, body: bytes) -> None:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        return Handler

    @contextmanager
    def served(self) -> Iterator[str]:
        """Its address, as the runtime wants it."""
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler()) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"127.0.0.1:{server.server_port}"
            server.shutdown()


def _next(said: queue.Queue[Any], runtime: Program) -> Any:
    wait_for(lambda: not said.empty(), lambda: runtime.log)
    return said.get()


def _invoke(deployment: Deployment, handler: str, numbers: list[int]) -> list[list[Talk]]:
    """Invoke a function several times; what has arrived each time when the runtime is frozen."""
    api, arrived = RuntimeAPI(), []
    deployment.write("function.py", HANDLER)
    with api.served() as address:
        os.environ.update(AWS_LAMBDA_RUNTIME_API=address, AWS_LAMBDA_FUNCTION_NAME="f")
        runtime = deployment.start("python", "-m", "awslambdaric", f"function.{handler}")
        _next(api.asked, runtime)
        for n in numbers:
            api.events.put({"n": n})
            assert _next(api.answers, runtime) == n, runtime.log
            _next(api.asked, runtime)
            os.kill(runtime.pid, signal.SIGSTOP)
            arrived.append(deployment.arrived())
            os.kill(runtime.pid, signal.SIGCONT)
        runtime.kill()
        api.events.put(None)  # let the handler that waits go
    assert "converra:" not in runtime.log
    return arrived


@pytest.mark.quick
def test_a_block_has_arrived_when_the_runtime_is_frozen(deployment: Deployment) -> None:
    """Each invocation's conversation is complete before the process is frozen, and nothing is sent twice."""
    first, second = _invoke(deployment, "block", [1, 2])
    assert first == [talk(1)]
    assert second == [talk(1), talk(2)]


def test_a_session_has_arrived_when_the_runtime_is_frozen(deployment: Deployment) -> None:
    """A session that is kept open grows with each invocation."""
    first, second = _invoke(deployment, "session", [1, 2])
    assert first == [Talk("active", 0, talk(1).words)]
    assert second == [Talk("active", 0, talk(1, 2).words)]


def test_calls_outside_of_any_block_have_arrived_when_the_runtime_is_frozen(deployment: Deployment) -> None:
    """They are sent when the invocation was answered; their conversation may go on in the next one."""
    first, second = _invoke(deployment, "implicit", [1, 2])
    assert first == [Talk("active", 0, talk(1).words)]
    assert second == [Talk("active", 0, talk(1).words), Talk("active", 0, talk(2).words)]
