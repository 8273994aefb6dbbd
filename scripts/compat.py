"""Run the integrations' tests with other versions of the patched libraries, and beside other instrumentations.

    python -m scripts.compat [ROW ...]

Each row gets its own virtual environment under .venvs/, made once.
"""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

from scripts.environments import ROOT, Environment

SUITE = ("tests/integrations/test_openai*.py", "tests/integrations/test_patching.py")
GOOGLE_GENAI = ("tests/integrations/test_google_genai*.py",)
BEDROCK = ("tests/integrations/test_bedrock*.py",)
CLAUDE_AGENT = ("tests/integrations/test_claude_agent*.py",)
ANTHROPIC = ("tests/integrations/test_anthropic*.py",)
DSPY = ("tests/integrations/test_dspy.py",)
MISTRAL = ("tests/integrations/test_mistralai.py",)
OLLAMA = ("tests/integrations/test_ollama.py",)
GROQ = ("tests/integrations/test_groq*.py",)
TOGETHER = ("tests/integrations/test_together*.py",)
LANGCHAIN = ("tests/integrations/test_langchain*.py",)
LITELLM = ("tests/integrations/test_litellm*.py",)
STACKS = ("tests/compat/stacks.py",)
MATRIX = ("tests/compat/matrix.py",)
EMITTERS = ("tests/compat/emitters.py",)
RUNNER = (
    *("pytest>=8.3", "pytest-randomly", "pytest-timeout", "pytest-recording", "pytest-xdist", "vcrpy>=9.2"),
    *("hypothesis", "inline-snapshot", "opentelemetry-sdk"),
)

NOT_IN_LANGCHAIN_0_3 = (
    "another_process",  # the program has an agent of `langchain`, which asks for langchain-core 1
    "interrupted_twice",  # as above
    "breakpoint_after",  # LangGraph 0.6 does not say whether a step follows: the thread stays open
    "responses_v1",  # this output version does not exist there
    "third_version",  # nor do these events
    "compaction",  # langchain-openai drops items of this kind and of the three below
    "apply_patch_call",
    "tool_search_call",
    "tool_search_output",
    "brings_the_agent_down",  # its agent answers in place of a tool that raised
    "whose_error_is_an_answer",  # a handler does not get the id of a tool's call: a failure has neither name nor time
    "called_by_hand",  # as above
)

NOT_IN_LITELLM_1_72 = (
    "gemini",  # it asks for another address than later versions
    "async-stream-cut",  # it takes a broken stream for a whole one, unless it is read by the sync client
    "stream-left",  # it keeps the latest stream alive
)


class Row(NamedTuple):
    """Requirements that are installed together, and the tests that run with them."""

    requirements: tuple[str, ...]
    tests: tuple[str, ...] = SUITE
    options: tuple[str, ...] = ()


def matrix(frameworks: str, *requirements: str) -> Row:
    """Return the row of the matrix of stacks for some frameworks, such as `langchain or langgraph`."""
    return Row(requirements, MATRIX, ("-W", "ignore", "-k", frameworks))


