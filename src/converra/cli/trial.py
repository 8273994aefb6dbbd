"""`converra doctor` records a call of each shape: from the stand-in model to a local API, all in this process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from converra import config
from converra.capture.recorder import Recorder
from converra.cli.checks import Check
from converra.cli.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.capture.reports import Report
    from converra.cli.shapes import Shape
    from converra.server.run import LocalServer

FLUSH_SECONDS = 60.0
"""Longest wait for a recorded call to arrive: a busy machine must not look like a broken capture."""


def trial() -> Iterator[Check]:
    """For each shape whether its call was recorded, doubled or broken; and what is patched."""
    modules = {name: _imported(name) for name in dict.fromkeys(shape.module for shape in SHAPES) if _is_there(name)}
    with ExitStack() as stack:
        server = _served(stack)
        base_url = {"base_url": server.base_url} if server else {}
        settings = {"api_key": "doctor", "flush_interval": 30.0, "timeout": FLUSH_SECONDS}
        recorder = Recorder(config.load({**settings, **base_url}, {}))
        recorder.instrument()
        try:
            for shape in SHAPES if server else ():
                module = modules.get(shape.module, "")
                if server and not isinstance(module, str):
                    yield _tried(shape, module, recorder, server)
            yield from _patched(recorder.instrument())
        finally:
            recorder.uninstrument()
            recorder.shutdown(FLUSH_SECONDS)
    if server is None:
        yield Check("capture", "trial calls", "note", 'skipped: they need pip install "converra[server]"')
    for name, why in modules.items():
        if isinstance(why, str):
            yield Check("capture", name, "note", f"cannot be tried: {why}")


def _served(stack: ExitStack) -> LocalServer | None:
    """Start a local server; None where the extra `server` is not installed."""
    try:
        from converra.server.run import serve  # noqa: PLC0415 - of the extra `server`
    except ModuleNotFoundError:
        return None
    return stack.enter_context(serve())


def _is_there(name: str) -> bool:
    """Return True unless the package is not installed at all, which the versions say."""
    package = name if name.startswith("google.") else name.partition(".")[0]  # a namespace of many packages
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the namespace
        return False
    except ValueError:  # it is in `sys.modules`, without a spec
        return True


def _imported(name: str) -> Any:
    """A module, or why it cannot be tried."""
    try:
        module = importlib.import_module(name)
    except (ImportError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        return str(error)
    if name == "openai" and not hasattr(module, "OpenAI"):
        return f"{module.__file__} is in the place of the openai package"
    return module


def _patched(report: Report) -> Iterator[Check]:
    for row in report:
        why = f" ({row.why})" if row.why else ""
        yield Check("capture", row.target, "bad" if row.state == "skipped" else "ok", f"{row.state}{why}")


def _tried(shape: Shape, module: Any, recorder: Recorder, server: LocalServer) -> Check:
    address = getattr(server, f"{shape.format}_url")
    where: dict[str, Any] = {"base_url": address, "api_key": "doctor", "max_retries": 0}
    with recorder.conversation(shape.name):
        try:
            shape.call(module, where)
        except _failures() as error:
            return Check("capture", shape.name, "bad", f"broken: the call raised {type(error).__name__}: {error}")
    recorder.flush(FLUSH_SECONDS)
    found, _ = server.store.conversations(prompt_id=shape.name)
    roles = tuple(message["role"] for each in found for message in server.store.messages(each))
    return Check("capture", shape.name, *_judged(shape.roles, roles))


ERRORS = {
    "openai": "OpenAIError",
    "anthropic": "AnthropicError",
    "google.genai.errors": "APIError",
    "groq": "GroqError",
    "together": "TogetherError",
    "mistralai.client.errors": "MistralError",
}
"""Modules of captured libraries, and the base class of the errors that each raises."""


def _failures() -> tuple[type[Exception], ...]:
    """Errors that a broken call raises: those of the libraries that are imported, and type errors."""
    named = (getattr(sys.modules.get(module), name, None) for module, name in ERRORS.items())
    return (AttributeError, TypeError, ValueError, *(error for error in named if error is not None))


def _judged(expected: tuple[str, ...], roles: tuple[str, ...]) -> Any:
    if roles == expected:
        return "ok", "recorded"
    if not roles:
        return "bad", "broken: nothing was recorded"
    kind = "doubled" if len(roles) > len(expected) else "broken"
    return "bad", f"{kind}: expected {', '.join(expected)}, recorded {', '.join(roles)}"
