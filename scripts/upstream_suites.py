"""Tests of other projects that run with and without capture: requirements, locations, environment."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from scripts.environments import Environment
from scripts.upstream_plugin import EMPTY_HANDLER

NOTHING = "nothing"


class Suite(NamedTuple):
    """Tests that the source distribution of a package ships."""

    package: str
    environment: Environment
    tests: tuple[str, ...]
    """Patterns of files or directories."""
    beside: str = EMPTY_HANDLER
    """Replaces it in the run without capture."""
    variables: tuple[tuple[str, str], ...] = ()
    """Names and values, in which `{base_url}` stands for our server's address."""
    options: tuple[str, ...] = ()
    """Options of pytest."""

    @property
    def sources(self) -> Path:
        """Directory of the unpacked source distribution."""
        return self.environment.directory / "sources" / self.package

    def prepare(self) -> None:
        """Create the environment, and unpack the sources of the version that is installed in it."""
        self.environment.prepare()
        code = f"import importlib.metadata; print(importlib.metadata.version({self.package!r}))"
        asked = subprocess.run([self.environment.python, "-c", code], capture_output=True, text=True, check=True)
        version = asked.stdout.strip()
        stamp = self.sources / ".version"
        if stamp.exists() and stamp.read_text() == version:
            return
        with tempfile.TemporaryDirectory(dir=self.environment.directory) as directory:
            self._unpack(version, Path(directory))
        stamp.write_text(version)

    def _unpack(self, version: str, directory: Path) -> None:
        self.environment.pip(
            *("download", "-qq", "--no-deps", "--no-binary", self.package),
            *("-d", str(directory), f"{self.package}=={version}"),
        )
        (archive,) = directory.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(directory, filter="data")
        self.sources.parent.mkdir(exist_ok=True)
        (directory / archive.name.removesuffix(".tar.gz")).rename(self.sources)

    def files(self, patterns: tuple[str, ...] = ()) -> list[str]:
        """Return the paths to run, those of `patterns` or all, relative to the sources' directory."""
        found = [path for pattern in patterns or self.tests for path in sorted(self.sources.glob(pattern))]
        return [str(path.relative_to(self.sources)) for path in found]


