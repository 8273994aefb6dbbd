"""Run openai's own tests (its source distribution ships them) with and without capture, and compare their outcomes.

    python scripts/upstream.py [PATH ...]

What differs is compared once more, to tell what capture changes from what is unsteady anyway. Generated tests ask a
server that answers from OpenAI's API description; here a small one answers for chats and responses, and the tests that
ask for anything else fail, with and without capture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.compat.upstream_model import serve  # noqa: E402 - the path comes first

VENV = ROOT / ".venvs" / "upstream"
PYTHON = VENV / "bin" / "python"
SOURCES = VENV / "openai"
NEEDED = (
    *(
        "openai[aiohttp,realtime,bedrock,datalib,httpx]",
        "httpx",
        "pytest>=9.0.3",
        "pytest-asyncio>=1.4",
        "pytest-timeout",
    ),
    *("inline-snapshot", "rich", "trio", "Pillow", "botocore", "azure-identity", "griffe", "nest_asyncio"),
)
TESTS = (
    *(f"tests/test_{name}.py" for name in ("client*", "module_client", "response*", "legacy_response", "stream*")),
    *(f"tests/test_{name}.py" for name in ("sse*", "httpx*", "lazy_imports", "debug_logging", "log_levels", "models")),
    *(f"tests/test_{name}.py" for name in ("auth", "transform", "union_parsing", "required_args", "large_payload*")),
    *(f"tests/lib/{name}" for name in ("chat", "responses", "streaming", "test_azure*.py", "test_responses*.py")),
    *(
        f"tests/lib/{name}"
        for name in ("test_streaming*.py", "test_*runner*.py", "test_pydantic.py", "test_bedrock*.py")
    ),
    *(f"tests/api_resources/{name}" for name in ("chat", "responses", "test_responses.py", "test_completions.py")),
    *(f"tests/api_resources/{name}" for name in ("beta/responses", "beta/test_responses.py", "test_models.py")),
)
"""Those that touch the paths that are patched."""


def prepare() -> None:
    """The environment, and the sources of the openai that is installed in it."""
    if not SOURCES.exists():
        print(f"Setting up {VENV.relative_to(ROOT)} (once)", flush=True)
        _run(sys.executable, "-m", "venv", "--clear", str(VENV))
        _run(str(PYTHON), "-m", "pip", "install", "-qq", "--editable", ".[server]", *NEEDED)
        _unpack()


def _unpack() -> None:
    code = "from openai import __version__; print(__version__)"
    version = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as directory:
        _run(
            *(str(PYTHON), "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", "openai"),
            *("-d", directory, f"openai=={version}"),
        )
        with tarfile.open(next(Path(directory).glob("*.tar.gz"))) as archive:
            archive.extractall(directory, filter="data")
        (Path(directory) / f"openai-{version}").rename(SOURCES)


def outcomes(paths: list[str], base_url: str, *, captured: bool) -> dict[str, str]:
    """Run the tests; test → passed, failed, skipped or error."""
    report = VENV / "report.xml"
    environment = {**os.environ, "TEST_API_BASE_URL": base_url, "PYTHONPATH": str(ROOT / "scripts")}
    if captured:
        environment["CONVERRA_UPSTREAM"] = "1"
    command = [
        *(
            str(PYTHON),
            "-m",
            "pytest",
            "-q",
            "-p",
            "upstream_plugin",
            "-o",
            "addopts=",
            "-o",
            "timeout=120",
        ),
        *("-p", "no:cacheprovider", "-p", "no:randomly", "--continue-on-collection-errors", "--tb=no", "-s"),
        *(f"--junitxml={report}", *paths),
    ]
    done = subprocess.run(command, cwd=SOURCES, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("captured:")]
    print(*said, *done.stdout.strip().splitlines()[-1:], sep="\n", flush=True)
    return {_name(case): _outcome(case) for case in ET.parse(report).iter("testcase")}  # noqa: S314 - pytest wrote it


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _outcome(case: ET.Element) -> str:
    return next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def difference(paths: list[str], base_url: str) -> tuple[int, dict[str, str]]:
    """How many tests were run, and those that come out differently, with what became of them."""
    plain = outcomes(paths, base_url, captured=False)
    captured = outcomes(paths, base_url, captured=True)
    names = plain.keys() | captured.keys()
    found = {name: (plain.get(name, "gone"), captured.get(name, "gone")) for name in names}
    changed = {
        name: f"{before} without capture, {after} with it" for name, (before, after) in found.items() if before != after
    }
    return len(plain), changed


def main(arguments: list[str]) -> int:
    """Compare, compare again what differs, and say what differs both times."""
    prepare()
    paths = [str(path.relative_to(SOURCES)) for pattern in arguments or TESTS for path in sorted(SOURCES.glob(pattern))]
    with serve() as base_url:
        count, first = difference(paths, base_url)
        files = sorted({_file(name) for name in first})
        second = difference(files, base_url)[1] if first else {}
    changed = {name: what for name, what in first.items() if second.get(name) == what}
    for name in sorted(first):
        print(f"{'changed' if name in changed else 'unsteady'}: {name}: {first[name]}")
    print(f"{count} tests of openai's own: {len(changed)} changed, {len(first) - len(changed)} unsteady")
    return bool(changed)


def _file(name: str) -> str:
    """The file of a test that junit names `tests.lib.test_azure.TestAzure::test_it`."""
    parts = name.partition("::")[0].split(".")
    while not SOURCES.joinpath(*parts).with_suffix(".py").exists():
        parts.pop()
    return f"{'/'.join(parts)}.py"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
