"""Run other projects' own tests (their source distributions ship them) with and without capture; compare the outcomes.

    python -m scripts.upstream [PACKAGE [PATH ...]]

Clients' and agents' are compared with a run without anything; those of LangChain and LangGraph with a run in which an
empty handler is attached to every run. What differs is compared once more, to tell what capture changes from what is
unsteady anyway. Tests that need a database or a server that is not here fail or are skipped, with and without capture.
Generated tests of openai and anthropic ask a server that answers from the API's description; here a small one answers
for chats, responses and messages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree as ET

from scripts.environments import ROOT
from scripts.upstream_plugin import CAPTURE
from scripts.upstream_suites import SUITES, Suite
from tests.compat.upstream_model import serve


def outcomes(suite: Suite, paths: list[str], kind: str, base_url: str) -> dict[str, str]:
    """Run the tests; return passed, failure, skipped or error for each."""
    report = suite.environment.directory / "report.xml"
    environment = {**os.environ, "TEST_API_BASE_URL": base_url, "PYTHONPATH": str(ROOT / "scripts")}
    environment |= {"CONVERRA_UPSTREAM": kind, **dict(suite.variables)}
    command = [
        *(str(suite.environment.python), "-m", "pytest", "-q", "-p", "upstream_plugin"),
        *("-p", "no:converra", "-p", "no:cacheprovider"),  # our own plugin keeps a session's capture from leaving it
        *("-o", "addopts=", "-o", "timeout=120", "--continue-on-collection-errors", "--tb=no", "-s"),
        *(f"--junitxml={report}", *suite.options, *paths),
    ]
    done = subprocess.run(command, cwd=suite.sources, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("captured:")]
    print(f"{suite.package}, with {kind}:", *said, *done.stdout.strip().splitlines()[-1:], sep="\n  ", flush=True)
    return {_name(case): _outcome(case) for case in ET.parse(report).iter("testcase")}  # noqa: S314 - pytest wrote it


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _outcome(case: ET.Element) -> str:
    return next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")


def difference(suite: Suite, paths: list[str], base_url: str) -> tuple[int, dict[str, str]]:
    """Return the number of tests, and those whose outcomes differ, with both outcomes."""
    plain = outcomes(suite, paths, suite.beside, base_url)
    captured = outcomes(suite, paths, CAPTURE, base_url)
    names = plain.keys() | captured.keys()
    found = {name: (plain.get(name, "gone"), captured.get(name, "gone")) for name in names}
    changed = {
        name: f"{before} with {suite.beside}, {after} with capture"
        for name, (before, after) in found.items()
        if before != after
    }
    return len(plain), changed


def changes(suite: Suite, patterns: tuple[str, ...], base_url: str) -> int:
    """Compare, repeat the tests that differ, and print those that differ both times; return their number."""
    suite.prepare()
    count, first = difference(suite, suite.files(patterns), base_url)
    files = sorted({_file(suite, name) for name in first})
    second = difference(suite, files, base_url)[1] if first else {}
    changed = {name: what for name, what in first.items() if second.get(name) == what}
    for name in sorted(first):
        print(f"{'changed' if name in changed else 'unsteady'}: {name}: {first[name]}")
    print(f"{count} tests of {suite.package}: {len(changed)} changed, {len(first) - len(changed)} unsteady", flush=True)
    return len(changed)


def _file(suite: Suite, name: str) -> str:
    """Return the file of a test that junit names `tests.lib.test_azure.TestAzure::test_it`."""
    parts = name.partition("::")[0].split(".")
    while not suite.sources.joinpath(*parts).with_suffix(".py").exists():
        parts.pop()
    return f"{'/'.join(parts)}.py"


def main(arguments: list[str]) -> int:
    """Compare all suites, or the named one."""
    package, patterns = (arguments[0] if arguments else None), tuple(arguments[1:])
    suites = [suite for suite in SUITES if package in (None, suite.package)]
    if not suites:
        known = ", ".join(suite.package for suite in SUITES)
        raise SystemExit(f"{package}: its tests are not run; those of these packages are: {known}")
    with serve() as base_url:
        return bool(sum(changes(suite, patterns, base_url) for suite in suites))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
