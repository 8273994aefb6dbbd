"""Run other projects' own tests (their source distributions ship them) with and without capture; compare the outcomes.

    python -m scripts.upstream [PACKAGE [PATH ...]]

Clients' and agents' are compared with a run without anything; those of LangChain and LangGraph with a run in which an
empty handler is attached to every run. What differs is compared once more, to tell what capture changes from what is
unsteady anyway. Tests that need a database or a server that is not here fail or are skipped, with and without capture.
Generated tests of openai and anthropic ask a server that answers from the API's description; here a small one answers
for chats, responses and messages, and for those tests of google-genai that otherwise need recorded answers.

A run with capture must record messages: tests that pass below the patches prove nothing. It also counts the failures
that the guard held back, which cost a turn although no test notices.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import NamedTuple
from xml.etree import ElementTree as ET

from scripts.environments import ROOT
from scripts.upstream_plugin import CAPTURE
from scripts.upstream_suites import SUITES, Suite
from tests.compat.upstream_model import serve


class Outcomes(NamedTuple):
    """One run of tests, and what it captured."""

    tests: dict[str, str]
    """passed, failure, skipped or error, by test."""
    messages: int = 0
    """Messages that were captured."""
    failures: int = 0
    """Failures that the guard held back."""


def outcomes(suite: Suite, paths: list[str], kind: str, base_url: str) -> Outcomes:
    """Run the tests with one kind of capture."""
    report, figures = (suite.environment.directory / name for name in ("report.xml", "figures.json"))
    figures.unlink(missing_ok=True)
    environment = {**os.environ, "TEST_API_BASE_URL": base_url, "PYTHONPATH": str(ROOT / "scripts")}
    environment |= {"CONVERRA_UPSTREAM": kind, "CONVERRA_UPSTREAM_FIGURES": str(figures)}
    environment |= {name: value.format(base_url=base_url) for name, value in suite.variables}
    command = [
        *(str(suite.environment.python), "-m", "pytest", "-q", "-p", "upstream_plugin"),
        *("-p", "no:converra", "-p", "no:cacheprovider"),  # our own plugin keeps a session's capture from leaving it
        *("-o", "addopts=", "-o", "timeout=120", "--continue-on-collection-errors", "--tb=no", "-s"),
        *(f"--junitxml={report}", *suite.options, *paths),
    ]
    done = subprocess.run(command, cwd=suite.sources, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("captured:")]
    print(f"{suite.package}, with {kind}:", *said, *done.stdout.strip().splitlines()[-1:], sep="\n  ", flush=True)
    tests = {_name(case): _outcome(case) for case in ET.parse(report).iter("testcase")}  # noqa: S314 - pytest wrote it
    return Outcomes(tests, **(json.loads(figures.read_text()) if figures.exists() else {}))


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _outcome(case: ET.Element) -> str:
    return next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")


def difference(suite: Suite, paths: list[str], base_url: str) -> tuple[Outcomes, dict[str, str]]:
    """Return the run with capture, and the tests whose outcomes differ, with both outcomes."""
    plain = outcomes(suite, paths, suite.beside, base_url).tests
    captured = outcomes(suite, paths, CAPTURE, base_url)
    names = plain.keys() | captured.tests.keys()
    found = {name: (plain.get(name, "gone"), captured.tests.get(name, "gone")) for name in names}
    changed = {
        name: f"{before} with {suite.beside}, {after} with capture"
        for name, (before, after) in found.items()
        if before != after
    }
    return captured, changed


def differs(suite: Suite, patterns: tuple[str, ...], base_url: str) -> bool:
    """Compare, repeat the tests that differ, and print those that differ both times.

    Returns:
        True if a test differs, the guard held back a failure, or nothing at all was captured.

    """
    suite.prepare()
    captured, first = difference(suite, suite.files(patterns), base_url)
    files = sorted({_file(suite, name) for name in first})
    second = difference(suite, files, base_url)[1] if first else {}
    changed = {name: what for name, what in first.items() if second.get(name) == what}
    for name in sorted(first):
        print(f"{'changed' if name in changed else 'unsteady'}: {name}: {first[name]}")
    print(
        f"{len(captured.tests)} tests of {suite.package}: {len(changed)} changed, {len(first) - len(changed)} "
        f"unsteady, {captured.messages} messages captured, {captured.failures} failures held back by the guard",
        flush=True,
    )
    if not captured.messages:
        print(f"nothing was captured: no test of {suite.package} passes what is patched")
    return bool(changed or captured.failures or not captured.messages)


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
        return sum(differs(suite, patterns, base_url) for suite in suites) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