OPENAI = Environment(
    "upstream-openai",
    (
        *("openai[aiohttp,realtime,bedrock,datalib,httpx]", "httpx"),
        *("pytest>=9.0.3", "pytest-asyncio>=1.4", "pytest-timeout", "inline-snapshot", "rich", "trio", "Pillow"),
        *("botocore", "azure-identity", "griffe", "nest_asyncio"),
    ),
)
RUNNER = ("pytest>=9.0.3", "pytest-asyncio", "pytest-timeout")
ANTHROPIC = Environment(
    "upstream-anthropic",
    (
        *(
            "anthropic[aiohttp,bedrock,vertex,mcp]",
            "httpx",
            *RUNNER,
            "pytest-xdist",
            "inline-snapshot",
            "respx",
            "rich",
        ),
        *("dirty-equals", "http-snapshot[httpx]", "griffe", "hypothesis", "importlib-metadata", "time-machine"),
        *("packaging", "opentelemetry-sdk", "nest_asyncio", "trio"),
    ),
)
AGENTS = Environment(
    "upstream-openai-agents",
    (
        "openai-agents",
        *RUNNER,
        "pytest-mock",
        "inline-snapshot",
        "rich",
        "aiosqlite",
        "graphviz",
        "websockets",
        "pydantic",
    ),
)
MISTRAL = Environment(
    "upstream-mistralai",
    (*("mistralai[agents,gcp,realtime]", *RUNNER), *("griffe", "authlib", "zstandard", "opentelemetry-sdk")),
)
GOOGLE = Environment(
    "upstream-google-genai",
    (*("google-genai[aiohttp,local-tokenizer]", "httpx", *RUNNER), *("pytest-cov", "Pillow", "absl-py", "mcp")),
)
LANGCHAIN = Environment(
    "upstream-langchain",
    (
        *("langchain-core", "langchain-openai", "langgraph", "langchain", "langchain-tests"),
        *("pytest>=9.0.3", "pytest-asyncio", "pytest-timeout", "pytest-mock", "pytest-socket", "pytest-retry"),
        *("pytest-benchmark", "pytest-codspeed", "pytest-repeat", "syrupy>=5,<6", "freezegun", "responses"),
        *("blockbuster", "numpy<3", "grandalf", "vcrpy<9", "psutil", "uvloop", "pycryptodome", "redis"),
        *("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "psycopg[binary]"),
    ),
)
CLAUDE_AGENT = Environment(
    "upstream-claude-agent-sdk",
    ("claude-agent-sdk", "anyio[trio]", "pytest>=9.0.3", "pytest-timeout", "opentelemetry-api"),
)

GROQ = Environment(
    "upstream-groq",
    ("groq[aiohttp]", *RUNNER, "respx", "time-machine", "dirty-equals", "importlib-metadata", "rich", "nest_asyncio"),
)
TOGETHER = Environment(
    "upstream-together",
    (
        *("together[aiohttp]", *RUNNER, "respx", "time-machine", "dirty-equals", "rich", "pytest-mock", "aiohttp"),
        *("nest_asyncio", "websockets>=13,<16"),
    ),
)
OF_STAINLESS = tuple(
    f"tests/{name}"
    for name in (
        "test_client.py",
        "test_response.py",
        "test_streaming.py",
        "test_required_args.py",
        "api_resources/chat",
    )
)
"""Tests of a client made by Stainless that touch its `request`."""

GENAI_TESTS = (
    *("afc", "chats", "client", "common", "errors", "gaos", "interactions", "mcp", "models", "tokens"),
    *("transformers", "types"),
)
"""Directories of its tests that ask for chats, or need no server."""

GENAI_SERVED = (
    ("GOOGLE_GEMINI_BASE_URL", "{base_url}"),
    ("GOOGLE_API_KEY", "any"),
    ("GOOGLE_GENAI_RUN_GEMINI_ONLY_IN_API_MODE", "1"),  # Vertex AI asks for credentials first
    ("GOOGLE_GENAI_REPLAYS_DIRECTORY", "replays"),  # where it writes tables of its tests
)
"""Variables with which its tests ask our server: recorded answers are not shipped."""

SUITES = (
    Suite(
        "openai",
        OPENAI,
        (
            *(f"tests/test_{name}.py" for name in ("client*", "module_client", "response*", "legacy_response")),
            *(f"tests/test_{name}.py" for name in ("stream*", "sse*", "httpx*", "lazy_imports", "debug_logging")),
            *(f"tests/test_{name}.py" for name in ("log_levels", "models", "auth", "transform", "union_parsing")),
            *(f"tests/test_{name}.py" for name in ("required_args", "large_payload*")),
            *(f"tests/lib/{name}" for name in ("chat", "responses", "streaming", "test_azure*.py")),
            *(f"tests/lib/{name}" for name in ("test_responses*.py", "test_streaming*.py", "test_*runner*.py")),
            *(f"tests/lib/{name}" for name in ("test_pydantic.py", "test_bedrock*.py")),
            *(f"tests/api_resources/{name}" for name in ("chat", "responses", "test_responses.py")),
            *(f"tests/api_resources/{name}" for name in ("test_completions.py", "beta/responses")),
            *(f"tests/api_resources/{name}" for name in ("beta/test_responses.py", "test_models.py")),
        ),  # those that touch the paths that are patched
        NOTHING,
    ),
    Suite("claude-agent-sdk", CLAUDE_AGENT, ("tests/test_*.py",), NOTHING),
    Suite(
        "anthropic",
        ANTHROPIC,
        (
            *(f"tests/test_{name}.py" for name in ("client", "response", "streaming", "middleware", "open_telemetry")),
            *(f"tests/test_{name}.py" for name in ("tracing", "prepare", "required_args", "exceptions")),
            *("tests/lib", "tests/api_resources/test_messages.py", "tests/api_resources/beta/test_messages.py"),
        ),  # those that touch the paths that are patched
        NOTHING,
        options=("-p", "tests._alias_httpx"),
    ),
    Suite(
        "openai-agents",
        AGENTS,
        (
            *(
                f"tests/test_{name}*.py"
                for name in ("agent", "run", "global_hooks", "guardrails", "handoff", "max_turns")
            ),
            *(f"tests/test_{name}*.py" for name in ("responses", "result", "session", "soft_cancel", "stream", "tool")),
            *(
                f"tests/test_{name}*.py"
                for name in ("trac", "cancel", "call_model", "openai", "model_", "server_", "items")
            ),
            *("tests/models", "tests/memory", "tests/tracing"),
        ),  # those that run agents, models or sessions
        NOTHING,
    ),
    Suite(
        "google-genai",
        GOOGLE,
        tuple(f"google/genai/tests/{name}" for name in GENAI_TESTS),
        NOTHING,
        GENAI_SERVED,
        ("--mode=api", "-o", "consider_namespace_packages=true"),  # else its package is imported as `genai`
    ),
    Suite("groq", GROQ, OF_STAINLESS, NOTHING),
    Suite("together", TOGETHER, (*OF_STAINLESS, "tests/api_resources/test_completions.py", "tests/unit"), NOTHING),
    Suite("mistralai", MISTRAL, ("src/mistralai/extra/tests",), NOTHING),
    Suite("langchain-core", LANGCHAIN, ("tests/unit_tests",)),
    Suite("langchain-openai", LANGCHAIN, ("tests/unit_tests",)),
    Suite("langchain", LANGCHAIN, ("tests/unit_tests",)),
    Suite("langgraph-prebuilt", LANGCHAIN, ("tests/test_*.py",), variables=(("NO_DOCKER", "true"),)),
    Suite("langgraph", LANGCHAIN, ("tests/test_*.py",), variables=(("NO_DOCKER", "true"),)),
)