ROWS = {
    "openai-1.66": Row(("openai==1.66.5", "httpx<1", "wrapt==1.14.2")),
    "openai-1.109": Row(("openai==1.109.1", "wrapt==1.17.3")),
    "openai-2.54": Row(("openai==2.54.0", "wrapt==2.0.1")),
    "openai-current": Row(("openai", "wrapt")),
    "neighbours": Row(
        (
            *("openai", "openinference-instrumentation-openai", "logfire", "opentelemetry-instrumentation-openai"),
            # Later ones import what their own dependency has not; this one does not know wrapt 2.
            *("opentelemetry-instrumentation-openai-v2==2.2b0", "wrapt<2"),
            *("ddtrace", "sentry-sdk", "langfuse", "langsmith"),
        ),
        ("tests/compat/neighbours.py",),
    ),
    # The versions are those of docs/how-to/opentelemetry.md; the vectors in tests/otel were made with them.
    "otel": Row(
        (
            *(
                "opentelemetry-instrumentation-genai-openai==1.3b0",
                "opentelemetry-instrumentation-genai-anthropic==1.3b0",
            ),
            *("opentelemetry-instrumentation-openai==0.62.4", "openinference-instrumentation-openai==0.1.66"),
            *("logfire==5.4.0", "pydantic-ai-slim[openai]==2.68.0", "anthropic==2.14.0", "openai"),
        ),
        EMITTERS,
    ),
    "google-genai-1.10": Row(("google-genai==1.10.0", "wrapt==1.17.3"), GOOGLE_GENAI),
    "google-genai-current": Row(("google-genai", "wrapt"), GOOGLE_GENAI),
    # The shapes of calls are shared with openai's suite.
    "anthropic-0.40": Row(("anthropic==0.40.0", "httpx<0.28", "openai", "wrapt==1.17.3"), ANTHROPIC),
    "anthropic-current": Row(("anthropic", "openai", "wrapt"), ANTHROPIC),
    "bedrock-1.34": Row(
        ("boto3==1.34.116", "aiobotocore==2.13.1", "openai", "wrapt==1.17.3"),
        BEDROCK,
        ("-k", "not (agents_loop or media_reasoning or prompts)"),  # with cache points, S3 addresses, managed prompts
    ),
    "bedrock-current": Row(("boto3", "aiobotocore", "openai", "wrapt"), BEDROCK),
    "claude-agent-sdk-0.1": Row(
        ("claude-agent-sdk==0.1.40", "wrapt==1.17.3"),
        CLAUDE_AGENT,
        ("-W", "ignore::pytest.PytestUnraisableExceptionWarning"),  # it leaves its streams of messages open
    ),
    "claude-agent-sdk-current": Row(("claude-agent-sdk", "wrapt"), CLAUDE_AGENT),
    "mistralai-1.0": Row(("mistralai==1.0.3", "openai", "wrapt==1.17.3"), MISTRAL),
    "mistralai-1.12": Row(("mistralai==1.12.4", "openai", "wrapt"), MISTRAL),
    "mistralai-2.0": Row(("mistralai==2.0.5", "openai", "wrapt"), MISTRAL),
    "mistralai-current": Row(("mistralai", "openai", "wrapt"), MISTRAL),
    "ollama-0.4": Row(("ollama==0.4.9", "openai", "wrapt==1.17.3"), OLLAMA),
    "ollama-current": Row(("ollama", "openai", "wrapt"), OLLAMA),
    "groq-0.13": Row(("groq==0.13.0", "httpx<0.28", "openai", "wrapt==1.17.3"), GROQ),
    "groq-current": Row(("groq", "openai", "wrapt"), GROQ),
    "together-2.0": Row(("together==2.0.0", "openai", "wrapt==1.17.3"), TOGETHER),
    "together-current": Row(("together", "openai", "wrapt"), TOGETHER),
    "langchain-0.3": Row(
        ("langchain-core<1", "langchain-openai<1", "langgraph<1"),
        LANGCHAIN,
        ("-W", "ignore:The default value of `allowed_objects`", "-k", f"not ({' or '.join(NOT_IN_LANGCHAIN_0_3)})"),
    ),
    "litellm-1.72": Row(
        ("litellm==1.72.6", "tenacity", "wrapt==1.17.3"),
        LITELLM,
        ("-W", "ignore", "-k", f"not ({' or '.join(NOT_IN_LITELLM_1_72)})"),
    ),
    # Only with the others it takes an answer from its cache, and streams Anthropic's messages.
    "litellm-current": Row(
        (
            *("litellm", "tenacity", "wrapt", "fastapi", "orjson", "soundfile", "apscheduler", "backoff", "mcp"),
            *("cryptography", "email-validator", "pyjwt", "python-multipart", "redis", "websockets"),
        ),
        LITELLM,
        ("-W", "ignore"),
    ),
    # Its own engine is there from version 3.4 on.
    "dspy-current": Row(("dspy>=3.4", "openai", "anthropic", "google-genai", "wrapt"), DSPY),
    "stacks": Row(("dspy", "crewai[litellm]", "instructor", "anthropic"), STACKS, ("-W", "ignore")),
    # It asks for openai 2.
    "stacks-llama-index": Row(("llama-index-core", "llama-index-llms-openai", "wrapt"), STACKS, ("-W", "ignore")),
    "stacks-adk": Row(("google-adk", "litellm"), STACKS, ("-W", "ignore")),
    # Each framework on each of its providers; their packages are those that the frameworks ask for.
    "matrix-langchain": matrix(
        "langchain or langgraph",
        *("langchain", "langgraph", "langchain-openai", "langchain-anthropic", "langchain-google-genai"),
        *("langchain-aws", "langchain-ollama", "langchain-groq", "langchain-mistralai", "langchain-litellm"),
    ),
    "matrix-pydantic-ai": matrix("pydantic-ai", "pydantic-ai-slim[openai,anthropic,google,bedrock,mistral,groq]"),
    "matrix-llama-index": matrix(
        "llama-index",
        *("llama-index-core", "llama-index-llms-openai", "llama-index-llms-anthropic"),
        *("llama-index-llms-google-genai", "llama-index-llms-litellm", "llama-index-llms-bedrock-converse"),
        *("llama-index-llms-mistralai", "llama-index-llms-ollama", "llama-index-llms-groq"),
        "anthropic<1",  # with later ones its model cannot be made
    ),
    "matrix-openai-agents": matrix("openai-agents", "openai-agents[litellm]"),
    "matrix-adk": matrix("adk", "google-adk", "litellm", "anthropic"),
    "matrix-crewai": matrix("crewai", "crewai[litellm,anthropic,google-genai,bedrock]"),
    "matrix-dspy-instructor": matrix(
        "dspy or instructor",
        *("dspy", "instructor[google-genai]", "openai", "anthropic", "google-genai", "litellm", "boto3"),
        *("mistralai", "groq"),
    ),
    "langchain-current": Row(("langchain-core", "langchain-openai", "langgraph", "langchain"), LANGCHAIN),
}


def prepared(name: str, row: Row) -> Environment:
    """Return the environment of a row, made if need be."""
    environment = Environment(f"compat-{name}", (*row.requirements, *RUNNER))
    environment.prepare()
    return environment


def tested(name: str, row: Row) -> tuple[bool, str]:
    """Run a row; return True if all its tests passed, and the last line of the report."""
    environment = prepared(name, row)
    paths = [str(path) for pattern in row.tests for path in sorted(ROOT.glob(pattern))]
    command = [str(environment.python), "-m", "pytest", "-q", "--no-header", "-n", "auto", *row.options, *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]]
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", flush=True)
    return done.returncode == 0, lines[-1]


def main(names: list[str]) -> int:
    """Run the named rows, or all."""
    unknown = set(names) - set(ROWS)
    if unknown:
        print(f"no such row: {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}", file=sys.stderr)
        return 2
    failed = False
    for name in names or list(ROWS):
        passed, summary = tested(name, ROWS[name])
        print(f"{name}: {'passed' if passed else 'FAILED'}: {summary}", flush=True)
        failed = failed or not passed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
