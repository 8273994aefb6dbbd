"""Checks of `converra doctor`, one group after the other."""

from __future__ import annotations

import difflib
import functools
import os
import platform
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from converra import config, redaction
from converra._version import __version__
from converra.api.client import Converra
from converra.cli.failures import explained, no_api
from converra.cli.paths import default_path
from converra.errors import AuthenticationError, ConverraError, InvalidArgumentError, NotFoundError
from converra.errors import PermissionDeniedError as Forbidden
from converra.integrations import discovery, uncaptured
from converra.server.store.database import StoreError, newest_texts
from converra.server.store.records import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

State = Literal["ok", "note", "bad"]

LIBRARIES = ("aiobotocore", "langchain-openai", "langgraph", "httpx", "msgspec", "wrapt", "opentelemetry-api")
"""Distributions whose versions are shown beside those of the captured libraries."""

OTHERS = (
    *("langfuse", "langsmith", "logfire", "ddtrace", "sentry-sdk", "mlflow", "braintrust", "lmnr", "elastic-apm"),
    *(
        "elastic-opentelemetry",
        "traceloop-sdk",
        "openinference-instrumentation-openai",
        "agentops",
        "weave",
        "helicone",
    ),
    *("opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-openai-v2"),
)
"""Packages that instrument the openai package too."""

WRAPPED = (
    "OpenAI.request",
    "AsyncOpenAI.request",
    "resources.chat.completions.Completions.create",
    "resources.chat.completions.AsyncCompletions.create",
    "resources.responses.Responses.create",
    "resources.responses.AsyncResponses.create",
)
"""Functions of the openai package that instrumentations wrap."""


PREFIX = "CONVERRA_"

ALIASES = {"HOST": "BASE_URL", "ENDPOINT": "BASE_URL", "TOKEN": "API_KEY", "DEBUG": "CONSOLE"}
"""Names that other SDKs use for such a setting."""

OTHER_VARIABLES = (
    "CONVERRA_PSEUDONYM_KEY",
    config.SILENCED,
    "CONVERRA_PYTEST_SEND",
    "CONVERRA_HOOK_MODULES",
    "CONVERRA_HOOK_SIGHTINGS",
)
"""`CONVERRA_` variables that are not settings of capture."""


class Check(NamedTuple):
    """One finding. Only `bad` counts against the exit status."""

    group: str
    name: str
    state: State
    said: str


def settings(environ: Mapping[str, str]) -> Iterator[Check]:
    """Each setting, and where it came from; the key only as its fingerprint. And variables that are none."""
    for row in config.SETTINGS:
        given = environ.get(row.environment, "").strip() if row.environment else ""
        yield _given(row, given) if given else _by_default(row)
    if environ.get(config.SILENCED):
        yield Check("settings", config.SILENCED, "bad", "is set: nothing is captured (the pytest plugin sets it)")
    yield from _strangers(environ)


def _strangers(environ: Mapping[str, str]) -> Iterator[Check]:
    """Variables that look like settings and are none: one that is meant to be a setting is bad."""
    known = {row.environment.removeprefix(PREFIX): row.environment for row in config.SETTINGS if row.environment}
    for name in sorted(environ.keys() - {*known.values(), *OTHER_VARIABLES}):
        if name.startswith(PREFIX):
            word = name.removeprefix(PREFIX)
            meant = difflib.get_close_matches(ALIASES.get(word, word), known, 1, cutoff=0.5)
            hint = f"; did you mean {known[meant[0]]}?" if meant else ""
            yield Check("settings", name, "bad" if meant else "note", f"is no setting{hint}")


def _given(row: config.Setting, given: str) -> Check:
    try:
        value = getattr(config.load({}, {row.environment or "": given}), row.name)
    except InvalidArgumentError as error:
        return Check("settings", row.name, "bad", str(error))
    folder = Path(value).absolute().parent if row.name == "outbox" and not config.is_fleet(value) else None
    if folder and not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Check("settings", row.name, "bad", f"{value}: there is no folder {folder} that can be written to")
    return Check("settings", row.name, "ok", f"{_shown(row.name, value)} (from {row.environment})")


def _by_default(row: config.Setting) -> Check:
    if row.name == "api_key":
        return Check("settings", row.name, "bad", f"is not set: set {row.environment}")
    if row.name == "prompt_id":
        return Check(
            "settings", row.name, "note", f"none: calls outside a conversation() need one; set {row.environment}"
        )
    where = "default" if row.environment else "default; can only be an argument"
    return Check("settings", row.name, "ok", f"{_shown(row.name, row.default)} ({where})")


