"""`converra doctor` records a call of each shape: from the stand-in model to a local API, all in this process."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from converra import config
from converra.cli.checks import Check
from converra.cli.shapes import SHAPES
from converra.recorder import Recorder
from converra.server.run import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.cli.shapes import Shape
    from converra.server.run import LocalServer

FLUSH_SECONDS = 10.0


def trial() -> Iterator[Check]:
    """What is patched, and for each shape whether its call was recorded, doubled or broken."""
    try:
        openai = importlib.import_module("openai")
    except ImportError as error:
        yield Check("capture", "openai", "note", f"cannot be tried: {error}")
        return
    with serve() as server:
        recorder = Recorder(config.load({"api_key": "doctor", "base_url": server.base_url, "flush_interval": 30.0}, {}))
        try:
            for row in recorder.instrument():
                why = f" ({row.why})" if row.why else ""
                yield Check("capture", row.target, "bad" if row.state == "skipped" else "ok", f"{row.state}{why}")
            for shape in SHAPES:
                yield _tried(shape, openai, recorder, server)
        finally:
            recorder.uninstrument()
            recorder.shutdown(FLUSH_SECONDS)


def _tried(shape: Shape, openai: Any, recorder: Recorder, server: LocalServer) -> Check:
    where: dict[str, Any] = {"base_url": server.openai_url, "api_key": "doctor", "max_retries": 0}
    with recorder.conversation(shape.name):
        try:
            shape.call(openai, where)
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
            return Check("capture", shape.name, "bad", f"broken: the call raised {type(error).__name__}: {error}")
    recorder.flush(FLUSH_SECONDS)
    found, _ = server.store.conversations(prompt_id=shape.name)
    roles = tuple(message["role"] for each in found for message in server.store.messages(each))
    return Check("capture", shape.name, *_judged(shape.roles, roles))


def _judged(expected: tuple[str, ...], roles: tuple[str, ...]) -> Any:
    if roles == expected:
        return "ok", "recorded"
    if not roles:
        return "bad", "broken: nothing was recorded"
    kind = "doubled" if len(roles) > len(expected) else "broken"
    return "bad", f"{kind}: expected {', '.join(expected)}, recorded {', '.join(roles)}"
