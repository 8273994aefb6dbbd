"""Run openai's own tests (its source distribution ships them) with and without capture, and compare their outcomes.

    python scripts/upstream.py [PATH ...]

Tests that come out differently in two runs without capture are left out of the comparison, and named. Generated tests
ask a server that answers from OpenAI's API description; here a small one answers for chats and responses.
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
    "tests/test_*.py",
    "tests/lib",
    "tests/compat",
    "tests/api_resources/chat",
    "tests/api_resources/responses",
    "tests/api_resources/test_responses.py",
    "tests/api_resources/test_completions.py",
    "tests/api_resources/beta/responses",
    "tests/api_resources/beta/test_responses.py",
)


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


def main(arguments: list[str]) -> int:
    """Compare, and say what differs."""
    prepare()
    patterns = arguments or list(TESTS)
    paths = [str(path.relative_to(SOURCES)) for pattern in patterns for path in sorted(SOURCES.glob(pattern))]
    with serve() as base_url:
        plain, again, captured = [outcomes(paths, base_url, captured=on) for on in (False, False, True)]
    unsteady = {name for name in plain if plain[name] != again.get(name)}
    changed = {name for name in plain if plain[name] != captured.get(name)} - unsteady
    for name in sorted(changed):
        print(f"{name}: {plain[name]} without capture, {captured.get(name, 'gone')} with it")
    print(f"{len(plain)} tests of openai's own; {len(unsteady)} unsteady: {sorted(unsteady)}; {len(changed)} changed")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