def _shown(name: str, value: Any) -> str:
    if name == "api_key":
        return f"fingerprint {fingerprint(value)}"
    if name == "outbox" and value is not None:
        return config.without_password(value)
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def api(environ: Mapping[str, str]) -> Iterator[Check]:
    """Check that the host answers and accepts the key, with one request for a list of one."""
    try:
        known = config.load({}, environ)
    except InvalidArgumentError:
        return  # said with the settings
    if known.api_key is None:
        return
    try:
        with Converra(api_key=known.api_key, base_url=known.base_url, timeout=known.timeout, max_retries=0) as client:
            client.conversations.list(limit=1)
    except (AuthenticationError, Forbidden) as error:
        yield Check("api", "host", "ok", "answers")
        yield Check("api", "key", "bad", f"is refused: {explained(error)}")
    except NotFoundError as error:
        yield Check("api", "host", "bad", explained(no_api(error, known.base_url)))
    except ConverraError as error:
        yield Check("api", "host", "bad", explained(error))
    else:
        yield Check("api", "host", "ok", "answers")
        yield Check("api", "key", "ok", "is accepted")


def versions() -> Iterator[Check]:
    """Of Python, of this package and of what it works with."""
    yield Check("versions", "converra", "ok", __version__)
    yield Check("versions", "python", "ok", f"{platform.python_version()} at {sys.executable}")
    captured = [one.package for one in discovery.integrations() if one.package]
    for name in (*captured, *LIBRARIES):
        found = uncaptured.installed(name)
        yield Check("versions", name, "ok" if found else "note", found or "not installed")


def providers(environ: Mapping[str, str]) -> Iterator[Check]:
    """Installed libraries that ask models in ways that are not captured, and what to do about it."""
    try:
        chosen = discovery.chosen(config.load({}, environ).integrations or ())
    except InvalidArgumentError:
        chosen = discovery.chosen(())  # said with the settings
    for row in chosen.unknown:
        yield Check("providers", row.target, "bad", row.why or "")
    for integration in (*chosen.wanted, *chosen.left_out):
        found = uncaptured.installed(integration.package) if integration.package else None
        if uncaptured.is_too_old(integration):
            name, advice = uncaptured.unsupported(integration)
            yield Check("providers", integration.package or name, "bad", f"{found} is installed; {advice}")
        elif found and integration in chosen.left_out:
            said = f"{found} is installed; its calls are not recorded: {uncaptured.excluded(integration)[1]}"
            yield Check("providers", integration.package or integration.name, "note", said)
    yield from _without_integration()


def _without_integration() -> Iterator[Check]:
    known = discovery.integrations()
    for library in uncaptured.without_integration(known):
        found = uncaptured.installed(library.package)
        if found and library.package not in {one.package for one in known}:
            said = f"{found} is installed; calls of {library.module} are not recorded: {library.instead}"
            yield Check("providers", library.package, "note", said)


def others() -> Iterator[Check]:
    """Other instrumentations: installed, or at work in this process already."""
    for name in OTHERS:
        found = uncaptured.installed(name)
        if found:
            yield Check("others", name, "note", f"{found} is installed; where it records the same calls, both see them")
    openai = sys.modules.get("openai")
    for path in WRAPPED if openai else ():
        found_at = functools.reduce(lambda owner, name: getattr(owner, name, None), path.split("."), openai)
        for module in sorted(_wrappers(found_at)):
            yield Check("others", f"openai.{path}", "note", f"is wrapped by {module}")


def _wrappers(function: Any) -> set[str]:
    """The modules of the wrappers around a function, as far as they say."""
    found: set[str] = set()
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        wrapper = getattr(function, "_self_wrapper", function)
        found.add(str(getattr(wrapper, "__module__", None) or type(function).__module__))
        function = inner
    return {module for module in found if module.partition(".")[0] not in ("openai", "converra", "functools")}


NEWEST = 10_000
"""Recorded messages in which the doctor looks for what was withheld."""


def withheld() -> Iterator[Check]:
    """Count what `converra.redaction` withheld from the newest messages that `converra dev` has recorded, by kind."""
    try:
        path = default_path()
        if not os.path.exists(path):  # noqa: PTH110 - `Path.exists` raises for a folder that may not be read
            return
        found = Counter(kind for text in newest_texts(path, NEWEST) for kind in redaction.kinds_in(text))
    except (InvalidArgumentError, StoreError) as error:
        yield Check("withheld", "recorded messages", "note", str(error))
        return
    kinds = ", ".join(f"{found[kind]:,} {kind}" for kind in redaction.KINDS if found[kind])
    said = f"{kinds} by converra.redaction, in {path}" if kinds else f"nothing in {path} (default: no redact)"
    yield Check("withheld", "recorded messages", "ok", said)


def environment() -> Mapping[str, str]:
    """The environment that the checks read."""
    return os.environ
